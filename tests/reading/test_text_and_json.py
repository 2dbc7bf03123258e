"""Text in every Unicode encoding is read, other encodings are named; JSON and TOML likewise."""

from __future__ import annotations

from pathlib import Path

import pytest

from mambabench.errors import DataError, ProtocolError, StoreError
from mambabench.files import read_json
from mambabench.reading.json_files import parse_json, read_json_object
from mambabench.reading.text import UndecodableText, decode_text, read_text, same_name
from mambabench.reading.toml_files import read_toml

TEXT = "idx,label\n0,Gehäuse\n1,北京\n"

READ = [
    ("utf-8", TEXT.encode()),
    ("utf-8 with mark", TEXT.encode("utf-8-sig")),
    ("utf-16 little", b"\xff\xfe" + TEXT.encode("utf-16-le")),
    ("utf-16 big", b"\xfe\xff" + TEXT.encode("utf-16-be")),
    ("utf-32", TEXT.encode("utf-32")),
]
REFUSED = [
    ("gbk", TEXT.replace("ä", "a").encode("gbk"), r"line 3 is not UTF-8 .*GBK.*iconv -f GB18030"),
    ("gb2312", "名,标签\n".encode("gb2312"), r"line 1 is not UTF-8 .*GBK"),
    ("windows-1252", "café,ça,£5\n".encode("cp1252"), r"line 1 .*Windows-1252.*WINDOWS-1252"),
    ("one accent", b"a,b\nx,Fr\xe9d\n", r"line 2 .*0xe9.*Windows-1252"),
    ("binary", b"a,\x81\x8d\xff\xfe\x00", r"not UTF-8 text"),
    ("NUL bytes", b"a,b\nc,\0\0\n", r"line 2 holds a NUL byte"),
    ("cut UTF-16", b"\xff\xfea\0b", r"UTF-16-LE text that is cut off"),
]


@pytest.mark.parametrize("data", [d for _, d in READ], ids=[n for n, _ in READ])
def test_unicode_is_read(data: bytes) -> None:
    assert decode_text(data) == TEXT


def test_utf_16_without_a_mark_is_read_where_it_is_certain() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert decode_text("idx,label\n".encode(encoding)) == "idx,label\n"


@pytest.mark.parametrize(("data", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_other_encodings_are_named(data: bytes, message: str) -> None:
    with pytest.raises(UndecodableText, match=message):
        decode_text(data)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.csv is missing; copy it"):
        read_text(tmp_path / "x.csv", remedy="copy it")
    with pytest.raises(StoreError, match=r"cannot be read \(Is a directory\); copy it"):
        read_text(tmp_path, remedy="copy it", error=StoreError)


def test_names_that_look_the_same_are_the_same() -> None:
    assert same_name("cafe\u0301.wav") == same_name("caf\u00e9.wav") == "caf\u00e9.wav"
    assert same_name("plain.wav") == "plain.wav"


BROKEN_JSON = [
    ("empty", b"", "it is empty"),
    ("spaces", b" \n", "it is empty"),
    ("cut off", b'{"a": [1, 2', "no JSON"),
    ("deep", b"[" * 100_000, "nested too deeply"),
    ("a list", b"[1]", "holds a list, not an object"),
    ("gbk", '{"a": "北京北京"}'.encode("gbk"), "looks like GBK"),
]


@pytest.mark.parametrize(
    ("data", "message"), [b[1:] for b in BROKEN_JSON], ids=[b[0] for b in BROKEN_JSON]
)
def test_broken_json_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"x\.json.*{message}"):
        read_json_object(path, remedy="copy it again", error=StoreError)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_in_every_unicode_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"ключ": "值"}', encoding=encoding)
    assert read_json(path) == read_json_object(path, remedy="") == {"ключ": "值"}


def test_repeated_keys_are_told() -> None:
    repeated: list[str] = []
    assert parse_json('{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}', repeated) == {
        "a": 3,
        "b": {"c": 2},
    }
    assert sorted(repeated) == ["a", "c"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = \n", "line 1"),
        (b"a = 1\na = 2\n", r"[Cc]annot overwrite"),
        ("a = 'é'\n".encode("cp1252"), "looks like Windows-1252"),
    ],
)
def test_broken_toml_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(ProtocolError, match=rf"x\.toml: .*{message}"):
        read_toml(path)


def test_toml_with_a_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = 'é'\r\n", encoding="utf-8-sig", newline="")
    assert read_toml(path) == {"a": "é"}
    with pytest.raises(ProtocolError, match=r"y\.toml is missing"):
        read_toml(tmp_path / "y.toml")
