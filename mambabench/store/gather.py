"""Find the rows of every clip in the committed shards, and read them in any order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mambabench.benchmarks.event_times import event_time_defects
from mambabench.errors import StoreError
from mambabench.files import sha256_file
from mambabench.reading.text import same_name
from mambabench.store.plan import Seen, Shard, TaskPlan
from mambabench.store.shards import ShardRecord, read_record, rows_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "Gathered",
    "RowSpan",
    "gather_split",
    "missing_clips",
    "read_chunks",
    "read_place",
    "shard_notes",
]

CHUNK_ROWS_BYTES = 1 << 24  # read at once while a shard's rows are copied


@dataclass(frozen=True)
class RowSpan:
    """Where the rows of one clip lie."""

    index: int  # of the clip in the split's json
    path: Path
    first_row: int
    n_rows: int
    total_rows: int  # in the file; times follow the rows


class Gathered(NamedTuple):
    """The committed rows of one split."""

    places: tuple[RowSpan, ...]  # in the order of the json, clips without rows left out
    n_layers: int
    dim: int
    has_timestamps: bool
    failures: dict[str, str]  # clip -> reason
    audio_sha256: dict[str, str]  # clip -> hash of its file
    seen: dict[str, Seen]  # clip -> how its file looked before it was read
    frames_sha256: dict[str, str]  # clip -> hash of its frames, where these are not kept


def missing_clips(directory: Path, plan: TaskPlan) -> dict[str, str] | None:
    """Return "<split>/<clip>" -> reason over all shards; None while shards are to be encoded."""
    missing: dict[str, str] = {}
    for shard in plan.shards:
        record = read_record(directory, shard.split, shard.key)
        if record is None:
            return None
        missing |= {f"{shard.split}/{clip}": why for clip, why in record.failures.items()}
    return dict(sorted(missing.items()))


def label_notes(plan: TaskPlan) -> dict[str, str]:
    """Return what the plan shows: "<split>.json" -> what is wrong with the times of its events,
    "<split>/<clip>" -> that its file is named in another form."""
    duration_s = {
        (shard.split, clip.name): clip.n_frames / shard.rate_hz
        for shard in plan.shards
        for clip in shard.clips
    }
    found = event_time_defects(plan.task, duration_s)
    notes = {defect.file: f"{defect.problem}; {defect.remedy}" for defect in found}
    for shard in plan.shards:
        for clip in shard.clips:
            name = Path(clip.path).name
            if name != clip.name and same_name(name) == same_name(clip.name):
                notes[f"{shard.split}/{clip.name}"] = "its file is named in another Unicode form"
    return notes


def shard_notes(directory: Path, plan: TaskPlan) -> dict[str, str]:
    """Return "<split>/<clip>" -> what must be known of clips that are embedded all the same."""
    notes = label_notes(plan)
    for shard in plan.shards:
        record = read_record(directory, shard.split, shard.key)
        found = {} if record is None else record.notes
        notes |= {f"{shard.split}/{clip}": note for clip, note in found.items()}
    return dict(sorted(notes.items()))


def gather_split(directory: Path, split: str, shards: Sequence[Shard]) -> Gathered:
    """Return where the rows of the split lie.

    Raises StoreError where a shard is damaged, FileNotFoundError where one is gone.
    """
    places: list[RowSpan] = []
    failures: dict[str, str] = {}
    audio: dict[str, str] = {}
    looks: dict[str, Seen] = {}
    frames: dict[str, str] = {}
    shapes: set[tuple[int, int, bool]] = set()
    for shard in shards:
        record = _checked_record(directory, shard)
        failures |= record.failures
        audio |= record.audio_sha256
        looks |= record.seen
        frames |= record.frames_sha256
        path = rows_path(directory, split, shard.key)
        first, total = 0, sum(record.n_rows)
        for index, n_rows in zip(record.indices, record.n_rows, strict=True):
            places.append(RowSpan(index, path, first, n_rows, total))
            first += n_rows
        if record.indices:
            shapes.add((record.n_layers, record.dim, record.has_timestamps))
    if len(shapes) > 1:
        raise StoreError(f"{directory}: shards of {split} differ in shape; remove the folder")
    n_layers, dim, has_timestamps = shapes.pop() if shapes else (0, 0, False)
    return Gathered(
        places=tuple(sorted(places, key=lambda place: place.index)),
        n_layers=n_layers,
        dim=dim,
        has_timestamps=has_timestamps,
        failures=dict(sorted(failures.items())),
        audio_sha256=audio,
        seen=looks,
        frames_sha256=dict(sorted(frames.items())),
    )


def _checked_record(directory: Path, shard: Shard) -> ShardRecord:
    record = read_record(directory, shard.split, shard.key)
    path = rows_path(directory, shard.split, shard.key)
    if record is None:
        raise FileNotFoundError(2, "No such file", str(path))
    if sha256_file(path) != record.sha256:
        path.with_suffix(".json").unlink(missing_ok=True)
        raise StoreError(f"{path} is damaged and was set aside; give the same command again")
    return record


def read_place(
    gathered: Gathered, place: RowSpan
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Return one clip's embeddings [n_rows, n_layers, dim] and, of events, its times [n_rows]."""
    width = gathered.n_layers * gathered.dim
    rows = _read(place.path, place.first_row * width, place.n_rows * width)
    embeddings = rows.reshape(place.n_rows, gathered.n_layers, gathered.dim)
    if not gathered.has_timestamps:
        return embeddings, None
    return embeddings, _read(place.path, place.total_rows * width + place.first_row, place.n_rows)


def read_chunks(gathered: Gathered, *, timestamps: bool) -> Iterator[npt.NDArray[np.float32]]:
    """Yield all rows (or times) of the split, flat and in order, in pieces of bounded size."""
    width = 1 if timestamps else gathered.n_layers * gathered.dim
    if width == 0:
        return
    at_once = max(1, CHUNK_ROWS_BYTES // (4 * width))
    for run in _runs(gathered.places):
        base = run.total_rows * gathered.n_layers * gathered.dim if timestamps else 0
        for start in range(0, run.n_rows, at_once):
            n_rows = min(at_once, run.n_rows - start)
            yield _read(run.path, base + (run.first_row + start) * width, n_rows * width)


def _runs(places: Sequence[RowSpan]) -> Iterator[RowSpan]:
    """Join clips that follow each other in one file, so that it is opened once."""
    current: RowSpan | None = None
    for place in places:
        if (
            current is not None
            and place.path == current.path
            and place.first_row == current.first_row + current.n_rows
        ):
            n_rows = current.n_rows + place.n_rows
            current = RowSpan(
                current.index, current.path, current.first_row, n_rows, current.total_rows
            )
            continue
        if current is not None:
            yield current
        current = place
    if current is not None:
        yield current


def _read(path: Path, first: int, count: int) -> npt.NDArray[np.float32]:
    import numpy as np

    values = np.fromfile(path, dtype="<f4", count=count, offset=4 * first)
    if len(values) < count:
        raise StoreError(f"{path} is shorter than its record says; give the same command again")
    return values
