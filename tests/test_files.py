"""Files are written whole or not at all, and equal values are equal bytes."""

from __future__ import annotations

import os
import threading

import pytest

from mambabench.files import atomic_write, canonical_json, remove_unfinished, write_json


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    seen = []

    def write(file):
        file.write(b"new, first half")
        file.flush()
        seen.append(path.read_bytes())
        file.write(b" and the rest")

    atomic_write(path, write)
    assert seen == [b"old"]
    assert path.read_bytes() == b"new, first half and the rest"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, write)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_bytes_are_on_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("replace"), replace(*names))[1])
    write_json(tmp_path / "file.json", {})
    assert order == ["fsync", "replace"]


def test_json_is_canonical():
    assert canonical_json({"b": {"d": 1, "c": "ö"}, "a": [2.5]}) == (
        '{\n  "a": [\n    2.5\n  ],\n  "b": {\n    "c": "ö",\n    "d": 1\n  }\n}\n'.encode()
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_what_a_thread_was_writing_goes_with_the_process(tmp_path):
    """A command that ends at once leaves no temporary files, whatever its threads were doing."""
    begun, go_on = threading.Event(), threading.Event()

    def write(file):
        file.write(b"half")
        begun.set()
        go_on.wait(30)

    thread = threading.Thread(target=atomic_write, args=(tmp_path / "a", write), daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda arguments: None)  # its file is gone
        thread.start()
        assert begun.wait(30)
        assert len(list(tmp_path.iterdir())) == 1
        remove_unfinished()
        assert not list(tmp_path.iterdir())
        go_on.set()
        thread.join()
    atomic_write(tmp_path / "a", lambda file: None)
    remove_unfinished()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
