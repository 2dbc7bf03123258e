"""The protocols' rules one by one, each against the value that its source or the docs give."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambabench.benchmarks.metrics.events import Events
from mambabench.probe import plan as plans
from mambabench.probe import protocols, trainer
from mambabench.probe.data import TaskRows
from mambabench.probe.families import knn, mlp
from mambabench.probe.families.knn import fit_knn
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.monitor import Monitor, Monitored, chosen
from mambabench.probe.plan import ProbePlan
from mambabench.probe.protocols import (
    PROTOCOLS,
    HeadConfig,
    grid_points,
    post_processing_grid,
    resolve_protocol,
)
from mambabench.probe.rows import TrainingRows, ValidationRows
from mambabench.probe.trainer import PreparedFold, prepare_fold, train
from mambabench.probe.verb import probe
from mambabench.store.records import read_predictions, read_record, record_paths

# (layers, Xavier's form, lr) of the eight points that hear-eval-kit draws at seed 42, in its order
DRAWN = [
    (1, "normal", 1e-4),
    (2, "uniform", 1e-3),
    (1, "normal", 1e-3),
    (1, "normal", 3.2e-4),
    (2, "normal", 3.2e-4),
    (2, "uniform", 3.2e-4),
    (2, "normal", 3.2e-3),
    (2, "uniform", 3.2e-3),
]


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_hear2021_tries_the_eight_points_of_the_kit_in_its_order(scene: Any, seed: int) -> None:
    task, _ = scene()
    points = grid_points(PROTOCOLS["hear2021"], task, seed)
    assert [(p.hidden_layers, p.initialization, p.lr) for p in points] == DRAWN
    for point in points:
        assert (point.dropout, point.hidden_dim, point.batch_size) == (0.1, 1024, 1024)
        assert (point.max_epochs, point.check_every, point.patience) == (500, 3, 20)


def test_ssam2024_tries_its_two_points_in_the_order_of_its_seed(scene: Any) -> None:
    task, _ = scene()
    orders = [
        [
            (p.dropout, p.lr, p.initialization)
            for p in grid_points(PROTOCOLS["ssam2024"], task, seed)
        ]
        for seed in range(6)
    ]
    assert all(sorted(o) == [(0.1, 1e-4, "normal"), (0.25, 1e-4, "normal")] for o in orders)
    assert len({tuple(order) for order in orders}) == 2


def test_sound_tries_the_three_points_of_the_documentation(scene: Any) -> None:
    task, _ = scene()
    shared = {"max_epochs": 200, "check_every": 1, "patience": 15, "batch_size": 1024}
    assert grid_points(PROTOCOLS["sound"], task, 3) == (
        HeadConfig(hidden_layers=0, hidden_dim=256, dropout=0, lr=3e-3, weight_decay=1, **shared),
        HeadConfig(
            hidden_layers=1, hidden_dim=256, dropout=0.75, lr=1e-3, weight_decay=0.1, **shared
        ),
        HeadConfig(
            hidden_layers=1, hidden_dim=256, dropout=0.25, lr=3e-3, weight_decay=0.1, **shared
        ),
    )


def _rows(role: Any, n: int, dim: int = 2, n_labels: int = 2) -> Any:
    return role(
        clip_names=tuple(map(str, range(n))),
        clusters=("",) * n,
        embeddings=np.random.default_rng(n).normal(size=(n, dim)).astype(np.float32),
        targets=np.arange(n) % n_labels,
        offsets=np.arange(n + 1),
    )


def _prepared(protocol: str, n: int, monitor: Any = None) -> PreparedFold:
    return prepare_fold(
        PROTOCOLS[protocol],
        _rows(TrainingRows, n),
        _rows(ValidationRows, 20),
        monitor,
        n_labels=2,
        multilabel=False,
        batch_size=1024,
    )


@pytest.mark.parametrize(
    ("n", "size"),
    [(2, 32), (40, 32), (600, 32), (1023, 32), (1024, 64), (2047, 64), (2048, 128), (40_000, 1024)],
)
def test_sound_takes_the_power_of_two_below_a_sixteenth(n: int, size: int) -> None:
    fold = _prepared("sound", n)
    assert fold.batch_size == size
    assert fold.batches == ()


def test_kit_batches_are_contiguous_and_keep_the_last_one() -> None:
    fold = _prepared("ssam2024", 2500)
    assert [len(batch.rows) for batch in fold.batches] == [1024, 1024, 452]
    assert fold.n_steps == 3
    torch.testing.assert_close(torch.cat([b.rows for b in fold.batches]), fold.rows, rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([b.target for b in fold.batches], 1), fold.target)


def test_sound_joins_a_last_row_and_sees_every_row_once_an_epoch() -> None:
    fold = _prepared("sound", 65)
    assert fold.n_steps == 2  # 32 and 33
    assert _prepared("sound", 64).n_steps == 2
    assert _prepared("sound", 66).n_steps == 3


class _Told:
    """A monitor that says what it is told, validation after validation."""

    def __init__(self, values: list[float]) -> None:
        self._values = iter(values)

    def __call__(self, logits: torch.Tensor) -> Monitored:
        value = next(self._values)
        return Monitored(value, value)


NAN = math.nan


@pytest.mark.parametrize(
    ("kit", "values", "best", "n_epochs"),
    [
        (True, [0.1, 0.5, NAN, 0.9], 1, 3),  # undefined ends the kit's fit
        (True, [0.1, 0.5, math.inf, 0.9], 2, 3),  # infinite too, and counts as the best
        (True, [NAN, 0.5, 0.6, 0.6], 0, 1),
        (False, [0.1, 0.5, NAN, 0.9, 0.9, 0.9, 0.9], 3, 6),
        (True, [0.5, 0.5, 0.5, 0.9], 0, 3),  # no strict improvement for two validations
        (True, [0.5, 0.4, 0.6, 0.6, 0.5, 0.9], 2, 5),
        (False, [NAN, NAN, 0.2, 0.1, 0.1], 0, 2),
    ],
)
def test_fits_end_where_the_protocol_says(
    kit: bool, values: list[float], best: int, n_epochs: int
) -> None:
    fold = _prepared("ssam2024", 30, _Told(values))
    config = HeadConfig(hidden_dim=4, check_every=1, patience=2, max_epochs=50)
    result = train(config, fold, TrialStreams(0), kit=kit)
    assert (result.best_epoch, result.n_epochs) == (best, n_epochs)


def test_validation_comes_after_epochs_three_six_and_nine() -> None:
    fold = _prepared("ssam2024", 30, _Told([0.1, 0.2, 0.3]))
    config = HeadConfig(hidden_dim=4, check_every=3, max_epochs=11)
    result = train(config, fold, TrialStreams(0), kit=True)
    assert (result.best_epoch, result.n_epochs) == (8, 11)


def test_the_earliest_of_equal_points_wins() -> None:
    assert chosen([0.5, 0.7, 0.7, 0.1]) == 1
    assert chosen([NAN, 0.2, NAN]) == 1
    assert chosen([NAN, NAN]) == 0


@pytest.mark.parametrize("protocol", ["hear2021", "ssam2024", "sound"])
def test_the_earliest_of_equal_points_is_the_head_of_every_fold(
    shelf: Any, scene: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    task, sets = scene(n_folds=3, n=20, dim=4)
    shelf.add(task, sets)
    trained = mlp.train

    def brief(config: HeadConfig, *args: Any, **kwargs: Any) -> Any:
        short = replace(config, max_epochs=1, check_every=1, hidden_dim=8)
        return replace(trained(short, *args, **kwargs), value=0.5, score=0.5)

    monkeypatch.setattr(mlp, "train", brief)
    probe(1, protocol, out=tmp_path)
    (path,) = record_paths(tmp_path)
    first = grid_points(PROTOCOLS[protocol], task, 0)[0]
    for fold in read_record(path).folds:
        assert fold.grid_point["lr"] == first.lr
        assert fold.grid_point["dropout"] == first.dropout
        assert fold.grid_point["hidden_layers"] == first.hidden_layers


@pytest.mark.parametrize("kit", [True, False])
@pytest.mark.parametrize("maker", ["scene", "event"])
def test_stopping_on_the_loss_takes_the_lowest(
    shelf: Any, scene: Any, event: Any, kit: bool, maker: str
) -> None:
    changes: dict[str, Any] = {"use_scoring_for_early_stopping": False}
    if maker == "event":
        changes |= {"median_filter_ms": (150.0,), "min_duration_ms": (50.0,)}
    task, sets = {"scene": scene, "event": event}[maker](**changes)
    rows = TaskRows(shelf.add(task, sets), kit=False)
    validation = rows.validation(rows.folds[0])
    monitor = Monitor(task, validation, multilabel=rows.multilabel, kit=kit)
    n = len(validation.embeddings)
    logits = torch.randn(len(task.labels), n, generator=torch.Generator().manual_seed(1))
    seen = monitor(logits)
    if rows.multilabel:
        target = torch.from_numpy(validation.targets).double()
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits.t().double(), target)
    else:
        expected = torch.nn.functional.cross_entropy(
            logits.t().double(), torch.from_numpy(validation.targets)
        )
    assert seen.score == pytest.approx(float(expected), rel=1e-5)
    assert seen.value == -seen.score
    assert monitor(4 * logits).value < seen.value  # surer of the same errors: a worse one
    assert seen.post_processing == ((150.0, 50.0) if maker == "event" else None)


def test_loss_stopped_probes_end_at_the_lowest_loss(shelf: Any, scene: Any, tmp_path: Path) -> None:
    """The recorded validation score is the loss, and no validation of the fit had a lower one."""
    task, sets = scene(n=60, spread=2.5, use_scoring_for_early_stopping=False)
    shelf.add(task, sets)
    probe(1, "hear2021", "faster", out=tmp_path)
    (record,) = map(read_record, record_paths(tmp_path))
    plan = ProbePlan(TaskRows(shelf.stored[0], kit=True), resolve_protocol("hear2021", "faster"))
    (fold,) = plan.rows.folds
    losses = []
    for point in grid_points(plan.protocol, task, 0):
        prepared = plan.prepared(fold, point.batch_size)
        seen: list[float] = []

        def listening(
            logits: torch.Tensor, monitor: Any = prepared.monitor, said: Any = seen
        ) -> Any:
            said.append(monitor.loss(logits))
            return monitor(logits)

        job = mlp._trial(plans.ProbeUnit(plan, 0, ""), fold, point, None)
        result = train(
            point,
            replace(prepared, monitor=listening),  # type: ignore[arg-type]
            TrialStreams(job.stackable.seed),
            kit=True,
        )
        assert result.score == min(seen)
        losses.append(min(seen))
    assert record.folds[0].validation_score == min(losses)


def test_the_default_post_processing_is_the_kits(event: Any) -> None:
    task, _ = event()
    assert post_processing_grid(task) == ((250.0, 125.0), (250.0, 250.0))
    named, _ = event(median_filter_ms=(150.0,), min_duration_ms=(50.0, 70.0))
    assert post_processing_grid(named) == ((150.0, 50.0), (150.0, 70.0))


@pytest.mark.parametrize("kit", [True, False])
def test_the_larger_of_equal_post_processings_wins(shelf: Any, event: Any, kit: bool) -> None:
    """Perfect probabilities score 1 with either pair, and none at all are undefined with both."""
    task, sets = event(n_frames=80)
    rows = TaskRows(shelf.add(task, sets), kit=False)
    validation = rows.validation(rows.folds[0])
    monitor = Monitor(task, validation, multilabel=True, kit=kit)
    perfect = torch.from_numpy(validation.targets.T.astype(np.float32)) * 20 - 10
    for logits in (perfect, torch.full_like(perfect, -9.0)):
        scored = {
            post: monitor._scored(torch.sigmoid(logits).numpy().T, post)
            for post in post_processing_grid(task)
        }
        first, second = scored.values()
        assert first == second or (math.isnan(first) and math.isnan(second))
        assert monitor(logits).post_processing == (250.0, 250.0)


@pytest.mark.parametrize("kit", [True, False])
def test_where_a_low_score_is_better_the_kit_takes_the_highest(
    shelf: Any, event: Any, kit: bool
) -> None:
    task, sets = event(n_frames=80, evaluation=("segment_1s_er",))
    rows = TaskRows(shelf.add(task, sets), kit=False)
    validation = rows.validation(rows.folds[0])
    monitor = Monitor(task, validation, multilabel=True, kit=kit)
    assert isinstance(validation.events, Events)
    probability = np.zeros((len(validation.embeddings), len(task.labels)), np.float32)
    probability[validation.targets.astype(bool)] = 1.0
    errors = {m: monitor._scored(probability, (0.0, m)) for m in (125.0, 500.0)}
    assert errors[125.0] < errors[500.0]  # long events alone: some are lost
    monitor._post = ((0.0, 125.0), (0.0, 500.0))
    seen = monitor.of_probabilities(probability)
    assert seen.post_processing == ((0.0, 500.0) if kit else (0.0, 125.0))
    assert seen.value == -seen.score


@pytest.mark.parametrize("protocol", ["ssam2024", "hear2021", "sound"])
def test_every_seed_has_heads_of_its_own(
    shelf: Any, scene: Any, tmp_path: Path, protocol: str
) -> None:
    shelf.add(*scene(n=30))
    grid = "faster" if protocol == "hear2021" else "default"
    probe(4, protocol, grid, out=tmp_path)
    records = [read_record(path) for path in record_paths(tmp_path)]
    assert [record.seed for record in records] == [0, 1, 2, 3]
    assert len({record.folds[0].head_sha256 for record in records}) == 4
    probabilities = [read_predictions(path)["test/probability"] for path in record_paths(tmp_path)]
    for a, b in itertools.combinations(probabilities, 2):
        assert np.abs(a - b).max() > 1e-4


def test_seeds_fill_streams_and_masks_differently(shelf: Any, scene: Any) -> None:
    """Folds, points, seeds, tasks and protocols each have a stream; the same trial has one."""
    seen = set()
    for name, protocol, seed, fold, point in itertools.product(
        ("one-v1-full", "two-v1-full"), ("sound", "ssam2024"), (0, 1), (0, 1), (0, 1)
    ):
        task, sets = scene(name, n_folds=3, n=10)
        plan = ProbePlan(TaskRows(shelf.add(task, sets), kit=False), PROTOCOLS[protocol])
        points = PROTOCOLS["sound"].settings.points
        job = mlp._trial(
            plans.ProbeUnit(plan, seed, ""), plan.rows.folds[fold], points[point], None
        )
        seen.add(job.stackable.seed)
    assert len(seen) == 32


@pytest.mark.parametrize("near", ["a", "b"])
def test_votes_that_tie_go_to_the_nearer(
    scene: Any, monkeypatch: pytest.MonkeyPatch, near: str
) -> None:
    """Of five neighbours two are `near`, two farther and one another label, farthest of all."""
    monkeypatch.setattr(knn, "NEIGHBOURS", (5,))
    task, _ = scene(n=5, dim=2, n_labels=3)
    angles = {"a": (5.0, 10.0), "b": (20.0, 25.0)}
    if near == "b":
        angles = {"a": angles["b"], "b": angles["a"]}
    rows = [(a, 0) for a in angles["a"]] + [(a, 1) for a in angles["b"]] + [(60.0, 2)]
    angle = np.deg2rad([row[0] for row in rows])
    training = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    fold = prepare_fold(
        PROTOCOLS["knn"],
        replace(
            _rows(TrainingRows, 5), embeddings=training, targets=np.array([r[1] for r in rows])
        ),
        _rows(ValidationRows, 6),
        Monitor(task, _rows(ValidationRows, 6), multilabel=False),
        n_labels=3,
        multilabel=False,
        batch_size=0,
    )
    votes = fit_knn(fold).predict(np.array([[1.0, 0.0]], np.float32))[0]
    assert votes.argmax() == ("a", "b").index(near)
    np.testing.assert_allclose(votes, [0.4, 0.4, 0.2], atol=1e-3)


def test_similarity_decides_ties_and_nothing_else(
    scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three far neighbours of one label win against two very near ones of another."""
    monkeypatch.setattr(knn, "NEIGHBOURS", (5,))
    task, _ = scene(n=5, dim=2, n_labels=2)
    angle = np.deg2rad([1.0, 2.0, 85.0, 86.0, 87.0])
    training = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    fold = prepare_fold(
        PROTOCOLS["knn"],
        replace(_rows(TrainingRows, 5), embeddings=training, targets=np.array([0, 0, 1, 1, 1])),
        _rows(ValidationRows, 6),
        Monitor(task, _rows(ValidationRows, 6), multilabel=False),
        n_labels=2,
        multilabel=False,
        batch_size=0,
    )
    assert fit_knn(fold).predict(np.array([[1.0, 0.0]], np.float32))[0].argmax() == 1


