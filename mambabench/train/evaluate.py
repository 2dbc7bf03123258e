"""Evaluate trained runs, or probes of affect tasks, on the test sessions: the verb ``evaluate``.

Evaluation trains nothing: weights are hashed before and after and must be those that the training
recorded. Every row comes with what keeps it honest: trivial classifiers, a probe on metadata only,
bootstrap intervals over speakers, results by gender, and the speaker-overlap audit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.errors import DataError, StoreError
from mambabench.files import atomic_write, write_json
from mambabench.reading.json_files import read_json_object
from mambabench.train.settings import SYSTEMS, DepMambaSettings, MmmlSettings, resolve

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.depression.sessions import Session
    from mambabench.train.sources import Sources

    Values = npt.NDArray[np.float32]

__all__ = ["DISCLAIMER", "SCHEMA", "Evaluated", "evaluate", "honest_row"]

SCHEMA = "mambabench.affect/1"
_REMEDY = "delete the folder of this seed and train again"
DISCLAIMER = "research measurement on a benchmark; not a diagnostic of any person"
Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluated:
    """The rows of an evaluation and the file they were written to."""

    rows: tuple[Row, ...]
    files: tuple[Path, ...]


def evaluate(
    run: Path | str,
    *,
    data: Path | str | None = None,
    store: Path | str | None = None,
    encoder: str | None = None,
    text_encoder: str | None = None,
    device: str = "auto",
    n_resamples: int = 1000,
) -> Evaluated:
    """Evaluate a folder of `train` (an experiment or one seed of it) or an output folder of probes.

    Sources default to those that the training used. Raises StoreError for a folder that holds
    neither, for unfinished seeds and for weights that are not those of the training.
    """
    run = Path(run)
    if (run / "probes").is_dir():
        from mambabench.train.evaluate_probes import evaluate_probes

        return evaluate_probes(run, n_resamples=n_resamples)
    folders = [run] if (run / "run.json").is_file() else sorted(run.glob("seed-*"))
    records = [_record(folder) for folder in folders]
    if not records:
        raise StoreError(
            f"{run} is neither a folder of `mambabench train` (it holds no seed-*) nor an output "
            "folder with probes/"
        )
    sources = _sources(folders[0], data, store, encoder, text_encoder, device)
    row = _evaluate_records(run, folders, records, sources, n_resamples)
    target = run / "evaluation.json"
    write_json(target, row)
    return Evaluated((row,), (target,))


def _record(folder: Path) -> Row:
    path = folder / "run.json"
    if not path.is_file():
        raise StoreError(f"{folder} is not finished; continue it with `mambabench train --resume`")
    return read_json_object(path, remedy=_REMEDY, error=StoreError)


def _sources(
    folder: Path,
    data: Path | str | None,
    store: Path | str | None,
    encoder: str | None,
    text_encoder: str | None,
    device: str,
) -> Sources:
    from mambabench.train.sources import Sources
    from mambabench.train.verb import resolve_device

    path = folder / "provenance.json"
    used = read_json_object(path, remedy=_REMEDY, error=StoreError) if path.is_file() else {}

    def folder_of(given: Path | str | None, key: str) -> Path | None:
        value = given if given is not None else used.get(key)
        return None if value is None else Path(value)

    return Sources(
        data=folder_of(data, "data"),
        store=folder_of(store, "store"),
        encoder=encoder or used.get("encoder"),
        text_encoder=text_encoder or used.get("text_encoder"),
        device=resolve_device(device),
    )


def _evaluate_records(
    run: Path,
    folders: Sequence[Path],
    records: Sequence[Row],
    sources: Sources,
    n_resamples: int,
) -> Row:
    import numpy as np

    from mambabench.train.verb import system_module

    system = records[0]["system"]
    given = {**records[0]["settings"]}
    del given["seed"]
    settings = resolve(SYSTEMS[system], given, str(folders[0] / "run.json"))
    module = system_module(system)
    splits = ("train", "test") if system == "mmml" else ("test",)
    data = module.open_data(settings, sources, splits)
    found: list[tuple[Any, ...]] = []
    proofs = []
    for folder, record in zip(folders, records, strict=True):
        weights, proof = _checked_weights(folder, record)
        found.append(module.predict_split(settings, data, "test", weights, sources.device))
        proof["sha256_after"] = _hash(weights)
        if proof["sha256_after"] != proof["sha256_before"]:
            raise StoreError(f"{folder}: evaluation changed the weights")
        proofs.append(proof)
        _save_predictions(folder / "test.npz", found[-1])
    names = found[0][0]
    scores = np.stack([part[1] for part in found])
    thresholds = [record["threshold"]["value"] for record in records]
    sessions = data.sessions
    if isinstance(settings, MmmlSettings):
        by_name = {s.name.replace("/", "__") + ".wav": s for s in sessions}
        row = honest_row([by_name[n] for n in names], sessions, scores, thresholds, n_resamples)
        row |= _sentiment(data.dataset, scores, found[0][2], [by_name[n] for n in names])
    else:
        by_name = {s.name: s for s in sessions}
        row = honest_row([by_name[n] for n in names], sessions, scores, thresholds, n_resamples)
    first = records[0]
    return {
        "schema": SCHEMA,
        "kind": "depression" if isinstance(settings, DepMambaSettings) else "sentiment",
        "model": first["name"],
        "system": system,
        "task": settings.task,
        "split": "test",
        "seeds": [record["seed"] for record in records],
        "restricted": data.restricted,
        "selection": first["selection"]["rule"] + " on " + first["selection"]["split"],
        "threshold": first["threshold"]["source"],
        "weights": proofs,
        "notes": list(data.notes),
        "disclaimer": DISCLAIMER,
        **row,
    }


def _hash(weights: Any) -> str:
    from mambabench.train.state import weights_sha256

    return weights_sha256(weights)


def _checked_weights(folder: Path, record: Row) -> tuple[Any, Row]:
    from mambabench.train.state import load_tensors

    weights, _ = load_tensors(folder / "weights.safetensors")
    found = _hash(weights)
    if found != record["weights_sha256"]:
        raise StoreError(
            f"{folder / 'weights.safetensors'} is not what the training wrote (SHA-256 "
            f"{found[:12]} instead of {record['weights_sha256'][:12]}); train this seed again"
        )
    return weights, {"seed": record["seed"], "sha256_before": found}


def _save_predictions(path: Path, found: tuple[Any, ...]) -> None:
    import numpy as np

    def write(file: BinaryIO) -> None:
        np.savez(file, name=np.array(found[0]), score=found[1])

    atomic_write(path, write)


def honest_row(
    test: Sequence[Session],
    sessions: Sequence[Session],
    scores: Any,
    thresholds: Sequence[float],
    n_resamples: int,
) -> Row:
    """Return a model's scores beside those of classifiers that listen to nothing.

    test: the sessions of `scores` [n_seeds, n_test], in order; sessions: those of all splits.
    """
    from mambabench.report.statistics.honest import (
        metadata_probe,
        speaker_audit,
        summarise,
        trivial_rows,
    )

    train = [s for s in sessions if s.split == "train"]
    if not train:
        raise DataError("no training sessions are known: the baselines need their labels")
    logits, fields = metadata_probe(train, test)
    probe = summarise(logits, test, n_resamples=n_resamples) if fields else None
    trivial = trivial_rows([s.label for s in train], [s.label for s in test])
    audit = speaker_audit(sessions)
    return {
        "result": summarise(scores, test, threshold=thresholds, n_resamples=n_resamples),
        "baselines": {
            **{name: {k: _number(v) for k, v in row.items()} for name, row in trivial.items()},
            "metadata_probe": {"fields": list(fields), "result": probe},
        },
        "audit": {"verdict": audit.verdict, "shared": audit.shared, "known": audit.known},
    }


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _sentiment(dataset: str, scores: Any, true: Any, sessions: Sequence[Session]) -> Row:
    """Return the published columns: every seed, their mean, and intervals over videos."""
    import numpy as np

    from mambabench.benchmarks.sentiment.metrics import COLUMNS, NoNonZeroError, sentiment_scores

    columns = COLUMNS[dataset]
    per_seed = [sentiment_scores(row, true, dataset) for row in scores]
    names, index = np.unique([s.cluster for s in sessions], return_inverse=True)
    rng = np.random.default_rng(0)
    drawn: list[list[float]] = []
    for _ in range(200):
        counts = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        rows = np.repeat(np.arange(len(true)), counts[index])
        try:
            parts = [sentiment_scores(row[rows], true[rows], dataset) for row in scores]
        except NoNonZeroError:
            continue
        drawn.append([float(np.mean([part[c] for part in parts])) for c in columns])
    table = np.array(drawn)
    intervals = {}
    for i, column in enumerate(columns):
        values = table[:, i][~np.isnan(table[:, i])]
        intervals[column] = (
            [float(v) for v in np.percentile(values, (2.5, 97.5))] if len(values) else None
        )
    mean = {c: _number(float(np.mean([row[c] for row in per_seed]))) for c in columns}
    return {
        "columns": list(columns),
        "published_columns": {
            "per_seed": [{c: _number(row[c]) for c in columns} for row in per_seed],
            "mean": mean,
            "intervals": intervals,
        },
    }
