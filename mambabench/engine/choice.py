"""Which engine a command asks for: ``local``, ``ray[:ADDRESS]`` or ``slurm[:KEY=VALUE,...]``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mambabench.engine.on_ray import RayEngine
from mambabench.engine.on_slurm import SlurmEngine, slurm_options
from mambabench.engine.processes import LocalEngine
from mambabench.engine.units import Engine, Spec
from mambabench.errors import MambabenchError, nearest_names

__all__ = [
    "ENGINES",
    "Elsewhere",
    "WantedEngine",
    "elsewhere",
    "engines_installed",
    "make_engine",
    "wanted_engine",
]

# name -> (package that it needs, extra that installs it)
ENGINES = {"local": ("", ""), "ray": ("ray", "ray"), "slurm": ("submitit", "slurm")}


@dataclass(frozen=True)
class WantedEngine:
    """An engine by name, and what stands after the colon."""

    name: str
    rest: str

    @property
    def is_local(self) -> bool:
        """Say whether work stays on this machine."""
        return self.name == "local"


def wanted_engine(text: str) -> WantedEngine:
    """Return the engine that `text` names; MambabenchError, with the remedy, for one that is not
    known or not installed."""
    name, _, rest = text.partition(":")
    if name not in ENGINES:
        near = nearest_names(name, ENGINES)
        raise MambabenchError(
            f"--engine {text!r} is not local, ray[:ADDRESS] or slurm[:KEY=VALUE,...]{near}"
        )
    if name == "local" and rest:
        raise MambabenchError(f"--engine {text!r}: local takes nothing after it")
    package, extra = ENGINES[name]
    if package and find_spec(package) is None:
        raise MambabenchError(
            f"--engine {name} needs {package}, which is not installed: "
            f'pip install "mambabench[{extra}]"'
        )
    if name == "slurm":
        slurm_options(rest)
    return WantedEngine(name, rest)


def engines_installed() -> dict[str, bool]:
    """Return engine -> whether what it needs is installed."""
    return {name: not p or find_spec(p) is not None for name, (p, _) in ENGINES.items()}


def make_engine(
    wanted: WantedEngine,
    out: Path,
    *,
    jobs: int,
    setups: Sequence[Spec] = ({},),
    on_gpu: bool = False,
    per_node: int | None = None,
    timeout_s: float | None = None,
    separate: bool = False,
) -> Engine:
    """Return the engine, told what it may use.

    `setups` are of local workers; `per_node` workers share each node's cores or GPUs. `jobs` bounds
    the workers of this machine: those of the local engine and of a Ray that is started here.
    """
    if wanted.name == "ray":
        return RayEngine(
            wanted.rest, jobs=jobs, on_gpu=on_gpu, per_node=per_node, timeout_s=timeout_s
        )
    if wanted.name == "slurm":
        return SlurmEngine(
            slurm_options(wanted.rest), out / "jobs", on_gpu=on_gpu, timeout_s=timeout_s
        )
    return LocalEngine(jobs, setups=setups, timeout_s=timeout_s, separate=separate)


@dataclass(frozen=True)
class Elsewhere:
    """An engine that is not this machine's processes, and what it may use."""

    wanted: WantedEngine
    out: Path  # where SLURM's jobs lie
    jobs: int  # workers of a Ray that is started here
    per_node: int | None = None

    def start(self, *, on_gpu: bool = False) -> Engine:
        """Return the engine; MambabenchError where it is not to be reached."""
        return make_engine(
            self.wanted, self.out, jobs=self.jobs, on_gpu=on_gpu, per_node=self.per_node
        )


def elsewhere(engine: str, out: Path, jobs: int, per_node: int | None) -> Elsewhere | None:
    """Return what `engine` names, None for local; MambabenchError as `wanted_engine`."""
    wanted = wanted_engine(engine)
    return None if wanted.is_local else Elsewhere(wanted, out, jobs, per_node)
