"""Bytes to text: byte order marks, UTF-16, and a name for what is neither."""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from mambabench.errors import DataError, MambabenchError

__all__ = ["UndecodableText", "decode_text", "read_text", "same_name"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it starts with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HIGH_RUNS = re.compile(rb"[\x80-\xff]+")


class UndecodableText(ValueError):  # noqa: N818 - it names what happened
    """Bytes that are no UTF-8 or UTF-16 text; the message says what they look like."""


def decode_text(data: bytes) -> str:
    """Return `data` as text: UTF-8, or UTF-16 and UTF-32 where a mark or the zeros make it certain.

    A byte order mark is taken off. Raises UndecodableText, naming the line, the likely encoding and
    how to convert it.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return _strict(data[len(mark) :], encoding)
    return _strict(data, _encoding_of_zeros(data[:4096]) or "utf-8")


def _strict(data: bytes, encoding: str) -> str:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise UndecodableText(
                f"it is {encoding.upper()} text that is cut off or damaged: save it as UTF-8"
            ) from error
        line = data.count(b"\n", 0, error.start) + 1
        guess, name = _guess(data)
        how = f"; convert it with `iconv -f {name} -t UTF-8`, or" if name else ": "
        raise UndecodableText(
            f"line {line} is not UTF-8 text (byte 0x{data[error.start]:02x}){guess}{how} "
            "save it as UTF-8".replace("  ", " ")
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UndecodableText(f"line {line} holds a NUL byte: it is no text file, or a damaged one")
    return text


def _encoding_of_zeros(head: bytes) -> str | None:
    """Recognise UTF-16 without a mark: nearly every second byte of Western text is zero."""
    pairs = len(head) // 2
    if pairs < 2 or b"\0" not in head:
        return None
    even, odd = head[: 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)
    if odd > 0.8 * pairs and even == 0:
        return "utf-16-le"
    return "utf-16-be" if even > 0.8 * pairs and odd == 0 else None


def _guess(data: bytes) -> tuple[str, str]:
    """Return words about the likely encoding and its name for iconv; empty where none is likely.

    Chinese text comes in runs of at least two high bytes, accented letters mostly stand alone.
    """
    runs = [len(run) for run in _HIGH_RUNS.findall(data)]
    paired = sum(run for run in runs if run >= 2) / max(1, sum(runs))
    if paired > 0.8:
        try:
            data.decode("gb18030")
            return ", it looks like GBK", "GB18030"
        except UnicodeDecodeError:
            pass
    try:
        data.decode("cp1252")
    except UnicodeDecodeError:
        return "", ""
    return ", it looks like Windows-1252", "WINDOWS-1252"


def read_text(path: Path, *, remedy: str, error: type[MambabenchError] = DataError) -> str:
    """Return the text of a file; `error` names file, cause and `remedy` where there is none."""
    try:
        return decode_text(path.read_bytes())
    except FileNotFoundError as missing:
        raise error(f"{path} is missing; {remedy}") from missing
    except OSError as refused:
        raise error(f"{path} cannot be read ({refused.strerror or refused}); {remedy}") from refused
    except UndecodableText as wrong:
        raise error(f"{path}: {wrong}") from wrong


def same_name(text: str) -> str:
    """Return the composed form of a name: what looks the same is the same (Unicode's NFC)."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)
