"""Run records: what a probe of one encoder on one task with one seed came to.

One JSON file per (encoder, task, protocol, seed) under ``OUT/probes/<encoder>/<task>/<protocol>/``,
``seed-007.json``, written atomically after its predictions ``seed-007.npz``. Only results stand in
them; times, host and versions lie beside them in ``seed-007.provenance.json``.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RECORD_SCHEMA", "FoldResult", "RunRecord"]

RECORD_SCHEMA = "mambabench.record/1"


@dataclass(frozen=True)
class FoldResult:
    """One fold's winning trial and its scores on that fold's test clips."""

    fold: str  # name of the test split: "test", "fold00", ...
    scores: dict[str, float | None]  # every metric of the task; null where undefined
    grid_point: dict[str, str | int | float | bool | None]  # the chosen hyper-parameters
    validation_score: float | None
    best_epoch: int | None
    n_epochs: int | None
    n_test: int  # test clips
    head_sha256: str | None  # of the head's parameter bytes


@dataclass(frozen=True)
class RunRecord:
    """One (encoder, task, protocol, seed).

    The predictions file holds, per fold, arrays named ``<fold>/<array>``:
    scene tasks ``clip`` [n] str, ``cluster`` [n] str ("" where unknown), ``target`` [n] int64
    (multiclass) or [n, n_labels] uint8 (multilabel), ``probability`` [n, n_labels] float32;
    timestamp tasks ``clip`` [n] str, ``cluster`` [n] str, predicted events as parallel arrays
    ``event_clip`` int64 (index into clip), ``event_label`` int64, ``event_start_ms`` and
    ``event_end_ms`` float64, and ``counts:<metric>`` [n, k] float64: the per-clip sufficient
    statistics from which the metric is computed (see benchmarks/metrics).
    """

    encoder: str
    encoder_identity: str
    task: str
    protocol: str  # preset, with "/fast" or "/faster" for another grid and "+exact" for exact
    seed: int
    layers: tuple[int, ...] | None
    metric: str  # primary
    higher_is_better: bool
    n_labels: int
    folds: tuple[FoldResult, ...]
    score: float | None  # mean over folds of the primary metric
    reason: str | None  # why there is no score
    restricted: bool = False
