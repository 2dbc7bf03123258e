"""What this machine is and will use, and why: for `mambabench info` and beside every result."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

__all__ = ["info", "provenance"]

_PACKAGES = (
    "mambabench",
    "torch",
    "numpy",
    "scipy",
    "pandas",
    "numba",
    "llvmlite",
    "soundfile",
    "soxr",
    "scikit-learn",
    "safetensors",
    "triton",
    "mamba-ssm",
    "transformers",
    "matplotlib",
)
# what a faster precision needs of a CPU, by the kernel's flag names
_CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")

Json = dict[str, object]


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


@lru_cache(maxsize=1)
def _cpu() -> tuple[str, tuple[str, ...]]:
    """Return the processor's name and those of its flags that matter here."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags.update(value.split())
                break
    return name, tuple(flag for flag in _CPU_FLAGS if flag in flags)


@lru_cache(maxsize=1)
def _git_commit() -> str | None:
    """Return the commit of the checkout that this package lies in, None when installed."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError):
        return None


def provenance() -> Json:
    """Return what is recorded beside a result: versions, hardware, commit. JSON-able."""
    name, flags = _cpu()
    return {
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": name,
        "cpu_flags": list(flags),
        "cores": usable_cores(),
        "memory_gib": _memory_gib(),
        "versions": _versions(),
    }
