"""A metric of another package is resampled and tested like ours, whatever its statistic."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_results import write_run, write_scene

import mambabench
from mambabench.benchmarks.metrics import METRICS, metric_of
from mambabench.plugins import Registry

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = """
import numpy as np
from mambabench.benchmarks.metrics.metric import Counts, Metric, PerClip


def rank_of_truth(target, probability):
    own = probability[np.arange(len(target)), target]
    return 1.0 / (probability >= own[:, None]).sum(axis=1)


def brier(target, probability):
    hot = np.eye(probability.shape[1])[target]
    return float(((probability - hot) ** 2).sum(axis=1).mean())


RANK = Metric(
    "reciprocal_rank", "reciprocal rank", statistic=PerClip(rank_of_truth),
    compute=lambda t, p: float(rank_of_truth(t, p).mean()),
)
BRIER = Metric("brier", "Brier score", higher_is_better=False, share=False, highest=2.0,
               compute=brier)
"""
POINTS = "[mambabench.metrics]\nreciprocal_rank = theirs:RANK\nbrier = theirs:BRIER\n"


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """Install a package with two metrics; the registry reads its entry points anew."""
    site = tmp_path / "site"
    meta = site / "theirs-1.0.dist-info"
    meta.mkdir(parents=True)
    (site / "theirs.py").write_text(CODE)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(POINTS)
    monkeypatch.setenv("MAMBABENCH_PLUGINS", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(METRICS, "_foreign", None)
    yield
    sys.modules.pop("theirs", None)


def test_they_are_metrics_like_any_other(theirs):
    assert METRICS["brier"].share is False
    assert METRICS["reciprocal_rank"].higher_is_better
    assert "brier" in list(METRICS)
    assert isinstance(METRICS, Registry)


@pytest.mark.parametrize("metric", ["reciprocal_rank", "brier"])
def test_a_foreign_metric_has_interval_and_test(tmp_path, theirs, metric):
    out = tmp_path / "out"
    for name, skill in (("weak", 0.2), ("strong", 1.6)):
        write_scene(out, name, "task", skill=skill, metric=metric, seeds=2, folds={"test": 60})
    summary = mambabench.report(out, "markdown").summary
    rows = {row.encoder: row for row in summary.rows}
    assert rows["weak"].boot_low < rows["weak"].mean < rows["weak"].boot_high
    (one,) = summary.comparisons
    assert one.p < 0.01
    assert rows["strong"].best
    assert rows["weak"].ties != rows["strong"].ties


def test_an_opaque_metric_is_tested_by_every_exchange(tmp_path, theirs):
    """Eight clips have 2^8 exchanges: p is the share of them as extreme as the data."""
    out = tmp_path / "out"
    rng = np.random.default_rng(3)
    target = np.arange(8) % 3
    sides = [rng.dirichlet(np.ones(3), 8).astype(np.float32) for _ in range(2)]
    for name, probability in zip("ab", sides, strict=True):
        arrays = {"clip": np.array([f"c{i}" for i in range(8)]), "cluster": np.full(8, "")}
        arrays |= {"target": target, "probability": probability}
        arrays = {f"test/{key}": value for key, value in arrays.items()}
        score = {"brier": METRICS["brier"](target, probability)}
        results = [("test", score, 8)]
        write_run(out, name, "task", 0, results, arrays, metric="brier", n_labels=3)
    (one,) = mambabench.report(out, "csv").summary.comparisons

    def difference(stays):
        a, b = (np.where(np.array(stays)[:, None], *pair) for pair in (sides, sides[::-1]))
        return METRICS["brier"](target, a) - METRICS["brier"](target, b)

    observed = abs(difference([True] * 8))
    every = [
        abs(difference(s)) >= observed - 1e-12 for s in itertools.product([True, False], repeat=8)
    ]
    assert one.p == pytest.approx(np.mean(every))
    assert one.n_permutations == 256


def test_a_score_outlives_the_package_of_its_metric():
    gone = metric_of("of_a_package_that_is_gone")
    assert gone.share
    assert "of_a_package_that_is_gone" in gone.statistic.reason


def test_no_list_of_metrics_stands_outside_their_folder():
    """What a report, a probe or a store must know of a metric stands with the metric."""
    names = "|".join(map(re.escape, METRICS))
    quoted = re.compile(rf"[\"']({names})[\"']")
    found = [
        f"{path.relative_to(ROOT)}: {match[1]}"
        for room in ("report", "probe", "store", "cli/progress.py", "benchmarks/layout")
        for path in _files(ROOT / "mambabench" / room)
        for match in quoted.finditer(path.read_text(encoding="utf-8"))
    ]
    allowed = {
        "mambabench/probe/families/sequences.py": "counts of what was read, by metric",
        "mambabench/report/statistics/honest.py": "columns of the affect tables, with own formulas",
    }
    assert [line for line in found if line.split(":")[0] not in allowed] == []


def _files(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]
