"""The unit of a report for workers that do not see the output folder: its files travel both ways.

What a worker computes comes back as the files of its cache, and is kept in the cache of who asked.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.engine.choice import Elsewhere
from mambabench.engine.scratch import scratch_folder
from mambabench.engine.units import Shared, Spec, Unit, resolve_function, results_of
from mambabench.errors import StoreError
from mambabench.files import write_bytes
from mambabench.report.cache import keep

__all__ = ["compute_elsewhere", "work_away"]


def compute_elsewhere(
    elsewhere: Elsewhere,
    function: str,
    units: Sequence[Spec],
    cache: Path,
    on_report: Callable[[Any], None],
) -> Iterator[int]:
    """Do the units, specs of `mambabench.report.workers`, and fill the cache with what comes back.

    Yields the index of each as it is done. Raises MambabenchError for one that is lost, StoreError
    where an engine whose workers share the output folder cannot write there.
    """
    with closing(elsewhere.start()) as engine:
        try:
            if engine.shares_out:
                todo = [Unit(unit) for unit in units]
            else:
                todo = [Unit({**u, "function": function}, _files(u)) for u in units]
                function = f"{__name__}:work_away"
            for index, made in results_of(engine, function, todo, on_report=on_report):
                for name, data in (made or {}).items():
                    _keep(cache / name, data)
                yield index
        except OSError as error:
            raise StoreError(
                f"--engine {elsewhere.wanted.name}: cannot write {elsewhere.out / 'jobs'}: "
                f"{error.strerror or error}; free some space, or leave --engine out"
            ) from error


def _keep(file: Path, data: Any) -> None:
    keep(lambda: write_bytes(file, memoryview(data), durable=False))  # type: ignore[arg-type]


def _files(unit: Spec) -> Shared:
    """Return the records and predictions of a unit, read when it is given out."""
    runs = [run for group in unit["groups"] for run in group["runs"]]

    def load() -> dict[str, Any]:
        found = {}
        for name, _ in runs:
            for path in (Path(name), Path(name).with_suffix(".npz")):
                with suppress(OSError):  # the worker misses it, and leaves its group out
                    found[str(path)] = np.fromfile(path, np.uint8)
        return found

    return Shared(hashlib.sha256(repr(runs).encode()).hexdigest(), load)


def work_away(unit: Spec, report: Callable[[Any], None]) -> dict[str, Any]:
    """Do ``unit["function"]`` on files of one's own; return name -> bytes of the cache's files."""
    with scratch_folder("report") as scratch:
        cache = scratch / "cache"
        cache.mkdir()
        groups = []
        for i, group in enumerate(unit["groups"]):
            runs = []
            for name, digest in group["runs"]:
                here = scratch / str(i) / Path(name).name
                for path in (Path(name), Path(name).with_suffix(".npz")):
                    if str(path) in unit["shared"]:
                        write_bytes(
                            here.with_suffix(path.suffix),
                            memoryview(unit["shared"][str(path)]),  # type: ignore[arg-type]
                            durable=False,
                        )
                runs.append([str(here), digest])
            groups.append({**group, "runs": runs})
        own = {"baseline": unit["baseline"], "cache": str(cache), "groups": groups}
        resolve_function(unit["function"])(own, report)
        return {path.name: np.fromfile(path, np.uint8) for path in sorted(cache.iterdir())}
