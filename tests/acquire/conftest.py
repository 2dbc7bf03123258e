"""A local HTTP server whose faults a test chooses."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FaultyHost:
    """What the server serves and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    etag: str = '"v1"'
    cut_after: list[int] = field(default_factory=list)  # bytes of each answer before it breaks
    statuses: list[int] = field(default_factory=list)  # answered first, one per GET
    retry_after: str = "0"
    say_length: bool = True
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    host: FaultyHost

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        data = self.host.files.get(self.path.lstrip("/"))
        self.send_response(404 if data is None else 200)
        if data is not None and self.host.say_length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()

    def do_GET(self) -> None:
        host, wanted = self.host, self.headers.get("Range")
        host.requests.append((self.path, wanted))
        if host.statuses:
            self.send_response(host.statuses.pop(0))
            self.send_header("Retry-After", host.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = host.files.get(self.path.lstrip("/"))
        if data is None:
            self.send_error(404)
            return
        start = 0
        condition = self.headers.get("If-Range", host.etag)
        if wanted and host.ranges and condition == host.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("ETag", host.etag)
        if host.say_length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + host.cut_after.pop(0) if host.cut_after else len(data)
        self.wfile.write(data[start:end])
        self.close_connection = True


@pytest.fixture
def host() -> Iterator[FaultyHost]:
    served = FaultyHost()
    handler = type("Handler", (_Handler,), {"host": served})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        served.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()
