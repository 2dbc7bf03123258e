"""Equal error rates and term values: drawn by speaker or query, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student
from synthetic_results import write_run

import mambabench
from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.metrics.eer import equal_error_rate, weighted_eer
from mambabench.benchmarks.metrics.mtwv import (
    TERM_BETA,
    maximum_term_weighted_value,
    weighted_mtwv,
)
from mambabench.report.statistics.clip_intervals import Units
from mambabench.report.statistics.drawn import drawn_test

RNG = np.random.default_rng(12)


def trials(n_speakers=9, n_clips=4, skill=1.0, seed=0, decimals=1):
    """Return the arrays of one fold: clips by speaker, trials with ties in their scores."""
    rng = np.random.default_rng(seed)
    speaker = np.repeat(np.arange(n_speakers), n_clips)
    first, second = np.triu_indices(len(speaker), 1)
    kept = np.random.default_rng(4).permutation(len(first))[:300]  # the same for every encoder
    first, second = first[kept], second[kept]
    same = speaker[first] == speaker[second]
    ease = np.random.default_rng(99).normal(size=n_speakers)  # of the speakers, for every encoder
    score = rng.normal(size=len(first)) + same * (skill + 0.3 * ease[speaker[first]])
    return {
        "clip": np.array([f"c{i:02d}.wav" for i in range(len(speaker))]),
        "cluster": np.array([f"s{i}" for i in speaker]),
        "trial_first": first,
        "trial_second": second,
        "trial_same": same,
        "trial_score": np.round(score, decimals),
    }


def repeated(arrays, weights, units):
    """Repeat every trial as often as its units were drawn; score the longer list plainly."""
    first, second = arrays["trial_first"], arrays["trial_second"]
    times = np.array(
        [
            weights[a] if units[a] == units[b] else int(weights[a]) * int(weights[b])
            for a, b in zip(first, second, strict=True)
        ]
    )
    rows = np.repeat(np.arange(len(first)), times)
    return equal_error_rate(arrays["trial_same"][rows], arrays["trial_score"][rows])[0]


@pytest.mark.parametrize("by_speaker", [True, False])
def test_weighted_trials_are_repeated_trials(by_speaker):
    arrays = trials()
    n = len(arrays["clip"])
    units = np.repeat(np.arange(9), 4) if by_speaker else np.arange(n)
    drawn = RNG.multinomial(units.max() + 1, np.ones(units.max() + 1) / (units.max() + 1), 70).T
    weights = drawn[units].astype(np.uint8)
    found = weighted_eer(arrays, weights, units)
    expected = [repeated(arrays, column, units) for column in weights.T]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert len(set(np.round(found, 6))) > 20


def test_unweighted_trials_give_the_score_itself():
    arrays = trials()
    n = len(arrays["clip"])
    one = weighted_eer(arrays, np.ones((n, 1), np.uint8), np.arange(n))
    expected = equal_error_rate(arrays["trial_same"], arrays["trial_score"])[0]
    assert one[0] == pytest.approx(expected, abs=1e-12)


def test_draws_without_trials_of_a_kind_are_undefined():
    arrays = trials()
    units = np.repeat(np.arange(9), 4)
    weights = (units == 2).astype(np.uint8)[:, None]  # one speaker alone: no trial of two
    assert np.isnan(weighted_eer(arrays, weights, units)).all()
    assert np.isnan(weighted_eer(arrays, np.zeros_like(weights), units)).all()


def test_perfect_and_reversed_trials():
    arrays = trials()
    ones, units = np.ones((36, 1), np.uint8), np.arange(36)
    arrays["trial_score"] = arrays["trial_same"].astype(float)
    assert weighted_eer(arrays, ones, units)[0] == 0.0
    arrays["trial_score"] = -arrays["trial_score"]
    expected = equal_error_rate(arrays["trial_same"], arrays["trial_score"])[0]
    assert weighted_eer(arrays, ones, units)[0] == pytest.approx(expected)


def queries(n_queries=7, n_documents=40, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    relevant = np.random.default_rng(5).random((n_queries, n_documents)) < 0.08
    relevant[0] = False  # a query without a relevant document is left out
    relevant[np.arange(1, n_queries), np.arange(1, n_queries)] = True
    score = rng.normal(size=relevant.shape) + skill * relevant
    return {
        "clip": np.array([f"q{i:02d}.wav" for i in range(n_queries)]),
        "cluster": np.array([""] * n_queries),
        "query_relevant": relevant,
        "query_score": np.round(score, 1),
    }


@pytest.mark.parametrize("block", [7, 1024])
def test_weighted_queries_are_repeated_queries(monkeypatch, block):
    from mambabench.benchmarks.metrics import mtwv

    monkeypatch.setattr(mtwv, "_BLOCK", block)
    arrays = queries()
    weights = RNG.multinomial(7, np.ones(7) / 7, 150).T.astype(np.uint8)
    found = weighted_mtwv(arrays, weights, np.arange(7))
    for lane in range(150):
        rows = np.repeat(np.arange(7), weights[:, lane])
        expected = maximum_term_weighted_value(
            arrays["query_relevant"][rows], arrays["query_score"][rows], beta=TERM_BETA
        )
        assert found[lane] == pytest.approx(expected, abs=1e-9, nan_ok=True), lane
    assert len(set(np.round(found, 6))) > 50


def test_no_query_with_a_relevant_document_is_undefined():
    weights = np.eye(7, dtype=np.uint8)[:, :1]  # the query that has none, alone
    assert np.isnan(weighted_mtwv(queries(), weights, np.arange(7))).all()


def test_rows_of_trials_keep_those_between_the_clips():
    arrays = trials()
    clips = np.array([5, 4, 30, 0, 1])
    cut = METRICS["eer"].rows(arrays, clips)
    assert cut["clip"].tolist() == arrays["clip"][clips].tolist()
    pairs = zip(arrays["trial_first"], arrays["trial_second"], strict=True)
    inside = np.array([a in clips and b in clips for a, b in pairs])
    assert inside.any()
    assert cut["trial_score"].tolist() == arrays["trial_score"][inside].tolist()
    assert cut["clip"][cut["trial_first"]].tolist() == (
        arrays["clip"][arrays["trial_first"][inside]].tolist()
    )


def write(out, encoder, metric, arrays, task="task", run=0):
    score = METRICS[metric].stored(arrays)[1]
    n = len(arrays["clip"])
    own = {f"test/{key}": value for key, value in arrays.items()}
    write_run(
        out, encoder, task, run, [("test", {metric: score}, n)], own, metric=metric, n_labels=2
    )
    return score


def test_a_report_compares_verification(tmp_path):
    scores = {
        name: write(tmp_path, name, "eer", trials(skill=skill, seed=seed, decimals=6))
        for name, skill, seed in (("good", 3.0, 1), ("poor", 0.5, 2), ("alike", 0.5, 3))
    }
    summary = mambabench.report(tmp_path, "csv").summary
    rows = {row.encoder: row for row in summary.rows}
    for name, row in rows.items():
        assert row.mean == pytest.approx(scores[name])
        assert 0 <= row.boot_low < row.mean < row.boot_high <= 1
        assert row.clustered
    p = {frozenset((one.encoder, one.other)): one.p for one in summary.comparisons}
    assert p[frozenset(("good", "poor"))] < 0.01
    assert p[frozenset(("poor", "alike"))] > 0.1
    assert rows["good"].best
    assert rows["poor"].ties == rows["alike"].ties != rows["good"].ties


def test_the_draws_of_a_pair_are_those_of_its_difference(tmp_path, monkeypatch):
    """Two encoders that err on the same trials differ far less than either varies."""
    from mambabench.report.statistics import comparison

    seen = []
    monkeypatch.setattr(comparison, "drawn_test", lambda *given: seen.append(given) or 0.5)
    scores = {"a": [], "b": []}
    for run in range(2):
        one = trials(seed=run, decimals=6)
        near = one["trial_score"] + np.where(one["trial_same"], 0.02, 0.0)
        for name, arrays in (("a", one), ("b", one | {"trial_score": near})):
            scores[name].append(write(tmp_path, name, "eer", arrays, run=run))
    (pair,) = mambabench.report(tmp_path, "csv").summary.comparisons
    expected = np.mean(scores["a"]) - np.mean(scores["b"])
    assert pair.difference == pytest.approx(expected if pair.encoder == "a" else -expected)
    ((drawn, difference, _),) = seen
    assert difference == pytest.approx(pair.difference)
    units = np.repeat(np.arange(9), 4)
    counts = RNG.multinomial(9, np.ones(9) / 9, 70).T[units].astype(np.uint8)
    alone = weighted_eer(trials(seed=0, decimals=6), counts, units)
    assert np.nanstd(drawn) < 0.3 * np.nanstd(alone)
    assert abs(np.nanmean(drawn) - difference) < 0.02


def test_trials_of_other_pairs_are_not_compared(tmp_path):
    write(tmp_path, "a", "eer", trials(seed=1))
    write(tmp_path, "b", "eer", trials(seed=1) | {"trial_first": trials(seed=1)["trial_second"]})
    (one,) = mambabench.report(tmp_path, "csv").summary.comparisons
    assert one.p is None
    assert "different test clips" in one.reason


def test_verification_is_compared_on_common_clips(tmp_path):
    whole = trials(seed=1, decimals=6)
    write(tmp_path, "a", "eer", whole)
    write(
        tmp_path,
        "b",
        "eer",
        METRICS["eer"].rows(
            trials(seed=2, decimals=6)
            | {name: whole[name] for name in ("trial_first", "trial_second", "trial_same")},
            np.arange(28),
        ),
    )
    (one,) = mambabench.report(tmp_path, "csv").summary.comparisons
    assert one.common == "on the common 28 test clips of 28 and 36"
    assert one.p is not None


def test_a_report_compares_queries(tmp_path):
    for name, skill, seed in (("good", 6.0, 1), ("poor", 3.5, 2)):
        write(tmp_path, name, "mtwv", queries(30, 80, seed, skill))
    summary = mambabench.report(tmp_path, "csv").summary
    rows = {row.encoder: row for row in summary.rows}
    assert rows["poor"].boot_low < rows["poor"].mean < rows["poor"].boot_high
    (one,) = summary.comparisons
    assert one.p < 0.01
    assert rows["good"].best


def test_the_test_is_students_of_the_draws():
    draws = RNG.normal(0.3, 0.1, 2000)
    units = Units(n=20, n_clips=20, effective=20.0, n_strata=1, clustered=True)
    error = draws.std() * np.sqrt(20 / 19)
    assert drawn_test(draws, 0.25, units) == pytest.approx(2 * student.sf(0.25 / error, 19))
    assert drawn_test(draws, -0.25, units) == drawn_test(draws, 0.25, units)
    assert drawn_test(np.zeros(2000), 0.0, units) == 1.0
    assert drawn_test(draws * 1e-3, 9.0, units) == 2.0**-19  # what 20 units can show at most
    few = np.where(np.arange(2000) < 99, draws, np.nan)
    assert drawn_test(few, 0.25, units) is None
