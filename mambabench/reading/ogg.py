"""Take an Ogg file apart into the streams that follow one another in it (RFC 3533, section 6)."""

from __future__ import annotations

__all__ = ["chained_streams"]

_FIRST, _LAST = 2, 4  # bits of a page's header type


def chained_streams(data: bytes) -> tuple[list[bytes], bool]:
    """Return the streams of a chained file, one after another, and whether the last one ends.

    Streams that are mixed page by page stay together.
    """
    starts, at = [0], 0
    had_data = ended = False
    while data[at : at + 4] == b"OggS" and at + 27 <= len(data):
        n_segments = data[at + 26]
        size = 27 + n_segments + sum(data[at + 27 : at + 27 + n_segments])
        if at + size > len(data):
            ended = False
            break
        kind = data[at + 5]
        if kind & _FIRST and had_data:
            starts.append(at)
            had_data = False
        had_data = had_data or not kind & _FIRST
        ended = bool(kind & _LAST)
        at += size
    edges = [*starts[1:], len(data)]
    return [data[a:b] for a, b in zip(starts, edges, strict=True)], ended
