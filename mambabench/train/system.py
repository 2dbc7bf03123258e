"""What a trainable encoder system is, and how the verb finds it by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from mambabench.train.encoder_settings import SIZES, EncoderSettings
from mambabench.train.log import SentNames
from mambabench.train.loop import Tick, Work
from mambabench.train.ranks import Ranks

__all__ = ["ENCODER_SYSTEMS", "Call", "PreparedTraining", "System", "dimension", "find_system"]

ENCODER_SYSTEMS = ("ssam", "ssast", "ssamba", "aum")


@dataclass(frozen=True)
class Call:
    """What a run adds to the settings; nothing of it may change the result."""

    device: str = "cpu"
    ranks: Ranks = field(default_factory=Ranks)
    init: Path | None = None  # weights to start from (these do change the result, and are recorded)
    tick: Callable[[Tick], None] | None = None


@dataclass
class PreparedTraining:
    """One training, ready for the loop."""

    work: Work
    selection: str  # what the best weights are chosen on; "" where the last ones are taken
    clip_s: float  # seconds of audio in a training clip
    facts: Mapping[str, Any]  # for --dry-run and the record


class EncoderData(Protocol):
    """What `open_data` returns."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result must know."""

    @property
    def restricted(self) -> bool:
        """Whether results must not be shown."""

    @property
    def folds(self) -> tuple[Any, ...]:
        """The parts that are trained one after the other, each with a name."""


@dataclass(frozen=True)
class System:
    """An encoder family as training sees it."""

    name: str
    open_data: Callable[[Any, Sequence[str]], EncoderData]
    build: Callable[[Any, int], nn.Module]  # settings, number of classes -> an empty model
    prepare: Callable[[Any, EncoderData, Any, int, Path, Call], PreparedTraining]
    sent: Callable[[Any], SentNames]  # settings -> what project and numbers are called elsewhere
    run_name: Callable[[Any, str, int], str]  # settings, row, seed -> folder


def dimension(settings: EncoderSettings) -> int:
    """Return the width of the model."""
    return settings.embed_dim or SIZES[settings.size]


def find_system(name: str) -> System:
    """Return the system of `mambabench.train.systems.<name>`."""
    system: System = import_module(f"mambabench.train.systems.{name}").SYSTEM
    return system
