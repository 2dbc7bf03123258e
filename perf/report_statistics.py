"""Simulate what the report's intervals cover and how often its tests reject a true null.

    python perf/report_statistics.py [--sets 1000] [--intervals 600] [--only NAME] [--results DIR]

Every number goes through written records and the summary that `mambabench.report` makes of them
(its files and plots are not written): each set is a task of its own with per-clip predictions of
one seed. Tests: two encoders of equal skill that find the same clips hard. Intervals: one encoder,
whose expected score on new clips is known (mAP and others: the expected score of test sets of the
same size, from 4,000 more). Rows are stored one by one with their commit; those that were not asked
for are kept, with the sets and the commit they had.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mambabench.benchmarks.metrics import METRICS
from mambabench.files import sha256_file, write_json
from mambabench.provenance import provenance
from mambabench.report.rows import Row, Summary
from mambabench.report.summary import summarise
from mambabench.store.records import FoldResult, RunRecord, record_bytes, record_stem

ONSET = "event_onset_200ms_fms"
Fold = dict[str, np.ndarray]  # arrays of one fold of one encoder
BATCH = 100  # sets that are reported at once: each a task, and the draws of all are the same
TRUTH_SETS = 4000


@dataclasses.dataclass(frozen=True)
class Null:
    """Two encoders of equal skill: what is compared, and how a set is drawn."""

    name: str
    metric: str
    draw: Callable[[np.random.Generator], tuple[Fold, Fold]]


@dataclasses.dataclass(frozen=True)
class Coverage:
    """One encoder whose true score is known."""

    name: str
    metric: str
    draw: Callable[[np.random.Generator], list[Fold]]  # its folds
    truth: float | None = None  # None: the mean score of more sets of this size


def classes(
    n: int, chances: tuple[float, ...]
) -> Callable[[np.random.Generator], tuple[Fold, Fold]]:
    """Draw `n` clips of classes of these chances; two encoders share half of the noise."""

    def draw(rng: np.random.Generator) -> tuple[Fold, Fold]:
        target = rng.choice(len(chances), n, p=chances)
        return both(rng, target, np.eye(len(chances))[target])

    return draw


def labels(
    n: int, n_labels: int, share: float
) -> Callable[[np.random.Generator], tuple[Fold, Fold]]:
    """Draw `n` clips with `n_labels` labels, each present with this chance and at least once."""

    def draw(rng: np.random.Generator) -> tuple[Fold, Fold]:
        target = present(rng, n, n_labels, share)
        return both(rng, target, target)

    return draw


def present(rng: np.random.Generator, n: int, n_labels: int, share: float) -> np.ndarray:
    """Return targets [n, n_labels] of 0 and 1, every label at least once."""
    target = (rng.random((n, n_labels)) < share).astype(np.uint8)
    target[:n_labels] |= np.eye(n_labels, dtype=np.uint8)
    return target


def both(rng: np.random.Generator, target: np.ndarray, hot: np.ndarray) -> tuple[Fold, Fold]:
    """Return two encoders' predictions: equal skill, half of the noise in common."""
    shared = rng.normal(size=hot.shape)
    one, other = (
        {"target": target, "probability": score.astype(np.float32)}
        for score in (1.2 * hot + 0.7 * shared + 0.7 * rng.normal(size=hot.shape) for _ in "ab")
    )
    return one, other


def events(n: int, unequal: bool = False) -> Callable[[np.random.Generator], tuple[Fold, Fold]]:
    """Draw counts of `n` clips of events, which both encoders find hard or easy."""

    def draw(rng: np.random.Generator) -> tuple[Fold, Fold]:
        chance = 1 / (1 + np.exp(-rng.normal(size=n)))
        sizes = rng.choice([4, 12, 30, 80], n) if unequal else np.full(n, 30)
        return counted(rng, chance, sizes), counted(rng, chance, sizes)

    return draw


def counted(rng: np.random.Generator, chance: np.ndarray, sizes: np.ndarray) -> Fold:
    """Return counts of matched, reference and predicted events [n, 3]."""
    matched = rng.binomial(sizes, chance)
    predicted = matched + rng.poisson(0.2 * sizes)
    return {f"counts:{ONSET}": np.stack([matched, sizes, predicted], axis=1).astype(float)}


def answers(correct: np.ndarray, clusters: list[str] | None = None) -> Fold:
    """Return a fold of two classes with these answers right."""
    target = np.arange(len(correct)) % 2
    predicted = np.where(correct, target, 1 - target)
    fold = {"target": target, "probability": np.eye(2, dtype=np.float32)[predicted]}
    return fold if clusters is None else fold | {"cluster": np.array(clusters)}


