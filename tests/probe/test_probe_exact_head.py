"""Heads of the exact stream against torch's own modules and optimisers, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mambabench.probe.heads import exact, exact_kernels
from mambabench.probe.heads.choice import make_head
from mambabench.probe.heads.compiled import CompiledHead
from mambabench.probe.heads.exact import ExactHead, rounds_as_torch
from mambabench.probe.heads.parameters import (
    HeadParameters,
    RowBatch,
    initial_parameters,
    padded_columns,
)
from mambabench.probe.heads.plain import TorchHead
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.protocols import HeadConfig

ROWS, DIM, LABELS = 247, 40, 5
FUSED = torch.backends.mkl.is_available() and torch.backends.cpu.get_cpu_capability() in (
    "AVX2",
    "AVX512",
)


def _data(multilabel: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows [n, dim] and one-hot or multi-hot targets [n, n_labels]."""
    generator = torch.Generator().manual_seed(8)
    rows = torch.randn(ROWS, DIM, generator=generator)
    if multilabel:
        return rows, (torch.rand(ROWS, LABELS, generator=generator) < 0.3).float()
    index = torch.randint(0, LABELS, (ROWS,), generator=generator)
    return rows, nn.functional.one_hot(index, LABELS).float()


class _Modules:
    """The kit's own head: modules, automatic differentiation and an optimiser of torch."""

    def __init__(self, config: HeadConfig, start: HeadParameters) -> None:
        layers: list[nn.Module] = []
        for i, (weight, bias) in enumerate(zip(start.weights, start.biases, strict=True)):
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.weight.data.copy_(torch.from_numpy(weight))
            linear.bias.data.copy_(torch.from_numpy(bias))
            layers.append(linear)
            if i < config.hidden_layers:
                layers += [nn.BatchNorm1d(len(bias)), nn.Dropout(config.dropout), nn.ReLU()]
        self.net = nn.Sequential(*layers)
        groups: Any = self.net.parameters()
        kind: Any = torch.optim.Adam
        if config.weight_decay:
            named = dict(self.net.named_parameters())
            matrices = [p for p in named.values() if p.ndim == 2]
            others = [p for p in named.values() if p.ndim == 1]
            groups = [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ]
            kind = torch.optim.AdamW
        self.optimiser = kind(groups, lr=config.lr)

    def step(self, rows: torch.Tensor, target: torch.Tensor, multilabel: bool) -> None:
        self.net.train()
        self.optimiser.zero_grad()
        logits = self.net(rows)
        if multilabel:
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target)
        else:
            loss = nn.functional.cross_entropy(logits, target.argmax(1))
        loss.backward()
        self.optimiser.step()

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        self.net.eval()
        with torch.no_grad():
            return self.net(rows)

    def arrays(self) -> dict[str, np.ndarray]:
        linears = [m for m in self.net if isinstance(m, nn.Linear)]
        norms = [m for m in self.net if isinstance(m, nn.BatchNorm1d)]

        def copied(*tensors: torch.Tensor) -> tuple[np.ndarray, ...]:
            return tuple(t.detach().numpy().copy() for t in tensors)

        return HeadParameters(
            copied(*(m.weight for m in linears)),
            copied(*(m.bias for m in linears)),
            tuple(np.stack(copied(m.weight, m.bias)) for m in norms),
            tuple(np.stack(copied(m.running_mean, m.running_var)) for m in norms),
        ).arrays()


def _equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    bits = [np.ascontiguousarray(a).view(np.uint32) for a in (ours, theirs)]
    return bool((bits[0] == bits[1]).all())


