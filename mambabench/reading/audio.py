"""The one decoder: the whole audio of a file, whatever its header and its name say of it.

Files are told by their first bytes; WAV, FLAC, MP3, Ogg Vorbis, Opus and what else libsndfile knows
are read block by block until they end, so that memory follows the audio that is there.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import DataError
from mambabench.reading.containers import (
    Mended,
    bare,
    kind_of,
    mend_aiff,
    mend_au,
    mend_flac,
    mend_wav,
    mp3_inside_wav,
    plain_pcm16,
)
from mambabench.reading.mp3 import mend_mp3
from mambabench.reading.ogg import chained_streams
from mambabench.reading.text import same_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "ENDINGS",
    "Audio",
    "AudioHeader",
    "decode_bytes",
    "duration_s",
    "find_file",
    "read_audio",
    "read_bytes",
    "read_header",
    "twins",
]

ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3")  # may stand for one another, best first
SLOWEST_HZ, FASTEST_HZ = 50, 20_000_000  # a header that says another rate is damaged
BLOCK = 1 << 22  # samples decoded at once
# more samples per byte than any codec packs: FLAC's longest frame of one value is 11 bytes
DENSEST = 65536 // 8


@dataclass(frozen=True)
class AudioHeader:
    """What a file says of itself before its samples are read."""

    n_frames: int  # samples per channel, at the file's own rate
    sample_rate_hz: int
    n_channels: int
    n_bytes: int  # size of the file


@dataclass(frozen=True)
class Audio:
    """The decoded samples of one file."""

    samples: npt.NDArray[np.float32]  # [n_samples, n_channels] in [-1, 1]
    sample_rate_hz: int
    problem: str | None  # why it may not be the whole recording; None where nothing says so

    @property
    def duration_s(self) -> float:
        """Return the length in seconds."""
        return len(self.samples) / self.sample_rate_hz


def read_audio(path: Path) -> Audio:
    """Decode the whole file `path`.

    Raises DataError, in words that start with the verb and do not name the path, where it is
    missing or cannot be decoded to its end.
    """
    return decode_bytes(read_bytes(path))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of an audio file; DataError, worded as `read_audio`'s, where it has none."""
    try:
        if not path.is_file():
            raise DataError(_absent(path))
        data = path.read_bytes()
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "it does not fit into memory"
        raise DataError(f"cannot be read ({reason}): replace it") from error
    if not data:
        raise DataError("is empty (0 bytes): replace it")
    return data


def decode_bytes(data: bytes) -> Audio:
    """Decode the bytes of an audio file; see `read_audio`."""
    parts = [_guarded(part) for part in _mended(data)]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Audio]) -> Audio:
    """Return the recordings of one file one after another; DataError where they do not fit."""
    import numpy as np

    rates = {part.sample_rate_hz for part in parts}
    if len({part.samples.shape[1] for part in parts}) > 1 or len(rates) > 1:
        raise DataError(
            "is several recordings of different rates or channels in one file: split it"
        )
    problem = next((part.problem for part in parts if part.problem), None)
    return Audio(np.concatenate([p.samples for p in parts]), rates.pop(), problem)


def _mended(data: bytes) -> list[Mended]:
    """Return the file's recordings (an Ogg file may hold several), with headers that are true."""
    data = bare(data)
    kind = kind_of(data)
    if kind == "wav":
        inside = mp3_inside_wav(data)
        return [mend_wav(data) if inside is None else mend_mp3(inside)]
    mend = {"flac": mend_flac, "mp3": mend_mp3, "aiff": mend_aiff, "au": mend_au}.get(kind)
    if mend is not None:
        return [mend(data)]
    if kind == "ogg":
        streams, ended = chained_streams(data)
        problem = None if ended else "its last page is missing"
        return [*map(Mended, streams[:-1]), Mended(streams[-1], problem=problem)]
    if kind:
        raise DataError(f"is {kind}, which is not read: convert it to WAV or FLAC")
    return [Mended(data)]


def _guarded(mended: Mended) -> Audio:
    try:
        return _decode(mended)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("does not fit into memory when decoded: cut it into pieces") from error
    except Exception as error:  # whatever a decoder makes of foreign bytes is this file's fault
        what = "is no readable audio"
        if mended.promised is not None:
            what = f"is cut off or damaged before the {mended.promised} samples that it promises"
        elif mended.problem is not None:
            what = f"is cut off or damaged, {mended.problem}"
        raise DataError(f"{what} ({_words(error)}): replace it") from error


