"""Embed one's own audio files, of any sample rate and channel count: the verb ``embed``."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mambabench.errors import DataError, EncoderError, MambabenchError, nearest_names
from mambabench.extract.audio import decode
from mambabench.files import atomic_write
from mambabench.models.registry import load_encoder, with_option
from mambabench.reading.audio import ENDINGS
from mambabench.settings import Paths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.models.encoder import LoadedEncoder

__all__ = ["FORMATS", "Embedded", "audio_files", "embed"]

FORMATS = (".npz", ".npy", ".csv")


@dataclass(frozen=True)
class Embedded:
    """The embeddings of audio files, one row a file, or one a frame."""

    files: tuple[str, ...]  # as given
    embedding: npt.NDArray[np.float32]  # [n_files, dim], with timestamps [n_frames, dim]
    offsets: npt.NDArray[np.int64]  # [n_files + 1]: file i owns rows offsets[i]:offsets[i + 1]
    timestamp_ms: npt.NDArray[np.float32] | None  # [n_frames], centres of the frames
    duration_s: npt.NDArray[np.float64]  # [n_files]
    encoder: str  # label
    encoder_identity: str  # 64 hex digits


def embed(
    files: Paths,
    encoder: str,
    *,
    timestamps: bool = False,
    hop_ms: float | None = None,
    output: Path | str | None = None,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Embedded:
    """Embed `files` with `encoder`, each alone, and write `output` (.npz, .npy or .csv) if given.

    A folder among `files` stands for the audio below it, sorted. `hop_ms` asks for another hop of
    the timestamp embeddings (an option of the encoder).
    Channels are averaged and the audio is resampled to the encoder's rate (soxr HQ). `progress` is
    called with the number of files done. Raises DataError naming the file that cannot be read,
    EncoderError where the encoder is unknown or fails. The arrays of the output are described in
    docs/file-formats.md.
    """

    if hop_ms is not None:
        encoder = with_option(encoder, "hop_ms", hop_ms)
    files = audio_files([files] if isinstance(files, str | Path) else files)
    if output is not None:
        _check_format(Path(output))
    # a provider may change the working directory: paths mean the folder in which the user stands
    paths = [Path(file).absolute() for file in files]
    target = None if output is None else Path(output).absolute()
    loaded = load_encoder(encoder, device=device)
    parts, times, durations = [], [], []
    for path, given in zip(paths, files, strict=True):
        rows, row_times, duration_s = _embed_file(loaded, path, str(given), timestamps)
        parts.append(rows)
        times.append(row_times)
        durations.append(duration_s)
        if progress is not None:
            progress(len(parts))
    result = _joined(
        loaded, tuple(map(str, files)), parts, times if timestamps else None, durations
    )
    if target is not None:
        _write(target, result)
    return result


def _embed_file(
    encoder: LoadedEncoder, path: Path, name: str, timestamps: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
    """Return rows [n_rows, dim], their times in ms (of one row: empty) and the duration."""
    import numpy as np
    import torch

    try:
        decoded = decode(path, encoder.sample_rate_hz)
    except DataError as error:
        raise DataError(f"{name} {error}") from error
    if decoded.problem is not None:
        warnings.warn(f"{name} {decoded.problem}", stacklevel=3)
    samples = decoded.samples
    audio = torch.from_numpy(samples)[None].to(encoder.device)
    if timestamps:
        frames, frame_times = encoder.timestamps(audio, None)
        rows = frames[0, :, 0].cpu().numpy()
        times = frame_times[0].cpu().numpy()
    else:
        rows = encoder.scene(audio, None)[:, 0].cpu().numpy()
        times = np.zeros(0, np.float32)
    if not (np.isfinite(rows).all() and np.isfinite(times).all()):
        raise EncoderError(
            f"encoder {encoder.label!r} gives values for {name} that are NaN or infinite"
        )
    return rows, times, len(samples) / encoder.sample_rate_hz


def _joined(
    encoder: LoadedEncoder,
    files: tuple[str, ...],
    parts: list[npt.NDArray[np.float32]],
    times: list[npt.NDArray[np.float32]] | None,
    durations: list[float],
) -> Embedded:
    import numpy as np

    return Embedded(
        files=files,
        embedding=np.concatenate(parts),
        offsets=np.cumsum([0, *map(len, parts)], dtype=np.int64),
        timestamp_ms=None if times is None else np.concatenate(times),
        duration_s=np.array(durations),
        encoder=encoder.label,
        encoder_identity=encoder.identity,
    )


def audio_files(files: Sequence[Path | str]) -> tuple[Path | str, ...]:
    """Return the files, a folder replaced by the audio files below it; DataError for none."""
    found: list[Path | str] = []
    for one in files:
        folder = Path(one)
        if not folder.is_dir():
            found.append(one)
            continue
        below = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
        if not below:
            raise DataError(f"{folder} holds no audio files ({', '.join(ENDINGS)}); name files")
        found += below
    if not found:
        raise DataError("no files to embed: name at least one audio file")
    return tuple(found)


def _check_format(output: Path) -> None:
    if output.suffix not in FORMATS:
        near = nearest_names(output.suffix, FORMATS)
        raise MambabenchError(
            f"{output}: the ending chooses the format, and is none of {', '.join(FORMATS)}{near}"
        )


def _write(output: Path, result: Embedded) -> None:
    writers = {".npz": _write_npz, ".npy": _write_npy, ".csv": _write_csv}
    try:
        atomic_write(output, lambda file: writers[output.suffix](file, result))
    except OSError as error:
        raise MambabenchError(f"cannot write {output}: {error.strerror or error}") from error


def _write_npz(file: BinaryIO, result: Embedded) -> None:
    import numpy as np

    arrays = {
        "file": np.array(result.files),
        "embedding": result.embedding,
        "duration_s": result.duration_s,
        "encoder": np.array(result.encoder),
        "encoder_identity": np.array(result.encoder_identity),
    }
    if result.timestamp_ms is not None:
        arrays |= {"timestamp_ms": result.timestamp_ms, "offsets": result.offsets}
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: equal content, equal bytes
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _write_npy(file: BinaryIO, result: Embedded) -> None:
    import numpy as np

    np.save(file, result.embedding, allow_pickle=False)


def _write_csv(file: BinaryIO, result: Embedded) -> None:
    # a name that is no UTF-8 goes back to the bytes that it was made of
    text = io.TextIOWrapper(
        file, encoding="utf-8", errors="surrogateescape", newline="", write_through=True
    )
    writer = csv.writer(text, lineterminator="\n")
    with_times = result.timestamp_ms is not None
    columns = [f"e{i}" for i in range(result.embedding.shape[1])]
    writer.writerow(["file", *(["timestamp_ms"] if with_times else []), *columns])
    for i, name in enumerate(result.files):
        for row in range(result.offsets[i], result.offsets[i + 1]):
            time = [] if result.timestamp_ms is None else [str(result.timestamp_ms[row])]
            writer.writerow([name, *time, *(str(value) for value in result.embedding[row])])
    text.detach()
