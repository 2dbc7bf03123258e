"""How the head of each SUPERB task is trained: the published numbers, and a default per kind.

Source: s3prl 0.4.18, the configurations of its downstreams; SUPERB (Yang et al. 2021), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.task import Task
from mambabench.probe.protocols import Protocol

__all__ = ["BY_KIND", "LEARNING_RATES", "RECIPES", "Recipe", "recipe_of", "steps_of"]

LEARNING_RATES = tuple(10.0**-power for power in range(1, 8))  # the range its maintainers allow


@dataclass(frozen=True)
class Recipe:
    """How one head is trained; a step is an update of the optimiser."""

    learning_rates: tuple[float, ...]
    total_steps: int
    evaluations: int  # on validation, evenly spread; ASV: checkpoints that are tested
    batch_size: int = 32  # clips of one backward pass
    accumulation: int = 1  # backward passes a step, each of its mean loss over their number
    balanced: bool = False  # sample with replacement, inversely to class counts

    def __post_init__(self) -> None:
        assert self.learning_rates


# frames cost more than means: of PR's and ASV's rates the published one leads
RECIPES: dict[str, Recipe] = {
    "KS": Recipe(LEARNING_RATES, 200_000, 40, balanced=True),
    "IC": Recipe(LEARNING_RATES, 200_000, 40),
    "SID": Recipe(LEARNING_RATES, 200_000, 40),
    "ER": Recipe(LEARNING_RATES, 30_000, 30),
    "PR": Recipe((1e-2, 1e-3), 100_000, 100, batch_size=16, accumulation=2),
    "ASV": Recipe((1e-4,), 200_000, 10, batch_size=50),
}
BY_KIND = {"multiclass": "IC", "slots": "IC", "sequence": "PR", "trials": "ASV"}


def recipe_of(task: Task) -> Recipe:
    """Return the recipe of a SUPERB task, of another task that of its kind."""
    known = TASKS.get(task.name)
    return RECIPES[known.superb_name if known else BY_KIND[task.prediction_type]]


def steps_of(recipe: Recipe, protocol: Protocol) -> tuple[int, int]:
    """Return (total steps, steps between evaluations) under a preset that may shorten."""
    total = max(1, recipe.total_steps // protocol.shorten)
    return total, max(1, total // recipe.evaluations)
