"""Write results as others' tools expect them: SSAM's aggregate files and HEAR leaderboard rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import StoreError
from mambabench.files import atomic_write, canonical_json, sha256_bytes
from mambabench.report.exchange.hear_eval_kit import SCORES_FILE, kit_body
from mambabench.report.exchange.overall import LEADERBOARD_COLUMNS
from mambabench.report.statistics.intervals import t_interval
from mambabench.store.embeddings import encoder_key
from mambabench.store.records import protocol_folder

if TYPE_CHECKING:
    from mambabench.report.rows import Row
    from mambabench.report.runs import Run

__all__ = [
    "leaderboard_rows",
    "write_kit_tree",
    "write_leaderboard",
    "write_ssam_files",
    "write_text",
]

# The names that SSAM's stats_aggregation.py gives task directories; others keep their own
_SSAM_NAMES = {
    "beijing_opera-v1.0-hear2021-full": "Beijing-Opera",
    "esc50-v2.0.0-full": "ESC-50",
    "libricount-v1.0.0-hear2021-full": "LibriCount",
    "mridangam_stroke-v1.5-full": "Mridangam-S",
    "mridangam_tonic-v1.5-full": "Mridangam-T",
    "nsynth_pitch-v2.2.3-5h": "NSynth-Pitch-5h",
    "speech_commands-v0.0.2-5h": "SpeechCommands-5h",
    "tfds_crema_d-1.0.0-full": "CREMA-D",
    "vox_lingua_top10-hear2021-full": "VoxLingua",
    "fsd50k-v1.0-full": "FSD50k",
    "gunshot_triangulation-v1.0-full": "Gunshot",
}


def write_text(path: Path, text: str) -> Path:
    """Write text atomically; StoreError, naming the file, where the system cannot."""
    data = text.encode()

    def write(file: io.BufferedIOBase) -> None:
        file.write(data)

    try:
        atomic_write(path, write)  # type: ignore[arg-type]
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from error
    return path


def write_kit_tree(folder: Path, runs: Sequence[Run]) -> list[Path]:
    """Write our own runs under a published protocol as hear-eval-kit and SSAM's authors lay them.

    ``<protocol>/<encoder>_r1_<seed>/<task>/test.predicted-scores.json``: hear-eval-kit's file in
    the tree that SSAM's stats_aggregation.py reads. Nothing is written again while the runs are
    the same.
    """
    own = [
        run
        for run in runs
        if run.source == "mambabench"
        and run.record.score is not None
        and run.record.protocol.startswith(("hear2021", "ssam2024"))
    ]
    if not own:
        return []
    digest = sha256_bytes(canonical_json([run.digest for run in own]))
    mark = folder / "written.json"
    if mark.is_file() and digest in mark.read_text(encoding="utf-8"):
        return [mark]
    for run in own:
        record = run.record
        name = f"{encoder_key(record.encoder)}_r{run.pretraining_run}_{record.seed:02d}"
        place = folder / protocol_folder(record.protocol) / name / record.task
        write_text(place / SCORES_FILE, canonical_json(kit_body(record)).decode())
    return [write_text(mark, canonical_json({"runs_sha256": digest}).decode())]


def write_ssam_files(folder: Path, rows: Sequence[Row], protocol: str = "ssam2024") -> list[Path]:
    """Write what SSAM's authors aggregate, for the rows under `protocol`; nothing without any.

    ``<model>/<Task>_scores.txt`` (a score a line), ``<model>/<Task>_stats.txt`` (mean and
    half-width of the 95 % t-interval, five decimals) and ``all_results.csv``.
    """
    own = [row for row in rows if row.protocol == protocol and row.scores and _is_task(row)]
    models = sorted({row.encoder for row in own})
    written, table = [], []
    for row in own:
        name = _SSAM_NAMES.get(row.task, row.task)
        place = folder / encoder_key(row.encoder)
        lines = "".join(f"{score}\n" for score in row.scores)
        written.append(write_text(place / f"{name}_scores.txt", lines))
        interval = t_interval(row.scores)  # theirs, of any number of seeds and uncut
        if row.mean is not None and interval is not None:
            half = (interval.high - interval.low) / 2
            text = f"{row.mean:.05f}\n{half:.05f}\n"
            written.append(write_text(place / f"{name}_stats.txt", text))
        exp = row.encoder.removesuffix(f"_r{row.pretraining_run}")
        for seed, score in zip(row.seeds, row.scores, strict=True):
            index = models.index(row.encoder)
            table.append([exp, row.pretraining_run, seed, row.task, score, index])
    if table:
        heading = ["exp", "ssl_run", "run", "dataset", "scores", "mapped_exp"]
        written.append(write_text(folder / "all_results.csv", _csv([heading, *table])))
    return written


def _is_task(row: Row) -> bool:
    return row.task != LEADERBOARD_COLUMNS["Beehive"]


def leaderboard_rows(rows: Sequence[Row], protocol: str) -> list[list[str]]:
    """Return the leaderboard's heading and one line per encoder that has one of its tasks.

    URL and submission date are left empty for the submitter; a score of the leaderboard is the mean
    over seeds as a fraction.
    """
    tasks = {task: name for name, task in LEADERBOARD_COLUMNS.items()}
    scores: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.protocol == protocol and row.task in tasks and row.mean is not None:
            scores.setdefault(row.encoder, {})[tasks[row.task]] = row.mean
    heading = ["Model", "URL", "Submission Date", *LEADERBOARD_COLUMNS]
    lines = [
        [encoder, "", "", *(repr(own[name]) if name in own else "" for name in LEADERBOARD_COLUMNS)]
        for encoder, own in sorted(scores.items())
    ]
    return [heading, *lines]


def write_leaderboard(folder: Path, rows: Sequence[Row]) -> list[Path]:
    """Write ``hear_leaderboard.<protocol>.csv`` for every protocol with a HEAR task.

    The leaderboard itself holds `hear2021` scores only; the file's name keeps protocols apart.
    """
    written = []
    for protocol in sorted({row.protocol for row in rows}):
        lines = leaderboard_rows(rows, protocol)
        if len(lines) > 1:
            name = f"hear_leaderboard.{protocol_folder(protocol)}.csv"
            written.append(write_text(folder / name, _csv(lines)))
    return written


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
