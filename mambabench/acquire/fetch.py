"""Download one file: resumed by range, retried, checked before anybody sees it."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mambabench.errors import DataError
from mambabench.files import read_json

if TYPE_CHECKING:
    import requests

__all__ = ["OnBytes", "RemoteFile", "fetch", "offline", "remote_size", "require_network"]

OnBytes = Callable[[str, int, "int | None"], None]  # file name, bytes so far, bytes in all

OFFLINE = "MAMBABENCH_OFFLINE"
_CHUNK = 1 << 14  # a broken connection loses at most this much
_TRIES = 6
_TIMEOUT_S = (10.0, 60.0)  # to connect, between two chunks
_LONGEST_WAIT_S = 120.0


@dataclass(frozen=True)
class RemoteFile:
    """A file to be had: where from, under which name, and how it is known to be right."""

    name: str
    url: str
    checksum: str | None = None  # "md5:..." or "sha256:..."; None: nobody published one


class _TryAgain(Exception):  # noqa: N818 - it asks for something
    """What may pass by itself: a broken connection, a busy server."""

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


def offline() -> bool:
    """Say whether the environment forbids the network."""
    return os.environ.get(OFFLINE, "").strip().lower() not in ("", "0", "false", "no")


def require_network(what: str) -> None:
    """Raise DataError where `MAMBABENCH_OFFLINE` forbids to get `what`."""
    if offline():
        raise DataError(
            f"{what} needs the network, and {OFFLINE} forbids it: unset {OFFLINE}, or fetch the "
            "file elsewhere and use the import command"
        )


def fetch(
    file: RemoteFile,
    folder: Path,
    *,
    progress: OnBytes | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download `file` into `folder` and return its path; a file that is there and right is kept.

    An interrupted download leaves ``NAME.part`` and goes on from there, also in a later call. The
    checksum decides before the file gets its name. Raises DataError with the URL and the remedy.
    """
    import pooch

    pooch.get_logger().setLevel(logging.ERROR)
    target = folder / file.name
    if target.is_file() and _is_right(target, file.checksum):
        return target
    require_network(f"downloading {file.url}")
    folder.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    downloader = _Resuming(file, folder / f"{file.name}.part", progress, wait)
    with _lock(folder / f"{file.name}.lock", file):
        try:
            path = pooch.retrieve(
                file.url, file.checksum, fname=file.name, path=folder, downloader=downloader
            )
        except ValueError as error:
            if "hash" not in str(error).lower():
                raise
            raise DataError(
                f"{file.url} is not the published file: its {_algorithm(file.checksum)} is another "
                f"than {file.checksum}. It was deleted; run the command again, and if it fails "
                "again the host serves another version"
            ) from error
    return Path(path)


def remote_size(file: RemoteFile) -> int | None:
    """Ask the host for the size in bytes; None where it does not say. Raises DataError."""
    import requests

    require_network(f"asking for the size of {file.url}")
    try:
        response = requests.head(file.url, timeout=_TIMEOUT_S, allow_redirects=True)
    except requests.RequestException as error:
        raise _no_network(file.url, error) from error
    if response.status_code in (404, 410):
        raise _refused(file.url, response.status_code)
    length = response.headers.get("Content-Length", "")
    return int(length) if response.ok and length.isdigit() else None


def _algorithm(checksum: str | None) -> str:
    return (checksum or "").partition(":")[0] or "checksum"


def _is_right(path: Path, checksum: str | None) -> bool:
    if checksum is None:
        return True
    algorithm, _, digits = checksum.partition(":")
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, algorithm).hexdigest() == digits.lower()


@contextlib.contextmanager
def _lock(path: Path, file: RemoteFile) -> Iterator[None]:
    """Keep two processes from writing one part file."""
    with path.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"another process is downloading {file.name} into {path.parent}: wait for it"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


