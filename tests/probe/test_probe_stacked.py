"""Stacks of heads against the same heads one by one; the device is the CPU, the code the GPU's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambabench.probe import session, verb
from mambabench.probe.data import TaskRows
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.plan import ProbePlan
from mambabench.probe.protocols import HeadConfig, resolve_protocol
from mambabench.probe.stacked import StackedTrial, stack_key, train_stack
from mambabench.probe.trainer import train
from mambabench.store.records import read_record, record_paths

CONFIG = HeadConfig(hidden_dim=24, dropout=0.0, max_epochs=60, patience=3, check_every=2)


def _plan(shelf: Any, made: Any, protocol: str) -> ProbePlan:
    return ProbePlan(TaskRows(shelf.add(*made), kit=False), resolve_protocol(protocol))


@pytest.mark.parametrize("protocol", ["ssam2024", "sound"])
@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_a_stack_trains_every_head_as_if_alone(
    shelf: Any, scene: Any, protocol: str, multilabel: bool, hidden_layers: int
) -> None:
    """Without dropout nothing differs but rounding: same epochs, scores and weights."""
    plan = _plan(shelf, scene(n=50, multilabel=multilabel), protocol)
    fold = plan.prepared(plan.rows.folds[0], 1024)
    base = replace(CONFIG, hidden_layers=hidden_layers)
    configs = [
        replace(base, lr=lr, weight_decay=decay, initialization=form)
        for lr, decay, form in (
            (1e-2, 0.0, "uniform"),
            (1e-3, 0.5, "normal"),
            (3e-3, 0.1, "normal"),
        )
    ]
    assert len({stack_key(config) for config in configs}) == 1
    trials = [StackedTrial(config, seed) for seed, config in enumerate(configs)]
    together = train_stack(trials, fold, kit=False, device="cpu")
    if protocol == "ssam2024" and hidden_layers == 1:
        assert len({result.n_epochs for result in together}) > 1  # they stop at different times
    for trial, stacked in zip(trials, together, strict=True):
        alone = train(trial.config, fold, TrialStreams(trial.seed), kit=False)
        assert (stacked.best_epoch, stacked.n_epochs) == (alone.best_epoch, alone.n_epochs)
        assert stacked.score == pytest.approx(alone.score, abs=1e-6)
        for a, b in zip(
            stacked.parameters.arrays().values(), alone.parameters.arrays().values(), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


def test_dropout_keeps_what_it_should(shelf: Any, scene: Any) -> None:
    plan = _plan(shelf, scene(n=400, spread=0.7), "ssam2024")
    fold = plan.prepared(plan.rows.folds[0], 1024)
    trials = [StackedTrial(replace(CONFIG, dropout=p), s) for s, p in enumerate((0.1, 0.5, 0.9))]
    results = train_stack(trials, fold, kit=True, device="cpu")
    assert all(result.score > 0.7 for result in results)
    again = train_stack(trials, fold, kit=True, device="cpu")
    for a, b in zip(results, again, strict=True):
        assert a.parameters.sha256() == b.parameters.sha256()


def test_the_verb_on_stacks_scores_like_the_verb_on_threads(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(*scene(n_folds=3, n=60, spread=0.8))
    verb.probe(2, "ssam2024", out=tmp_path / "threads", device="cpu")
    original = session.run_stacked
    calls = []

    def on_cpu(*args: Any, device: str, **kwargs: Any) -> None:
        calls.append(device)
        original(*args, device="cpu", **kwargs)

    monkeypatch.setattr(verb, "_device", lambda name: "cuda")
    monkeypatch.setattr(session, "run_stacked", on_cpu)
    run = verb.probe(2, "ssam2024", out=tmp_path / "stacks")
    assert calls == ["cuda"]
    assert run.n_trained == 2
    threads, stacks = (
        [read_record(path) for path in record_paths(tmp_path / name)]
        for name in ("threads", "stacks")
    )
    for a, b in zip(threads, stacks, strict=True):
        assert a.score == pytest.approx(b.score, abs=0.1)
        assert [f.fold for f in a.folds] == [f.fold for f in b.folds]


def test_a_failing_unit_does_not_take_the_stack_with_it(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add(*scene(n=1025, dim=3))
    monkeypatch.setattr(verb, "_device", lambda name: "cuda")
    run = verb.probe(2, "ssam2024", out=tmp_path)
    assert [failure.seed for failure in run.failures] == [0, 1]
    assert "leave a last batch of 1" in run.failures[0].reason


@pytest.mark.gpu
def test_a_stack_on_a_gpu_agrees_with_the_cpu(shelf: Any, scene: Any) -> None:
    plan = _plan(shelf, scene(n=200), "ssam2024")
    fold = plan.prepared(plan.rows.folds[0], 1024)
    trials = [StackedTrial(replace(CONFIG, lr=lr), 0) for lr in (1e-3, 3e-3)]
    on_gpu = train_stack(trials, fold, kit=False, device="cuda")
    on_cpu = train_stack(trials, fold, kit=False, device="cpu")
    for a, b in zip(on_gpu, on_cpu, strict=True):
        assert a.score == pytest.approx(b.score, abs=0.05)
    assert torch.cuda.is_available()
