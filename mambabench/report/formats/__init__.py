"""The formats of a report: one file each, and those of other packages (`mambabench.formats`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mambabench.plugins import Registry

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMATS", "Format"]


@dataclass(frozen=True)
class Format:
    """One word of ``--format``: `render` turns a summary into what is printed.

    Other packages add theirs as entry points of the group ``mambabench.formats``.
    """

    name: str
    render: Callable[[Summary, View], str | bytes]
    binary: bool = False  # `render` returns bytes: no terminal shows them
    package: str | None = None  # a module that it needs, of the extra of its own name


_HERE = "mambabench.report.formats."
FORMATS: Registry[Format] = Registry(
    "formats",
    Format,
    {
        "terminal": _HERE + "terminal:FORMAT",
        "markdown": _HERE + "markdown:FORMAT",
        "latex": _HERE + "latex:FORMAT",
        "csv": _HERE + "csv_text:FORMAT",
        "json": _HERE + "json_text:FORMAT",
        "jsonl": _HERE + "jsonl:FORMAT",
        "parquet": _HERE + "parquet:FORMAT",
        "model-card": _HERE + "model_card:FORMAT",
        "bibtex": _HERE + "bibtex:FORMAT",
    },
)
