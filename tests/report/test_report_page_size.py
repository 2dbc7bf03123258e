"""The page of 30 encoders on HEAR's 19 tasks with 10 seeds keeps its budget, in a real browser.

Made-up results on HEAR's own numbers of test clips (perf/report.py); perf/page.py has the timings.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_report_browser import make_browser

from mambabench.files import write_json
from mambabench.provenance import provenance
from mambabench.report.exchange.overall import overall_scores
from mambabench.report.exchange.published import published_beside
from mambabench.report.formats import page_clips
from mambabench.report.formats.page import as_page
from mambabench.report.rows import Row, Summary
from mambabench.report.runs import Run
from mambabench.report.statistics.comparison import Comparison
from mambabench.report.statistics.ranks import Rank
from mambabench.store.records import FoldResult, RunRecord, record_stem

pytestmark = pytest.mark.browser
PERF = Path(__file__).resolve().parents[2] / "perf" / "report.py"
ENCODERS = [f"encoder_of_{number:02d}_layers" for number in range(30)]
SEEDS = range(10)


@cache
def tasks() -> dict[str, tuple[int, int, int, str, bool]]:
    """Return folds, clips a fold, labels, metric and multilabel of each of HEAR's 19 tasks."""
    spec = importlib.util.spec_from_file_location("made_up", PERF)
    assert spec is not None
    assert spec.loader is not None
    made_up = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made_up)
    return {name: own for name, own in made_up.TASKS.items() if "_fold0-" not in name}


def predictions(path: Path, wanted: Any = None) -> dict[str, np.ndarray]:
    """Return what a record's predictions file would hold: clips are as hard for every encoder."""
    task, encoder = path.parts[-3], ENCODERS.index(path.parts[-4])
    number = list(tasks()).index(task)
    n_folds, n, n_labels, metric, multilabel = tasks()[task]
    if metric.startswith("event"):
        return {}
    found = {}
    for fold in folds(n_folds):
        shared = np.random.default_rng([number, len(fold), n])
        rng = np.random.default_rng([encoder, number, int(path.stem[-3:])])
        target = np.arange(n) % n_labels
        other = (target + shared.integers(1, n_labels, n)) % n_labels  # it is mostly taken for
        easy = shared.normal(size=n) + encoder / 30 + 0.4 * rng.normal(size=n)
        chosen = np.where(easy > 0, target, other)
        found[f"{fold}/clip"] = clip_names(fold, n)
        found[f"{fold}/target"] = np.eye(n_labels)[target] if multilabel else target
        found[f"{fold}/probability"] = np.eye(n_labels, dtype=np.uint8)[chosen]
    return found


@cache
def clip_names(fold: str, n: int) -> np.ndarray:
    return np.array([f"{fold}-clip{i:06d}.wav" for i in range(n)])


def folds(count: int) -> list[str]:
    return [f"fold{fold:02d}" for fold in range(count)] if count > 1 else ["test"]


def runs(out: Path, scores: np.ndarray) -> Iterator[Run]:
    for (t, (task, (n_folds, n, n_labels, metric, _))), (e, encoder), seed in itertools.product(
        enumerate(tasks().items()), enumerate(ENCODERS), SEEDS
    ):
        score = float(scores[e, t, seed])
        head = f"{hash((e, t, seed)) & 0xFFFFFFFF:08x}" * 8
        results = [
            FoldResult(fold, {metric: score}, {"lr": 1e-4}, 0.5, 9 + seed, 30, n, head)
            for fold in folds(n_folds)
        ]
        record = RunRecord(
            *(encoder, f"{e:064x}", task, "hear2021", seed, None, metric, True, n_labels),
            *(tuple(results), score, None),
        )
        path = record_stem(out, encoder, task, "hear2021", seed).with_suffix(".json")
        yield Run(record, path, f"{e * 97 + t:064x}", True, "mambabench")


def summary(out: Path) -> Summary:
    """Return a report of made-up statistics, with the provenance of each first record."""
    rng = np.random.default_rng(5)
    scores = rng.uniform(0.3, 0.95, (len(ENCODERS), len(tasks()), len(SEEDS)))
    rows, comparisons, ranks = [], [], []
    for t, (task, (n_folds, n, _, metric, _)) in enumerate(tasks().items()):
        means = scores[:, t].mean(axis=1)
        for e, encoder in enumerate(ENCODERS):
            m, own = float(means[e]), tuple(map(float, scores[e, t]))
            ends = (0.1, m - 0.0712345, m + 0.07, m - 0.0312345, m + 0.03)
            rows.append(
                Row(
                    *(encoder, task, metric, True, "hear2021", len(SEEDS), n_folds * n, m, *ends),
                    *(None, own, tuple(SEEDS)),
                    ties="abcdefgh"[e % 8],
                    best=m == means.max(),
                )
            )
            place = 1.0 + float((means > means[e]).sum())
            ranks.append(Rank(encoder, "hear2021", task, place, place - 0.53, place + 0.51, 30))
        for (a, one), (b, other) in itertools.combinations(enumerate(ENCODERS), 2):
            d, p = float(means[a] - means[b]), float(rng.random() ** 4)
            names = (task, "hear2021", metric, one, other)
            comparisons.append(
                Comparison(*names, d, d - 0.0212345, d + 0.0198765, p, p, reason=None)
            )
    for e, encoder in enumerate(ENCODERS):
        ranks.append(Rank(encoder, "hear2021", None, 1.0 + e, 0.9 + e, 1.6 + e, 30, len(tasks())))
    own_runs = tuple(runs(out, scores))
    for number, run in enumerate(own_runs[:: len(SEEDS)]):
        timing = {"started_unix": 1.79e9 + 377.0 * number, "wall_s": 10.0 + 1.1 * number}
        write_json(run.path.with_suffix(".provenance.json"), {**provenance(), **timing})
    return Summary(
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        overall=overall_scores(rows),
        published=published_beside(rows),
        baseline=None,
        runs=own_runs,
        ranks=tuple(ranks),
    )


def test_hear_with_thirty_encoders_and_ten_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(page_clips, "read_predictions", predictions)
    text = as_page(summary(tmp_path))
    assert "<h1>mambabench report: 30 encoders on 19 tasks</h1>" in text
    assert "10 seeds" in text
    assert len(text.encode()) <= 1_000_000
    assert "Single predictions were left out" in text  # and not all clips
    page = tmp_path / "report.html"
    page.write_text(text, encoding="utf-8")
    browser = make_browser()
    try:
        browser.get(page.as_uri())
        assert browser.execute_script("return document.querySelectorAll('*').length") <= 5000
        first = "return document.querySelector('td [data-cell]').getBoundingClientRect().bottom"
        assert 0 < browser.execute_script(first) <= 900
        browser.execute_script("document.querySelector('td [data-cell]').click()")
        opened = "const done = arguments[0], look = () => document.querySelector('#detail h2') ? "
        opened += "done(document.querySelectorAll('.clips button').length) : setTimeout(look, 20); "
        assert browser.execute_async_script(opened + "look()") > 0
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
