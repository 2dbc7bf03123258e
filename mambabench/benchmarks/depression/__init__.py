"""Depression tasks, in their datasets' own layouts. Nothing here is a diagnostic.

A corpus is one file that defines `CORPUS`; adding one needs no other edit.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from mambabench.errors import DataError, nearest_names

if TYPE_CHECKING:
    from mambabench.benchmarks.depression.interviews import InterviewCorpus
    from mambabench.benchmarks.depression.sessions import FeatureCorpus

__all__ = ["corpora", "find_corpus"]


def corpora() -> dict[str, FeatureCorpus | InterviewCorpus]:
    """Return every corpus by name: the modules of this package that define `CORPUS`."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        corpus = getattr(import_module(f"{__name__}.{module.name}"), "CORPUS", None)
        if corpus is not None:
            found[corpus.name] = corpus
    return dict(sorted(found.items()))


def find_corpus(name: str) -> FeatureCorpus | InterviewCorpus:
    """Return a corpus by name; DataError with the nearest names where there is none."""
    known = corpora()
    if name not in known:
        raise DataError(f"no depression corpus {name!r}{nearest_names(name, known)}")
    return known[name]
