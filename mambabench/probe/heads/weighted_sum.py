"""The SUPERB head on pooled features: layer weights and an affine head, a seed's trials at once.

The heads of KS, IC, SID and ER are affine up to the logits: weighted sum over layers, Linear to
256, mean over time, Linear to the classes, and no activation anywhere. The mean over time commutes
with all of them, so per-clip, per-layer time means ``[n_clips, n_layers, dim]`` give the same
logits and the same gradients as frames do, at a fraction of the work.

Source: s3prl 0.4.18, `upstream/interfaces.py` (Featurizer), `downstream/runner.py` and the four
downstreams' models; SUPERB (Yang et al. 2021), section 2.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from mambabench.engine.jobs import Stopped
from mambabench.errors import ProtocolError

__all__ = [
    "LabelledFeatures",
    "LayerSumFit",
    "WeightedSumHead",
    "WeightedSumSettings",
    "accuracy",
    "correct",
    "predict",
    "train",
]

PROJECTION = 256  # projector_dim of all four tasks
_BETAS, _EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class LabelledFeatures:
    """Pooled features of one split and their targets.

    `features` float32 [n_clips, n_layers, dim]; `targets` int64 [n_clips, n_slots] (one slot, or
    three for IC). `groups` int64 [n_clips] numbers clips of which several crops are stored: an
    epoch then takes one crop of each; None where every row is a clip of its own.
    """

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class WeightedSumSettings:
    """One task's published training: steps, batch and learning rates."""

    slot_sizes: tuple[int, ...]  # classes of each slot
    learning_rates: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
    total_steps: int = 200_000
    eval_every: int = 5_000
    batch_size: int = 32  # times accumulation: what one optimiser step sees
    balanced: bool = False  # KS: sample with replacement, inversely to class counts, drop last
    gradient_norm: float = 1.0


@dataclass
class WeightedSumHead:
    """The parameters of `n` stacked trials, float32.

    Shapes: layers [n, n_layers], first_weight [n, 256, dim], first_bias [n, 256],
    second_weight [n, n_classes, 256], second_bias [n, n_classes].
    """

    layers: torch.Tensor
    first_weight: torch.Tensor
    first_bias: torch.Tensor
    second_weight: torch.Tensor
    second_bias: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """Return the parameters in a fixed order."""
        return [
            self.layers,
            self.first_weight,
            self.first_bias,
            self.second_weight,
            self.second_bias,
        ]

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Return [n, n_clips, n_classes] for features [n_layers, n_clips, dim]."""
        n_layers, n_clips, dim = features.shape
        weights = torch.softmax(self.layers, dim=1)  # one layer: the weight is 1
        summed = (weights @ features.reshape(n_layers, -1)).view(-1, n_clips, dim)
        hidden = torch.baddbmm(
            self.first_bias.unsqueeze(1), summed, self.first_weight.transpose(1, 2)
        )
        return torch.baddbmm(
            self.second_bias.unsqueeze(1), hidden, self.second_weight.transpose(1, 2)
        )


@dataclass(frozen=True)
class LayerSumFit:
    """One trial's outcome: the head at its best validation accuracy."""

    seed: int
    learning_rate: float
    validation_accuracy: float
    best_step: int  # 0: no evaluation beat an accuracy of 0
    head: WeightedSumHead  # of this trial alone


