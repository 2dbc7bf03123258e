"""Run records: what a probe of one encoder on one task with one seed came to.

One JSON file per (encoder, task, protocol, seed) under ``OUT/probes/<encoder>/<task>/<protocol>/``,
``seed-007.json``, written atomically after its predictions ``seed-007.npz``. Only results stand in
them; times, host and versions lie beside them in ``seed-007.provenance.json``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import StoreError
from mambabench.files import atomic_write, read_json, sha256_file, write_json

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "RECORD_SCHEMA",
    "FoldResult",
    "Predictions",
    "RunRecord",
    "protocol_folder",
    "read_predictions",
    "read_record",
    "record_paths",
    "record_stem",
    "write_record",
]

RECORD_SCHEMA = "mambabench.record/1"

Predictions = Mapping[str, "npt.NDArray[Any]"]  # "<fold>/<array>" -> array


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
    inputs_sha256: str = ""  # of all that the result follows from: a changed one is trained again
    missing: tuple[str, ...] = ()  # "<split>/<clip>" left out because it has no embedding
    notes: tuple[str, ...] = ()  # what a reader of the score must know, such as deviations


def protocol_folder(protocol: str) -> str:
    """Return the folder name of a record's protocol: "hear2021/fast" lies in "hear2021-fast"."""
    return protocol.replace("/", "-")


def record_stem(out: Path, encoder_key: str, task: str, protocol: str, seed: int) -> Path:
    """Return the path of a record's files without their suffixes."""
    folder = out / "probes" / encoder_key / task / protocol_folder(protocol)
    return folder / f"seed-{seed:03d}"


def record_paths(out: Path) -> tuple[Path, ...]:
    """Return the JSON file of every record below `out`, sorted."""
    return tuple(
        sorted(
            path
            for path in (out / "probes").glob("*/*/*/seed-*.json")
            if not path.name.endswith(".provenance.json")
        )
    )


def write_record(
    stem: Path,
    record: RunRecord,
    predictions: Predictions,
    provenance: Mapping[str, Any],
) -> None:
    """Write predictions, provenance and, last, the record: a record is there once it is whole."""
    import numpy as np

    arrays: dict[str, Any] = dict(predictions)
    atomic_write(stem.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    write_json(stem.with_suffix(".provenance.json"), dict(provenance))
    digest = sha256_file(stem.with_suffix(".npz"))
    body = {"schema": RECORD_SCHEMA, "predictions_sha256": digest, **dataclasses.asdict(record)}
    write_json(stem.with_suffix(".json"), body)


def read_record(path: Path) -> RunRecord:
    """Read one record; StoreError, naming file and remedy, if it is not one of this schema."""
    try:
        body = read_json(path)
        if body["schema"] != RECORD_SCHEMA:
            raise StoreError(
                f"{path}: schema is {body['schema']!r}, this version reads {RECORD_SCHEMA!r}: "
                "delete the file and probe again"
            )
        names = {field.name for field in dataclasses.fields(RunRecord)}
        values = {name: value for name, value in body.items() if name in names}
        values["folds"] = tuple(FoldResult(**fold) for fold in body["folds"])
        values["layers"] = None if body["layers"] is None else tuple(body["layers"])
        values["missing"] = tuple(body.get("missing", ()))
        values["notes"] = tuple(body.get("notes", ()))
        return RunRecord(**values)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path}: not a run record ({error}): delete the file and probe again"
        ) from error


def read_predictions(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the predictions beside the record `path` ("....json"), as "<fold>/<array>" -> array."""
    import numpy as np

    file = path.with_suffix(".npz")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{file}: predictions cannot be read ({error}): delete {path.name} and probe again"
        ) from error
