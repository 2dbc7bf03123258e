"""Compare two encoders on what they have in common: seeds, and test clips where some were left out.

The common part of each encoder's runs is written as records of its own into a temporary folder, so
that intervals and tests are those of any other comparison. It is removed again.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mambabench.benchmarks.metrics import metric_of
from mambabench.errors import MambabenchError
from mambabench.files import atomic_write, canonical_json
from mambabench.report.runs import Group, Run
from mambabench.report.statistics.comparison import Comparison, compare
from mambabench.report.statistics.evidence import Evidence, gather
from mambabench.report.statistics.scoring import fold_score
from mambabench.report.versions import other_versions
from mambabench.store.records import read_predictions

__all__ = ["on_common_ground"]

FoldArrays = dict[str, Any]
_Clips = dict[str, list[str]]  # fold -> sorted names


def on_common_ground(
    comparisons: Sequence[Comparison],
    groups: Sequence[Group],
    evidence: dict[Group, Evidence],
    cache: Path | None,
) -> list[Comparison]:
    """Return the comparisons, those of unequal seeds or clips made on the common ones.

    `common` of such a comparison says on what; what still cannot be compared keeps a reason.
    """
    by_name = {(g.protocol, g.task, g.encoder): g for g in groups}
    result = []
    for one in comparisons:
        first, second = (by_name[one.protocol, one.task, name] for name in (one.encoder, one.other))
        made = one
        if one.p is None and _may_share(first, second, evidence):
            try:
                with tempfile.TemporaryDirectory(prefix="mambabench-") as folder:
                    made = _again(one, first, second, evidence, Path(folder), cache)
            except OSError as error:
                made = replace(one, reason=f"{one.reason}; no room to cut to the common: {error}")
        result.append(made)
    return result


def _may_share(one: Group, other: Group, evidence: dict[Group, Evidence]) -> bool:
    """Whether seeds or clips are all that keeps two groups from being compared."""
    a, b = evidence[one], evidence[other]
    if a.reason or b.reason or one.metric != other.metric or other_versions(one, other):
        return False
    return one.seeds != other.seeds or a.test_key != b.test_key


def _again(
    comparison: Comparison,
    one: Group,
    other: Group,
    evidence: dict[Group, Evidence],
    folder: Path,
    cache: Path | None,
) -> Comparison:
    seeds = sorted(set(one.seeds) & set(other.seeds))
    if not seeds:
        return replace(comparison, reason="no seed in common")
    said = [] if one.seeds == other.seeds else [_seeds(seeds)]
    pair = [_of_seeds(group, seeds) for group in (one, other)]
    try:
        if evidence[one].test_key != evidence[other].test_key:
            clips, text = _common_clips(pair[0], pair[1])
            said.append(text)
            pair = [_of_clips(group, clips, folder / str(side)) for side, group in enumerate(pair)]
        own = {group: gather(group, cache) for group in pair}
        (found,) = compare(pair, own, other.encoder, cache)
    except MambabenchError as error:
        return replace(comparison, reason=str(error))
    return replace(found, common=f"on the common {' and '.join(said)}")


def _seeds(seeds: Sequence[int]) -> str:
    names = ", ".join(map(str, seeds))
    return f"seed {names}" if len(seeds) == 1 else f"{len(seeds)} seeds ({names})"


def _of_seeds(group: Group, seeds: Sequence[int]) -> Group:
    return replace(group, runs=tuple(run for run in group.runs if run.record.seed in seeds))


def _common_clips(one: Group, other: Group) -> tuple[_Clips, str]:
    """Return the test clips of every fold that both have, with equal labels; and how many.

    MambabenchError where folds or labels differ or no clip is common to a fold.
    """
    a, b = (read_predictions(group.runs[0].path) for group in (one, other))
    folds = [sorted(f.fold for f in group.runs[0].record.folds) for group in (one, other)]
    if folds[0] != folds[1]:
        raise MambabenchError("different folds of test clips")
    clips: _Clips = {}
    for fold in folds[0]:
        places = [{str(n): i for i, n in enumerate(x[f"{fold}/clip"].tolist())} for x in (a, b)]
        common = sorted(set(places[0]) & set(places[1]))
        if not common:
            raise MambabenchError(f"no test clip of fold {fold!r} in common")
        name = f"{fold}/target"
        if name in a and name in b:
            rows = [x[name][[p[c] for c in common]] for x, p in zip((a, b), places, strict=True)]
            if not np.array_equal(rows[0], rows[1]):
                raise MambabenchError("different labels of the same test clips")
        clips[fold] = common
    n_common = len({name for names in clips.values() for name in names})
    totals = sorted(sum(f.n_test for f in g.runs[0].record.folds) for g in (one, other))
    return clips, f"{n_common} test clips of {totals[0]} and {totals[1]}"


def _of_clips(group: Group, clips: _Clips, folder: Path) -> Group:
    """Return the group with its runs cut to `clips`, their predictions in `folder`."""
    folder.mkdir()
    return replace(group, runs=tuple(_cut(run, clips, folder) for run in group.runs))


def _cut(run: Run, clips: _Clips, folder: Path) -> Run:
    arrays = read_predictions(run.path)
    kept: FoldArrays = {}
    scores = []
    for fold, names in clips.items():
        own = {k.removeprefix(f"{fold}/"): v for k, v in arrays.items() if k.startswith(f"{fold}/")}
        place = {str(name): i for i, name in enumerate(own["clip"].tolist())}
        rows = np.array([place[name] for name in names], np.int64)
        part = metric_of(run.record.metric).rows(own, rows)
        kept |= {f"{fold}/{name}": value for name, value in part.items()}
        scores.append(fold_score(run.record.metric, [part]).score)
    path = folder / f"seed-{run.record.seed:03d}.json"
    atomic_write(path.with_suffix(".npz"), _saving(kept))
    digest = hashlib.sha256(canonical_json([run.digest, clips])).hexdigest()
    record = replace(run.record, score=float(np.mean(scores)))
    return replace(run, record=record, path=path, digest=digest)


def _saving(arrays: FoldArrays) -> Callable[[Any], None]:
    return lambda file: np.savez(file, **arrays)
