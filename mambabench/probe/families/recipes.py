"""How the head of each SUPERB task is trained: the published numbers, and a default per kind.

Source: s3prl 0.4.18, the configurations of its downstreams; SUPERB (Yang et al. 2021), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.task import Task
from mambabench.probe.protocols import Protocol

__all__ = ["BY_KIND", "LEARNING_RATES", "RECIPES", "Recipe", "recipe_of", "steps_of", "width_of"]

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
    width: int | None = None  # of recurrent heads; others are as wide as published
    shortened_rates: tuple[float, ...] | None = None  # instead, where a preset shortens
    shortened_batch_size: int | None = None  # likewise

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
    # a slice of 32 is two batches of 16; few steps need larger rates
    "ASR": Recipe((1e-4,), 200_000, 100, width=1024, shortened_rates=(3e-3,)),
    "SF": Recipe(
        (1e-4,), 200_000, 100, width=1024, shortened_rates=(3e-3,), shortened_batch_size=16
    ),
    "SD": Recipe((1e-4,), 30_000, 60, 8, 4, width=512, shortened_rates=(5e-3,)),
}
BY_KIND = {
    "multiclass": "IC",
    "slots": "IC",
    "sequence": "PR",
    "trials": "ASV",
    "text": "ASR",
    "slot_text": "SF",
    "diarization": "SD",
}
MOST_SHORTENED_EVALUATIONS = 20
_NARROWER = {1: 1, 10: 4, 100: 16}  # shortened presets divide the width of recurrent heads too


def recipe_of(task: Task, protocol: Protocol | None = None) -> Recipe:
    """Return the recipe of a SUPERB task, of another task that of its kind.

    With a preset that shortens, learning rates and batches are those for few steps.
    """
    known = TASKS.get(task.name)
    recipe = RECIPES[known.superb_name if known else BY_KIND[task.prediction_type]]
    if protocol is not None and protocol.shorten > 1 and recipe.shortened_rates:
        size = recipe.shortened_batch_size or recipe.batch_size
        return replace(recipe, learning_rates=recipe.shortened_rates, batch_size=size)
    return recipe


def width_of(recipe: Recipe, protocol: Protocol) -> int:
    """Return the width of a recurrent head: as published, or narrower where a preset shortens."""
    assert recipe.width is not None
    return max(8, recipe.width // _NARROWER[protocol.shorten])


def steps_of(recipe: Recipe, protocol: Protocol) -> tuple[int, int]:
    """Return (total steps, steps between evaluations) under a preset that may shorten.

    Recurrent heads decode validation clips one by one: few steps have fewer evaluations.
    """
    total = max(1, recipe.total_steps // protocol.shorten)
    evaluations = recipe.evaluations
    if recipe.width is not None and protocol.shorten > 1:
        evaluations = min(evaluations, MOST_SHORTENED_EVALUATIONS)
    return total, max(1, total // evaluations)
