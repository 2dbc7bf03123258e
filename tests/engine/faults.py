"""Disks that refuse: an error on the n-th write, fsync or rename that the package makes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import mambabench.files as files

OPERATIONS = ("create", "write", "fsync", "rename")


class _File:
    """A binary file whose writes are counted; no descriptor is seen, so numpy writes here too."""

    def __init__(self, file: Any, fault: Fault) -> None:
        self._file, self._fault = file, fault

    def write(self, data: Any) -> int:
        try:
            self._fault.count("write")
        except OSError:
            self._file.write(bytes(memoryview(data).cast("B")[:3]))  # half of it got through
            raise
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


class Fault:
    """The n-th operation of a kind fails with an error number, once or for good."""

    def __init__(self, operation: str, n: int, code: int, *, stays: bool = False) -> None:
        self.operation, self.n, self.code, self.stays = operation, n, code, stays
        self.seen = 0

    @property
    def fired(self) -> bool:
        """Whether it came to that."""
        return self.seen >= self.n

    def count(self, operation: str, path: str | None = None) -> None:
        """Count an operation; OSError where it is the one that fails."""
        if operation != self.operation:
            return
        self.seen += 1
        if self.seen == self.n or (self.stays and self.seen > self.n):
            raise OSError(self.code, os.strerror(self.code), path)


class _Os:
    """The module os as `mambabench.files` sees it."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault

    def open(self, path: Any, flags: int, mode: int) -> int:
        self._fault.count("create", str(path))
        return os.open(path, flags, mode)

    def fdopen(self, descriptor: int, mode: str) -> Any:
        return _File(os.fdopen(descriptor, mode), self._fault)

    def fsync(self, descriptor: int) -> None:
        self._fault.count("fsync")
        os.fsync(descriptor)

    def replace(self, source: str, target: Any) -> None:
        self._fault.count("rename", str(target))
        os.replace(source, target)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@contextmanager
def disk(fault: Fault) -> Iterator[Fault]:
    """Let the package meet `fault` for the time of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "os", _Os(fault))
        yield fault
