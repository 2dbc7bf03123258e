"""Write what `evaluate` found as run records, so that a report shows trained systems beside probes.

One record a seed, below ``OUT/probes/<name>/<task>/trained/``, in the form of a probe's: its
predictions are the test sessions (or clips) with a probability that is one half at the threshold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.affect import EVALUATION
from mambabench.benchmarks.metrics import METRICS
from mambabench.files import canonical_json
from mambabench.provenance import provenance
from mambabench.store.embeddings import encoder_key
from mambabench.store.records import FoldResult, RunRecord, record_stem, write_record

if TYPE_CHECKING:
    from mambabench.benchmarks.depression.sessions import Session

__all__ = ["PROTOCOL", "output_folder", "write_run_records"]

PROTOCOL = "trained"
_LARGEST = 80.0  # logit, beyond which float64 has no other probability

ToldSettings = Mapping[str, Any]  # the run.json of a seed


def output_folder(seed: Path) -> Path | None:
    """Return OUT of OUT/train/SYSTEM/TASK/NAME/seed-000; None where a folder lies elsewhere."""
    above = seed.resolve().parents
    return above[4] if len(above) > 4 and above[3].name == "train" else None


def write_run_records(
    out: Path,
    told: Sequence[ToldSettings],
    names: Sequence[str],
    scores: npt.NDArray[Any],
    test: Sequence[Session],
    *,
    restricted: bool,
    notes: Sequence[str],
) -> tuple[Path, ...]:
    """Write one record per seed and return their files.

    told: the run.json of every seed; names: of the tested sessions or clips; scores [n_seeds, n],
    higher means positive; test: the sessions in the same order.
    """
    target = np.array([session.label for session in test], np.int64)
    arrays = {
        "test/clip": np.array(names),
        "test/cluster": np.array([session.cluster for session in test]),
        "test/target": target,
    }
    written = []
    for run, row in zip(told, scores, strict=True):
        probability = _probability(row, float(run["threshold"]["value"]))
        values = {name: _finite(METRICS[name](target, probability)) for name in EVALUATION}
        record = _record(run, values, len(target), restricted, notes)
        stem = record_stem(out, encoder_key(record.encoder), record.task, PROTOCOL, record.seed)
        write_record(stem, record, {**arrays, "test/probability": probability}, provenance())
        written.append(stem.with_suffix(".json"))
    return tuple(written)


def _probability(score: npt.NDArray[Any], threshold: float) -> npt.NDArray[np.float64]:
    """Return [n, 2] float64: one half where the score is the threshold."""
    logit = np.clip(np.asarray(score, np.float64) - threshold, -_LARGEST, _LARGEST)
    positive = 1 / (1 + np.exp(-logit))
    return np.stack([1 / (1 + np.exp(logit)), positive], axis=1)


def _record(
    run: ToldSettings,
    values: dict[str, float | None],
    n_test: int,
    restricted: bool,
    notes: Sequence[str],
) -> RunRecord:
    settings = {k: v for k, v in run["settings"].items() if k != "seed"}
    identity = hashlib.sha256(canonical_json([run["system"], settings])).hexdigest()
    metric = METRICS[EVALUATION[0]]
    selection = run["selection"]
    fold = FoldResult(
        fold="test",
        scores=values,
        grid_point={},
        validation_score=selection["score"],
        best_epoch=run["best_epoch"],
        n_epochs=run["n_epochs"],
        n_test=n_test,
        head_sha256=run["weights_sha256"],
        n_train=run["n_train"],
        batch_size=settings["batch_size"],
        n_steps=run["n_epochs"] * -(-run["n_train"] // settings["batch_size"]),
    )
    score = values[metric.name]
    chosen = f"trained end to end; weights chosen by {selection['rule']} on {selection['split']}"
    return RunRecord(
        encoder=run["name"],
        encoder_identity=identity,
        task=settings["task"],
        protocol=PROTOCOL,
        seed=run["seed"],
        layers=None,
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        n_labels=2,
        folds=(fold,),
        score=score,
        reason=f"{metric.name} is undefined on test" if score is None else None,
        restricted=restricted,
        inputs_sha256=run["weights_sha256"],
        precision="fp32",
        notes=(chosen, *notes),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
