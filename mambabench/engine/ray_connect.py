"""Find a Ray that runs, or start one on this machine."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

from mambabench.errors import MambabenchError

__all__ = ["connect", "first_line", "started_here"]

KNOCK_S = 10.0  # how long a head may take to answer
_TOKENS = (
    " (one that asks for a token: with RAY_AUTH_MODE=token and its token in ~/.ray/auth_token)"
)
START_MEMORY = 200 << 20  # bytes of object store of a Ray that is started here, at least


def connect(address: str, jobs: int) -> bool:
    """Connect to Ray; return whether it was started here, or found by somebody else's hand."""
    import ray

    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
    # its future default, which it would otherwise announce in a warning
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet = {"log_to_driver": False, "configure_logging": False, "include_dashboard": False}
    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        named = address or os.environ.get("RAY_ADDRESS", "")
        if named:
            _knock(named)
        elif started_here():
            named = "auto"  # of what it finds itself Ray also takes the token; not of an address
        if named:
            ray.init(named, log_to_driver=False, configure_logging=False)
        else:
            ray.init("local", num_cpus=jobs, object_store_memory=START_MEMORY, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = address or os.environ.get("RAY_ADDRESS") or "on this machine"
        raise MambabenchError(
            f"--engine ray: no Ray {where} ({first_line(error)}); start one with "
            "`ray start --head`, or give its address as ray:HOST:PORT"
            f"{'' if 'RAY_AUTH_MODE' in os.environ else _TOKENS}"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray's own would end us without a word
                signal.signal(number, handler)
    return True


def started_here() -> str:
    """Return the address that `ray start` noted on this machine, "" where nobody answers there: a
    head that was killed leaves its note, and another command's own Ray is none of ours."""
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    try:
        address = Path(folder, "ray", "ray_current_cluster").read_text().strip()
        _knock(address)
    except OSError:
        return ""
    return address


def _knock(address: str) -> None:
    """Raise OSError where nobody listens at HOST:PORT: Ray itself would wait for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        with socket.create_connection((host, int(port)), timeout=KNOCK_S):
            pass


def first_line(error: BaseException) -> str:
    """Return the first line that an error says, without a full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
