"""Run an encoder over planned batches: decode ahead, encode, check, divide what does not fit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mambabench.errors import DataError, EncoderError, MambabenchError
from mambabench.extract.audio import Decoded, decode, length_note
from mambabench.extract.reuse import EncodedRows, Known
from mambabench.hear_api.provider import training_parts
from mambabench.hear_api.times import fault_of_times
from mambabench.store.again import frames_sha256
from mambabench.store.plan import PlannedClip, Shard
from mambabench.store.shards import ClipRows

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.models.encoder import LoadedEncoder

__all__ = ["BatchLimit", "EncodeJob", "encode_shard"]

READ_AHEAD = 2  # batches that are decoded while one is encoded


@dataclass
class BatchLimit:
    """How many samples fit into one call; halved when memory runs out, and kept so."""

    n_samples: int | None = None  # None: whatever the plan says
    n_halvings: int = field(default=0)
    fault: MambabenchError | None = None  # the first of the encoder, with its traceback
    doubt: str | None = None  # what to know of the encoder's frames, told with the next clip
    told: set[str] = field(default_factory=set)  # in this shard

    def halve(self, n_samples: int) -> None:
        """Allow half of the `n_samples` that did not fit."""
        self.n_samples = n_samples // 2
        self.n_halvings += 1


@dataclass(frozen=True)
class EncodeJob:
    """How shards of one encoder and task are encoded."""

    encoder: LoadedEncoder
    pooling: str  # "scene", "time_mean" or "frames"
    layers: tuple[int, ...] | None
    limit: BatchLimit
    clip_s: float | None = None  # how long the task says that every clip is; None: they differ
    keep: bool = True  # False: of frames only their number, times and hash
    known: Known | None = None  # rows of other tasks; None: every clip is encoded


class _ClipBatch(NamedTuple):
    clips: list[PlannedClip]
    audio: list[Decoded]


def encode_shard(
    job: EncodeJob,
    shard: Shard,
    readers: Executor,
    progress: Callable[[int, float], None],
    refused: Mapping[str, str] | None = None,
) -> Iterator[ClipRows]:
    """Yield the rows of every clip of the shard, in the shard's order within each batch.

    `progress` is called with clips and seconds of audio after each batch; `refused` clips are not
    touched and fail with the reason that is given. Raises EncoderError where the encoder fails for
    every clip that could be read: then it is not the clips' fault.
    """
    n_encoded, first_fault = 0, None
    job.limit.told.clear()
    for planned, futures in _ahead(shard, job.encoder.sample_rate_hz, readers, refused or {}):
        batch = _ClipBatch([], [])
        for clip, future in zip(planned, futures, strict=True):
            try:
                audio = future.result()
            except DataError as error:
                yield ClipRows(clip, None, None, None, str(error))
                continue
            batch.clips.append(clip)
            batch.audio.append(audio)
        for rows in _encode_planned(job, batch):
            if rows.failure is None:
                n_encoded += 1
            elif first_fault is None:
                first_fault = rows
            yield rows
        progress(len(planned), sum(clip.n_frames for clip in planned) / shard.rate_hz)
    if n_encoded:
        _check_mode(job)
    if n_encoded == 0 and first_fault is not None:
        raised = EncoderError(
            f"encoder {job.encoder.label!r} failed on every clip of a part of split "
            f"{shard.split!r}; the first is {first_fault.clip.name}: {first_fault.failure}"
        )
        if job.limit.fault is not None:
            raised.traceback = job.limit.fault.traceback
            for note in getattr(job.limit.fault, "__notes__", ()):
                raised.add_note(note)
        raise raised


def _refuse(reason: str) -> Decoded:
    raise DataError(reason)


def _ahead(
    shard: Shard, sample_rate_hz: int, readers: Executor, refused: Mapping[str, str]
) -> Iterator[tuple[tuple[PlannedClip, ...], list[Future[Decoded]]]]:
    """Yield each batch with its audio being decoded, `READ_AHEAD` batches in advance."""
    waiting: deque[tuple[tuple[PlannedClip, ...], list[Future[Decoded]]]] = deque()
    for clips in shard.batches():
        futures = [
            readers.submit(_refuse, refused[clip.name])
            if clip.name in refused
            else readers.submit(
                decode,
                Path(clip.path),
                sample_rate_hz,
                shard.rate_hz if clip.part is None else None,  # files pointed at have their own
                clip.part,
            )
            for clip in clips
        ]
        waiting.append((clips, futures))
        if len(waiting) > READ_AHEAD:
            yield waiting.popleft()
    yield from waiting


def _encode_planned(job: EncodeJob, batch: _ClipBatch) -> Iterator[ClipRows]:
    """Encode one planned batch, in runs of equal length.

    The plan makes them equal; they differ only where a file changed since or its header lied.
    """
    start = 0
    while start < len(batch.clips):
        n_samples = len(batch.audio[start].samples)
        stop = start
        while stop < len(batch.clips) and len(batch.audio[stop].samples) == n_samples:
            stop += 1
        yield from _encode_equal(job, batch.clips[start:stop], batch.audio[start:stop])
        start = stop


def _encode_equal(
    job: EncodeJob, clips: Sequence[PlannedClip], audio: Sequence[Decoded]
) -> Iterator[ClipRows]:
    """Encode clips of equal length together; on a fault in smaller parts, down to single clips."""
    n_samples = len(audio[0].samples)
    size = len(clips)
    if job.limit.n_samples is not None:
        size = max(1, min(size, job.limit.n_samples // n_samples))
    if size < len(clips):
        for start in range(0, len(clips), size):
            stop = start + size
            yield from _encode_equal(job, clips[start:stop], audio[start:stop])
        return
    try:
        embeddings, timestamps = _known_or_called(job, audio)
    except Exception as error:
        memory = _is_out_of_memory(error)
        if not (memory or isinstance(error, EncoderError)):
            error = _as_encoder_error(job.encoder, error)
        if job.limit.fault is None and isinstance(error, MambabenchError):
            job.limit.fault = error
        if len(clips) == 1:
            reason = "does not fit into memory, even alone" if memory else str(error)
            yield ClipRows(clips[0], None, None, audio[0].sha256, reason)
            return
        if memory:
            job.limit.halve(n_samples * len(clips))
            yield from _encode_equal(job, clips, audio)
            return
        for clip, one in zip(clips, audio, strict=True):  # find the clip that is to blame
            yield from _encode_equal(job, [clip], [one])
        return
    for i, clip in enumerate(clips):
        times = None if timestamps is None else timestamps[i]
        rows = _checked(clip, embeddings[i], times, audio[i].sha256)
        note = length_note(audio[i], job.clip_s) or job.limit.doubt
        job.limit.doubt = None
        rows = rows._replace(note=note)
        yield rows if job.keep else without_frames(rows)


def without_frames(rows: ClipRows) -> ClipRows:
    """Return the rows with the hash of their frames in half precision in place of the frames."""
    if rows.embeddings is None:
        return rows
    return rows._replace(
        embeddings=rows.embeddings[:, :, :0], frames_sha256=frames_sha256(rows.embeddings)
    )


def _known_or_called(job: EncodeJob, audio: Sequence[Decoded]) -> EncodedRows:
    """Return the rows of equally long clips: those of another task, or what the encoder says."""
    if job.known is None:
        return _call(job, audio)
    shape = (len(audio), len(audio[0].samples))
    known = job.known.find([one.sha256 for one in audio])
    if known is not None and shape in job.known.trusted:
        job.known.n_reused += len(audio)
        return known
    fresh = _call(job, audio)
    if known is not None:
        job.known.judge(shape, known, fresh)
    return fresh


def _call(job: EncodeJob, audio: Sequence[Decoded]) -> EncodedRows:
    """Return what the encoder makes of equally long clips."""
    import numpy as np
    import torch

    encoder = job.encoder
    stacked = torch.from_numpy(np.stack([one.samples for one in audio])).to(encoder.device)
    if job.pooling == "scene":
        scene = encoder.scene(stacked, job.layers)
        _check_shape(job, tuple(scene.shape), len(audio), encoder.scene_embedding_size, 3)
        return EncodedRows(scene.detach().to("cpu", torch.float32).numpy()[:, None], None)
    frames, times = encoder.timestamps(stacked, job.layers)
    _check_shape(job, tuple(frames.shape), len(audio), encoder.timestamp_embedding_size, 4)
    if tuple(times.shape) != tuple(frames.shape[:2]):
        raise EncoderError(
            f"encoder {encoder.label!r} returned {tuple(times.shape)} timestamps for "
            f"{tuple(frames.shape[:2])} frames; every frame needs its time in milliseconds"
        )
    times_ms = times.detach().to("cpu", torch.float32).numpy()
    _check_times(job, times_ms, 1000.0 * stacked.shape[1] / encoder.sample_rate_hz)
    if job.pooling == "time_mean":
        mean = frames.detach().to("cpu", torch.float64).mean(dim=1).to(torch.float32)
        return EncodedRows(mean.numpy()[:, None], None)
    return EncodedRows(frames.detach().to("cpu", torch.float32).numpy(), times_ms)


def _check_times(job: EncodeJob, times_ms: npt.NDArray[np.float32], duration_ms: float) -> None:
    """Refuse times that make every score false; note once what makes them doubtful."""
    fault = fault_of_times(times_ms, duration_ms)
    if fault is None:
        return
    text = f"encoder {job.encoder.label!r}: {fault.problem}"
    if not fault.usable:
        raise EncoderError(f"{text}; `mambabench check` shows more")
    if text not in job.limit.told:
        job.limit.told.add(text)
        job.limit.doubt = text


def _check_mode(job: EncodeJob) -> None:
    """Refuse an encoder whose calls switched dropout or batch statistics on."""
    parts = training_parts(job.encoder.model)
    if parts:
        raise EncoderError(
            f"encoder {job.encoder.label!r} put {parts} into training mode while it embedded: its "
            "embeddings would differ from call to call; remove train() from its functions"
        )


def _check_shape(
    job: EncodeJob, shape: tuple[int, ...], n_clips: int, dim: int, n_axes: int
) -> None:
    n_layers = 1 if job.layers is None else len(job.layers)
    wanted = (n_clips, n_layers, dim) if n_axes == 3 else (n_clips, "n_frames", n_layers, dim)
    if len(shape) != n_axes or shape[0] != n_clips or shape[-2:] != (n_layers, dim):
        shown = ", ".join(map(str, wanted))
        raise EncoderError(
            f"encoder {job.encoder.label!r} returned embeddings of shape {list(shape)}, expected "
            f"[{shown}]: the size that it declares must hold for every batch"
        )


def _checked(
    clip: PlannedClip,
    embeddings: npt.NDArray[np.float32],
    timestamps: npt.NDArray[np.float32] | None,
    sha256: str,
) -> ClipRows:
    import numpy as np

    failure = None
    if not np.isfinite(embeddings).all():
        n_bad = int(np.size(embeddings) - np.isfinite(embeddings).sum())
        failure = f"has an embedding with {n_bad} values that are NaN or infinite"
    elif timestamps is not None and not np.isfinite(timestamps).all():
        failure = "has timestamps that are NaN or infinite"
    elif not len(embeddings):
        failure = "has no frames: it may be too short for the encoder"
    if failure is not None:
        return ClipRows(clip, None, None, sha256, failure)
    return ClipRows(clip, embeddings, timestamps, sha256, None)


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell memory faults, whether bare or wrapped by whoever called the provider."""
    import torch

    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.OutOfMemoryError):
            return True
        text = str(seen)
        if isinstance(seen, RuntimeError) and (
            "out of memory" in text or "can't allocate memory" in text
        ):
            return True
        seen = seen.__cause__
    return False


def _as_encoder_error(encoder: LoadedEncoder, error: Exception) -> MambabenchError:
    return EncoderError(f"encoder {encoder.label!r} raised {type(error).__name__}: {error}")