def _decode(mended: Mended) -> Audio:
    import numpy as np

    plain = plain_pcm16(mended.data)
    if plain is not None:
        start, n, n_channels, rate = plain
        _check_shape(rate, n_channels)
        whole = np.frombuffer(mended.data, "<i2", n * n_channels, start).astype(np.float32)
        whole *= np.float32(1 / 32768)
        return Audio(whole.reshape(n, n_channels), rate, _problem(mended, n, rate))
    with _forwards()(io.BytesIO(mended.data)) as file:
        rate, n_channels = file.samplerate, file.channels
        _check_shape(rate, n_channels)
        size = min(max(file.frames, 0), BLOCK // n_channels) + 1  # one more shows the end at once
        blocks = []
        while True:
            block = file.read(size, dtype="float32", always_2d=True)
            blocks.append(block)
            if len(block) < size:
                break
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return Audio(samples, rate, _problem(mended, len(samples), rate))


def _check_shape(rate: int, n_channels: int) -> None:
    if not SLOWEST_HZ <= rate <= FASTEST_HZ or n_channels <= 0:
        raise DataError(f"has a sample rate of {rate} Hz and {n_channels} channels: replace it")


def _problem(mended: Mended, n: int, rate: int) -> str | None:
    """Say in words how the samples that are there differ from what the file promised."""
    if mended.promised is not None and n < mended.promised:
        promised_s = mended.promised / rate
        return f"is cut off: it holds {n / rate:.2f} s, its header promises {promised_s:.2f} s"
    return None if mended.problem is None else f"may be cut off or damaged: {mended.problem}"


@cache
def _forwards() -> Any:
    """Return soundfile's class for files that are only read forwards.

    libsndfile cannot seek where a length is wrong, and soundfile seeks after every block of what
    says that it can.
    """
    import soundfile

    class Forwards(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return Forwards


def _words(error: Exception) -> str:
    """Return a decoder's reason without the address of our buffer in it."""
    text = str(getattr(error, "error_string", error)).rstrip(".").removeprefix("Error : ")
    return text if text else type(error).__name__


# --- headers, for planning ---


def read_header(path: Path) -> AudioHeader:
    """Read the header of `path`; where it says a length that cannot be, decode it to know.

    Raises DataError, worded as `read_audio`'s, where it is missing or no audio.
    """
    import soundfile

    if not path.is_file():
        raise DataError(_absent(path))
    n_bytes = path.stat().st_size
    try:
        if path.suffix.lower() != ".raw":  # by this name libsndfile expects no header at all
            info = soundfile.info(path)
            if 0 < info.frames <= DENSEST * n_bytes:
                return AudioHeader(info.frames, info.samplerate, info.channels, n_bytes)
    except Exception:
        pass  # the decoder knows more forms than libsndfile's first look, or says what is wrong
    audio = read_audio(path)
    return AudioHeader(len(audio.samples), audio.sample_rate_hz, audio.samples.shape[1], n_bytes)


def duration_s(path: Path) -> float:
    """Return the length of `path` in seconds by its header; DataError as `read_header`."""
    header = read_header(path)
    return header.n_frames / header.sample_rate_hz


# --- names ---


def find_file(path: Path) -> Path:
    """Return `path`, or the file that stands for it: of the same name in Unicode's other form, or
    of the same stem with another audio ending. `path` itself where there is none."""
    if path.is_file():
        return path
    names = _names(path.parent)
    for ending in (path.suffix, *ENDINGS):
        candidate = names.get(same_name(path.with_suffix(ending).name))
        if candidate is not None:
            return path.with_name(candidate)
    return path


def twins(path: Path) -> tuple[str, ...]:
    """Return the names beside `path` that differ from its own in case only."""
    wanted = same_name(path.name)
    return tuple(
        name
        for name in _names(path.parent).values()
        if name.casefold() == wanted.casefold() or same_name(name).casefold() == wanted.casefold()
        if same_name(name) != wanted
    )


def _absent(path: Path) -> str:
    if path.exists():
        return "is a folder or device, not a file: replace it"
    for missed in (path, path.parent):
        if not missed.exists() and (other := twins(missed)):
            what = other[0] if missed is path else f"the folder {other[0]}"
            return f"is missing: {what} lies there and differs in case only; rename one of them"
    return "is missing"


def _names(folder: Path) -> dict[str, str]:
    """Return the entries of a folder by their composed form."""
    try:
        return _listing(folder, os.stat(folder).st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=8)
def _listing(folder: Path, mtime_ns: int) -> dict[str, str]:
    return {same_name(name): name for name in sorted(os.listdir(folder))}
