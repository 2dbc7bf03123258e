"""The pooled SUPERB head against the unpooled one, torch's own optimiser and its own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mambabench.errors import ProtocolError
from mambabench.probe.heads import weighted_sum as ws

N_LAYERS, DIM = 4, 12


def frames(n_clips: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_clips, N_LAYERS, 9, DIM, generator=generator, dtype=torch.float64)


def problem(n: int, seed: int, n_classes: int = 3) -> ws.LabelledFeatures:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, n_classes, n)
    features = rng.normal(size=(n, N_LAYERS, DIM)).astype(np.float32)
    features[:, 2, :n_classes] += 4.0 * np.eye(n_classes, dtype=np.float32)[targets]
    return ws.LabelledFeatures(features, targets[:, None])


def double(head: ws.WeightedSumHead) -> ws.WeightedSumHead:
    return ws.WeightedSumHead(*(t.detach().double().requires_grad_() for t in head.tensors()))


def unpooled_logits(head: ws.WeightedSumHead, x: torch.Tensor) -> torch.Tensor:
    """SUPERB's own order: weighted sum, Linear, mean over time, Linear. x [n, L, T, D]."""
    weights = torch.softmax(head.layers[0], 0)
    summed = (weights[None, :, None, None] * x).sum(1)
    hidden = summed @ head.first_weight[0].T + head.first_bias[0]
    return hidden.mean(1) @ head.second_weight[0].T + head.second_bias[0]


def test_pooled_logits_and_gradients_equal_the_frame_level_ones():
    x = frames(7)
    targets = torch.arange(7) % 5
    head = ws._new_head(1, N_LAYERS, DIM, 5, seed=3)
    head.layers.data.normal_(generator=torch.Generator().manual_seed(1))
    pooled, framed = double(head), double(head)
    a = pooled.logits(x.mean(2).transpose(0, 1).contiguous())[0]
    b = unpooled_logits(framed, x)
    assert (a - b).abs().max() < 1e-6
    nn.functional.cross_entropy(a, targets).backward()
    nn.functional.cross_entropy(b, targets).backward()
    for one, other in zip(pooled.tensors(), framed.tensors(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-12)


def test_steps_equal_torch_adam_with_clipping():
    data = problem(64, 0)
    settings = ws.WeightedSumSettings(
        (3,), learning_rates=(1e-2, 1e-3), total_steps=12, eval_every=1, batch_size=16
    )
    fits = ws.train(data, data, settings, seed=5)
    for fit in fits:
        head = double(ws._new_head(1, N_LAYERS, DIM, 3, seed=5))
        optimiser = torch.optim.Adam(head.tensors(), lr=fit.learning_rate)
        batches = ws._batches(data, settings, seed=5)
        x = torch.from_numpy(data.features).double().transpose(0, 1)
        best, kept = 0.0, None
        for _ in range(12):
            rows = torch.from_numpy(next(batches))
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(
                head.logits(x[:, rows].contiguous())[0], torch.from_numpy(data.targets)[rows, 0]
            )
            loss.backward()
            nn.utils.clip_grad_norm_(head.tensors(), 1.0)
            optimiser.step()
            with torch.no_grad():
                logits = head.logits(x.contiguous())
            score = ws.accuracy(logits.float(), data.targets, (3,))[0]
            if score > best:
                best, kept = score, [t.detach().clone() for t in head.tensors()]
        assert fit.validation_accuracy == best
        for mine, theirs in zip(fit.head.tensors(), kept, strict=True):
            assert torch.allclose(mine.double(), theirs, atol=2e-6)


def test_heads_learn_and_find_the_layer():
    settings = ws.WeightedSumSettings((3,), total_steps=300, eval_every=50)
    fits = ws.train(problem(400, 1), problem(200, 2), settings, seed=0)
    best = max(fits, key=lambda fit: fit.validation_accuracy)
    test = problem(300, 3)
    score = ws.accuracy(ws.predict(best.head, test.features), test.targets, (3,))[0]
    assert score > 0.9
    assert best.head.layers[0].argmax() == 2


def test_seed_changes_the_start_and_the_order_and_nothing_else():
    data = problem(50, 1)
    settings = ws.WeightedSumSettings((3,), learning_rates=(1e-3,), total_steps=5, eval_every=5)
    again = [ws.train(data, data, settings, seed=s)[0] for s in (0, 0, 1)]
    same = zip(again[0].head.tensors(), again[1].head.tensors(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)
    assert not torch.equal(again[0].head.first_weight, again[2].head.first_weight)
    before = torch.get_rng_state()
    ws.train(data, data, settings, seed=2)
    assert torch.equal(before, torch.get_rng_state())


def test_an_epoch_takes_one_stored_crop_of_each_clip():
    data = problem(40, 0)
    grouped = ws.LabelledFeatures(data.features, data.targets, np.repeat(np.arange(10), 4))
    settings = ws.WeightedSumSettings((3,), batch_size=10)
    batches = ws._batches(grouped, settings, seed=0)
    chosen = [next(batches) for _ in range(20)]
    assert all(sorted(rows // 4) == list(range(10)) for rows in chosen)
    assert len({tuple(sorted(rows)) for rows in chosen}) > 10


def test_balanced_sampling_evens_out_the_classes():
    rng = np.random.default_rng(0)
    targets = (rng.random(500) < 0.1).astype(np.int64)[:, None]
    data = ws.LabelledFeatures(np.zeros((500, 1, 2), np.float32), targets)
    batches = ws._batches(data, ws.WeightedSumSettings((2,), balanced=True), seed=0)
    seen = np.concatenate([targets[next(batches), 0] for _ in range(150)])
    assert abs(seen.mean() - 0.5) < 0.03


def test_three_slots_must_all_be_right():
    logits = torch.tensor([[[9.0, 0, 0, 9, 9, 0], [9, 0, 9, 0, 0, 9]]])
    targets = np.array([[0, 1, 0], [0, 0, 0]])
    assert ws.accuracy(logits, targets, (2, 2, 2))[0] == 0.5


def test_an_empty_split_is_refused():
    data = problem(5, 0)
    empty = ws.LabelledFeatures(data.features[:0], data.targets[:0])
    with pytest.raises(ProtocolError, match="the validation split is empty"):
        ws.train(data, empty, ws.WeightedSumSettings((3,)), seed=0)
