"""Put everything that a report says together: rows, comparisons, overall scores, published rows."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from mambabench.engine.choice import Elsewhere
from mambabench.errors import EncoderError, nearest_names
from mambabench.report.beside import group_beside, language_models
from mambabench.report.catalogued import catalogued
from mambabench.report.choice import EVERYTHING, Choice
from mambabench.report.exchange.family_scores import family_scores
from mambabench.report.exchange.overall import overall_scores
from mambabench.report.exchange.published import published_beside
from mambabench.report.flags import flags_of, unsound
from mambabench.report.places import ranks_of
from mambabench.report.results import choose, collect, group_runs, warn_of
from mambabench.report.rows import Row, Summary
from mambabench.report.runs import Group, Run
from mambabench.report.statistics.clip_intervals import Units, clip_interval, far_seeds, units_note
from mambabench.report.statistics.common import on_common_ground
from mambabench.report.statistics.comparison import Comparison, compare
from mambabench.report.statistics.evidence import Evidence, gather
from mambabench.report.statistics.families import corrected, smallest_differences
from mambabench.report.statistics.intervals import tie_groups
from mambabench.report.statistics.seeds import metric_range, no_seed_interval, seed_interval
from mambabench.report.statistics.versus import versus
from mambabench.report.versions import flag_older
from mambabench.report.workers import OnStep, fill_cache, one_thread, verify_records

__all__ = ["OnStep", "summarise"]


def summarise(
    outs: Sequence[Path],
    *,
    baseline: str | None = None,
    choice: Choice = EVERYTHING,
    cache: Path | None = None,
    progress: OnStep | None = None,
    jobs: int | None = None,
    elsewhere: Elsewhere | None = None,
) -> Summary:
    """Read the output folders and compute every statistic.

    `baseline` compares all encoders with this one only (EncoderError where it has no results).
    What `choice` leaves out is left out before anything is compared, so that ranks, corrections and
    overall scores are those of what is shown (MambabenchError where that is nothing). `cache` is
    the folder of resampled scores; `jobs` processes read and compute, as many as there are cores
    where there is much to do and none are named: the digits are the same.
    `elsewhere` resamples and compares on another engine, with the same digits.
    Raises StoreError as `read_runs` does.
    """
    found = collect(outs, lambda paths: verify_records(paths, jobs, progress), cache)
    left_out = warn_of(found)
    runs = found.runs
    groups = group_runs(runs)
    if choice:
        groups = choose(groups, choice)
        runs = tuple(run for group in groups for run in group.runs)
    with one_thread(), _folder(cache) as kept:
        fill_cache(groups, baseline, kept, jobs=jobs, progress=progress, elsewhere=elsewhere)
        summary = _summary(runs, groups, baseline, kept, progress)
    refused = tuple(defect for group in groups for defect in group.defects)
    return replace(summary, defects=refused, left_out=left_out, choice=choice)


@contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    """Give the cache, or a temporary one where there is none."""
    if cache is not None:
        yield cache
        return
    with tempfile.TemporaryDirectory(prefix="mambabench-") as folder:
        yield Path(folder)


def _summary(
    runs: tuple[Run, ...],
    groups: Sequence[Group],
    baseline: str | None,
    cache: Path | None,
    progress: OnStep | None,
) -> Summary:
    encoders = sorted({group.encoder for group in groups})
    if baseline is not None and baseline not in encoders:
        raise EncoderError(
            f"--baseline {baseline!r}: no results of this encoder; there are "
            f"{', '.join(encoders)}{nearest_names(baseline, encoders)}"
        )
    groups = flag_older(groups)
    evidence: dict[Group, Evidence] = {}
    for number, group in enumerate(groups):
        if progress:
            progress("resampling", number, len(groups))
        evidence[group] = gather(group, cache)
    comparisons = compare(groups, evidence, baseline, cache)
    comparisons = corrected(on_common_ground(comparisons, groups, evidence, cache))
    rows = [_row(group, evidence[group]) for group in groups] + _missing(groups)
    rows = _rank(rows + _beehive(rows, groups, evidence), comparisons)
    rows.sort(key=lambda row: (row.protocol, row.task, row.encoder))
    placed = [row for row in rows if not unsound(row.flags)]
    beside = _beside(groups, cache)
    return Summary(
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        overall=(*overall_scores(placed), *family_scores(placed, groups)),
        published=published_beside((*rows, *beside)),
        baseline=baseline,
        runs=runs,
        versus=versus(comparisons, {row.metric: row.higher_is_better for row in rows}),
        ranks=ranks_of(placed, groups, evidence),
        warned=_warned(runs),
        beside=beside,
        catalogued=catalogued(groups),
    )


def _warned(runs: Sequence[Run]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return the warnings on clips, by encoder and task: those of the last run of each."""
    found = {(run.record.encoder, run.record.task): run.record.warnings for run in runs}
    return tuple((*names, lines) for names, lines in sorted(found.items()) if lines)


