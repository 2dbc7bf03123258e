"""Write what `evaluate CHECKPOINT` found as a run record: a trained classifier beside the probes.

One record for a run, below ``OUT/probes/<encoder>/<task>/trained/``, in the form of a probe's, with
the predictions of every test clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.metrics import METRICS
from mambabench.files import canonical_json
from mambabench.provenance import provenance
from mambabench.store.embeddings import encoder_key
from mambabench.store.records import FoldResult, RunRecord, record_stem, write_record
from mambabench.train.encoder_data import ClipData, ClipFold
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.run_records import PROTOCOL

__all__ = ["Tested", "output_folder", "write_scored_record"]

Array = npt.NDArray[Any]
SINGLE = ("top1_acc", "mAP", "aucroc", "d_prime")  # of lists, which name no metrics themselves
SEVERAL = ("mAP", "aucroc", "d_prime")


class Tested(NamedTuple):
    """What a classifier said of the test clips of one fold."""

    fold: ClipFold
    probabilities: Array  # [n, classes], or [n, seconds, classes]: those stand in no record
    targets: Array  # [n, classes]


def output_folder(run: Path) -> Path | None:
    """Return OUT of OUT/train/SYSTEM/TASK/NAME...; None where a run lies elsewhere."""
    return next((p.parent for p in run.resolve().parents[2:] if p.name == "train"), None)


def write_scored_record(
    run: Path,
    told: Mapping[str, Any],
    settings: EncoderSettings,
    data: ClipData,
    tested: Sequence[Tested],
) -> Path | None:
    """Write the record of a run folder and return its file.

    told: its run.json. The task is the HEAR task that was given, else the settings' own. None where
    there can be no record: outside an output folder, or scored per second.
    """
    out = output_folder(run)
    if out is None or any(t.probabilities.ndim != 2 for t in tested):
        return None
    single = all(bool((t.targets.sum(1) == 1).all()) for t in tested)
    given = data.task.evaluation if data.task is not None else SINGLE if single else SEVERAL
    computed = {name: METRICS[name].compute for name in given}
    scored = {name: compute for name, compute in computed.items() if compute is not None}
    arrays: dict[str, Any] = {}
    results = []
    for one in tested:
        name = one.fold.name or "test"
        target = one.targets.argmax(1) if single else one.targets.astype(np.uint8)
        probability = one.probabilities.astype(np.float32)
        clips = one.fold.test or one.fold.valid
        arrays |= {
            f"{name}/clip": np.array([c.path.name for c in clips]),
            f"{name}/cluster": np.array(_clusters(data, one.fold, len(clips))),
            f"{name}/target": target,
            f"{name}/probability": probability,
        }
        scores = {n: _finite(compute(target, probability)) for n, compute in scored.items()}
        trained = next(f for f in told["folds"] if f["fold"] == one.fold.name)
        results.append(_fold(name, scores, trained, len(clips), settings.batch_size))
    record = _record(told, settings, data, next(iter(scored)), tuple(results))
    stem = record_stem(out, encoder_key(record.encoder), record.task, PROTOCOL, record.seed)
    write_record(stem, record, arrays, provenance())
    return stem.with_suffix(".json")


def _fold(
    name: str,
    scores: dict[str, float | None],
    trained: Mapping[str, Any],
    n_test: int,
    batch_size: int,
) -> FoldResult:
    best = trained["best"] or {}
    return FoldResult(
        fold=name,
        scores=scores,
        grid_point={},
        validation_score=best.get("main"),
        best_epoch=best.get("epoch"),
        n_epochs=trained["epochs"],
        n_test=n_test,
        head_sha256=trained["weights_sha256"],
        n_train=trained["facts"].get("training clips"),
        batch_size=batch_size,
        n_steps=trained["steps"],
    )


def _record(
    told: Mapping[str, Any],
    settings: EncoderSettings,
    data: ClipData,
    metric: str,
    folds: tuple[FoldResult, ...],
) -> RunRecord:
    own = {k: v for k, v in told["settings"].items() if k != "seed"}
    weights = [fold.head_sha256 for fold in folds]
    scores = [fold.scores[metric] for fold in folds]
    missing = [f.fold for f, s in zip(folds, scores, strict=True) if s is None]
    selection = told["folds"][0]["selection"]
    notes = (f"trained end to end; weights chosen on {selection}", *data.notes)
    task = settings.task if data.task is None else data.task.name
    trained_for = "" if settings.task in (task, "own") else f"-{settings.task}"
    return RunRecord(
        encoder=told["name"] + trained_for,
        encoder_identity=hashlib.sha256(canonical_json([told["system"], own])).hexdigest(),
        task=task,
        protocol=PROTOCOL,
        seed=told["seed"],
        layers=None,
        metric=metric,
        higher_is_better=METRICS[metric].higher_is_better,
        n_labels=len(data.labels),
        folds=folds,
        score=None if missing else float(np.mean([s for s in scores if s is not None])),
        reason=f"{metric} is undefined on {', '.join(missing)}" if missing else None,
        restricted=data.restricted,
        inputs_sha256=hashlib.sha256(canonical_json(weights)).hexdigest(),
        precision="fp32",
        limited="" if data.task is None else data.task.limited,
        notes=notes,
    )


def _clusters(data: ClipData, fold: ClipFold, n: int) -> list[str]:
    if data.task is None:
        return [""] * n
    clips = data.task.clips[fold.name or "test"]
    return [clip.cluster or "" for clip in clips]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