def test_rows_of_a_trained_head_are_scaled_by_the_training_rows(
    shelf: Any, scene: Any, tmp_path: Path
) -> None:
    """Moving and stretching every split alike changes nothing; moving the test split alone does."""
    task, sets = scene(n=60, spread=1.0, dim=6)
    calls: list[Path] = []

    def probability(change: Callable[[str, np.ndarray], np.ndarray]) -> np.ndarray:
        changed = {
            split: replace(part, embeddings=change(split, part.embeddings).astype(np.float32))
            for split, part in sets.items()
        }
        shelf.stored.clear()
        shelf.add(task, changed)
        calls.append(tmp_path / str(len(calls)))
        probe(1, "sound", out=calls[-1])
        return read_predictions(record_paths(calls[-1])[0])["test/probability"]

    plain = probability(lambda split, rows: rows)
    alike = probability(lambda split, rows: 4.0 * rows + 8.0)
    moved = probability(lambda split, rows: rows + 2.0 * (split == "test"))
    np.testing.assert_allclose(alike, plain, atol=2e-3)
    assert np.abs(moved - plain).max() > 0.05


@pytest.mark.parametrize("name", ["hear2021", "sound"])
def test_inputs_too_small_to_matter_are_zero_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Subnormal numbers make products slow; the exact stream keeps them, as the kit does."""
    size = np.array([1, 1, 1, 1, 1e-30, 1e-40])

    def prepared(exact: bool = False) -> PreparedFold:
        training, validation = (
            replace(rows, embeddings=np.float32(rows.embeddings * size))
            for rows in (_rows(TrainingRows, 70, dim=6), _rows(ValidationRows, 20, dim=6))
        )
        assert training.embeddings.all()
        monitor: Any = _Told([0.1, 0.2, 0.3, 0.4, 0.5])
        sizes: Any = {"n_labels": 2, "multilabel": False, "batch_size": 1024}
        protocol = resolve_protocol(name, exact=exact)
        return prepare_fold(protocol, training, validation, monitor, **sizes)

    if name == "hear2021":
        assert prepared(exact=True).rows.all()
    config = HeadConfig(hidden_dim=16, check_every=1, max_epochs=5)
    zeros = prepared()
    assert zeros.rows[:, :4].all()
    assert not zeros.rows[:, 4:].any()
    assert not zeros.validation[0][4:].any()
    mended = train(config, zeros, TrialStreams(0), kit=True).parameters
    monkeypatch.setattr(trainer, "_NEGLIGIBLE", 0.0)
    kept = prepared()
    assert kept.rows.all()
    before = train(config, kept, TrialStreams(0), kit=True).parameters
    for new, old in zip(
        mended.weights + mended.running, before.weights + before.running, strict=True
    ):
        np.testing.assert_array_equal(new, old)


def test_a_dcase_task_validates_every_ten_epochs_and_a_task_may_change_its_grid(scene: Any) -> None:
    task, _ = scene("dcase2016_task2-hear2021-full")
    assert {p.check_every for p in grid_points(PROTOCOLS["hear2021"], task, 0)} == {10}
    own = (("max_epochs", (50,)), ("check_val_every_n_epoch", (1,)))
    task, _ = scene("dcase2016_task2-hear2021-full", task_specific_param_grid=own)
    points = grid_points(PROTOCOLS["ssam2024"], task, 0)
    assert {(p.check_every, p.max_epochs) for p in points} == {(1, 50)}
    assert protocols.DEFAULT_PROTOCOL == "ssam2024"


def test_the_key_of_a_preset_stays_what_records_were_written_with() -> None:
    knn = resolve_protocol("knn")
    assert protocols.protocol_key(knn) == (
        "Protocol(name='knn', family='knn', kit=False, grid=(), points=(), n_points=None, grid_se"
        "ed=None, shuffle=False, standardise=False, adapt_batch=False, seeded=False, exact=False,"
        " clean=False, shorten=1, exact_seeds=None, selected_on=0, version=1)"
    )
    clean = resolve_protocol("superb-clean", "fast")
    assert protocols.protocol_key(clean) == (
        "Protocol(name='superb-clean/fast', family='superb', kit=False, grid=(), points=(), n_poi"
        "nts=None, grid_seed=None, shuffle=False, standardise=False, adapt_batch=False, seeded=Tr"
        "ue, exact=False, clean=True, shorten=10, exact_seeds=None, selected_on=0, version=3)"
    )


@pytest.mark.parametrize("name", protocols.PROTOCOLS)
def test_the_key_of_a_preset_holds_what_a_head_follows_from(name: str) -> None:
    protocol = protocols.PROTOCOLS[name]
    key = protocols.protocol_key(protocol)
    assert " at 0x" not in key  # an address differs in every process
    assert protocols.protocol_key(replace(protocol, version=9)) != key
    assert protocols.protocol_key(replace(protocol, seeded=not protocol.seeded)) != key
