"""Evaluate the probes of affect tasks by session: predictions aggregated and audited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mambabench.benchmarks.affect import Affect, read_affect
from mambabench.errors import StoreError
from mambabench.files import write_json
from mambabench.reading.arrays import read_arrays
from mambabench.store.open import list_stored_tasks
from mambabench.store.records import read_record
from mambabench.train.affect_rows import DISCLAIMER, SCHEMA, Evaluated, honest_row
from mambabench.train.severity import severity

__all__ = ["evaluate_probes"]

AffectRow = dict[str, Any]
_SMALLEST = 1e-7  # probability


def evaluate_probes(out: Path, *, n_resamples: int = 1000) -> Evaluated:
    """Return and write one row per (encoder, affect task, protocol) with probes under `out`.

    A session's score is the mean over its clips of log p(1) - log p(0); it is positive above 0.
    Raises StoreError where no affect task has been probed.
    """
    rows, files = [], []
    for stored in list_stored_tasks(out):
        affect = read_affect(stored.directory)
        if affect is None:
            continue
        folder = out / "probes" / stored.directory.parent.name / stored.task.name
        for protocol in sorted(p for p in folder.glob("*") if p.is_dir()):
            predictions = sorted(protocol.glob("seed-*.npz"))
            if not predictions:
                continue
            row = _row(affect, predictions, n_resamples)
            regression = severity(stored, affect) if affect.kind == "depression" else None
            rows.append(
                {
                    "schema": SCHEMA,
                    "kind": affect.kind,
                    "model": stored.encoder,
                    "system": "probe",
                    "task": stored.task.name,
                    "protocol": protocol.name,
                    "split": "test",
                    "seeds": [int(path.stem.removeprefix("seed-")) for path in predictions],
                    "restricted": stored.task.restricted,
                    "selection": f"by the protocol {protocol.name} on valid",
                    "threshold": "zero",
                    "notes": list(stored.task.notes),
                    "disclaimer": DISCLAIMER,
                    "severity": regression,
                    **row,
                }
            )
            files.append(protocol / "evaluation.json")
            write_json(files[-1], rows[-1])
    if not rows:
        raise StoreError(f"{out} holds no probes of depression or sentiment tasks")
    return Evaluated(tuple(rows), tuple(files))


def _row(affect: Affect, predictions: list[Path], n_resamples: int) -> AffectRow:
    per_seed = [_session_scores(affect, path) for path in predictions]
    names = sorted(set(per_seed[0]).intersection(*per_seed[1:]))
    scores = np.array([[seed[name] for name in names] for seed in per_seed])
    test = [affect.sessions[name] for name in names]
    zeros = [0.0] * len(scores)
    return honest_row(test, list(affect.sessions.values()), scores, zeros, n_resamples)


def _session_scores(affect: Affect, path: Path) -> dict[str, float]:
    folds = [fold.fold for fold in read_record(path.with_suffix(".json")).folds]
    if folds != ["test"]:
        raise StoreError(f"{path}: folds {folds}; affect tasks have one test split")
    needed = ("test/clip", "test/probability")
    remedy = "delete the record beside it and probe again"
    arrays = read_arrays(path, needed, remedy=remedy, error=StoreError)
    clips, probability = (arrays[name] for name in needed)
    probability = probability.astype(float).clip(_SMALLEST, 1)
    logit = np.log(probability[:, 1]) - np.log(probability[:, 0])
    of: dict[str, list[float]] = {}
    for clip, value in zip(clips.tolist(), logit.tolist(), strict=True):
        of.setdefault(affect.session_of[f"test/{clip}"], []).append(value)
    return {session: float(np.mean(values)) for session, values in of.items()}
