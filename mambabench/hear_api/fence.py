"""Put back what other people's code changes of our process, and say where that code failed."""

from __future__ import annotations

import contextlib
import linecache
import os
import random
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["fenced", "last_lines", "place_of", "standard_streams", "whole"]

_OWN = str(Path(__file__).resolve().parents[1]) + os.sep
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2")
Undo = Callable[[], object]


@contextlib.contextmanager
def fenced(*, random_states: bool = True) -> Iterator[None]:
    """Run foreign code and put back working directory, environment, warning filters, streams,
    signal handlers, torch's defaults and threads and, with `random_states`, all generators.

    What it prints, loads or writes stays; what was closed or deleted cannot be put back.
    """
    undo = [*_process(), *_torch_defaults()]
    if random_states:
        undo += _generators()
    try:
        yield
    finally:
        for step in undo:
            step()


def _process() -> list[Undo]:
    try:
        folder: str | None = os.getcwd()
    except OSError:  # it was deleted under us
        folder = None
    environment = os.environb.copy()  # without decoding every value
    filters, show = warnings.filters[:], warnings.showwarning
    streams = (sys.stdin, sys.stdout, sys.stderr)
    hook, limit = sys.excepthook, sys.getrecursionlimit()

    def put_back() -> None:
        if folder is not None and (not _is_here(folder)):
            with contextlib.suppress(OSError):
                os.chdir(folder)
        if os.environb != environment:
            for key in set(os.environb) - set(environment):
                del os.environb[key]
            os.environb.update(environment)
        if warnings.filters != filters:
            warnings.resetwarnings()  # tells Python's cache too
            warnings.filters[:] = filters  # type: ignore[index]
        warnings.showwarning = show
        sys.stdin, sys.stdout, sys.stderr = streams
        sys.excepthook = hook
        if sys.getrecursionlimit() != limit:
            sys.setrecursionlimit(limit)

    return [put_back, *_signals()]


def _is_here(folder: str) -> bool:
    try:
        return os.getcwd() == folder
    except OSError:
        return False


def _signals() -> list[Undo]:
    """Handlers can be read and set by the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        return []
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = [(number, signal.getsignal(number)) for number in numbers]

    def put_back() -> None:
        for number, handler in before:
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)

    return [put_back]


def _torch_defaults() -> list[Undo]:
    import torch

    dtype, threads, gradients = (
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )
    precision = torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    device = torch.get_default_device()

    def put_back() -> None:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
        if torch.get_float32_matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)

    return [put_back]


def _generators() -> list[Undo]:
    import numpy as np
    import torch

    python, of_numpy, of_torch = (
        random.getstate(),
        np.random.get_state(),
        torch.random.get_rng_state(),
    )
    steps: list[Undo] = [
        lambda: random.setstate(python),
        lambda: np.random.set_state(of_numpy),
        lambda: torch.random.set_rng_state(of_torch),
    ]
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        of_cuda = torch.cuda.get_rng_state_all()
        steps.append(lambda: torch.cuda.set_rng_state_all(of_cuda))
    return steps


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Put back the descriptors 1 and 2, which an import can redirect below Python."""
    kept: list[tuple[int, int]] = []
    for number in (1, 2):
        with contextlib.suppress(OSError):
            kept.append((number, os.dup(number)))
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


# --- where it failed ---


def _foreign(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of other people's code, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [i for i, frame in enumerate(frames) if frame.filename.startswith(_OWN)]
    behind = frames[own[-1] + 1 :] if own else frames
    return [frame for frame in behind if not frame.filename.startswith("<frozen")]


def place_of(error: BaseException, folder: Path | None) -> str:
    """Return " (FILE, line N, in FUNCTION: SOURCE)" of the innermost frame below `folder`, else of
    the innermost that is no library's; empty where there is none.

    Of the file only its name is said: the text is kept with results, which know no folders.
    """
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        source = linecache.getline(error.filename, error.lineno).strip()
        return f" ({Path(error.filename).name}, line {error.lineno}: {source})"
    frames = _foreign(error)
    if not frames:
        return ""
    own = [f for f in frames if folder is not None and Path(f.filename).is_relative_to(folder)]
    plain = [f for f in frames if "site-packages" not in f.filename]
    frame = (own or plain or frames)[-1]
    source = f": {frame.line}" if frame.line else ""
    return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name}{source})"


def last_lines(error: BaseException, n: int = 3) -> str:
    """Return the last `n` frames of other people's code as Python prints them; maybe empty."""
    return "".join(traceback.format_list(_foreign(error)[-n:])).rstrip()


def whole(error: BaseException) -> str:
    """Return the whole traceback as Python prints it."""
    return "".join(traceback.format_exception(error)).rstrip()
