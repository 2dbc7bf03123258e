"""Every stored score as a Parquet table, with the columns of `load_results(metrics="all")`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mambabench.report.formats import Format
from mambabench.report.results import score_frame

if TYPE_CHECKING:
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "as_parquet"]


def as_parquet(summary: Summary) -> bytes:
    """Return one row per encoder, task, protocol, seed, fold and metric; null where undefined.

    Types follow from the column, never from what happens to stand in it.
    """
    from pandas.api.types import is_numeric_dtype

    frame = score_frame(summary.runs)
    kinds = {name: "string" for name in frame.columns if not is_numeric_dtype(frame[name])}
    kinds |= dict.fromkeys(("primary", "higher_is_better", "restricted"), "boolean")
    file = io.BytesIO()
    frame.astype(kinds).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _render(summary: Summary, view: View) -> bytes:
    return as_parquet(summary)


FORMAT = Format("parquet", _render, binary=True, package="pyarrow")