def _new_head(
    n: int, n_layers: int, dim: int, n_classes: int, seed: int, device: str = "cpu"
) -> WeightedSumHead:
    """Draw one initialisation, torch.nn.Linear's default, and give it to all `n` trials."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int, fan_in: int) -> torch.Tensor:
        bound = 1.0 / math.sqrt(fan_in)
        drawn = torch.empty(*shape).uniform_(-bound, bound, generator=generator)
        return drawn.unsqueeze(0).repeat(n, *([1] * len(shape))).to(device).requires_grad_()

    return WeightedSumHead(
        torch.zeros(n, n_layers, device=device, requires_grad=True),
        uniform(PROJECTION, dim, fan_in=dim),
        uniform(PROJECTION, fan_in=dim),
        uniform(n_classes, PROJECTION, fan_in=PROJECTION),
        uniform(n_classes, fan_in=PROJECTION),
    )


def _batches(
    data: LabelledFeatures, settings: WeightedSumSettings, seed: int
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield row indices of batches without end, from a generator of the seed's own."""
    generator = np.random.default_rng([seed, 0x5BE8])
    n_rows = len(data.targets)
    groups = np.arange(n_rows) if data.groups is None else data.groups
    first, n_crops = np.unique(groups, return_index=True, return_counts=True)[1:]
    order = np.argsort(groups, kind="stable")
    starts = np.concatenate(([0], np.cumsum(n_crops)[:-1]))
    n_clips = len(first)
    share = np.ones(n_clips)
    if settings.balanced:
        counts = np.bincount(data.targets[:, 0], minlength=settings.slot_sizes[0])
        share = 1.0 / counts[data.targets[first, 0]]
    # a class's stored crops stand for as many draws as it has rows
    share = share * (n_crops if settings.balanced else 1.0)
    while True:
        if settings.balanced:
            clips = generator.choice(n_clips, n_rows, p=share / share.sum())
        else:
            clips = generator.permutation(n_clips)
        rows = order[starts[clips] + (generator.random(len(clips)) * n_crops[clips]).astype(int)]
        size = min(settings.batch_size, len(rows))
        stop = len(rows) - len(rows) % size if settings.balanced else len(rows)
        for start in range(0, stop, size):
            yield rows[start : start + size]


def _loss(logits: torch.Tensor, targets: torch.Tensor, slot_sizes: tuple[int, ...]) -> torch.Tensor:
    """Return the sum over trials and slots of the mean cross-entropy of each."""
    total = logits.new_zeros(())
    for slot, part in enumerate(torch.split(logits, list(slot_sizes), dim=2)):
        wanted = targets[:, slot].expand(part.shape[0], -1)
        entropy = F.cross_entropy(part.transpose(1, 2), wanted, reduction="none")
        total = total + entropy.mean(dim=1).sum()
    return total


def _adam_step(
    head: WeightedSumHead,
    state: list[tuple[torch.Tensor, torch.Tensor]],
    counts: torch.Tensor,
    rates: torch.Tensor,
    gradient_norm: float,
) -> None:
    """Clip each trial's gradient to `gradient_norm` and take its Adam step; skip NaN gradients."""
    tensors = head.tensors()
    grads = [tensor.grad for tensor in tensors]
    square = torch.stack([g.flatten(1).square().sum(1) for g in grads if g is not None]).sum(0)
    norm = square.sqrt()
    usable = torch.isfinite(norm)
    one = norm.new_ones(())
    scale = torch.where(norm > gradient_norm, gradient_norm / (norm + 1e-6), one)
    counts += usable
    first_correction = 1 - _BETAS[0] ** counts
    second_correction = (1 - _BETAS[1] ** counts).sqrt()
    for tensor, grad, (mean, square_mean) in zip(tensors, grads, state, strict=True):
        assert grad is not None
        shape = (-1, *([1] * (tensor.dim() - 1)))
        live = usable.view(shape)
        clipped = torch.where(live, grad * scale.view(shape), 0.0)
        mean.copy_(torch.where(live, mean.lerp(clipped, 1 - _BETAS[0]), mean))
        new_square = square_mean * _BETAS[1] + clipped.square() * (1 - _BETAS[1])
        square_mean.copy_(torch.where(live, new_square, square_mean))
        step = (rates / first_correction.clamp_min(1e-12)).view(shape)
        update = (
            step
            * mean
            / (square_mean.sqrt() / second_correction.clamp_min(1e-12).view(shape) + _EPSILON)
        )
        tensor.data.sub_(torch.where(live, update, 0.0))
        tensor.grad = None


