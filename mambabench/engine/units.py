"""What every engine runs, and what it answers: one small face for processes, Ray and SLURM.

A unit is a function by name ("module:name") and a JSON spec: ``name(spec, report)`` does it, and
doing it twice is doing it once. An engine draws units as it gives them out, answers in any order,
and stops what is in hand when its iterator is closed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import mambabench.errors
from mambabench.errors import MambabenchError

__all__ = [
    "MOST_ATTEMPTS",
    "Crew",
    "Engine",
    "Lost",
    "Shared",
    "Spec",
    "Unit",
    "answered",
    "resolve_function",
    "results_of",
    "tell_error",
    "told_error",
]

MOST_ATTEMPTS = 3  # times that a unit is begun before it counts as lost
Spec = dict[str, Any]  # JSON-able


@dataclass(frozen=True)
class Shared:
    """What units read that do not see the output folder: sent once, read by many."""

    key: str
    load: Callable[[], Any]


@dataclass(frozen=True)
class Unit:
    """One piece of work."""

    spec: Spec
    shared: Shared | None = None  # given to the function as ``spec["shared"]``


@dataclass(frozen=True)
class Lost:
    """A unit whose worker died or hung as often as it was begun."""

    reason: str  # "a worker process ended with signal 9 ..."


@dataclass(frozen=True)
class Crew:
    """Who works at the moment."""

    nodes: int
    workers: int


class Engine(Protocol):
    """Where units run."""

    shares_out: bool  # workers write below the output folder; else the one who asked does

    def run(
        self,
        function: str,
        units: Iterable[Unit],
        *,
        attempts: int = MOST_ATTEMPTS,
        on_report: Callable[[Any], None] = ...,
        on_crew: Callable[[Crew], None] = ...,
    ) -> Iterator[tuple[int, Any]]:
        """Yield (index of the unit, what the function returned), in any order.

        In place of a result stands the MambabenchError that the unit raised, or `Lost`. Raises
        RuntimeError, with its traceback, where a unit raised anything else.
        """
        ...

    def close(self) -> None:
        """Let go of what outlives a run."""
        ...


def results_of(
    engine: Engine,
    function: str,
    units: Iterable[Unit],
    *,
    on_report: Callable[[Any], None] = lambda report: None,
) -> Iterator[tuple[int, Any]]:
    """Yield (index, result) of units; the first that fails or is lost is raised."""
    results = engine.run(function, units, on_report=on_report)
    with closing(results):  # type: ignore[type-var]
        for index, result in results:
            if isinstance(result, MambabenchError):
                raise result
            if isinstance(result, Lost):
                raise MambabenchError(
                    f"{result.reason}; the same command continues where it stopped"
                )
            yield index, result


def resolve_function(function: str) -> Callable[[Spec, Callable[[Any], None]], Any]:
    """Return the function that "module:name" means."""
    module, _, name = function.partition(":")
    call: Callable[[Spec, Callable[[Any], None]], Any] = getattr(import_module(module), name)
    return call


def tell_error(error: MambabenchError) -> dict[str, str]:
    """Return an error as JSON, for another process."""
    notes = "\n".join(getattr(error, "__notes__", ()))
    told = {"error": type(error).__name__, "text": str(error)}
    return {**told, "notes": notes, "traceback": error.traceback}


def answered(function: str, spec: Spec, report: Callable[[Any], None]) -> dict[str, Any]:
    """Do a unit for another process: {"result"}, or its error as `told_error` reads it.

    Whatever a provider raises is told with its traceback, and raised again by who asked.
    """
    try:
        return {"result": resolve_function(function)(spec, report)}
    except BrokenPipeError:  # nobody listens any more
        raise
    except MambabenchError as error:
        return tell_error(error)
    except Exception:
        return {"error": "", "text": traceback.format_exc()}


def told_error(answer: dict[str, str]) -> MambabenchError:
    """Return the error that another process told; RuntimeError is raised for what is no error of
    this package."""
    kind = getattr(mambabench.errors, answer["error"], None)
    if kind is None:
        kind = {c.__name__: c for c in _subclasses(MambabenchError)}.get(answer["error"])
    if kind is None:
        raise RuntimeError(f"a worker failed:\n{answer['text']}")
    error = kind(answer["text"])
    assert isinstance(error, MambabenchError)
    error.traceback = answer.get("traceback", "")
    if answer.get("notes"):
        error.add_note(answer["notes"])
    return error


def _subclasses(kind: type[MambabenchError]) -> Iterator[type[MambabenchError]]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
