"""Arrays: empty, cut off, of objects, or something else; never an EOFError, never a traceback."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mambabench.errors import DataError, StoreError
from mambabench.reading.arrays import UNREADABLE, read_array, read_arrays


def saved(array: object) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def archived(**arrays: object) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **{name: np.asarray(value) for name, value in arrays.items()})
    return file.getvalue()


GOOD = saved(np.arange(600.0).reshape(20, 30))
BROKEN = [
    ("missing", None, "is missing"),
    ("0 bytes", b"", r"is empty \(0 bytes\)"),
    ("cut off", GOOD[:-100], "is damaged or cut off"),
    ("cut in the header", GOOD[:40], "is damaged or cut off"),
    ("text", b"1,2,3\n", "is no array of numbers"),
    ("objects", saved(np.array([{}, None], dtype=object)), "is no array of numbers"),
    ("words", saved(["a", "b"]), "holds values of type <U1, not numbers"),
    ("archive", archived(a=[1]), "is an archive of arrays"),
    ("header that is no header", GOOD.replace(b"'descr'", b"'dexcr'"), "is damaged or cut off"),
    ("a size beyond memory", GOOD.replace(b"(20, 30), }    ", b"(9**15, 99999), }"), "damaged"),
]


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize(("data", "message"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_arrays_are_named(
    tmp_path: Path, data: bytes | None, message: str, mapped: bool
) -> None:
    path = tmp_path / "x.npy"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(DataError, match=rf"x\.npy .*{message}.*; copy it again"):
        read_array(path, remedy="copy it again", mapped=mapped)


def test_a_good_array_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(GOOD)
    for mapped in (False, True):
        np.testing.assert_array_equal(
            read_array(path, remedy="", mapped=mapped), np.arange(600.0).reshape(20, 30)
        )


ARCHIVES = [
    ("missing", None, "is missing"),
    ("0 bytes", b"", r"is empty \(0 bytes\)"),
    ("cut off", archived(a=np.random.default_rng(0).standard_normal(900))[:-300], "is damaged"),
    ("one array", GOOD, "is one array, not an archive"),
    ("text", b"{}", "is no array of numbers"),
    ("absent", archived(b=[1]), "has no array named a"),
    ("objects", archived(a=np.array([None], dtype=object)), "is no array of numbers"),
]


@pytest.mark.parametrize(
    ("data", "message"), [a[1:] for a in ARCHIVES], ids=[a[0] for a in ARCHIVES]
)
def test_broken_archives_are_named(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "x.npz"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(StoreError, match=rf"x\.npz .*{message}.*; probe again"):
        read_arrays(path, ["a"], remedy="probe again", error=StoreError)


def test_an_archive_with_flipped_bytes(tmp_path: Path) -> None:
    data = bytearray(archived(a=np.arange(5000.0)))
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path = tmp_path / "x.npz"
    path.write_bytes(data)
    with pytest.raises(StoreError, match="is damaged or cut off"):
        read_arrays(path, ["a"], remedy="probe again", error=StoreError)


def test_archives_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    """Types, shapes and orders, compressed or not; every array may be written to."""
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": rng.standard_normal((7, 5)).astype(np.float32),
        "columns": np.asfortranarray(rng.standard_normal((6, 4))),
        "turned": np.arange(6, dtype=">i4"),
        "names": np.array(["a", "bcd", "é"]),
        "none": np.zeros((0, 3)),
        "one": np.float64(2.5),
        "a/b": np.ones(70_000, np.uint8),
    }
    for write in (np.savez, np.savez_compressed):
        path = tmp_path / "x.npz"
        write(path, **arrays)
        found = read_arrays(path, remedy="", error=StoreError)
        with np.load(path) as expected:
            assert list(found) == expected.files
            for name in expected.files:
                assert found[name].dtype == expected[name].dtype
                assert found[name].flags.f_contiguous == expected[name].flags.f_contiguous
                assert found[name].flags.writeable
                np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize(
    ("name", "how"),
    [("é", zipfile.ZIP_STORED), ("a", zipfile.ZIP_BZIP2), ("a", zipfile.ZIP_LZMA)],
)
def test_unusual_members_are_read(tmp_path: Path, name: str, how: int) -> None:
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr(f"{name}.npy", GOOD)
    found = read_arrays(path, [name], remedy="", error=StoreError)
    np.testing.assert_array_equal(found[name], np.arange(600.0).reshape(20, 30))


def read_by_zipfile(path: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("abc.npy")
    except UNREADABLE:
        return None


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_an_archive_is_refused_where_zipfile_refuses_it(tmp_path: Path, write: Any) -> None:
    """Whichever bit of name, CRC, lengths, flags or places is another one."""
    path = tmp_path / "x.npz"
    write(path, abc=np.arange(600.0))
    data, array = path.read_bytes(), read_by_zipfile(path)
    directory = data.index(b"PK\x01\x02")
    refused = 0
    for place in (*range(64), *range(directory, len(data))):
        for bit in (0, 3, 6):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            path.write_bytes(changed)
            if read_by_zipfile(path) == array:
                found = read_arrays(path, remedy="", error=StoreError)
                np.testing.assert_array_equal(found["abc"], np.arange(600.0))
            else:
                refused += 1
                with pytest.raises(StoreError):
                    read_arrays(path, ["abc"], remedy="probe again", error=StoreError)
    assert refused > 150


def test_an_array_shorter_than_its_header_says(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    whole = io.BytesIO()
    np.save(whole, np.arange(10.0))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", whole.getvalue()[:-8])
    with pytest.raises(StoreError, match="has not the size of its header"):
        read_arrays(path, remedy="probe again", error=StoreError)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"text")
    with pytest.raises(StoreError, match="not a .npy file"):
        read_arrays(path, remedy="probe again", error=StoreError)


def test_only_arrays_that_are_wanted_are_read(tmp_path):
    """What is damaged in others is not looked at."""
    path = tmp_path / "two.npz"
    np.savez(path, first=np.arange(300), second=np.ones(300))
    data = bytearray(path.read_bytes())
    place = data.index(np.ones(300).tobytes())
    data[place + 8] ^= 1
    path.write_bytes(data)
    found = read_arrays(path, remedy="", wanted=lambda name: name == "first")
    assert list(found) == ["first"]
    assert found["first"].tolist() == list(range(300))
    with pytest.raises(DataError, match="damaged"):
        read_arrays(path, remedy="")
