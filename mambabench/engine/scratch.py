"""A folder of a worker's own, whose disk may refuse: then the error names the node."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mambabench.errors import StoreError

__all__ = ["scratch_folder"]

_REFUSALS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.EMFILE, errno.ENFILE, errno.ENOENT),
)


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """Give a temporary folder; StoreError, with the node, where its disk refuses in the block."""
    try:
        with tempfile.TemporaryDirectory(prefix=f"mambabench-{purpose}-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise StoreError(
            f"node {socket.gethostname()}: cannot use {error.filename or tempfile.gettempdir()}: "
            f"{error.strerror}; free some space there, or set TMPDIR, and give the same command "
            "again"
        ) from error
