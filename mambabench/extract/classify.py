"""Name what is heard in a clip with the classification head of an encoder's own checkpoint."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import DataError, EncoderError
from mambabench.extract.audio import decode
from mambabench.reading.tables import read_rows

if TYPE_CHECKING:
    from mambabench.models.encoder import LoadedEncoder

__all__ = ["Guess", "classify", "read_labels"]

_NAME_COLUMNS = ("display_name", "label", "name", "class")
_INDEX_COLUMNS = ("index", "idx", "id")


@dataclass(frozen=True)
class Guess:
    """One class that the head proposes."""

    index: int
    label: str | None  # None without a file of names
    probability: float


def classify(
    clip: Path, encoder: LoadedEncoder, *, top: int = 5, labels: tuple[str, ...] | None = None
) -> tuple[Guess, ...]:
    """Return the `top` classes of the audio file `clip`, the most probable first.

    Any sample rate and channel count. Heads trained on clips with several labels give independent
    probabilities, others sum to one. Raises EncoderError where the encoder has no head or `labels`
    another length than it, DataError where the file cannot be read.
    """
    import torch

    probabilities = getattr(encoder.model, "probabilities", None)
    head = getattr(getattr(encoder.model, "backbone", None), "head", None)
    if probabilities is None or getattr(head, "out_features", 0) == 0:
        raise EncoderError(
            f"encoder {encoder.name} has no classification head; the AuM checkpoints have one, "
            "such as aum_base_scratch_audioset"
        )
    try:
        decoded = decode(clip, encoder.sample_rate_hz)
    except DataError as error:
        raise DataError(f"{clip} {error}") from error
    if decoded.problem is not None:
        warnings.warn(f"{clip} {decoded.problem}", stacklevel=2)
    with torch.no_grad():
        audio = torch.from_numpy(decoded.samples)[None].to(encoder.device)
        values = probabilities(audio)[0].cpu()
    if labels is not None and len(labels) != len(values):
        raise EncoderError(
            f"{len(labels)} labels for a head of {len(values)} classes: this is the file of "
            "another dataset"
        )
    order = torch.argsort(values, descending=True, stable=True)[:top].tolist()
    return tuple(Guess(i, labels[i] if labels else None, float(values[i])) for i in order)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names in the head's order.

    A CSV with a header: a column display_name, label, name or class, ordered by index or idx where
    there is one (AudioSet's class_labels_indices.csv and HEAR's labelvocabulary.csv are such).
    Without one of these names in the header every line is a name. Raises DataError.
    """
    rows = [row for _, row in read_rows(path, remedy="give the file of the head's labels")]
    if not rows:
        raise DataError(f"{path} holds no labels")
    header = [cell.strip().lower() for cell in rows[0]]
    name = next((header.index(c) for c in _NAME_COLUMNS if c in header), None)
    if name is None:
        return tuple(",".join(row).strip() for row in rows)
    index = next((header.index(c) for c in _INDEX_COLUMNS if c in header), None)
    if index is None:
        return tuple(row[name] for row in rows[1:])
    try:
        by_index = {int(row[index]): row[name] for row in rows[1:]}
    except (ValueError, IndexError) as error:
        raise DataError(f"{path}: a line has no whole number and name: {error}") from error
    if sorted(by_index) != list(range(len(rows) - 1)):
        raise DataError(f"{path}: the indices are not 0 to {len(rows) - 2}, each once")
    return tuple(by_index[i] for i in range(len(by_index)))
