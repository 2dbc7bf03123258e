"""Compute resampled scores and tests on several processes, a task each; they answer by the cache.

What a process computes lies in the cache under the hash of its content, where the report finds it
as if an earlier one had left it: the digits do not depend on the number of processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mambabench.benchmarks.metrics import metric_of
from mambabench.benchmarks.metrics.metric import Ranked
from mambabench.engine.choice import Elsewhere
from mambabench.engine.processes import Report, run_units
from mambabench.engine.units import Spec
from mambabench.provenance import usable_cores
from mambabench.report.away import compute_elsewhere
from mambabench.report.checked import verified
from mambabench.report.runs import Group, Run
from mambabench.report.statistics.comparison import compare
from mambabench.report.statistics.evidence import gather, is_cached
from mambabench.store.records import parse_record

__all__ = ["fill_cache", "n_jobs_for", "one_thread", "verify_records"]

OnStep = Callable[[str, int, int], None]  # what, done, of how many
_WORTH_IT = 50_000_000  # bytes of predictions from which processes of their own pay
_RANKED_COST = 8  # of a metric of ranks beside another, on predictions of the same size
_PART = 40  # records that are verified as one unit


def n_jobs_for(files: Sequence[Path], jobs: int | None) -> int:
    """Return how many processes to read the predictions `files` with; `jobs` if that is given."""

    if jobs is not None:
        return jobs
    return usable_cores() if sum(map(_size, files)) > _WORTH_IT else 1


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep matrix products to one thread: how they are split would show in the last digit."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield


def verify_records(
    paths: Sequence[Path], jobs: int | None, progress: OnStep | None
) -> frozenset[Path]:
    """Return those of the records at `paths` that hold against their hashes and predictions.

    Nothing is said of the others: they are to be looked at one by one.
    """
    n_jobs = n_jobs_for([path.with_suffix(".npz") for path in paths], jobs)
    parts = [paths[start : start + _PART] for start in range(0, len(paths), _PART)]
    if n_jobs < 2 or len(parts) < 2:
        return frozenset()
    units: list[Spec] = [{"paths": [str(path) for path in part]} for part in parts]
    held: set[Path] = set()
    done = 0
    name = f"{__name__}:verify_unit"
    for index, holds in run_units(name, units, jobs=min(n_jobs, len(units))):
        held.update(path for path, good in zip(parts[index], holds, strict=True) if good)
        done += len(parts[index])
        if progress:
            progress("verifying", done, len(paths))
    return frozenset(held)


def verify_unit(unit: Spec, report: Report) -> list[bool]:
    """Say of every record of a unit whether it holds."""
    with one_thread():
        return [verified(Path(path)) for path in unit["paths"]]


def fill_cache(
    groups: Sequence[Group],
    baseline: str | None,
    cache: Path,
    *,
    jobs: int | None,
    progress: OnStep | None,
    elsewhere: Elsewhere | None = None,
) -> None:
    """Compute what the cache lacks of the groups' evidence and tests, the dearest tasks first.

    `elsewhere` is an engine other than processes of this machine, which does all of it.
    """
    by_task: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        if _complete(group):
            by_task.setdefault((group.protocol, group.task), []).append(group)
    todo = [own for own in by_task.values() if not all(is_cached(one, cache) for one in own)]
    files = [run.path.with_suffix(".npz") for own in todo for one in own for run in one.runs]
    n_jobs = min(n_jobs_for(files, jobs), len(todo))
    if not todo or (elsewhere is None and n_jobs < 2):
        return
    todo.sort(key=_cost, reverse=True)
    units = [_unit(own, baseline, cache) for own in todo]
    total = sum(map(len, todo))
    n_done = 0

    def one_more(_: Any) -> None:
        nonlocal n_done
        n_done += 1
        if progress:
            progress("resampling", n_done, total)

    name = f"{__name__}:work_unit"
    finished: Iterable[Any]
    if elsewhere is None:
        finished = run_units(name, units, jobs=n_jobs, on_report=one_more)
    else:
        finished = compute_elsewhere(elsewhere, name, units, cache, one_more)
    for n_tasks, _ in enumerate(finished, 1):
        if progress:
            progress("comparing", n_tasks, len(todo))


def _complete(group: Group) -> bool:
    return all(
        run.source == "mambabench"
        and run.has_predictions
        and run.record.score is not None
        and not run.defects
        for run in group.runs
    )


def _cost(groups: Sequence[Group]) -> int:
    size = sum(_size(run.path.with_suffix(".npz")) for one in groups for run in one.runs)
    ranked = isinstance(metric_of(groups[0].metric).statistic, Ranked)
    return size * (_RANKED_COST if ranked else 1)


def _unit(groups: Sequence[Group], baseline: str | None, cache: Path) -> Spec:
    return {
        "baseline": baseline,
        "cache": str(cache.absolute()),
        "groups": [
            {
                "name": [group.encoder, group.identity, group.task, group.protocol],
                "runs": [[str(run.path.absolute()), run.digest] for run in group.runs],
            }
            for group in groups
        ],
    }


def work_unit(unit: Spec, report: Report) -> None:
    """Gather the evidence of every group of a task, and test every pair of them."""
    cache = Path(unit["cache"])
    with one_thread():
        groups = [found for one in unit["groups"] if (found := _group(one)) is not None]
        evidence = {}
        for group in groups:
            evidence[group] = gather(group, cache)
            report(None)
        compare(groups, evidence, unit["baseline"], cache)


def _group(one: dict[str, Any]) -> Group | None:
    """Read a group's records again; None where one is no longer what it was."""
    runs = []
    for name, digest in one["runs"]:
        path = Path(name)
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        record = parse_record(path, data, check=False)
        runs.append(Run(record, path, digest, True, "mambabench"))
    encoder, identity, task, protocol = one["name"]
    return Group(encoder, identity, task, protocol, tuple(runs))
