"""The SLURM job of a training: as many tasks as ranks, and a second start that goes on."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from mambabench.train.recipes import Recipe

__all__ = ["job_script"]

MOST_PER_NODE = 8


def job_script(recipe: Recipe, n_gpus: int, arguments: Sequence[str]) -> str:
    """Return an sbatch script that runs `mambabench` with `arguments`, one rank per GPU.

    Every node holds the same number, at most eight: the most that divides `n_gpus`. A cut-off job
    is put back into the queue and continues from its last state.
    """
    per_node = max(n for n in range(1, MOST_PER_NODE + 1) if n_gpus % n == 0)
    nodes = n_gpus // per_node
    words = [*arguments, *([] if "--resume" in arguments else ["--resume"])]
    return (
        "#!/bin/sh\n"
        f"#SBATCH --job-name={recipe.name}\n"
        f"#SBATCH --nodes={nodes} --ntasks-per-node={per_node} --gpus-per-node={per_node}\n"
        "#SBATCH --cpus-per-task=8 --requeue --open-mode=append\n"
        "export OMP_NUM_THREADS=1\n"
        f"srun mambabench {shlex.join(words)}\n"
    )
