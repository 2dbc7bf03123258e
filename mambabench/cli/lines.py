"""Lines for people: whole words at the terminal's width, letters that its encoding has."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

__all__ = ["plain_text", "print_lines", "print_wrapped", "terminal_width", "wrapped"]


def print_wrapped(text: str, *, err: bool = False) -> None:
    """Print a sentence; on a terminal it goes on in the next line, between words, set in."""
    stream = sys.stderr if err else sys.stdout
    print_lines(wrapped(text, terminal_width(stream)), stream)


def wrapped(text: str, width: int | None) -> list[str]:
    """Return the lines of a sentence that is at most `width` wide where its words allow it."""
    if width is None or len(text) <= width:
        return [text]
    before = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text.lstrip(),
        width,
        initial_indent=before,
        subsequent_indent=before + "  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the columns of the terminal; None where the stream, standard output, is none."""
    stream = sys.stdout if stream is None else stream
    if not stream.isatty():
        return None
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return shutil.get_terminal_size((80, 24)).columns


def print_lines(lines: Sequence[str], stream: TextIO | None = None) -> None:
    """Print lines, with letters that the stream's encoding has."""
    for line in lines:
        print(plain_text(line), file=stream, flush=stream is sys.stderr)


_PLAIN = {"±": "+-", "–": "-", "−": "-", "…": "...", "†": "+", "‡": "++", "─": "-", "×": "x"}


def plain_text(text: str) -> str:
    """Return the text with letters that standard output's encoding lacks replaced by plain ones."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, "surrogateescape")
    except UnicodeEncodeError:
        for letter, plain in _PLAIN.items():
            text = text.replace(letter, plain)
        text = text.encode(encoding, "replace").decode(encoding)
    return text
