"""How the cores and GPUs of a node of Ray are shared by its workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Share"]


@dataclass(frozen=True)
class Share:
    """What of a node each worker has."""

    on_gpu: bool
    per_node: int | None

    def of(self, node: dict[str, Any]) -> tuple[int, dict[str, float]]:
        """Return how many workers a node has, and the resources of each."""
        cpus = float(node["Resources"].get("CPU", 0.0))
        gpus = float(node["Resources"].get("GPU", 0.0))
        whole = int(gpus if self.on_gpu else cpus)
        n = whole if self.per_node is None else (self.per_node if whole else 0)
        if n == 0:
            return 0, {}
        given = {"num_cpus": min(1.0, cpus / n)}
        if self.on_gpu:
            given["num_gpus"] = _fraction(gpus, n)
        return n, given


def _fraction(gpus: float, n: int) -> float:
    """Return the GPUs of one of `n` workers: whole ones, or an even part of one."""
    share = gpus / n
    return float(int(share)) if share >= 1 else int(share * 1e4) / 1e4