def _row(group: Group, evidence: Evidence) -> Row:
    scores = [run.record.score for run in group.runs]
    known = tuple(score for score in scores if score is not None)
    row = Row(
        encoder=group.encoder,
        task=group.task,
        metric=group.metric,
        higher_is_better=group.higher_is_better,
        protocol=group.protocol,
        n_seeds=len(group.runs),
        n_test=evidence.n_test or None,
        mean=None,
        std=None,
        ci95_low=None,
        ci95_high=None,
        boot_low=None,
        boot_high=None,
        reason=evidence.reason,
        seeds=group.seeds,
        source=group.runs[0].source,
        flags=flags_of(group.runs),
        pretraining_run=group.runs[0].pretraining_run,
        selected_on_test=any(
            fold.grid_point.get("selected_on") == "test"
            for run in group.runs
            for fold in run.record.folds
        ),
    )
    if len(known) < len(scores):
        return row
    row = _with_statistics(row, known, evidence)
    if evidence.units is None:
        return row
    return replace(row, n_units=evidence.units.n, clustered=evidence.units.clustered)


def _beside(groups: Sequence[Group], cache: Path | None) -> tuple[Row, ...]:
    """Return the rows of the scores beside the tasks' own, each with the model behind it."""
    found = []
    for group in groups:
        if (other := group_beside(group)) is None:
            continue
        row = _row(other, gather(other, cache))
        said = f"decoded with the language model {', '.join(language_models(group))}"
        found.append(replace(row, note="; ".join(filter(None, (row.note, said)))))
    return tuple(sorted(found, key=lambda row: (row.protocol, row.task, row.encoder)))


def _with_statistics(row: Row, scores: tuple[float, ...], evidence: Evidence) -> Row:
    """Fill in mean and intervals; what is undefined is said in `reason`, the rest in `note`."""
    seeds = seed_interval(row.metric, scores)
    mean = float(np.mean(scores))
    reasons = [row.reason] if row.reason else []
    notes = [note] if (note := far_seeds(row.seeds, scores)) else []
    clips, share = None, None
    if evidence.resampled is not None and evidence.units is not None:
        clips, share, said = clip_interval(row.metric, mean, evidence.resampled, evidence.units)
        if clips is None:
            reasons += said
        else:
            notes += [*said, *units_note(evidence.units, row.metric)]
    if seeds is None:
        reasons.append(no_seed_interval(len(scores)))
    lowest, highest = metric_range(row.metric)
    return replace(
        row,
        mean=mean,
        std=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        ci95_low=seeds.low if seeds else None,
        ci95_high=seeds.high if seeds else None,
        boot_low=max(clips.low, lowest) if clips else None,
        boot_high=min(clips.high, highest) if clips else None,
        boot_share=share,
        reason="; ".join(reasons) or None,
        note="; ".join(notes) or None,
        scores=scores,
    )


def _missing(groups: Sequence[Group]) -> list[Row]:
    """Return an empty row for every encoder and task of a protocol that has no record."""
    rows = []
    for protocol in sorted({group.protocol for group in groups}):
        own = [group for group in groups if group.protocol == protocol]
        there = {(group.encoder, group.task) for group in own}
        tasks = {group.task: group for group in own}
        for encoder, task in itertools.product({group.encoder for group in own}, tasks):
            if (encoder, task) in there:
                continue
            like = tasks[task]
            rows.append(
                Row(
                    encoder,
                    task,
                    like.metric,
                    like.higher_is_better,
                    protocol,
                    *(0, None, None, None, None, None, None, None),
                    reason="missing: no run record of this encoder, task and protocol",
                )
            )
    return rows


def _beehive(
    rows: Sequence[Row], groups: Sequence[Group], evidence: dict[Group, Evidence]
) -> list[Row]:
    """Return the mean of Beehive's two directories, seed by seed, beside their own rows."""
    first = "beehive_states_fold0-"
    by_name = {(g.encoder, g.identity, g.protocol, g.task): g for g in groups}
    found = []
    for one in groups:
        second = one.task.replace("_fold0-", "_fold1-", 1)
        other = by_name.get((one.encoder, one.identity, one.protocol, second))
        if one.task.startswith(first) and other is not None and one.seeds == other.seeds:
            found.append(_mean_row(one, other, evidence))
    return found