def accuracy(n: int, p: float) -> Callable[[np.random.Generator], list[Fold]]:
    """Draw `n` independent answers."""
    return lambda rng: [answers(rng.random(n) < p)]


def clustered(
    n_folds: int, n_clusters: int, size: int
) -> Callable[[np.random.Generator], list[Fold]]:
    """Draw clusters of `size` clips whose chance is their own: Beta(2, 1), mean 2/3."""

    def draw(rng: np.random.Generator) -> list[Fold]:
        folds = []
        for fold in range(n_folds):
            chance = np.repeat(rng.beta(2, 1, n_clusters), size)
            names = [f"{fold}-{i // size}" for i in range(n_clusters * size)]
            folds.append(answers(rng.random(len(chance)) < chance, names))
        return folds

    return draw


def one_of(draw: Callable[[np.random.Generator], tuple[Fold, Fold]]) -> Callable[..., list[Fold]]:
    """Return the first encoder of a pair as the only fold."""
    return lambda rng: [draw(rng)[0]]


def verification(
    n_speakers: int, n_clips: int, n_trials: int
) -> Callable[[np.random.Generator], tuple[Fold, Fold]]:
    """Draw speakers and their clips; two encoders share half of what a voice and a clip are.

    Trials: half of one speaker, half of two, drawn anew for every set; the score is the cosine.
    """

    def draw(rng: np.random.Generator) -> tuple[Fold, Fold]:
        speaker = np.repeat(np.arange(n_speakers), n_clips)
        first, second = np.triu_indices(len(speaker), 1)
        same = speaker[first] == speaker[second]
        chosen = np.concatenate(
            [
                rng.choice(np.flatnonzero(kind), min(n_trials // 2, kind.sum()), replace=False)
                for kind in (same, ~same)
            ]
        )
        first, second, same = first[chosen], second[chosen], same[chosen]
        # some speakers are heard less well than others
        clarity = np.exp(0.4 * rng.normal(size=(n_speakers, 1)))
        shared = rng.normal(size=(n_speakers, 16)), rng.normal(size=(len(speaker), 16))
        names = {"cluster": np.array([f"s{i:03d}" for i in speaker])}
        trials = {"trial_first": first, "trial_second": second, "trial_same": same}
        folds = []
        for _ in range(2):
            voice = (shared[0] + rng.normal(size=shared[0].shape)) * clarity
            noise = shared[1] + rng.normal(size=shared[1].shape)
            vectors = voice[speaker] + 1.2 * noise
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            scores = (vectors[first] * vectors[second]).sum(axis=1)
            folds.append({**names, **trials, "trial_score": scores})
        return folds[0], folds[1]

    return draw


def queries(
    n_queries: int, n_documents: int, share: float
) -> Callable[[np.random.Generator], tuple[Fold, Fold]]:
    """Draw queries and documents, some harder than others for both encoders."""

    def draw(rng: np.random.Generator) -> tuple[Fold, Fold]:
        relevant = rng.random((n_queries, n_documents)) < share
        relevant[np.arange(n_queries), rng.integers(0, n_documents, n_queries)] = True
        ease = rng.normal(size=(n_queries, 1))
        shared = rng.normal(size=relevant.shape) + 0.5 * rng.normal(size=(1, n_documents))
        folds = []
        for _ in range(2):
            own = ease + 0.7 * rng.normal(size=(n_queries, 1))
            noise = shared + rng.normal(size=relevant.shape)
            scores = relevant * (4.0 + own) + noise
            folds.append({"query_relevant": relevant, "query_score": scores})
        return folds[0], folds[1]

    return draw


NULLS = (
    Null("UAR, 60 clips, .80/.15/.05", "uar", classes(60, (0.80, 0.15, 0.05))),
    Null("macro F1, 100 clips, .7/.2/.07/.03", "macro_f1", classes(100, (0.7, 0.2, 0.07, 0.03))),
    Null("mAP, 60 clips, 5 labels, 10 %", "mAP", labels(60, 5, 0.10)),
    Null("mAP, 200 clips, 3 labels, 2 %", "mAP", labels(200, 3, 0.02)),
    Null("AUC, 60 clips, 1 label, 10 %", "aucroc", labels(60, 1, 0.10)),
    Null("d', 100 clips, 5 labels, 10 %", "d_prime", labels(100, 5, 0.10)),
    Null("accuracy, 100 clips, 4 classes", "top1_acc", classes(100, (0.25,) * 4)),
    Null("onset F, 14 clips", ONSET, events(14)),
    Null("EER, 12 speakers x 6", "eer", verification(12, 6, 400)),
    Null("EER, 40 speakers x 8", "eer", verification(40, 8, 2000)),
    Null("MTWV, 25 queries, 120 documents", "mtwv", queries(25, 120, 0.03)),
    Null("MTWV, 80 queries, 300 documents", "mtwv", queries(80, 300, 0.02)),
)

COVERAGES = (
    Coverage("accuracy .95, 30 clips", "top1_acc", accuracy(30, 0.95), 0.95),
    Coverage("accuracy .99, 100 clips", "top1_acc", accuracy(100, 0.99), 0.99),
    Coverage("accuracy .99, 400 clips", "top1_acc", accuracy(400, 0.99), 0.99),
    Coverage("accuracy .8, 100 clips", "top1_acc", accuracy(100, 0.8), 0.8),
    Coverage("accuracy, 5 folds x 2 clusters x 24", "top1_acc", clustered(5, 2, 24), 2 / 3),
    Coverage("accuracy, 5 folds x 4 clusters x 12", "top1_acc", clustered(5, 4, 12), 2 / 3),
    Coverage("accuracy, 6 clusters x 40", "top1_acc", clustered(1, 6, 40), 2 / 3),
    Coverage("accuracy, 60 clusters x 8", "top1_acc", clustered(1, 60, 8), 2 / 3),
    Coverage("onset F, 14 clips", ONSET, one_of(events(14))),
    Coverage("onset F, 14 unequal clips", ONSET, one_of(events(14, unequal=True))),
    Coverage(
        "mAP of sets of this size, 60 clips, 5 labels, 10 %", "mAP", one_of(labels(60, 5, 0.1))
    ),
    Coverage(
        "mAP of sets of this size, 200 clips, 10 labels, 5 %", "mAP", one_of(labels(200, 10, 0.05))
    ),
    Coverage("AUC, 100 clips, 1 label, 5 %", "aucroc", one_of(labels(100, 1, 0.05))),
    Coverage("UAR, 100 clips, .7/.2/.07/.03", "uar", one_of(classes(100, (0.7, 0.2, 0.07, 0.03)))),
    Coverage(
        "macro F1, 100 clips, .7/.2/.07/.03",
        "macro_f1",
        one_of(classes(100, (0.7, 0.2, 0.07, 0.03))),
    ),
    Coverage("EER, 12 speakers x 6", "eer", one_of(verification(12, 6, 400))),
    Coverage("EER, 40 speakers x 8", "eer", one_of(verification(40, 8, 2000))),
    Coverage("MTWV, 25 queries, 120 documents", "mtwv", one_of(queries(25, 120, 0.03))),
    Coverage("MTWV, 80 queries, 300 documents", "mtwv", one_of(queries(80, 300, 0.02))),
)


def scored(metric: str, fold: Fold) -> float:
    """Return the score of one fold."""
    return METRICS[metric].stored(fold)[1]


def write(out: Path, encoder: str, task: str, metric: str, folds: list[Fold]) -> None:
    """Write one record, without syncing it to disk."""
    arrays, results = {}, []
    for number, fold in enumerate(folds):
        name = f"fold{number:02d}" if len(folds) > 1 else "test"
        n = len(fold.get("cluster", next(iter(fold.values()))))
        names = np.array([f"{name}-{i:05d}.wav" for i in range(n)])
        own = {"clip": names, "cluster": np.full(n, ""), **fold}
        arrays |= {f"{name}/{key}": value for key, value in own.items()}
        score = scored(metric, fold)
        results.append(FoldResult(name, {metric: score}, {"lr": 1e-4}, 0.5, 9, 30, n, None))
    record = RunRecord(
        encoder=encoder,
        encoder_identity=encoder * 64,
        task=task,
        protocol="knn",
        seed=0,
        layers=None,
        metric=metric,
        higher_is_better=METRICS[metric].higher_is_better,
        n_labels=2,
        folds=tuple(results),
        score=float(np.mean([fold.scores[metric] for fold in results])),
        reason=None,
    )
    stem = record_stem(out, encoder, task, "knn", 0)
    stem.parent.mkdir(parents=True, exist_ok=True)
    np.savez(stem.with_suffix(".npz"), **arrays)
    digest = sha256_file(stem.with_suffix(".npz"))
    stem.with_suffix(".json").write_bytes(record_bytes(record, digest))


def reported(out: Path) -> Summary:
    """Return what a report says of the records below `out`; ValueError where it refuses one."""
    summary = summarise([out], jobs=1)
    if summary.defects:
        raise ValueError(f"the report refuses what was written: {summary.defects[0]}")
    return summary


def rejections(case: Null, n_sets: int) -> dict[str, object]:
    """Return how often a true null is rejected; ValueError where a batch has no p-value."""
    rng = np.random.default_rng(sum(case.name.encode()))
    p: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(p) < n_sets:
            out = Path(folder) / str(len(p))
            for number in range(min(BATCH, n_sets - len(p))):
                pair = finite(case, rng)
                for encoder, own in zip("ab", pair, strict=True):
                    write(out, encoder, f"set{number:03d}", case.metric, [own])
            found = reported(out).comparisons
            known = [one.p for one in found if one.p is not None]
            if not known:
                raise ValueError(f"{case.name}: no p-value ({found[0].reason})")
            p += known
    values = np.array(p)
    return {
        "name": case.name,
        "sets": len(values),
        "at_05": float(np.mean(values < 0.05)),
        "at_01": float(np.mean(values < 0.01)),
        "at_50": float(np.mean(values < 0.5)),
    }


def finite(case: Null, rng: np.random.Generator) -> tuple[Fold, Fold]:
    """Draw until both scores are finite: a d' of a separated label has no comparison."""
    while True:
        pair = case.draw(rng)
        if all(np.isfinite(scored(case.metric, one)) for one in pair):
            return pair


def covered(case: Coverage, n_sets: int) -> dict[str, object]:
    """Return the share of intervals that hold the truth, and what the rows say beside them.

    ValueError where a batch has no interval.
    """
    rng = np.random.default_rng(sum(case.name.encode()))
    truth = case.truth
    if truth is None:
        more = ([scored(case.metric, f) for f in case.draw(rng)] for _ in range(TRUTH_SETS))
        truth = float(np.mean([np.mean(scores) for scores in more]))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        while len(rows) < n_sets:
            out = Path(folder) / str(len(rows))
            for number in range(min(BATCH, n_sets - len(rows))):
                write(out, "a", f"set{number:03d}", case.metric, case.draw(rng))
            found = reported(out).rows
            if all(row.boot_low is None for row in found):
                raise ValueError(f"{case.name}: no interval ({found[0].reason})")
            rows += found
    limits = [
        (row.boot_low, row.boot_high)
        for row in rows
        if row.boot_low is not None and row.boot_high is not None
    ]
    return {
        "name": case.name,
        "sets": len(rows),
        "given": len(limits),
        "coverage": float(np.mean([low <= truth <= high for low, high in limits])),
        "below": sum(high < truth for _, high in limits),
        "above": sum(low > truth for low, _ in limits),
        "width": float(np.mean([high - low for low, high in limits])),
        "zero_width": sum(high - low < 1e-9 for low, high in limits),
        "note": next((row.note for row in rows if row.note), None),
    }


def table(facts: dict) -> str:  # type: ignore[type-arg]
    """Return the results as Markdown."""
    lines = [
        "# The report's statistics, simulated",
        "",
        "Through the report's summary of written records; of the code of the commit. A true null, "
        "rejected:",
        "",
        "| comparison | sets | at .05 | at .01 | at .5 | commit |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['name']} | {one['sets']} | {one['at_05']:.3f} | {one['at_01']:.3f} | "
        f"{one['at_50']:.3f} | {one.get('commit', 'earlier')} |"
        for one in facts["nulls"]
    ]
    lines += [
        "",
        "95 % intervals over clips; below, above: intervals that lie wholly below or above the "
        "truth; given: rows with an interval.",
        "",
        "| score | sets | given | coverage | below | above | mean width | zero width | commit "
        "| note beside the first row that has one |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['name']} | {one['sets']} | {one['given']} | {one['coverage']:.3f} | "
        f"{one['below']} | {one['above']} | {one['width']:.3f} | {one['zero_width']} | "
        f"{one.get('commit', 'earlier')} | {one['note'] or ''} |"
        for one in facts["coverages"]
    ]
    lines += [
        "",
        f"Made by `{facts['command']}`; Python {platform.python_version()}, "
        f"NumPy {np.__version__}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=1000, help="of each test")
    parser.add_argument("--intervals", type=int, default=600, help="sets of each interval")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--results", type=Path, default=Path("results/quality"))
    options = parser.parse_args()
    stored = options.results / "statistics.json"
    facts = json.loads(stored.read_text()) if stored.exists() else {"nulls": [], "coverages": []}
    facts["command"] = "python perf/report_statistics.py"
    commit = str(provenance()["git_commit"])[:7]
    options.results.mkdir(parents=True, exist_ok=True)
    for kind, cases, count, n_sets in (
        ("nulls", NULLS, rejections, options.sets),
        ("coverages", COVERAGES, covered, options.intervals),
    ):
        for case in cases:
            if options.only in case.name:
                row = count(case, n_sets)  # type: ignore[operator]
                row["commit"] = commit
                print(row, flush=True)
                known = {one["name"]: one for one in facts[kind]} | {case.name: row}
                facts[kind] = [known[one.name] for one in cases if one.name in known]  # type: ignore[attr-defined]
                write_json(stored, facts)
                stored.with_suffix(".md").write_text(table(facts), encoding="utf-8")


if __name__ == "__main__":
    main()