def _layer_first(data: LabelledFeatures) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(data.features.transpose(1, 0, 2)))


def predict(head: WeightedSumHead, data_features: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return logits [n_trials, n_clips, n_classes] for features [n_clips, n_layers, dim]."""
    chunks = []
    with torch.no_grad():
        for start in range(0, len(data_features), 4096):
            part = np.ascontiguousarray(data_features[start : start + 4096].transpose(1, 0, 2))
            rows = torch.from_numpy(part).to(head.layers.device)
            chunks.append(head.logits(rows).cpu())
    return torch.cat(chunks, dim=1)


def correct(
    logits: torch.Tensor, targets: npt.NDArray[np.int64], slot_sizes: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Return [n_trials, n_clips]: are all slots right? logits [n_trials, n_clips, n_classes]."""
    wanted = torch.from_numpy(targets)
    right = torch.ones(logits.shape[:2], dtype=torch.bool)
    for slot, part in enumerate(torch.split(logits, list(slot_sizes), dim=2)):
        right &= part.argmax(dim=2) == wanted[:, slot]
    found: npt.NDArray[np.bool_] = right.numpy()
    return found


def accuracy(
    logits: torch.Tensor, targets: npt.NDArray[np.int64], slot_sizes: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return each trial's accuracy, all slots right; logits [n_trials, n_clips, n_classes]."""
    found: npt.NDArray[np.float64] = correct(logits, targets, slot_sizes).mean(axis=1)
    return found


def train(
    training: LabelledFeatures,
    validation: LabelledFeatures,
    settings: WeightedSumSettings,
    seed: int,
    *,
    device: str = "cpu",
    stop: threading.Event | None = None,
) -> tuple[LayerSumFit, ...]:
    """Train one seed's trials, one per learning rate, stacked: they see the same batches.

    A trial keeps the head of its best validation accuracy, by strict improvement on 0, evaluated
    every `eval_every` steps and at the last. Raises ProtocolError for an empty split, Stopped where
    `stop` is set.
    """
    for name, data in (("training", training), ("validation", validation)):
        if not len(data.targets):
            raise ProtocolError(f"the {name} split is empty; check the task's lists")
    rates = torch.tensor(settings.learning_rates, device=device)
    n_trials = len(rates)
    _, n_layers, dim = training.features.shape
    head = _new_head(n_trials, n_layers, dim, sum(settings.slot_sizes), seed, device)
    state = [(torch.zeros_like(t), torch.zeros_like(t)) for t in head.tensors()]
    counts = torch.zeros(n_trials, device=device)
    features = _layer_first(training).to(device)
    targets = torch.from_numpy(training.targets).to(device)
    best = np.zeros(n_trials)
    best_step = np.zeros(n_trials, dtype=int)
    kept = [tensor.detach().clone() for tensor in head.tensors()]
    for step, rows in enumerate(_batches(training, settings, seed), start=1):
        if stop is not None and stop.is_set():
            raise Stopped
        index = torch.from_numpy(rows).to(device)
        logits = head.logits(features[:, index])
        _loss(logits, targets[index], settings.slot_sizes).backward()  # type: ignore[no-untyped-call]
        _adam_step(head, state, counts, rates, settings.gradient_norm)
        if step % settings.eval_every == 0 or step == settings.total_steps:
            logits = predict(head, validation.features)
            scores = accuracy(logits, validation.targets, settings.slot_sizes)
            for trial in np.flatnonzero(scores > best):
                best[trial], best_step[trial] = scores[trial], step
                for copy, tensor in zip(kept, head.tensors(), strict=True):
                    copy[trial] = tensor.data[trial]
        if step == settings.total_steps:
            break
    return tuple(
        LayerSumFit(
            seed,
            settings.learning_rates[trial],
            float(best[trial]),
            int(best_step[trial]),
            WeightedSumHead(*(copy[trial : trial + 1].to("cpu", copy=True) for copy in kept)),
        )
        for trial in range(n_trials)
    )
