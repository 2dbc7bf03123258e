"""Which of the results a report is of: chosen before anything is compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mambabench.errors import MambabenchError

__all__ = ["EVERYTHING", "Choice"]


@dataclass(frozen=True)
class Choice:
    """Globs of names, and how many seeds; empty chooses all."""

    tasks: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    seeds: int | None = None  # seeds 0 to n - 1, as `probe` has them

    def __post_init__(self) -> None:
        if self.seeds is not None and self.seeds < 1:
            raise MambabenchError(f"seeds is {self.seeds}; it must be at least 1")

    def __bool__(self) -> bool:
        """Say whether anything is left out."""
        return self != EVERYTHING

    def plain(self) -> dict[str, Any] | None:
        """Return the choice as JSON has it; None where it is of everything."""
        return asdict(self) if self else None

    def words(self) -> str:
        """Say in a sentence what the numbers are of; "" where that is everything."""
        parts = [
            f"{name}{'' if len(globs) == 1 else 's'} {', '.join(globs)}"
            for name, globs in (
                ("task", self.tasks),
                ("encoder", self.encoders),
                ("protocol", self.protocols),
            )
            if globs
        ]
        if self.seeds is not None:
            parts.append("seed 0" if self.seeds == 1 else f"seeds 0 to {self.seeds - 1}")
        return f"Only of these results: {'; '.join(parts)}." if parts else ""


EVERYTHING = Choice()
