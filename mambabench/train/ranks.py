"""The processes of one training: who they are, and the few sums they share."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from mambabench.errors import ProtocolError

__all__ = ["Ranks", "find_ranks", "joined"]


@dataclass(frozen=True)
class Ranks:
    """This process among the `world` that train together; alone it does nothing extra."""

    rank: int = 0
    world: int = 1
    local: int = 0  # place on this machine: which GPU

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of all ranks into each; a parameter without one anywhere keeps None."""
        if self.world == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        present = torch.tensor([float(p.grad is not None) for p in trained])
        present = self._sum(present.to(trained[0].device))
        for group in _by_type(trained):
            flat = torch.cat(
                [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in group]
            )
            dist.all_reduce(flat)
            for p, part in zip(group, torch.split(flat, [p.numel() for p in group]), strict=True):
                p.grad = part.view_as(p).clone()
        for p, count in zip(trained, present.tolist(), strict=True):
            if not count:
                p.grad = None

    def _sum(self, values: torch.Tensor) -> torch.Tensor:
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def total(self, values: Sequence[float], device: str = "cpu") -> list[float]:
        """Return the sums over all ranks, in float64."""
        if self.world == 1:
            return list(values)
        return self._sum(torch.tensor(values, dtype=torch.float64, device=device)).tolist()

    def total_array(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of an array over all ranks."""
        return self._sum(values)

    def from_first(self, value: Any) -> Any:
        """Return what the first rank has; plain Python values."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def gathered(self, value: Any) -> list[Any]:
        """Return every rank's value, in their order; plain Python values."""
        held = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(held, value)
        return held

    def all_agree(self, flag: bool, device: str = "cpu") -> bool:
        """Tell whether `flag` holds on every rank."""
        return self.total([float(flag)], device)[0] == self.world

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.world > 1:
            dist.barrier()


def _by_type(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    groups: dict[torch.dtype, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.dtype, []).append(parameter)
    return list(groups.values())


def find_ranks(environment: Mapping[str, str] | None = None) -> Ranks:
    """Return what torchrun's or, within srun, SLURM's variables say; one process without them."""
    env = os.environ if environment is None else environment
    if "RANK" in env and "WORLD_SIZE" in env:
        return Ranks(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0)))
    if int(env.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        n, local = int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_LOCALID", 0))
        return Ranks(int(env["SLURM_PROCID"]), n, local)
    return Ranks()


def _meeting_point(env: Mapping[str, str]) -> dict[str, str]:
    """Return MASTER_ADDR and MASTER_PORT: as given, or the first node of a SLURM step."""
    nodes = env.get("SLURM_STEP_NODELIST", env.get("SLURM_NODELIST", "127.0.0.1"))
    first = re.sub(r"\[(\d+)[^\]]*\].*", r"\1", nodes).split(",")[0]
    port = 20000 + int(env.get("SLURM_JOB_ID", 0)) % 20000
    return {
        "MASTER_ADDR": env.get("MASTER_ADDR", first),
        "MASTER_PORT": env.get("MASTER_PORT", str(port)),
    }


@contextmanager
def joined(ranks: Ranks, device: str) -> Iterator[Ranks]:
    """Form the process group of `ranks` for the time of the block: nccl on GPUs, gloo on CPUs."""
    if ranks.world == 1:
        yield ranks
        return
    meeting = _meeting_point(os.environ)
    address = f"tcp://{meeting['MASTER_ADDR']}:{meeting['MASTER_PORT']}"
    # torchrun keeps a store of its own at that address
    method = "env://" if "MASTER_ADDR" in os.environ else address
    try:
        dist.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo",
            init_method=method,
            rank=ranks.rank,
            world_size=ranks.world,
        )
    except (RuntimeError, ValueError) as error:
        raise ProtocolError(
            f"rank {ranks.rank} of {ranks.world} could not join the others at {address}: {error}"
        ) from error
    try:
        yield ranks
    finally:
        dist.destroy_process_group()
