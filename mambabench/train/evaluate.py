"""Evaluate trained runs, or probes of affect tasks, on the test sessions: the verb ``evaluate``.

Evaluation trains nothing: weights are hashed before and after and must be those that the training
recorded. Every row comes with what keeps it honest: trivial classifiers, a probe on metadata only,
bootstrap intervals over speakers, results by gender, and the speaker-overlap audit.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mambabench.errors import StoreError
from mambabench.files import atomic_write, write_json
from mambabench.reading.json_files import read_json_object
from mambabench.train.affect_rows import (
    DISCLAIMER,
    SCHEMA,
    AffectRow,
    Evaluated,
    _sentiment,
    honest_row,
)
from mambabench.train.evaluate_probes import evaluate_probes
from mambabench.train.run_records import output_folder, write_run_records
from mambabench.train.settings import SYSTEMS, DepMambaSettings, MmmlSettings, resolve
from mambabench.train.sources import Sources
from mambabench.train.state import load_tensors, weights_sha256
from mambabench.train.verb import resolve_device, system_module

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.train.sources import Sources

    Values = npt.NDArray[np.float32]

__all__ = ["evaluate"]

_REMEDY = "delete the folder of this seed and train again"


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

    Sources default to those that the training used. Beside the row a run record is written per
    seed, below the output folder that `train` wrote to, for `mambabench report`. Raises StoreError
    for a folder that holds neither, for unfinished seeds and for weights that are not those of the
    training.
    """
    run = Path(run)
    if (run / "probes").is_dir():
        return evaluate_probes(run, n_resamples=n_resamples)
    folders = [run] if (run / "run.json").is_file() else sorted(run.glob("seed-*"))
    records = [_record(folder) for folder in folders]
    if not records:
        raise StoreError(
            f"{run} is neither a folder of `mambabench train` (it holds no seed-*) nor an output "
            "folder with probes/"
        )
    sources = _sources(folders[0], data, store, encoder, text_encoder, device)
    row, written = _evaluate_records(folders, records, sources, n_resamples)
    target = run / "evaluation.json"
    write_json(target, row)
    return Evaluated((row,), (target, *written))


def _record(folder: Path) -> AffectRow:
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
    folders: Sequence[Path], records: Sequence[AffectRow], sources: Sources, n_resamples: int
) -> tuple[AffectRow, tuple[Path, ...]]:
    """Return the row of all seeds, and the run records that were written."""
    import numpy as np

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
    else:
        by_name = {s.name: s for s in sessions}
    test = [by_name[n] for n in names]
    row = honest_row(test, sessions, scores, thresholds, n_resamples)
    if isinstance(settings, MmmlSettings):
        row |= _sentiment(data.dataset, scores, found[0][2], test)
    out = output_folder(folders[0])
    if out is None:
        warnings.warn(
            f"{folders[0]} does not lie below an output folder (OUT/train/...): no run records for "
            "`mambabench report` were written",
            stacklevel=3,
        )
        written: tuple[Path, ...] = ()
    else:
        written = write_run_records(
            out, records, names, scores, test, restricted=data.restricted, notes=data.notes
        )
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
    }, written


def _hash(weights: Any) -> str:
    return weights_sha256(weights)


def _checked_weights(folder: Path, record: AffectRow) -> tuple[Any, AffectRow]:
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
