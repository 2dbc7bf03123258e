"""Tables: what a spreadsheet writes is read, what is broken is named with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mambabench.errors import DataError
from mambabench.reading.tables import TableRow, read_rows, read_table

PLAIN = "id,label,note\na,1,x\nb,2,y\n"
SAME = [
    ("plain", PLAIN.encode()),
    ("mark", PLAIN.encode("utf-8-sig")),
    ("windows lines", PLAIN.replace("\n", "\r\n").encode()),
    ("old mac lines", PLAIN.replace("\n", "\r").encode()),
    ("utf-16", PLAIN.encode("utf-16")),
    ("blank lines", PLAIN.replace("\n", "\n\n").encode()),
    ("no last line end", PLAIN.rstrip("\n").encode()),
    ("spaces", PLAIN.replace(",", ", ").encode()),
    ("quotes", b'"id","label","note"\n"a","1","x"\n"b","2","y"\n'),
    ("empty columns at the end", PLAIN.replace("\n", ",,\n").encode()),
]


def write(folder: Path, data: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("data", [d for _, d in SAME], ids=[n for n, _ in SAME])
def test_the_same_table_in_many_clothes(tmp_path: Path, data: bytes) -> None:
    rows = read_table(write(tmp_path, data), ("id", "label"))
    assert [(row["id"], row["label"], row["note"]) for row in rows] == [
        ("a", "1", "x"),
        ("b", "2", "y"),
    ]


BROKEN = [
    ("empty", b"", r"table\.csv is empty; it should start with id,label"),
    ("missing column", b"id,lable\na,1\n", r"no column 'label' in id, lable; did you mean 'lable'"),
    ("semicolons", b"id;label\na;1\n", r"separated by semicolons; save it with commas"),
    ("tabs", b"id\tlabel\na\t1\n", r"separated by tabs; save it with commas"),
    ("column twice", b"id,label,label\na,1,2\n", r"'label' stands twice"),
    ("short row", b"id,label\na,1\nb\n", r"line 3: the row ends early, without label"),
    ("long row", b"id,label\na,1,extra\n", r"line 2: 3 fields under a header of 2"),
    ("open quote", b'id,label\na,1\nb,"2\nc,3\n', r"line 3: a quotation mark .* is not closed"),
    ("inner quote", b'id,label\n"a"b,1\n', r"line 2: a quotation mark"),
    ("gbk", "id,label\n甲乙,丙丁\n".encode("gbk"), r"line 2 is not UTF-8 .*GBK"),
    ("windows-1252", "id,label\nJosé,1\n".encode("cp1252"), r"line 2 .*Windows-1252"),
]


@pytest.mark.parametrize(("data", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_tables_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, data), ("id", "label"))


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.csv is missing; give the folder that holds no\.csv"):
        read_table(tmp_path / "no.csv", ("id",))


def number(row: TableRow) -> float:
    return row.number("label", low=-3, high=3, what="sentiment")


FIELDS: list[tuple[str, str, Callable[[TableRow], object], str]] = [
    ("text", "high", number, "'high', not a number"),
    ("clock", "11:40", number, "not a number: write seconds, here 700"),
    ("clock with hours", "1:00:01.5", number, "write seconds, here 3601.5"),
    ("decimal comma", '"1,5"', number, r"write the decimal point, 1\.5"),
    ("nan", "nan", number, "not a finite number"),
    ("NaN", "NaN", number, "not a finite number"),
    ("infinite", "inf", number, "not a finite number"),
    ("overflow", "1e999", number, "not a finite number"),
    ("empty", "", number, "not a number: leave the row out or fill it in"),
    ("underscore", "1_0", number, "not a finite number"),
    ("out of range", "40", number, r"outside -3 to 3 \(sentiment\)"),
    ("fraction", "1.5", lambda r: r.whole("label"), "not a whole number"),
    ("name", "nan", lambda r: r.name("label"), "no name"),
    ("case", "Train", lambda r: r.choice("label", ("train", "test")), "did you mean 'train'"),
    ("no choice", "", lambda r: r.choice("label", ("train", "test")), "not one of train, test"),
]


@pytest.mark.parametrize(
    ("text", "read", "message"), [f[1:] for f in FIELDS], ids=[f[0] for f in FIELDS]
)
def test_wrong_fields_are_named(
    tmp_path: Path, text: str, read: Callable[[TableRow], object], message: str
) -> None:
    (row,) = read_table(write(tmp_path, f"id,label\na,{text}\n"), ("id", "label"))
    with pytest.raises(DataError, match=rf"table\.csv, line 2: label is .*{message}"):
        read(row)


def test_right_fields(tmp_path: Path) -> None:
    text = "id,label,when\n 300.0 ,-1.5,\n"
    (row,) = read_table(write(tmp_path, text), ("id",))
    assert (row.whole("id"), row.number("label"), row.optional_number("when")) == (300, -1.5, None)
    assert row.where.endswith("table.csv, line 2")


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, 'a\n\n"b\nc"\nd\n'))
    assert rows == [(1, ["a"]), (4, ["b\nc"]), (5, ["d"])]


def test_transcripts_have_single_quotation_marks(tmp_path: Path) -> None:
    path = write(tmp_path, 'speaker\tvalue\nParticipant\t"so\nEllie\tok\n')
    rows = read_table(path, ("speaker",), delimiter="\t", quotes=False)
    assert [row["value"] for row in rows] == ['"so', "ok"]
