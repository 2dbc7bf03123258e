"""The heads of SUPERB's frame-level tasks on stored frames: phones by CTC, speakers by x-vectors.

Source: s3prl 0.4.18, downstreams `ctc` (FrameLevel head) and `sv_voxceleb1`; SUPERB (Yang et al.
2021), section 2. The x-vector follows Snyder et al. 2018, the loss AM-Softmax (Wang et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from mambabench.benchmarks.metrics.edit_distance import error_rate
from mambabench.errors import ProtocolError
from mambabench.probe.frame_training import (
    EndlessBatches,
    FrameLoop,
    FrameSettings,
    initialise,
    window_batches,
)

__all__ = [
    "BLANK",
    "FittedPhones",
    "FrameSettings",
    "PhoneHead",
    "SpeakerHead",
    "SpeakerNetwork",
    "Speech",
    "ctc_loss",
    "decode",
    "decode_greedy",
    "padded",
    "speaker_embeddings",
    "train_phones",
    "train_speakers",
]

BLANK = 0  # <pad>, as in SUPERB
# frames of one clip: float16 or float32 [n_frames, n_layers, dim]
Frames = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Speech:
    """Clips that are read out, symbol by symbol: frames, target symbols, samples of each clip.

    Targets are indices into the vocabulary; 0 is the blank and never a target.
    """

    frames: Sequence[Frames]
    targets: Sequence[Sequence[int]]
    n_samples: Sequence[int] | None = None  # at 16 kHz; None: no clip halves its batch

    def samples(self) -> Sequence[int]:
        """Return the samples of each clip, 0 where they are not known."""
        return self.n_samples if self.n_samples is not None else [0] * len(self.frames)


@dataclass(frozen=True)
class FittedPhones:
    """A phone head at its lowest validation error rate."""

    head: PhoneHead
    error_rate: float
    step: int  # 0: no evaluation was below infinity


class LayerSum(nn.Module):
    """Softmax-weighted sum over layers: [..., n_layers, dim] -> [..., dim]."""

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_layers))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return torch.einsum("l,btld->btd", torch.softmax(self.weights, 0), frames)


class PhoneHead(nn.Module):
    """Weighted sum, Linear to 256, Linear to the symbols, frame by frame (no activation)."""

    def __init__(self, n_layers: int, dim: int, n_symbols: int) -> None:
        super().__init__()
        self.layers = LayerSum(n_layers)
        self.first = nn.Linear(dim, 256)
        self.second = nn.Linear(256, n_symbols)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return logits [n_clips, n_frames, n_symbols] of frames [n_clips, n_frames, L, dim]."""
        logits: torch.Tensor = self.second(self.first(self.layers(frames)))
        return logits


