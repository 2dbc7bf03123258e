"""Read CSV and TSV files with a header: one error with file, line, column and remedy."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mambabench.errors import DataError, nearest_names
from mambabench.reading.text import read_text, same_name

__all__ = ["TableRow", "read_rows", "read_table"]

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
_EMPTY = ("", "nan", "none", "null", "na", "n/a")  # what pandas writes for nothing
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas"}


class TableRow(Mapping[str, str]):
    """One row of a table as text by column, which knows where it stands."""

    def __init__(self, path: Path, line: int, values: dict[str, str]) -> None:
        self.path, self.line, self._values = path, line, values

    def __getitem__(self, column: str) -> str:
        return self._values[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def where(self) -> str:
        """Return "FILE, line N"."""
        return f"{self.path}, line {self.line}"

    def wrong(self, column: str, problem: str) -> DataError:
        """Return an error about one field of this row."""
        return DataError(f"{self.where}: {column} is {self[column]!r}, {problem}")

    def number(
        self, column: str, *, low: float = -math.inf, high: float = math.inf, what: str = ""
    ) -> float:
        """Return a finite number between `low` and `high`; DataError otherwise.

        `what` says which numbers are meant ("a score from 0 to 24").
        """
        text = self[column].strip()
        try:
            value = math.nan if "_" in text else float(text)
        except ValueError:
            hint = ": leave the row out or fill it in" if text.lower() in _EMPTY else _hint(text)
            raise self.wrong(column, f"not a number{hint}") from None
        if not math.isfinite(value):
            raise self.wrong(column, "not a finite number: leave the row out or fill it in")
        if not low <= value <= high:
            meant = f" ({what})" if what else ""
            raise self.wrong(column, f"outside {low:g} to {high:g}{meant}: correct it")
        return value

    def optional_number(
        self, column: str, *, low: float = -math.inf, high: float = math.inf, what: str = ""
    ) -> float | None:
        """Return None for an empty field, else what `number` returns."""
        return self.number(column, low=low, high=high, what=what) if self[column].strip() else None

    def whole(self, column: str) -> int:
        """Return a whole number, also where a spreadsheet wrote it as 300.0; DataError else."""
        value = self.number(column)
        if value != int(value):
            raise self.wrong(column, "not a whole number")
        return int(value)

    def name(self, column: str) -> str:
        """Return a name: not empty and no "nan"."""
        text = same_name(self[column].strip())
        if text.lower() in _EMPTY:
            raise self.wrong(column, "no name: fill it in or leave the row out")
        return text

    def choice(self, column: str, known: Sequence[str]) -> str:
        """Return one of `known`; DataError names the nearest ones."""
        value = self[column].strip()
        if value not in known:
            near = nearest_names(value, known) or nearest_names(value.lower(), known)
            raise self.wrong(column, f"not one of {', '.join(known)}{near}")
        return value


def _hint(text: str) -> str:
    """Return what a field that is no number seems to be, and how to write it."""
    clock = _CLOCK.fullmatch(text)
    if clock:
        hours, minutes, seconds = (float(part or 0) for part in clock.groups())
        return f": write seconds, here {3600 * hours + 60 * minutes + seconds:g}"
    if re.fullmatch(r"[+-]?\d+,\d+", text):
        return f": write the decimal point, {text.replace(',', '.')}"
    return ""


def read_table(
    path: Path,
    columns: Sequence[str] = (),
    *,
    delimiter: str = ",",
    strip: bool = True,
    quotes: bool = True,
    remedy: str | None = None,
) -> list[TableRow]:
    """Return the rows of a table with a header; `columns` must be among its columns.

    Blank lines are skipped; with `strip` spaces around fields are taken off. Optional columns that
    a short row lacks are empty. Raises DataError for a missing or undecodable file, open quotes,
    absent or repeated columns, and rows of another length than the header.
    """
    rows = read_rows(path, delimiter=delimiter, strip=strip, quotes=quotes, remedy=remedy)
    if not rows:
        raise DataError(f"{path} is empty; it should start with {delimiter.join(columns)}")
    (_, header), *body = rows
    header = [same_name(name.strip()) for name in header]
    _check_header(path, header, columns, delimiter)
    return [
        TableRow(path, line, _fields(path, line, header, cells, columns)) for line, cells in body
    ]


def read_rows(
    path: Path,
    *,
    delimiter: str = ",",
    strip: bool = False,
    quotes: bool = True,
    remedy: str | None = None,
) -> list[tuple[int, list[str]]]:
    """Return (line on which it ends, fields) of every row that is not blank; DataError else.

    Without `quotes` a quotation mark is a letter like any other (transcripts).
    """
    text = read_text(path, remedy=remedy or f"give the folder that holds {path.name}")
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        strict=True,
        skipinitialspace=strip,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
    )
    rows = []
    started = 1
    try:
        for cells in reader:
            started = reader.line_num + 1
            if any(cell.strip() for cell in cells):
                clean = [cell.strip() for cell in cells] if strip else cells
                rows.append((reader.line_num, clean))
    except csv.Error as error:
        reason = str(error)
        if "end of data" in reason or "expected after" in reason:
            reason = "a quotation mark that is opened here is not closed, or stands inside a field"
        raise DataError(
            f"{path}, line {started}: {reason}; write a mark inside quotes twice"
        ) from error
    return rows


def _check_header(path: Path, found: list[str], columns: Sequence[str], delimiter: str) -> None:
    for column in columns:
        if column in found:
            if found.count(column) > 1:
                raise DataError(f"{path}: column {column!r} stands twice in the header; keep one")
            continue
        other = next((s for s in _SEPARATORS if s != delimiter and s in "".join(found)), None)
        if other is not None and len(found) == 1:
            raise DataError(
                f"{path}: no column {column!r}: its columns are separated by {_SEPARATORS[other]}; "
                f"save it with {_SEPARATORS.get(delimiter, delimiter)}"
            )
        near = nearest_names(column, found)
        raise DataError(f"{path}: no column {column!r} in {', '.join(found)}{near}")


def _fields(
    path: Path, line: int, header: list[str], cells: list[str], columns: Sequence[str]
) -> dict[str, str]:
    """Return the row's fields by column."""
    if any(cell.strip() for cell in cells[len(header) :]):
        raise DataError(
            f"{path}, line {line}: {len(cells)} fields under a header of {len(header)}; put fields "
            "that contain the separator into quotes"
        )
    absent = [name for name in header[len(cells) :] if name in columns]
    if absent:
        raise DataError(
            f"{path}, line {line}: the row ends early, without {', '.join(absent)}; complete it, "
            "or copy the file again if it was cut off"
        )
    padded = cells + [""] * (len(header) - len(cells))
    return {name: cell for name, cell in zip(header, padded, strict=False) if name}
