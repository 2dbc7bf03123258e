"""What a file holds, told by its first bytes, and WAV and FLAC headers that say the wrong length.

Sources: the RIFF/WAVE description of Microsoft and IBM; RFC 9639 (FLAC), sections 8.2 and 9.1;
the ID3v2.4 structure document, section 3.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = [
    "Mended",
    "bare",
    "kind_of",
    "mend_aiff",
    "mend_au",
    "mend_flac",
    "mend_wav",
    "mp3_inside_wav",
    "plain_pcm16",
]

UNKNOWN_SIZES = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFFE)  # what encoders write to a pipe
MP3_IN_WAV = 0x0055


@dataclass(frozen=True)
class Mended:
    """The bytes to decode, and what the header promised of them."""

    data: bytes
    promised: int | None = None  # samples per channel; None where the header does not say
    problem: str | None = None  # what is wrong with the file's length, in words


def bare(data: bytes) -> bytes:
    """Return the file without ID3v2 tags before it, and without ID3v1 and APE tags behind it."""
    start = 0
    while data[start : start + 3] == b"ID3" and len(data) >= start + 10:
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size + (10 if data[start + 5] & 0x10 else 0)
        while start < len(data) and data[start] == 0:  # padding that the size leaves out
            start += 1
    stop = len(data)
    if stop - start >= 128 and data[stop - 128 : stop - 125] == b"TAG":
        stop -= 128
    if stop - start >= 32 and data[stop - 32 : stop - 24] == b"APETAGEX":
        size, flags = struct.unpack_from("<I4xI", data, stop - 20)
        stop -= min(size + (32 if flags & 0x80000000 else 0), stop - start)
    return data if (start, stop) == (0, len(data)) else data[start:stop]


def kind_of(data: bytes) -> str:
    """Return "wav", "flac", "aiff", "au", "ogg", "mp3" or "" by the first bytes; other words, such
    as "an AMR file", for what is no audio that can be read."""
    head = data[:16]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] in (b"fLaC", b"OggS", b".snd"):
        return {b"fLaC": "flac", b"OggS": "ogg", b".snd": "au"}[head[:4]]
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return "mp3" if head[1] & 0x06 else "an AAC stream"
    for where, mark, name in (
        (4, b"ftyp", "an MP4 file (AAC or ALAC)"),
        (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
        (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska file"),
        (0, b"version https://git", "a pointer of Git LFS, not the file itself (`git lfs pull`)"),
        (0, b"<!DOCTYPE", "a web page: the download failed"),
        (0, b"<html", "a web page: the download failed"),
        (0, b"PK\x03\x04", "a zip archive: unpack it"),
        (0, b"\x1f\x8b", "a gzip archive: unpack it"),
        (0, b"#!AMR", "an AMR file"),
    ):
        if data[where : where + len(mark)] == mark:
            return name
    return ""


def _chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Return (offset of the body, announced size) of the first chunk of each name, up to data's."""
    order = ">" if data[:4] == b"RIFX" else "<"
    found: dict[bytes, tuple[int, int]] = {}
    offset = 12
    while offset + 8 <= len(data):
        name = data[offset : offset + 4]
        (size,) = struct.unpack_from(order + "I", data, offset + 4)
        found.setdefault(name, (offset + 8, size))
        if name == b"data":
            break
        offset += 8 + size + size % 2
    return found


def mp3_inside_wav(data: bytes) -> bytes | None:
    """Return the MPEG stream of a WAV file of that coding; None for other WAV files."""
    chunks = _chunks(data)
    if b"fmt " not in chunks or b"data" not in chunks:
        return None
    if struct.unpack_from("<H", data, chunks[b"fmt "][0])[0] != MP3_IN_WAV:
        return None
    start, size = chunks[b"data"]
    return data[start:] if size in UNKNOWN_SIZES else data[start : start + size]


