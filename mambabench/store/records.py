"""Run records: what a probe of one encoder on one task with one seed came to.

One JSON file per (encoder, task, protocol, seed) under ``OUT/probes/<encoder>/<task>/<protocol>/``,
``seed-007.json``, written atomically after its predictions ``seed-007.npz``. Only results stand in
them; times, host and versions lie beside them in ``seed-007.provenance.json``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import StoreError
from mambabench.files import atomic_write, sha256_file, write_bytes
from mambabench.reading.arrays import read_arrays
from mambabench.reading.fields import check_fields
from mambabench.selfhash import HashMismatchError, check_hash, hashed_json, write_hashed_json

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "RECORD_SCHEMA",
    "DamagedRecordError",
    "FoldResult",
    "RunRecord",
    "StoredArrays",
    "parse_record",
    "protocol_folder",
    "read_predictions",
    "read_record",
    "record_bytes",
    "record_paths",
    "record_stem",
    "stated_predictions_sha256",
    "write_record",
]

RECORD_SCHEMA = "mambabench.record/2"
_WITHOUT_HASH = "mambabench.record/1"  # read as it is; probe trains it again


class DamagedRecordError(StoreError):
    """A record that was edited, cut short or is no record at all: it is to be made again."""


StoredArrays = Mapping[str, "npt.NDArray[Any]"]  # "<fold>/<array>" -> array


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
    n_train: int | None = None  # training rows (clips, or frames of a timestamp task)
    batch_size: int | None = None  # rows of an optimiser step; null where there are no steps
    n_steps: int | None = None  # optimiser steps of the whole fit, n_epochs long


@dataclass(frozen=True)
class RunRecord:
    """One (encoder, task, protocol, seed).

    The predictions file holds, per fold, arrays named ``<fold>/<array>``:
    scene tasks ``clip`` [n] str, ``cluster`` [n] str ("" where unknown), ``target`` [n] int64
    (multiclass) or [n, n_labels] uint8 (multilabel), ``probability`` [n, n_labels] float32;
    timestamp tasks ``clip`` [n] str, ``cluster`` [n] str, predicted events as parallel arrays
    ``event_clip`` int64 (index into clip), ``event_label`` int64, ``event_start_ms`` and
    ``event_end_ms`` float64, ``counts:<metric>`` [n, k] float64: the per-clip sufficient
    statistics from which the metric is computed (see benchmarks/metrics), and, where events are
    matched, ``event_counts:<metric>`` [n_labels, 3]: each label's matched, true and predicted ones.
    """

    encoder: str
    encoder_identity: str
    task: str
    protocol: str  # its name, with "/fast" or "/faster" for another grid and "+exact" for exact
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
    protocol_version: int = 1  # of the protocol: numbers of two versions are not comparable
    warnings: tuple[str, ...] = ()  # "<split>/<clip>: ..." of clips that are in it all the same
    precision: str = ""  # of the encoder: "fp32", "bf16", "int8"; "" where unknown
    sample_rate_hz: int | None = None  # the encoder's
    resampled_from_hz: int | None = None  # the audio's, where that is another
    limited: str = ""  # what of the task was used, where that is not all of it
    notes: tuple[str, ...] = ()  # what a reader of the score must know, such as deviations
    frames: str = "store"  # or "recompute": encoded again at every step; the same numbers


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
    predictions: StoredArrays,
    provenance: Mapping[str, Any],
) -> None:
    """Write predictions, provenance and, last, the record: a record is there once it is whole."""
    import numpy as np

    arrays: dict[str, Any] = dict(predictions)
    atomic_write(stem.with_suffix(".npz"), lambda file: np.savez_compressed(file, **arrays))
    write_hashed_json(stem.with_suffix(".provenance.json"), dict(provenance))
    digest = sha256_file(stem.with_suffix(".npz"))
    write_bytes(stem.with_suffix(".json"), record_bytes(record, digest))


def record_bytes(record: RunRecord, predictions_sha256: str) -> bytes:
    """Return the bytes of a record's file: its fields, the hash of its predictions and its own."""
    body = {
        "schema": RECORD_SCHEMA,
        "predictions_sha256": predictions_sha256,
        **dataclasses.asdict(record),
    }
    return hashed_json(body)


def read_record(path: Path) -> RunRecord:
    """Read one record; StoreError, naming file and remedy, if it is damaged or of another schema.

    What an older version wrote (``mambabench.record/1``) has no hash of its own and is read as is.
    """
    try:
        return parse_record(path, path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}): probe again") from error


def parse_record(path: Path, data: bytes, *, check: bool = True) -> RunRecord:
    """Return the record in `data`, the bytes of the file `path`; StoreError as `read_record`.

    Without `check` its own hash is not looked at.
    """
    try:
        body = json.loads(data)
        if body["schema"] not in (RECORD_SCHEMA, _WITHOUT_HASH):
            raise StoreError(
                f"{path}: schema is {body['schema']!r}, this version reads {RECORD_SCHEMA!r}: "
                "delete the file and probe again"
            )
        if check and body["schema"] == RECORD_SCHEMA:
            check_hash(data, body)
        names = {field.name for field in dataclasses.fields(RunRecord)}
        values = {name: value for name, value in body.items() if name in names}
        check_fields(RunRecord, {name: v for name, v in values.items() if name != "folds"})
        for fold in body["folds"]:
            check_fields(FoldResult, fold)
        values["folds"] = tuple(FoldResult(**fold) for fold in body["folds"])
        values["layers"] = None if body["layers"] is None else tuple(body["layers"])
        values["missing"] = tuple(body.get("missing", ()))
        values["warnings"] = tuple(body.get("warnings", ()))
        values["notes"] = tuple(body.get("notes", ()))
        return RunRecord(**values)
    except HashMismatchError as error:
        raise DamagedRecordError(
            f"{path} was edited or damaged: {error}; delete the file and probe again"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedRecordError(
            f"{path}: not a run record ({error}): delete the file and probe again"
        ) from error


def stated_predictions_sha256(data: bytes) -> str:
    """Return the hash that a record's bytes state of its predictions, "" where they state none."""
    return str(json.loads(data).get("predictions_sha256", ""))


def read_predictions(
    path: Path, wanted: Callable[[str], bool] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Read the predictions beside the record `path` ("....json"), as "<fold>/<array>" -> array.

    Those whose names are `wanted`, if that is given.
    """
    remedy = f"delete {path.name} and probe again"
    return read_arrays(path.with_suffix(".npz"), remedy=remedy, error=StoreError, wanted=wanted)
