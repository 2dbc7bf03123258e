"""Read n-gram language models in ARPA's text format (.arpa, .arpa.gz)."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mambabench.errors import DataError

__all__ = ["END", "START", "UNKNOWN", "Ngrams", "read_arpa"]

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
_REMEDY = "take the file as published, or write it with kenlm's lmplz or SRILM"


@dataclass(frozen=True)
class Ngrams:
    """A back-off model; probabilities are logarithms of base 10, as in the file."""

    order: int
    probability: dict[tuple[str, ...], float]
    backoff: dict[tuple[str, ...], float]

    @property
    def words(self) -> tuple[str, ...]:
        """Return the words that it knows, without those that mark start, end and the unknown."""
        marks = (START, END, UNKNOWN)
        return tuple(g[0] for g in self.probability if len(g) == 1 and g[0] not in marks)

    def score(self, context: tuple[str, ...], word: str) -> tuple[float, tuple[str, ...]]:
        """Return log10 of the word's probability after `context`, and the context that follows.

        A word that is not in the model counts as ``<unk>``, with -100 where the model has none.
        """
        if (word,) not in self.probability:
            word = UNKNOWN
            if (word,) not in self.probability:
                return -100.0, ()
        spent = 0.0
        for start in range(len(context) + 1):
            gram = (*context[start:], word)
            if gram in self.probability:
                kept = (*context, word)[-(self.order - 1) :] if self.order > 1 else ()
                return spent + self.probability[gram], kept
            spent += self.backoff.get(context[start:], 0.0)
        raise AssertionError("a unigram is always there")


def read_arpa(path: Path) -> Ngrams:
    """Read a model; DataError, naming file and line, where it is none."""
    probability: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    order = n = 0
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        if header := re.fullmatch(r"\\(\d+)-grams:", line):
            n = int(header[1])
            order = max(order, n)
        elif line in ("\\data\\", "\\end\\") or line.startswith("ngram "):
            n = 0
        elif line:
            gram, values = _entry(line, n, where)
            probability[gram] = values[0]
            if len(values) > 1:
                backoff[gram] = values[1]
    if not order:
        raise DataError(f"{path}: no n-gram model in ARPA's format; {_REMEDY}")
    return Ngrams(order, probability, backoff)


def _entry(line: str, n: int, where: str) -> tuple[tuple[str, ...], list[float]]:
    """Return n-gram and values of ``probability words [backoff]``."""
    parts = line.split()
    if n == 0 or len(parts) not in (n + 1, n + 2):
        raise DataError(f"{where}: {line!r} is no {n or ''}-gram with its probability; {_REMEDY}")
    try:
        return tuple(parts[1 : n + 1]), [float(parts[0]), *map(float, parts[n + 1 :])]
    except ValueError as error:
        raise DataError(f"{where}: {line!r} has no number where one stands; {_REMEDY}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield number, line.strip()
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path} cannot be read ({error}); {_REMEDY}") from error
