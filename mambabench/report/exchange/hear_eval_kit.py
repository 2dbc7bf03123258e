"""Read and write results as hear-eval-kit does, also in the tree that SSAM's authors aggregate.

hear-eval-kit writes ``<embeddings>/<module>/<task>/test.predicted-scores.json``; SSAM's modified
copy ``todo_audioset/<embeddings folder>_r<pretraining run>_<seed>/<task>/`` with the same file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from mambabench.errors import MambabenchError
from mambabench.files import read_json
from mambabench.reading.tables import read_rows
from mambabench.report.checked import DistrustedFile
from mambabench.report.runs import Run
from mambabench.store.records import FoldResult, RunRecord

__all__ = ["SCORES_FILE", "kit_body", "read_kit_runs"]

SCORES_FILE = "test.predicted-scores.json"
KIT_SEED = 42  # hear-eval-kit seeds every task with it and has no option for another

_AUTHORS_FOLDER = re.compile(r"(?P<name>.+_r(?P<run>\d+))_(?P<seed>\d+)")
# hear-eval-kit's names of the post-processing of events, and ours in a grid point
_POST_PROCESSING = (("median_filter_ms", "median_filter_ms"), ("min_duration", "min_duration_ms"))
# what a file that is cut off, or of another kind, may raise
_UNREADABLE = (MambabenchError, OSError, ValueError, TypeError, AttributeError, LookupError)
_NOT_METRICS = {"test_loss", "test_score", "validation_score", "epoch", "time_in_min"}


def read_kit_runs(out: Path) -> tuple[list[Run], list[DistrustedFile]]:
    """Return the finished hear-eval-kit results at most three folders below `out`.

    And the files among them that are none.
    """
    files = [path for depth in range(4) for path in out.glob("*/" * depth + SCORES_FILE)]
    found = [_read(path) for path in sorted(files)]
    runs = [one for one in found if isinstance(one, Run)]
    return runs, [one for one in found if isinstance(one, DistrustedFile)]


def _read(path: Path) -> Run | DistrustedFile:
    try:
        data = path.read_bytes()
        record, pretraining_run = _record(path, json.loads(data))
    except _UNREADABLE as error:
        problem = f"is no result of hear-eval-kit ({type(error).__name__}: {error})"
        return DistrustedFile(path, problem, "delete it and run its predictions again")
    digest = hashlib.sha256(data).hexdigest()
    return Run(record, path, digest, False, "hear-eval-kit", pretraining_run)


def _record(path: Path, body: dict[str, Any]) -> tuple[RunRecord, int]:
    task, module = path.absolute().parent.name, path.absolute().parent.parent.name
    encoder, seed, pretraining_run = module, KIT_SEED, 1
    point = dict(body["hparams"])
    protocol = _protocol(point, task)
    if match := _AUTHORS_FOLDER.fullmatch(module):
        encoder, seed = match["name"], int(match["seed"])
        pretraining_run = int(match["run"])
        if point.get("hidden_layers") == 1 and float(point.get("lr", 0)) == 1e-4:
            protocol = "ssam2024"
    names = sorted(key for key in body if key == "test" or re.fullmatch(r"fold\d+", key))
    folds = tuple(_fold(path.parent, name, body[name], point) for name in names)
    if not folds:
        raise KeyError("neither 'test' nor 'fold00'")
    metric = _primary(path.parent, body[names[0]])
    scores = [fold.scores[metric] for fold in folds]
    known = [score for score in scores if score is not None]
    complete = len(known) == len(scores)
    record = RunRecord(
        encoder=encoder,
        encoder_identity="",
        task=task,
        protocol=protocol,
        seed=seed,
        layers=None,
        metric=metric,
        higher_is_better=body.get("score_mode", "max") == "max",
        n_labels=_n_labels(path.parent),
        folds=folds,
        score=math.fsum(known) / len(known) if complete else None,
        reason=None if complete else f"{metric} is not finite in {SCORES_FILE}",
    )
    return record, pretraining_run


def _protocol(point: dict[str, Any], task: str) -> str:
    """Tell the kit's three grids apart by what only they contain."""
    if int(point.get("hidden_dim", 1024)) in (64, 128):
        return "hear2021/faster"
    if int(point.get("max_epochs", 500)) in (10, 50) and not task.startswith("maestro"):
        return "hear2021/fast"
    return "hear2021"


def _fold(folder: Path, name: str, inner: dict[str, Any], point: dict[str, Any]) -> FoldResult:
    split = folder / f"{name}.json"
    epoch = inner.get("epoch")
    scores = {
        key.removeprefix("test_"): _finite(value)
        for key, value in inner.items()
        if key.startswith("test_") and key not in _NOT_METRICS
    }
    return FoldResult(
        fold=name,
        scores=scores,
        grid_point={key: _plain(value) for key, value in point.items()},
        validation_score=_finite(inner.get("validation_score")),
        best_epoch=None if epoch is None else int(epoch),
        n_epochs=None,
        n_test=len(read_json(split)) if split.is_file() else 0,
        head_sha256=None,
    )


def _primary(folder: Path, inner: dict[str, Any]) -> str:
    """The first metric of the task's metadata; without it, the one that equals test_score."""
    metadata = folder / "task_metadata.json"
    if metadata.is_file():
        return str(read_json(metadata)["evaluation"][0])
    names = [k for k in inner if k.startswith("test_") and k not in _NOT_METRICS]
    same = [name for name in names if inner[name] == inner["test_score"]]
    return (same or names)[0].removeprefix("test_")


def _n_labels(folder: Path) -> int:
    vocabulary = folder / "labelvocabulary.csv"
    return len(read_rows(vocabulary)) - 1 if vocabulary.is_file() else 0


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def kit_body(record: RunRecord) -> dict[str, Any]:
    """Return a record as the content of ``test.predicted-scores.json``.

    Unlike hear-eval-kit's own it is valid JSON (null for an infinite d') and has neither losses nor
    times, which are no part of a record.
    """
    body: dict[str, Any] = {fold.fold: _inner(record, fold) for fold in record.folds}
    if "test" not in body:
        inner = [body[fold.fold] for fold in record.folds]
        body["aggregated_scores"] = {
            f"{key}_{name}": function([one[key] for one in inner])
            for key in inner[0]
            for name, function in (("mean", _mean), ("std", _std))
        }
    point = dict(record.folds[0].grid_point)
    post = ((name, point.pop(key, None)) for name, key in _POST_PROCESSING)
    body["postprocessing"] = [[name, value] for name, value in post if value is not None]
    body["hparams"] = point
    body["score_mode"] = "max" if record.higher_is_better else "min"
    body["embedding_path"] = f"embeddings/{record.encoder}/{record.task}"
    return body


def _inner(record: RunRecord, fold: FoldResult) -> dict[str, float | int | None]:
    scores = {f"test_{name}": score for name, score in fold.scores.items()}
    return {
        "test_score": fold.scores[record.metric],
        **scores,
        "validation_score": fold.validation_score,
        "epoch": fold.best_epoch,
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if len(known) == len(values) else None


def _std(values: list[float | None]) -> float | None:
    """Standard deviation with ddof 1; None for one value or where one is undefined."""
    known = [value for value in values if value is not None]
    return statistics.stdev(known) if len(known) == len(values) > 1 else None


def _plain(value: object) -> str | int | float | bool | None:
    """Keep scalars; drop the memory address that the kit prints with its initialisers."""
    if value is None or isinstance(value, (int, float, bool)):
        return value
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