class SpeakerNetwork(nn.Module):
    """Linear to 512, five time-delay layers, mean and deviation over time, two Linears to 512."""

    CONTEXTS = ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1))
    WIDTHS = (512, 512, 512, 512, 1500)

    def __init__(self, n_layers: int, dim: int) -> None:
        super().__init__()
        self.layers = LayerSum(n_layers)
        self.connector = nn.Linear(dim, 512)
        sizes = (512, *self.WIDTHS)
        self.delays = nn.ModuleList(
            nn.Conv1d(sizes[i], sizes[i + 1], kernel, dilation=dilation)
            for i, (kernel, dilation) in enumerate(self.CONTEXTS)
        )
        self.first = nn.Linear(2 * self.WIDTHS[-1], 512)
        self.second = nn.Linear(512, 512)

    @property
    def context(self) -> int:
        """Frames that the time-delay layers use up: 14."""
        return sum((kernel - 1) * dilation for kernel, dilation in self.CONTEXTS)

    def embed(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return [n_clips, 512]: the first Linear and ReLU; frames [n, T, L, dim], lengths [n].

        Padded frames never enter the statistics. Clips shorter than the context are refused.
        """
        if int(lengths.min()) <= self.context:
            raise ProtocolError(
                f"a clip has {int(lengths.min())} frames, x-vectors need more than {self.context}"
            )
        x = self.connector(self.layers(frames)).transpose(1, 2)
        for layer in self.delays:
            x = F.relu(layer(x))
        left = (lengths - self.context).to(x.device)
        live = (torch.arange(x.shape[2], device=x.device) < left[:, None]).unsqueeze(1).to(x.dtype)
        mean = (x * live).sum(2) / left.unsqueeze(1)
        square = (((x - mean.unsqueeze(2)) * live) ** 2).sum(2)
        deviation = torch.sqrt(square / (left.unsqueeze(1) - 1).clamp_min(1) + 1e-12)
        return F.relu(self.first(torch.cat([mean, deviation], dim=1)))

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the training features [n_clips, 512]: embed, then Linear and ReLU."""
        return F.relu(self.second(self.embed(frames, lengths)))


class SpeakerHead(nn.Module):
    """AM-Softmax: scale 30, margin 0.4 on the cosine of the true speaker."""

    def __init__(
        self, n_speakers: int, scale: float = 30.0, margin: float = 0.4, seed: int = 0
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(n_speakers, 512)
        self.weight = nn.Parameter(nn.init.xavier_normal_(weight, generator=generator))
        self.scale, self.margin = scale, margin

    def forward(self, features: torch.Tensor, speakers: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of features [n, 512] and speaker ids [n]."""
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        target = F.one_hot(speakers, cosine.shape[1])
        return F.cross_entropy(self.scale * (cosine - self.margin * target), speakers)


def padded(clips: Sequence[Frames], device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return clips filled up with zeros, float32 [n_clips, n_frames, ...], and lengths [n_clips].

    Lengths stay on the CPU.
    """
    lengths = torch.tensor([len(clip) for clip in clips])
    filled = torch.zeros(len(clips), int(lengths.max()), *clips[0].shape[1:])
    for row, clip in enumerate(clips):
        filled[row, : len(clip)] = torch.from_numpy(np.asarray(clip, dtype=np.float32))
    return filled.to(device), lengths


def decode_greedy(logits: torch.Tensor, n_frames: int, dropped: Sequence[int] = ()) -> list[int]:
    """Return the best path of logits [n_frames, n_symbols]: repeats merged, blanks dropped.

    Symbols of `dropped` (an end symbol) are left out wherever they stand.
    """
    path = logits[:n_frames].argmax(-1)
    merged = torch.unique_consecutive(path).tolist()
    return [symbol for symbol in merged if symbol != BLANK and symbol not in dropped]


def decode(
    head: PhoneHead, clips: Sequence[Frames], dropped: Sequence[int] = ()
) -> list[list[int]]:
    """Return the greedily decoded symbols of each clip."""
    device = next(head.parameters()).device
    found = []
    with torch.no_grad():
        for clip in clips:
            frames = torch.from_numpy(np.asarray(clip, dtype=np.float32)).to(device)
            found.append(decode_greedy(head(frames[None])[0], len(clip), dropped))
    return found


def ctc_loss(
    logits: torch.Tensor, lengths: torch.Tensor, targets: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Return the CTC loss of logits [n_clips, n_frames, n_symbols]: per clip over its target's
    length, mean over clips; a target that does not fit adds 0 but counts."""
    wanted = torch.tensor([symbol for target in targets for symbol in target])
    sizes = torch.tensor([len(target) for target in targets])
    scores = F.log_softmax(logits, -1).transpose(0, 1)
    return F.ctc_loss(scores, wanted, lengths, sizes, BLANK, zero_infinity=True)


def _without(targets: Sequence[Sequence[int]], dropped: Sequence[int]) -> list[list[int]]:
    return [[symbol for symbol in target if symbol not in dropped] for target in targets]


def train_phones(
    training: Speech,
    validation: Speech,
    n_symbols: int,
    settings: FrameSettings,
    seed: int,
    dropped: Sequence[int] = (),
) -> FittedPhones:
    """Train one phone head; return it at its lowest validation error rate (the first of equals).

    Batches are SUPERB's windows (see `window_batches`), `settings.accumulation` of them a step.
    Symbols of `dropped`, such as the end symbol, are trained but not scored. Initialisation and
    order come from `seed` alone.
    """
    if not len(training.frames):
        raise ProtocolError("the training split is empty; check the task's lists")
    _, n_layers, dim = training.frames[0].shape
    head = PhoneHead(n_layers, dim, n_symbols)
    initialise(head, seed).to(settings.device)
    sizes = [len(target) for target in training.targets]
    windows = window_batches(sizes, training.samples(), settings.batch_size)
    epochs = EndlessBatches(
        lambda g: [windows[i] for i in g.permutation(len(windows))], (seed, 0xC7C)
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    loop = FrameLoop(nn.ModuleDict({"head": head}), optimiser, epochs, settings)
    loop.kept = {"value": math.inf, "step": 0, "state": loop.state()}
    references = _without(validation.targets, dropped)

    def loss(rows: Sequence[int]) -> torch.Tensor:
        frames, lengths = padded([training.frames[row] for row in rows], settings.device)
        return ctc_loss(head(frames), lengths, [training.targets[row] for row in rows])

    def evaluate(step: int) -> None:
        rate, _ = error_rate(references, decode(head, validation.frames, dropped))
        if rate < loop.kept["value"]:
            loop.kept = {"value": rate, "step": step, "state": loop.state()}

    loop.run(loss, evaluate)
    loop.modules.load_state_dict(loop.kept["state"])
    return FittedPhones(head, float(loop.kept["value"]), int(loop.kept["step"]))


def train_speakers(
    training: tuple[Sequence[Frames], npt.NDArray[np.int64]],
    settings: FrameSettings,
    seed: int,
    checkpoint_steps: Sequence[int] = (),
    crops: npt.NDArray[np.int64] | None = None,
) -> tuple[SpeakerNetwork, dict[int, dict[str, torch.Tensor]]]:
    """Train one x-vector network; return it as it ends, and its state at `checkpoint_steps`.

    `training` is (frames per row, speaker id per row). `crops` numbers the clips that rows are
    stored crops of: an epoch takes one crop of each clip, drawn anew. AdamW with weight decay 0.01.
    """
    rows, speakers = training
    if not len(rows):
        raise ProtocolError("the training split is empty; check the task's lists")
    _, n_layers, dim = rows[0].shape
    network = SpeakerNetwork(n_layers, dim)
    head = SpeakerHead(int(speakers.max()) + 1, seed=seed)
    initialise(network, seed)
    modules = nn.ModuleDict({"network": network, "head": head}).to(settings.device)
    optimiser = torch.optim.AdamW(
        modules.parameters(), lr=settings.learning_rate, weight_decay=0.01
    )
    clips = np.arange(len(rows)) if crops is None else np.unique(crops, return_inverse=True)[1]
    members = [np.flatnonzero(clips == clip) for clip in range(int(clips.max()) + 1)]

    def draw(generator: np.random.Generator) -> list[list[int]]:
        order = generator.permutation(len(members))
        taken = [int(generator.choice(members[clip])) for clip in order]
        size = settings.batch_size
        return [taken[start : start + size] for start in range(0, len(taken), size)]

    loop = FrameLoop(modules, optimiser, EndlessBatches(draw, (seed, 0xA5F)), settings)

    def loss(batch: Sequence[int]) -> torch.Tensor:
        frames, lengths = padded([rows[row] for row in batch], settings.device)
        wanted = torch.from_numpy(speakers[list(batch)]).to(settings.device)
        value: torch.Tensor = head(network(frames, lengths), wanted)
        return value

    def evaluate(step: int) -> None:
        if step in checkpoint_steps:
            loop.kept[str(step)] = {
                k: v.detach().to("cpu", copy=True) for k, v in network.state_dict().items()
            }

    # every checkpoint is an evaluation
    every = math.gcd(settings.total_steps, *checkpoint_steps)
    loop.settings = replace(settings, accumulation=1, eval_every=every)
    loop.run(loss, evaluate)
    return network, {int(step): state for step, state in loop.kept.items()}


def speaker_embeddings(network: SpeakerNetwork, clips: Sequence[Frames]) -> npt.NDArray[np.float32]:
    """Return L2-normalised embeddings [n_clips, 512]: the score of a trial is their dot product."""
    device = str(next(network.parameters()).device)
    found = []
    with torch.no_grad():
        for clip in clips:
            frames, lengths = padded([clip], device)
            found.append(F.normalize(network.embed(frames, lengths))[0].cpu().numpy())
    stacked: npt.NDArray[np.float32] = np.stack(found)
    return stacked
