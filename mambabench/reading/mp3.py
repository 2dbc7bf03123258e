"""Count the frames of an MPEG audio stream, and give it a length header that says so.

Decoders estimate the length of a stream without such a header from its first frame and stop there.
Sources: ISO/IEC 11172-3 and 13818-3 (frame header); the Xing header as LAME writes it.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mambabench.reading.containers import Mended

__all__ = ["mend_mp3"]

_BITRATES = {  # kbit/s by (MPEG 1?, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_HAS_FRAMES, _HAS_BYTES = 1, 2


class _Frame(NamedTuple):
    size: int  # bytes
    n_samples: int
    layer: int
    side: int  # bytes between the header and the place of a Xing header
    kind: bytes  # version, layer and rate: equal in all frames of a stream


def _frame(head: bytes) -> _Frame | None:
    """Return what a frame header says; None where these four bytes are none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    rate, bitrate = head[2] >> 2 & 3, head[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or bitrate in (0, 15):
        return None
    first = version == 3
    bits, hz = _BITRATES[first, layer][bitrate] * 1000, _RATES[version][rate]
    padding = head[2] >> 1 & 1
    n_samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    slot, per_slot = (4, 12) if layer == 1 else (1, n_samples // 8)
    size = (per_slot * bits // hz + padding) * slot
    mono = head[3] >> 6 == 3
    side = {True: {True: 17, False: 32}, False: {True: 9, False: 17}}[first][mono]
    return _Frame(size, n_samples, layer, side, bytes((head[1] & 0xFE, rate)))


def mend_mp3(data: bytes) -> Mended:
    """Return the stream with a length header that counts its frames; as it is where that is so.

    The encoder's delay and padding, where a LAME header tells them, are kept. A last frame that is
    cut off, and a header that promises more frames than there are, are told.
    """
    first = _first(data)
    if first is None:
        return Mended(data)
    start, head = first
    header = _length_header(data, start, head)
    body = start + head.size if header or _is_vbri(data, start) else start
    count, end, torn = _count(data, body, head.kind)
    if count == 0:
        return Mended(data)
    promised = None
    if header is not None:
        announced = struct.unpack_from(">I", data, header + 8)[0]
        if announced in (count, count + 1) and not torn:  # some count the header itself
            return Mended(data if start == 0 else data[start:])
        promised = announced * head.n_samples if announced > count else None
    problem = "its last frame is cut off" if torn and promised is None else None
    if head.layer != 3:
        return Mended(data[start:end], promised, problem)
    made = _with_count(data, start, head, header, count, end - body)
    return Mended(made + data[body:end], promised, problem)


def _first(data: bytes) -> tuple[int, _Frame] | None:
    """Return the place of the first frame that another one of its kind follows, and the frame."""
    at = 0
    while (at := data.find(b"\xff", at, 1 << 17)) >= 0:
        frame = _frame(data[at : at + 4])
        if frame is not None:
            following = _frame(data[at + frame.size : at + frame.size + 4])
            if at + frame.size == len(data) or (following and following.kind == frame.kind):
                return at, frame
        at += 1
    return None


def _count(data: bytes, at: int, kind: bytes) -> tuple[int, int, bool]:
    """Return (whole frames, where the last one ends, whether one more is cut off)."""
    count, end = 0, at
    while at + 4 <= len(data):
        frame = _frame(data[at : at + 4])
        if frame is None or frame.kind != kind:
            at = data.find(b"\xff", at + 1)  # damage or a tag in between: find the next frame
            if at < 0:
                break
            continue
        if at + frame.size > len(data):
            return count, end, at == end
        # an Xing header in the middle is that of a second file joined to the first
        count += 1
        at += frame.size
        end = at
    return count, end, False


def _length_header(data: bytes, start: int, head: _Frame) -> int | None:
    """Return the place of the first frame's Xing header where it counts frames."""
    at = start + 4 + head.side
    if data[at : at + 4] not in (b"Xing", b"Info"):
        return None
    return at if data[at + 7] & _HAS_FRAMES and len(data) >= at + 16 else None


def _is_vbri(data: bytes, start: int) -> bool:
    return data[start + 36 : start + 40] == b"VBRI"


def _with_count(
    data: bytes, start: int, head: _Frame, header: int | None, count: int, n_bytes: int
) -> bytes:
    """Return a silent first frame whose Xing header says `count` frames."""
    if header is not None:
        frame = bytearray(data[start : start + head.size])
        at = header - start
        struct.pack_into(">I", frame, at + 8, count)
        if frame[at + 7] & _HAS_BYTES and len(frame) >= at + 16:
            struct.pack_into(">I", frame, at + 12, n_bytes + head.size)
        return bytes(frame)
    model = bytearray(data[start : start + 4])
    model[1] |= 1  # no checksum
    for bitrate in range(1, 15):  # the smallest frame that has room for the header
        model[2] = model[2] & 0x0D | bitrate << 4
        made = _frame(bytes(model))
        if made is not None and made.size >= 4 + made.side + 16:
            break
    assert made is not None
    frame = bytearray(made.size)
    frame[:4] = model
    struct.pack_into(">4sIII", frame, 4 + made.side, b"Xing", 3, count, n_bytes + made.size)
    return bytes(frame)
