"""How the heads of a suite are trained: a recipe a task, which a protocol may shorten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mambabench.benchmarks.task import Task
from mambabench.errors import ProtocolError
from mambabench.probe.language_model import LanguageModel
from mambabench.probe.protocols import Protocol

__all__ = [
    "LEARNING_RATES",
    "HeadRecipe",
    "SuiteSettings",
    "recipe_of",
    "steps_of",
    "suite",
    "width_of",
]

LEARNING_RATES = tuple(10.0**-power for power in range(1, 8))  # the range its maintainers allow


@dataclass(frozen=True)
class HeadRecipe:
    """How one head is trained; a step is an update of the optimiser."""

    learning_rates: tuple[float, ...]
    total_steps: int
    evaluations: int  # on validation, evenly spread; ASV: checkpoints that are tested
    batch_size: int = 32  # clips of one backward pass
    accumulation: int = 1  # backward passes a step, each of its mean loss over their number
    balanced: bool = False  # sample with replacement, inversely to class counts
    width: int | None = None  # of recurrent heads; others are as wide as published
    shortened_rates: tuple[float, ...] | None = None  # instead, where a protocol shortens
    shortened_batch_size: int | None = None  # likewise

    def __post_init__(self) -> None:
        assert self.learning_rates


MOST_SHORTENED_EVALUATIONS = 20
_NARROWER = {1: 1, 10: 4, 100: 16}  # shortened protocols divide the width of recurrent heads too


@dataclass(frozen=True)
class SuiteSettings:
    """Settings of the families that follow a suite's recipes, each for the tasks of its kind."""

    suite: str  # its name: part of what identifies a record's inputs
    recipe: Callable[[Task], HeadRecipe]
    notes: Callable[[Task, bool], Sequence[str]]  # (task, clean) -> what a reader must know
    clean: bool = False  # nothing is selected on test data or trained speakers
    shorten: int = 1  # divides the published number of steps
    grid_version: int = 0  # raised when a shortened grid alone gives other heads
    # decodes letters a second time; its hash joins the inputs of the tasks that it concerns
    language_model: LanguageModel | None = field(default=None, repr=False, compare=False)


def suite(protocol: Protocol) -> SuiteSettings:
    """Return the protocol's settings; ProtocolError where they are another family's."""
    if not isinstance(protocol.settings, SuiteSettings):
        raise ProtocolError(
            f"protocol {protocol.name} names a family that follows recipes, but its settings are "
            f"{type(protocol.settings).__name__}, not SuiteSettings"
        )
    return protocol.settings


def recipe_of(task: Task, protocol: Protocol) -> HeadRecipe:
    """Return the recipe of a task; rates and batches for few steps where a protocol shortens."""
    settings = suite(protocol)
    recipe = settings.recipe(task)
    if settings.shorten > 1 and recipe.shortened_rates:
        size = recipe.shortened_batch_size or recipe.batch_size
        return replace(recipe, learning_rates=recipe.shortened_rates, batch_size=size)
    return recipe


def width_of(recipe: HeadRecipe, protocol: Protocol) -> int:
    """Return the width of a recurrent head: as published, or narrower where a protocol shortens."""
    assert recipe.width is not None
    return max(8, recipe.width // _NARROWER[suite(protocol).shorten])


def steps_of(recipe: HeadRecipe, protocol: Protocol) -> tuple[int, int]:
    """Return (total steps, steps between evaluations) under a protocol that may shorten.

    Recurrent heads decode validation clips one by one: few steps have fewer evaluations.
    """
    shorten = suite(protocol).shorten
    total = max(1, recipe.total_steps // shorten)
    evaluations = recipe.evaluations
    if recipe.width is not None and shorten > 1:
        evaluations = min(evaluations, MOST_SHORTENED_EVALUATIONS)
    return total, max(1, total // evaluations)
