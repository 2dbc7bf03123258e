"""What this machine is and will use, and why: for `mambabench info` and beside every result."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from mambabench.engine.choice import engines_installed

__all__ = ["info", "provenance", "usable_cores"]

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

JsonObject = dict[str, object]


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


def provenance() -> JsonObject:
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


def _devices() -> JsonObject:
    import torch

    found: JsonObject = {"cpu": {"cores": usable_cores(), "memory_gib": _memory_gib()}}
    if not torch.cuda.is_available():
        reason = "torch has no CUDA build" if torch.version.cuda is None else "no CUDA device seen"
        return found | {"cuda": {"available": False, "reason": reason}}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = {
            "available": True,
            "name": properties.name,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
        }
    return found


def _scan_backends() -> JsonObject:
    from mambabench.models.scan import describe_backends

    return {
        f"{status.device}: {status.name}": {
            "chosen": status.chosen,
            "version": status.version or None,
            "reason": status.reason,
        }
        for status in describe_backends()
    }


def _precisions() -> JsonObject:
    flags = set(_cpu()[1])
    fast_bf16 = bool(flags & {"avx512_bf16", "amx_bf16"})
    fast_int8 = bool(flags & {"avx512_vnni", "amx_int8"})
    return {
        "fp32": {"default": True, "reason": "equal to the published encoders"},
        "bf16": {
            "default": False,
            "reason": "this CPU computes it fast"
            if fast_bf16
            else "this CPU emulates it: slower than fp32",
        },
        "int8": {
            "default": False,
            "reason": "this CPU computes it fast"
            if fast_int8
            else "this CPU has no int8 dot products: little or no gain",
        },
    }


def info() -> JsonObject:
    """Return what this machine will use and why. The twin of ``mambabench info --json``.

    Keys: ``schema`` ("mambabench.info/1"), the fields of `provenance` (git_commit, python,
    platform, cpu, cpu_flags, cores, memory_gib, versions), ``devices``, ``scan`` (every backend of
    every device: chosen, version, reason), ``precision``, ``jobs`` (default number of workers),
    ``engines`` (what ``--engine`` can be: local, ray, slurm, and whether it is installed),
    ``environment`` (the variables that mambabench reads, null where unset).
    """
    variables = (
        "MAMBABENCH_SCAN_BACKEND",
        "MAMBABENCH_OFFLINE",
        "MAMBABENCH_WEIGHTS",
        "MAMBABENCH_ENVIRONMENTS",
        "PT_MAMBA_MODEL_DIR",
        "NUMBA_CACHE_DIR",
    )
    return {
        "schema": "mambabench.info/1",
        **provenance(),
        "devices": _devices(),
        "scan": _scan_backends(),
        "precision": _precisions(),
        "jobs": usable_cores(),
        "engines": engines_installed(),
        "environment": {name: os.environ.get(name) for name in variables},
    }