class _Resuming:
    """A downloader for pooch that goes on where the last try or the last call stopped."""

    def __init__(
        self,
        file: RemoteFile,
        part: Path,
        progress: OnBytes | None,
        wait: Callable[[float], None],
    ) -> None:
        self._file, self._part, self._progress, self._wait = file, part, progress, wait
        self._notes = part.with_suffix(".part.json")

    def __call__(self, url: str, output_file: str, _pooch: object, **_: Any) -> None:
        last = ""
        for attempt in range(_TRIES):
            before = self._have()
            try:
                self._attempt(url)
            except _TryAgain as problem:
                last = str(problem)
                if attempt + 1 < _TRIES:
                    delay = problem.wait_s if problem.wait_s is not None else 0.5 * 2.0**attempt
                    # bytes came: the line works, so do not punish it
                    self._wait(min(delay if self._have() <= before else 0.1, _LONGEST_WAIT_S))
                continue
            os.replace(self._part, output_file)
            self._notes.unlink(missing_ok=True)
            return
        raise DataError(
            f"{url} failed {_TRIES} times, at last: {last}. {self._have():,} bytes are kept in "
            f"{self._part}; the same command goes on from there"
        )

    def _have(self) -> int:
        return self._part.stat().st_size if self._part.is_file() else 0

    def _attempt(self, url: str) -> None:
        import requests

        have = self._have()
        headers = {"Accept-Encoding": "identity", **self._range(have)}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
                self._take(url, response, have)
        except (requests.ConnectionError, requests.Timeout) as error:
            if not have and self._have() == 0:
                raise _TryAgain(str(_no_network(url, error))) from error
            raise _TryAgain(f"the connection broke ({type(error).__name__})") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _TryAgain("the connection broke in the middle") from error

    def _range(self, have: int) -> dict[str, str]:
        """Ask for the rest, on condition that the file is still the one that was begun."""
        if not have:
            return {}
        headers = {"Range": f"bytes={have}-"}
        try:
            notes = dict(read_json(self._notes)) if self._notes.is_file() else {}
        except (OSError, ValueError, TypeError):
            notes = {}  # cut off with the download: begin anew
        if notes.get("url") == self._file.url and notes.get("validator"):
            headers["If-Range"] = notes["validator"]
        return headers

    def _take(self, url: str, response: requests.Response, have: int) -> None:
        status = response.status_code
        if status == 416:  # nothing left to send, or another file now
            if response.headers.get("Content-Range", "").rpartition("/")[2] == str(have):
                return
            self._part.unlink(missing_ok=True)
            raise _TryAgain("the host's file is shorter than what was kept", 0.0)
        if status in (429, 500, 502, 503, 504):
            raise _TryAgain(f"the host answered {status}", _retry_after(response))
        if status not in (200, 206):
            raise _refused(url, status)
        start = _start_of(response) if status == 206 else 0
        if start not in (0, have):
            self._part.unlink(missing_ok=True)
            raise _TryAgain("the host answered with another range than the one asked for", 0.0)
        total = _total(response, start)
        self._note(response)
        with self._part.open("r+b" if start else "wb") as part:
            part.seek(start)
            self._copy(response, part, start, total)
        if total is not None and self._have() < total:
            raise _TryAgain(f"the host closed after {self._have():,} of {total:,} bytes")

    def _copy(
        self, response: requests.Response, part: IO[bytes], done: int, total: int | None
    ) -> None:
        for chunk in response.iter_content(_CHUNK):
            part.write(chunk)
            done += len(chunk)
            if self._progress is not None:
                self._progress(self._file.name, done, total)

    def _note(self, response: requests.Response) -> None:
        validator = response.headers.get("ETag", "")
        if validator.startswith("W/"):  # weak tags may not be used with If-Range
            validator = ""
        validator = validator or response.headers.get("Last-Modified", "")
        self._notes.write_text(json.dumps({"url": self._file.url, "validator": validator}))


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _start_of(response: requests.Response) -> int:
    value = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    return int(value) if value.isdigit() else -1


def _total(response: requests.Response, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _refused(url: str, status: int) -> DataError:
    reasons = {
        401: "it asks for a login",
        403: "it refuses access (requester-pays buckets do)",
        404: "it has no such file",
        410: "the file was removed",
    }
    return DataError(
        f"the host of {url} answered {status}: {reasons.get(status, 'an unexpected answer')}. "
        "Give another place with --url or --mirror, or get the file by hand and import it"
    )


def _no_network(url: str, error: Exception) -> DataError:
    return DataError(
        f"{url} cannot be reached ({type(error).__name__}): check the network, or get the file "
        "on another machine and use the import command"
    )
