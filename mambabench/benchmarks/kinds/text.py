"""Letters that are read as words, with or without slots among them."""

from __future__ import annotations

from collections.abc import Sequence

from mambabench.benchmarks.kinds.kind import LENGTHS, Kind

__all__ = ["END", "KIND", "WITH_SLOTS", "WORD_END", "text_of", "units_of", "words_of"]

WORD_END = "|"  # of letters without slots: after every word
END = "<eos>"  # of letters with slots
_SILENT = ("<s>", "</s>")  # of letters without slots: never written out

KIND = Kind(
    "text",
    "letters in order, | after every word; label 0 of the vocabulary is the blank",
    own_metrics=True,
    repeats=True,
    relations=(LENGTHS,),
)
WITH_SLOTS = Kind(
    "slot_text",
    "letters in order, slots between B-type and E-type; label 0 is the blank",
    own_metrics=True,
    repeats=True,
    relations=(LENGTHS,),
)


def units_of(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the units that are compared: letters and |, without what is never written out."""
    return tuple(symbol for symbol in symbols if symbol not in _SILENT)


def words_of(symbols: Sequence[str]) -> list[str]:
    """Return the words of decoded symbols; <pad> and <unk> are written as they are."""
    return "".join(units_of(symbols)).replace(WORD_END, " ").split()


def text_of(symbols: Sequence[str], *, until_end: bool = False) -> str:
    """Return the marked-up text of symbols: a space after every B-, before every E-.

    Blank and end symbol are left out; with `until_end` what follows an end symbol is too.
    """
    parts = []
    for symbol in symbols:
        if symbol == END and until_end:
            break
        if symbol in ("<pad>", END):
            continue
        border = symbol[:2]
        parts.append(f"{symbol} " if border == "B-" else f" {symbol}" if border == "E-" else symbol)
    return "".join(parts)