def mend_wav(data: bytes) -> Mended:
    """Hold the size of the data chunk against the bytes that are there.

    A chunk that promises more was cut off; one that promises nothing, or less than lies behind it
    without being another chunk, is as long as the file.
    """
    chunks = _chunks(data)
    if b"data" not in chunks or b"fmt " not in chunks:
        return Mended(data)
    (fmt, _), (start, size) = chunks[b"fmt "], chunks[b"data"]
    order = ">" if data[:4] == b"RIFX" else "<"
    if len(data) < fmt + 16:
        return Mended(data)
    align = struct.unpack_from(order + "H", data, fmt + 12)[0] or 1
    left = len(data) - start
    if data[:4] in (b"RF64", b"BW64"):
        ds64 = chunks.get(b"ds64", (0, 0))[0]
        size = struct.unpack_from("<Q", data, ds64 + 8)[0] if ds64 else 0
        return Mended(data, promised=size // align if left < size < 1 << 62 else None)
    if size in UNKNOWN_SIZES or size > 0x7FFF0000:
        return Mended(_with_size(data, start, left, order))
    if size > left:
        return Mended(data, promised=size // align)
    behind = start + size + size % 2
    rest = data[behind : behind + 64]
    if len(rest) >= 8 and any(rest) and not all(32 <= byte < 127 for byte in rest[:4]):
        longer = f"its header promises {size // align} samples, but audio goes on behind them"
        return Mended(_with_size(data, start, left, order), problem=longer)
    return Mended(data)


def plain_pcm16(data: bytes) -> tuple[int, int, int, int] | None:
    """Return (offset, samples per channel, channels, rate) of a WAV file of 16-bit samples, which
    need no decoder; None for every other file."""
    if data[:4] != b"RIFF":
        return None
    chunks = _chunks(data)
    if b"fmt " not in chunks or b"data" not in chunks or chunks[b"fmt "][0] + 16 > len(data):
        return None
    tag, n_channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", data, chunks[b"fmt "][0])
    if tag != 1 or bits != 16 or not 1 <= n_channels <= 64 or align != 2 * n_channels:
        return None
    start, size = chunks[b"data"]
    return start, min(size, len(data) - start) // align, n_channels, rate


def mend_aiff(data: bytes) -> Mended:
    """Note how many samples the COMM chunk of an AIFF file promises."""
    at = 12
    while at + 18 <= len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        if name == b"COMM":
            return Mended(data, promised=struct.unpack_from(">I", data, at + 10)[0])
        at += 8 + size + size % 2
    return Mended(data)


def mend_au(data: bytes) -> Mended:
    """Hold the size in the header of a Sun/NeXT file against the bytes that are there."""
    if len(data) < 24:
        return Mended(data)
    start, size, coding, _, n_channels = struct.unpack_from(">5I", data, 4)
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(coding, 0) * n_channels
    if not width or size in UNKNOWN_SIZES or size <= len(data) - start:
        return Mended(data)
    return Mended(data, promised=size // width)


def _with_size(data: bytes, start: int, size: int, order: str) -> bytes:
    """Return the file with a data chunk of `size` bytes."""
    mended = bytearray(data)
    struct.pack_into(order + "I", mended, start - 4, size)
    struct.pack_into(order + "I", mended, 4, start + size - 8)
    return bytes(mended)


def mend_flac(data: bytes) -> Mended:
    """Hold the number of samples in a FLAC file's header against its last frame."""
    if len(data) < 42:
        return Mended(data)
    total = (data[21] & 0x0F) << 32 | int.from_bytes(data[22:26], "big")
    end = flac_end(data)
    if end is None or end == total:
        return Mended(data, promised=total or None)
    if end < total:
        return Mended(data, promised=total)
    mended = bytearray(data)  # unknown, or fewer than there are: read all
    mended[21] = data[21] & 0xF0 | end >> 32 & 0x0F
    mended[22:26] = (end & 0xFFFFFFFF).to_bytes(4, "big")
    problem = f"its header promises {total} samples, but it holds {end}" if total else None
    return Mended(bytes(mended), promised=end, problem=problem)


def flac_end(data: bytes) -> int | None:
    """Return the number of samples up to the end of the last FLAC frame; None where none is found.

    The frame headers at the end are found by their sync code and believed by their checksum.
    """
    block = int.from_bytes(data[8:10], "big")
    stop = len(data)
    for _ in range(4096):  # sync codes occur inside frames by chance
        at = max(data.rfind(b"\xff\xf8", 42, stop), data.rfind(b"\xff\xf9", 42, stop))
        if at < 0:
            return None
        end = _frame_end(data[at : at + 16], block)
        if end is not None:
            return end
        stop = at + 1
    return None


def _frame_end(head: bytes, block: int) -> int | None:
    """Return the first sample after the frame whose header `head` starts with; None if it is none.

    `block` is the stream's block size, which numbers the frames of a fixed one.
    """
    if len(head) < 6:
        return None
    size_code, n_number = head[2] >> 4, 1
    lead = head[4]
    if lead >= 0xC0:
        n_number = next((n for n in range(2, 8) if not lead >> (7 - n) & 1), 7)
        number = lead & (0x7F >> n_number)
    elif lead >= 0x80:
        return None
    else:
        number = lead
    for byte in head[5 : 4 + n_number]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    at = 4 + n_number
    extra = {6: 1, 7: 2}.get(size_code, 0)
    sizes = {
        1: 192,
        **{n: 576 << n - 2 for n in range(2, 6)},
        **{n: 256 << n - 8 for n in range(8, 16)},
    }
    size = int.from_bytes(head[at : at + extra], "big") + 1 if extra else sizes.get(size_code)
    at += extra + {12: 1, 13: 2, 14: 2}.get(head[2] & 0x0F, 0)
    if size is None or at >= len(head) or _crc8(head[:at]) != head[at]:
        return None
    return number + size if head[1] & 1 else number * block + size


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x07 if value & 0x80 else 0)) & 0xFF
    return value