@pytest.mark.parametrize("kind", [ExactHead, TorchHead])
@pytest.mark.parametrize(
    ("hidden_layers", "hidden_dim", "multilabel", "weight_decay"),
    [
        (0, 64, False, 0.0),
        (1, 512, False, 0.0),
        (1, 192, True, 0.1),
        (2, 128, False, 0.0),
        (2, 128, True, 0.0),
        (2, 192, False, 0.1),
        (2, 48, False, 0.0),
        (1, 200, True, 0.0),
    ],
)
def test_every_bit_is_that_of_torch(
    kind: Any, hidden_layers: int, hidden_dim: int, multilabel: bool, weight_decay: float
) -> None:
    if kind is ExactHead and not FUSED:
        pytest.skip("torch's build for this processor rounds in another way")
    config = HeadConfig(
        hidden_layers=hidden_layers,
        hidden_dim=hidden_dim,
        lr=1e-3,
        dropout=0.1,
        weight_decay=weight_decay,
    )
    streams = TrialStreams(4, exact=True)
    start = initial_parameters(config, DIM, LABELS, streams)
    head = kind(config, start, streams)
    rows, target = _data(multilabel)
    parts = list(zip(torch.split(rows, 100), torch.split(target, 100), strict=True))
    batches = [
        RowBatch(r.clone(), padded_columns(r), t.t().contiguous(), multilabel) for r, t in parts
    ]
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(streams.generator.get_state())
        modules = _Modules(config, start)  # draws, so the state is set again
        torch.set_rng_state(streams.generator.get_state())
        for step in range(36):
            head.step(batches[step % 3])
            modules.step(*parts[step % 3], multilabel)
        assert torch.equal(torch.get_rng_state(), streams.generator.get_state())
    theirs = modules.arrays()
    for name, ours in head.parameters().arrays().items():
        assert _equal(ours, theirs[name]), name
    valid = torch.randn(47, DIM, generator=torch.Generator().manual_seed(9))
    ours = head.logits(padded_columns(valid))[:, :47].t()
    assert _equal(ours.numpy(), modules.logits(valid).numpy())


def test_a_diverging_head_is_not_a_number_in_the_same_places() -> None:
    config = HeadConfig(hidden_layers=1, hidden_dim=64, lr=1e-3)
    rows, target = _data(False)
    rows[3, 7] = float("inf")
    batch = RowBatch(rows, padded_columns(rows), target.t().contiguous(), False)
    found = []
    for kind in (ExactHead, TorchHead):
        streams = TrialStreams(4, exact=True)
        head = kind(config, initial_parameters(config, DIM, LABELS, streams), streams)
        head.step(batch)
        head.step(batch)
        found.append(head.logits(padded_columns(_data(False)[0])).isnan())
    assert found[0].any()
    assert torch.equal(*found)


@pytest.mark.skipif(not FUSED, reason="torch's build for this processor rounds in another way")
def test_the_exact_stream_takes_the_exact_head(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(exact_stream: bool, compiled: bool | None = None) -> object:
        config = HeadConfig(hidden_dim=64)
        streams = TrialStreams(1, exact=exact_stream)
        start = initial_parameters(config, DIM, LABELS, streams)
        return type(make_head(config, start, streams, compiled))

    assert made(True) is ExactHead
    assert made(True, compiled=False) is TorchHead
    assert made(True, compiled=True) is CompiledHead
    assert made(False) is CompiledHead
    monkeypatch.setattr(exact, "rounds_as_torch", lambda: False)
    assert made(True) is TorchHead


@pytest.mark.skipif(not FUSED, reason="torch's build for this processor rounds in another way")
@pytest.mark.parametrize("kernel", ["norm_forward", "norm_backward", "evaluated", "adam_weights"])
def test_one_bit_off_is_noticed(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    assert rounds_as_torch()
    right = getattr(exact_kernels, kernel)

    def off(first: np.ndarray, *rest: Any) -> None:
        right(first, *rest)
        written = rest[-2] if kernel == "norm_forward" else first
        flat = written.reshape(-1).view(np.uint32)
        flat[np.flatnonzero(flat)[:8]] += np.uint32(1)

    monkeypatch.setattr(exact_kernels, kernel, off)
    assert not rounds_as_torch.__wrapped__()
