"""Heads against automatic differentiation in double precision, and the two kinds of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambabench.probe.heads.compiled import CompiledHead
from mambabench.probe.heads.parameters import RowBatch, initial_parameters, padded_columns
from mambabench.probe.heads.plain import TorchHead
from mambabench.probe.heads.streams import MaskStream, TrialStreams, layout_is_known
from mambabench.probe.protocols import HeadConfig


def _batches(n: int, dim: int, n_labels: int, multilabel: bool) -> list[RowBatch]:
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(n, dim, generator=generator)
    if multilabel:
        target = (torch.rand(n_labels, n, generator=generator) < 0.4).float()
    else:
        index = torch.randint(0, n_labels, (n,), generator=generator)
        target = torch.nn.functional.one_hot(index, n_labels).float().t().contiguous()
    return [
        RowBatch(
            rows[i : i + 100].clone(),
            padded_columns(rows[i : i + 100]),
            target[:, i : i + 100].contiguous(),
            multilabel,
        )
        for i in range(0, n, 100)
    ]


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_four_steps_equal_double_precision(hidden_layers: int, multilabel: bool) -> None:
    config = HeadConfig(hidden_layers=hidden_layers, hidden_dim=48, lr=1e-3, dropout=0.25)
    start = initial_parameters(config, 20, 5, TrialStreams(3))
    head = CompiledHead(config, start, TrialStreams(3))
    masks = TrialStreams(3).masks
    W = [torch.from_numpy(w).double().requires_grad_() for w in start.weights]
    b = [torch.from_numpy(v).double().requires_grad_() for v in start.biases]
    norms = [torch.from_numpy(v).double().requires_grad_() for v in start.norms]
    adam = torch.optim.Adam([*W, *b, *norms], lr=config.lr)
    for batch in _batches(250, 20, 5, multilabel) + _batches(100, 20, 5, multilabel):
        x = batch.rows.double()
        for i in range(hidden_layers):
            x = torch.nn.functional.linear(x, W[i], b[i])
            x = torch.nn.functional.batch_norm(x, None, None, norms[i][0], norms[i][1], True)
            x = torch.relu(x * masks.dense(len(x), 48, 0.75).double() / 0.75)
        logits = torch.nn.functional.linear(x, W[-1], b[-1])
        if multilabel:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(
                logits, batch.target.t().double()
            )
        else:
            loss = torch.nn.functional.cross_entropy(logits, batch.target.argmax(0))
        adam.zero_grad()
        loss.backward()
        adam.step()
        head.step(batch)
        for mine, truth in zip(head._grad_W, W, strict=True):
            assert float((mine - truth.grad).norm() / truth.grad.norm()) < 2e-6
    for mine, truth in zip(head.parameters().weights, W, strict=True):
        moved = truth.detach().numpy()
        assert np.linalg.norm(mine - moved) / np.linalg.norm(moved) < 2e-6


@pytest.mark.parametrize("hidden_layers", [0, 1, 2])
def test_compiled_and_torch_heads_agree(hidden_layers: int) -> None:
    config = HeadConfig(hidden_layers=hidden_layers, hidden_dim=32, lr=1e-3, weight_decay=0.1)
    start = initial_parameters(config, 16, 4, TrialStreams(1))
    compiled = CompiledHead(config, start, TrialStreams(1))
    plain = TorchHead(config, start, TrialStreams(1))
    for batch in _batches(333, 16, 4, False):
        compiled.step(batch)
        plain.step(batch)
    columns = _batches(70, 16, 4, False)[0].columns
    ours, theirs = compiled.logits(columns), plain.logits(columns)
    torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=5e-3)  # theirs: biases drift by noise
    torch.testing.assert_close(compiled.parameters().logits(columns), ours, rtol=0, atol=0)
    mine, kit = compiled.parameters(), plain.parameters()
    for a, b in zip((*mine.weights, *mine.norms), (*kit.weights, *kit.norms), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(mine.running, kit.running, strict=True):
        np.testing.assert_allclose(a[1], b[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(a[0], b[0], atol=4 * config.lr)


def _dense(bits: np.ndarray, batch: int) -> np.ndarray:
    shift = (np.arange(batch) & 31).astype(np.uint32)[:, None]
    return (bits[np.arange(batch) >> 5] >> shift) & 1


@pytest.mark.parametrize(("batch", "units"), [(1, 1), (7, 33), (141, 64), (176, 1024)])
@pytest.mark.parametrize("shared", [False, True])
def test_masks_are_those_of_torch(batch: int, units: int, shared: bool) -> None:
    assert layout_is_known()
    generator = torch.Generator().manual_seed(11)
    torch.rand(5, generator=generator)
    reference = torch.Generator().manual_seed(11)
    torch.rand(5, generator=reference)
    stream = MaskStream(generator, shared=shared)
    bits = np.zeros(((batch + 31) // 32, units), np.uint32)
    for _ in range(3):
        stream.draw(batch, units, 0.9, bits)
        expected = torch.empty(batch, units).bernoulli_(0.9, generator=reference).numpy()
        np.testing.assert_array_equal(_dense(bits, batch), expected)
        again = torch.empty(batch, units).bernoulli_(0.9, generator=reference)
        torch.testing.assert_close(stream.dense(batch, units, 0.9), again, rtol=0, atol=0)
    if shared:
        ahead = torch.rand(4, generator=generator)
        torch.testing.assert_close(ahead, torch.rand(4, generator=reference), rtol=0, atol=0)


def test_masks_without_the_known_layout_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = MaskStream(torch.Generator().manual_seed(2), shared=False)
    monkeypatch.setattr("mambabench.probe.heads.streams.layout_is_known", lambda: False)
    slow = MaskStream(torch.Generator().manual_seed(2), shared=False)
    a, b = np.zeros((3, 40), np.uint32), np.zeros((3, 40), np.uint32)
    fast.draw(70, 40, 0.8, a)
    slow.draw(70, 40, 0.8, b)
    np.testing.assert_array_equal(_dense(a, 70), _dense(b, 70))


def test_no_dropout_keeps_everything_and_draws_nothing() -> None:
    stream = MaskStream(torch.Generator().manual_seed(2), shared=True)
    bits = np.zeros((2, 8), np.uint32)
    stream.draw(40, 8, 1.0, bits)
    assert _dense(bits, 40).all()
    assert float(stream.dense(3, 2, 1.0).sum()) == 6


def test_a_head_gives_its_logits_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    config = HeadConfig(hidden_layers=2, hidden_dim=48)
    head = initial_parameters(config, 20, 9, TrialStreams(4))
    columns = _batches(90, 20, 9, False)[0].columns
    compiled = head.logits(columns)
    monkeypatch.setattr("mambabench.probe.heads.parameters.numba_available", lambda: False)
    torch.testing.assert_close(head.logits(columns), compiled, rtol=1e-5, atol=1e-6)