def _mean_row(one: Group, other: Group, evidence: dict[Group, Evidence]) -> Row:
    first, second = _row(one, evidence[one]), _row(other, evidence[other])
    joined = replace(
        first,
        task=one.task.replace("_fold0-", "_mean_of_folds-", 1),
        n_test=(first.n_test or 0) + (second.n_test or 0) or None,
        reason=evidence[one].reason or evidence[other].reason,
        n_units=None,
        flags=flags_of((*one.runs, *other.runs)),
    )
    if not first.scores or not second.scores:
        return joined
    scores = tuple((a + b) / 2 for a, b in zip(first.scores, second.scores, strict=True))
    return _with_statistics(joined, scores, _mean_evidence(evidence[one], evidence[other]))


def _mean_evidence(one: Evidence, other: Evidence) -> Evidence:
    """Return the evidence on the mean of two scores on clips of their own."""
    a, b = one.units, other.units
    if one.resampled is None or other.resampled is None or a is None or b is None:
        return replace(one, resampled=None, units=None)
    units = Units(
        n=a.n + b.n,
        n_clips=a.n_clips + b.n_clips,
        effective=a.effective + b.effective,
        n_strata=a.n_strata + b.n_strata,
        clustered=a.clustered and b.clustered,
        fewest=min((n for n in (a.fewest, b.fewest) if n is not None), default=None),
    )
    return replace(one, resampled=(one.resampled + other.resampled) / 2, units=units)


def _rank(rows: Sequence[Row], comparisons: Sequence[Comparison]) -> list[Row]:
    """Mark the best rows of each task and give tie groups to the encoders that were all compared.

    Equal means are all best; a changed record's is none.
    """
    smallest = smallest_differences(comparisons)
    tests_of: dict[tuple[str, str], dict[frozenset[str], float]] = {}
    untold: dict[tuple[str, str], set[frozenset[str]]] = {}
    for c in comparisons:
        if c.p_holm is not None:
            pairs = tests_of.setdefault((c.protocol, c.task), {})
            pairs[frozenset((c.encoder, c.other))] = c.p_holm
            if c.too_few:
                untold.setdefault((c.protocol, c.task), set()).add(frozenset((c.encoder, c.other)))
    ranked: list[Row] = []
    for _, members in itertools.groupby(
        sorted(rows, key=lambda row: (row.protocol, row.task)),
        key=lambda row: (row.protocol, row.task),
    ):
        own = list(members)
        known = sorted(
            (row for row in own if row.mean is not None),
            key=lambda row: (
                -(row.mean or 0) if row.higher_is_better else row.mean or 0,
                row.encoder,
            ),
        )
        place = (own[0].protocol, own[0].task)
        names = [row.encoder for row in known]
        letters = _letters(names, tests_of.get(place, {}), untold.get(place, set()))
        sound = [row for row in known if not unsound(row.flags)]
        best = sound[0].mean if len(known) > 1 and sound else None
        for row in own:
            top = best is not None and row in sound and row.mean == best
            overlaps = top and any(_overlap(row, other) for other in known if other is not row)
            ranked.append(
                replace(
                    row,
                    ties=letters.get(row.encoder, ""),
                    best=top,
                    overlaps=overlaps,
                    smallest_difference=smallest.get((row.protocol, row.task)),
                )
            )
    return ranked


def _letters(
    names: Sequence[str],
    tests: Mapping[frozenset[str], float | None],
    untold: set[frozenset[str]],
) -> dict[str, str]:
    """Tie groups of the encoders that were compared with every other one that was compared."""
    compared = [name for name in names if any(name in pair for pair in tests)]
    complete = all(frozenset(pair) in tests for pair in itertools.combinations(compared, 2))
    if len(compared) < 2 or not complete:
        return {}
    differ = {pair for pair, p in tests.items() if p is not None and p < 0.05}
    return tie_groups(compared, differ, untold)


def _overlap(one: Row, other: Row) -> bool:
    """Whether the wider kind of interval that both have overlaps; unknown counts as overlapping."""
    for low, high in (("boot_low", "boot_high"), ("ci95_low", "ci95_high")):
        limits = [getattr(one, low), getattr(one, high), getattr(other, low), getattr(other, high)]
        if None not in limits:
            return bool(limits[0] <= limits[3] and limits[2] <= limits[1])
    return True
