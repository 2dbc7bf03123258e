"""Which backend computes a scan: what there is, what each supports, and the one rule of choice.

The rule: the explicit argument, then the environment variable MAMBABENCH_SCAN_BACKEND, then the
first in the device's order that is installed, supports the request and passes a self-check. A
backend that was named and cannot run raises with the reason. An automatic fall to `torch` warns
once. Nothing heavy is imported before a backend is asked for.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch

from mambabench.errors import EncoderError, nearest_names
from mambabench.models.plain import untraced

__all__ = [
    "BACKENDS",
    "VARIABLE",
    "Backend",
    "BackendStatus",
    "Request",
    "choose_backend",
    "describe_backends",
]

VARIABLE = "MAMBABENCH_SCAN_BACKEND"
ORDER = {"cuda": ("triton", "mamba_ssm", "torch"), "cpu": ("numba", "torch")}


@dataclass(frozen=True)
class Request:
    """What a call needs from a backend."""

    device: str  # "cpu", "cuda" or another device type of torch
    dtype: torch.dtype  # of the computation: float32 or wider
    d_state: int
    needs_grad: bool
    transformed: bool = False  # under torch.func's transforms or forward-mode differentiation


@dataclass(frozen=True)
class Backend:
    """One way to compute the scan and the convolution."""

    name: str
    module: str  # with `scan` and `conv`; imported at the first use
    package: str  # whose version is recorded
    missing: Callable[[], str | None]  # why it cannot run here, None if it can
    unsupported: Callable[[Request], str | None]  # why it cannot serve a request, None if it can

    def load(self) -> Any:
        """Import the module that computes."""
        return import_module(self.module)

    def version(self) -> str:
        """Return the version of the package behind the backend, "" where it is absent."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return ""


@dataclass(frozen=True)
class BackendStatus:
    """What this machine does with one backend on one device."""

    device: str
    name: str
    version: str
    chosen: bool
    reason: str  # why it is chosen, passed over or impossible


def _always(_: Request | None = None) -> str | None:
    return None


def _no_numba() -> str | None:
    if find_spec("numba") is None:
        return "numba is not installed: pip install numba"
    try:
        import_module("mambabench.models.scan.kernels")
    except ImportError as error:  # for example a numpy that this numba does not know
        return f"numba cannot be imported ({error}): install versions that fit each other"
    return None


def _no_triton() -> str | None:
    if find_spec("triton") is None:
        return "triton is not installed: it comes with torch's CUDA build on Linux"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return None


def _no_mamba_ssm() -> str | None:
    # A package without its extension is common: the build of the Mamba-1 kernel can be left out.
    if find_spec("selective_scan_cuda") is None:
        return "mamba_ssm's extension selective_scan_cuda is not installed"
    return None if torch.cuda.is_available() else "torch sees no CUDA device"


_TRANSFORMED = (
    "has no rule for torch.func's transforms and forward-mode differentiation; torch and reference "
    "have"
)


def _numba_unsupported(request: Request) -> str | None:
    if request.transformed:
        return _TRANSFORMED
    return None if request.device == "cpu" else f"computes on the CPU, not on {request.device}"


def _triton_unsupported(request: Request) -> str | None:
    if request.device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"computes on CUDA devices, not on {request.device}"
    if request.dtype != torch.float32:
        return "computes in float32, not in float64"
    if request.transformed:
        return _TRANSFORMED
    return None if request.d_state <= 64 else "keeps at most 64 states in registers"


def _mamba_ssm_unsupported(request: Request) -> str | None:
    if request.device != "cuda":
        return f"computes on CUDA devices, not on {request.device}"
    if request.dtype != torch.float32:
        return "computes in float32, not in float64"
    if request.transformed:
        return _TRANSFORMED
    return None if request.d_state <= 256 else "supports at most 256 states"


_HERE = "mambabench.models.scan"
BACKENDS = {
    backend.name: backend
    for backend in (
        Backend("numba", f"{_HERE}.operators", "numba", _no_numba, _numba_unsupported),
        Backend("triton", f"{_HERE}.gpu", "triton", _no_triton, _triton_unsupported),
        Backend(
            "mamba_ssm", f"{_HERE}.extension", "mamba_ssm", _no_mamba_ssm, _mamba_ssm_unsupported
        ),
        Backend("torch", f"{_HERE}.chunked", "torch", _always, _always),
        Backend("reference", f"{_HERE}.reference", "torch", _always, _always),
    )
}


