"""Trivial classifiers, metadata probe, bootstrap over clusters, audits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mambabench.benchmarks.depression.scores import auc, binary_scores, ccc
from mambabench.benchmarks.depression.sessions import Session
from mambabench.errors import DataError
from mambabench.report.statistics.honest import (
    METRICS,
    bootstrap,
    metadata_probe,
    speaker_audit,
    summarise,
    trivial_rows,
)


@pytest.mark.parametrize(
    ("n", "positive", "f1"), [(212, 123, 73.43), (183, 91, 66.42), (47, 14, 45.90), (56, 17, 46.58)]
)
def test_always_positive_has_the_known_f1(n: int, positive: int, f1: float) -> None:
    """D-Vlog, LMVD, DAIC-WOZ and E-DAIC test sets; published systems lie below the first two."""
    labels = [1] * positive + [0] * (n - positive)
    rows = trivial_rows([1, 1, 0], labels)
    assert 100 * rows["always_positive"]["f1"] == pytest.approx(f1, abs=0.005)
    assert rows["majority"] == rows["always_positive"]
    assert rows["always_negative"]["f1"] == 0
    assert rows["always_positive"]["balanced_acc"] == 0.5


def test_scores_agree_with_scikit_learn() -> None:
    from sklearn import metrics as sk

    rng = np.random.default_rng(0)
    for _ in range(20):
        label, score = rng.integers(0, 2, 40), np.round(rng.standard_normal(40), 1)
        got = binary_scores(score, label)
        want = {
            "f1": sk.f1_score(label, score > 0),
            "macro_f1": sk.f1_score(label, score > 0, average="macro"),
            "balanced_acc": sk.balanced_accuracy_score(label, score > 0),
            "auc": sk.roc_auc_score(label, score),
            "acc": sk.accuracy_score(label, score > 0),
        }
        for name, value in want.items():
            assert got[name] == pytest.approx(value, abs=1e-9), name


def test_undefined_scores_are_nan() -> None:
    assert math.isnan(auc(np.array([0.1, 0.2]), np.array([1, 1])))
    assert math.isnan(auc(np.array([0.1, np.nan]), np.array([1, 0])))
    assert math.isnan(binary_scores(np.array([1.0]), np.array([1]))["balanced_acc"])
    assert math.isnan(ccc(np.ones(3), np.ones(3)))


def test_ccc_by_its_definition() -> None:
    true = np.array([0.0, 5, 10, 20])
    assert ccc(true, true) == pytest.approx(1)
    assert ccc(-true + 20, true) < 0
    assert ccc(true + 5, true) == pytest.approx(2 * true.var() / (2 * true.var() + 25))


def test_weighted_resamples_equal_scores_of_the_resampled_sessions() -> None:
    """The matrix form of the bootstrap against a plain loop over the same draws."""
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 30), np.round(rng.standard_normal(30), 1)
    clusters = [str(i // 3) for i in range(30)]
    found = bootstrap(score, label, clusters, n_resamples=50, seed=3)
    names, index = np.unique(clusters, return_inverse=True)
    draws = np.random.default_rng(3).multinomial(len(names), np.full(10, 0.1), size=50)
    samples: dict[str, list[float]] = {name: [] for name in METRICS}
    for draw in draws:
        rows = np.repeat(np.arange(30), draw[index])
        for name, value in binary_scores(score[rows], label[rows]).items():
            samples[name].append(value)
    for name, values in samples.items():
        low, high = np.nanpercentile(values, (2.5, 97.5))
        assert (found[name].low, found[name].high) == pytest.approx((low, high), abs=1e-9)


def test_intervals_cover_the_truth() -> None:
    """95 % intervals of the accuracy of a detector that is right with probability 0.7."""
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        label = rng.integers(0, 2, 150)
        right = rng.random(150) < 0.7
        score = np.where(right, 2 * label - 1, 1 - 2 * label).astype(float)
        interval = bootstrap(score, label, list(range(150)), n_resamples=200, seed=trial)["acc"]
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 0.7 <= interval.high
    assert 0.91 <= covered / 300 <= 0.98


def test_clusters_widen_intervals() -> None:
    rng = np.random.default_rng(3)
    speaker = np.repeat(np.arange(20), 10)
    label = (rng.random(20) < 0.5).astype(int)[speaker]
    score = np.where((rng.random(20) < 0.7)[speaker], 2 * label - 1, 1 - 2 * label).astype(float)
    alone = bootstrap(score, label, [str(i) for i in range(200)])["acc"]
    together = bootstrap(score, label, [str(s) for s in speaker])["acc"]
    assert together.high - together.low > 2 * (alone.high - alone.low)  # type: ignore[operator]
    with pytest.raises(DataError, match="200 scores, 200 labels, 3 clusters"):
        bootstrap(score, label, ["a", "b", "c"])


def _sessions(n: int, split: str, **known: object) -> list[Session]:
    rng = np.random.default_rng(n)
    out = []
    for i in range(n):
        label = int(rng.integers(2))
        out.append(
            Session(
                f"{split}{i}",
                split,
                label,
                gender="f" if (rng.random() < 0.8) == bool(label) else "m",
                duration_s=float(rng.uniform(10, 100)),
            )
        )
    return out


def test_metadata_probe_finds_a_gender_shortcut_and_says_what_it_used() -> None:
    train, test = _sessions(200, "train"), _sessions(100, "test")
    logits, fields = metadata_probe(train, test)
    assert fields == ("duration", "gender")
    assert binary_scores(logits, np.array([s.label for s in test]))["auc"] > 0.7
    from dataclasses import replace

    bare = [replace(s, gender=None, duration_s=None) for s in test]
    assert metadata_probe(train, bare)[1] == ()


def test_audit_names_overlap_and_ignorance() -> None:
    def of(split: str, *speakers: str | None) -> list[Session]:
        return [Session(f"{split}{i}", split, 0, speaker=s) for i, s in enumerate(speakers)]

    clean = speaker_audit([*of("train", "a", "b"), *of("test", "c")])
    assert clean.verdict == "no speaker in two splits"
    shared = speaker_audit([*of("train", "a", "b"), *of("test", "a", "a", None)])
    assert shared.verdict == "speakers in two splits: 1 in train/test (4 of 5 known)"
    assert shared.sessions_shared["train/test"] == 2
    assert speaker_audit(of("train", None)).verdict.startswith("speakers unknown")


def test_rows_hold_confusions_genders_and_thresholds() -> None:
    test = _sessions(60, "test")
    label = np.array([s.label for s in test])
    scores = np.stack([label - 0.5, label + 4.5])
    row = summarise(scores, test, threshold=[0.0, 5.0], n_resamples=50)
    assert [c["fp"] + c["fn"] for c in row["confusion"]] == [0, 0]
    assert row["metrics"]["f1"]["value"] == 1
    assert {g: part["n_sessions"] for g, part in row["genders"].items()} == {
        g: sum(s.gender == g for s in test) for g in "fm"
    }
    assert {g: part["n_positive"] for g, part in row["genders"].items()} == {
        g: sum(s.gender == g and s.label for s in test) for g in "fm"
    }
    assert row["n_seeds"] == 2


def test_recall_of_a_resample_without_positives_is_zero_as_scikit_learns() -> None:
    """One cluster holds the only positive: most draws of two clusters of forty have none."""
    label = np.array([1] + [0] * 39)
    scores = np.where(label == 1, 1.0, -1.0)[None]
    found = bootstrap(scores, label, [str(i) for i in range(40)], n_resamples=400)["recall"]
    assert found.value == 1.0
    assert (found.interval.low, found.interval.high) == (0.0, 1.0)