@functools.cache
def _failure(name: str, device: str) -> str | None:
    """Why `name` cannot run on `device` in this process; a tiny scan is held to the reference."""
    backend = BACKENDS[name]
    reason = backend.missing()
    if reason is not None or name in ("torch", "reference"):
        return reason
    with torch.no_grad(), untraced():  # the first call may be a trace
        error = _self_check(backend, device)
    if error <= 1e-5:
        return None
    return f"its self-check against the reference is off by {error:.1e}"


def _self_check(backend: Backend, device: str) -> float:
    """Return the largest error of `backend` in a tiny scan."""
    u = torch.linspace(-1.0, 1.0, 3 * 32).reshape(1, 3, 32)
    delta, z = u.flip(1), u.flip(2)
    A = -torch.arange(1.0, 3.0).expand(32, 2)
    B, C = u[..., :2], u[..., 2:4]
    vector = torch.linspace(0.5, 1.0, 32)
    inputs = (u, delta, A, B, C, vector, z, vector)
    expected, state = BACKENDS["reference"].load().scan(*inputs, True, True)
    moved = [x.to(device) for x in inputs]
    found, last = backend.load().scan(*moved, True, True)
    return max(float((found.cpu() - expected).abs().max()), float((last.cpu() - state).abs().max()))


def _why_not(name: str, request: Request) -> str | None:
    backend = BACKENDS[name]
    return backend.missing() or backend.unsupported(request) or _failure(name, request.device)


def choose_backend(request: Request, name: str | None = None) -> str:
    """Return the name of the backend that serves `request`, by the rule above.

    Raises EncoderError where a named backend is unknown or cannot run.
    """
    source = "backend="
    if name is None:
        name = os.environ.get(VARIABLE) or None
        source = f"{VARIABLE}="
    return _choose(request, name, source)


@functools.lru_cache(maxsize=512)
def _choose(request: Request, name: str | None, source: str) -> str:
    if name is not None:
        if name not in BACKENDS:
            raise EncoderError(
                f"{source}{name!r} is no scan backend{nearest_names(name, BACKENDS)}; "
                f"there are {', '.join(BACKENDS)}"
            )
        reason = _why_not(name, request)
        if reason is not None:
            raise EncoderError(
                f"{source}{name!r} cannot run: {reason}; leave it out to let mambabench choose"
            )
        return name
    reasons: list[str] = []
    for candidate in ORDER.get(request.device, ("torch",)):
        reason = _why_not(candidate, request)
        if reason is None:
            if candidate == "torch" and reasons and not request.transformed:
                _warn_slow(request.device, "; ".join(reasons))
            return candidate
        reasons.append(f"{candidate}: {reason}")
    raise AssertionError("torch serves every request")


@functools.cache
def _warn_slow(device: str, reasons: str) -> None:
    slower = "10 to 30" if device == "cpu" else "50 or more"
    warnings.warn(
        f"the selective scan falls back to plain torch on {device}, {slower} times slower than "
        f"with compiled kernels ({reasons})",
        RuntimeWarning,
        stacklevel=5,
    )


def describe_backends(device: str | None = None) -> tuple[BackendStatus, ...]:
    """Say for each backend and each device of this machine whether it would run and why (not).

    `device`: only that device type; by default the CPU and, where torch sees one, CUDA.
    """
    devices = [device] if device else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    found = []
    for kind in devices:
        request = Request(kind, torch.float32, 16, False)
        asked = os.environ.get(VARIABLE) or None
        chosen = asked
        for name in ORDER.get(kind, ("torch",)):
            reason = _why_not(name, request)
            if reason is None and chosen is None:
                chosen = name
        for name in (*ORDER.get(kind, ("torch",)), "reference"):
            reason = _why_not(name, request)
            text = reason or ("available" if name != chosen else "fastest that runs here")
            if name == asked:
                text = f"named by {VARIABLE}" + (f", but: {reason}" if reason else "")
            status = BackendStatus(kind, name, BACKENDS[name].version(), name == chosen, text)
            found.append(status)
    return tuple(found)
