"""The heads of SUPERB's frame-level tasks on stored frames: phones by CTC, speakers by x-vectors.

Source: s3prl 0.4.18, downstreams `ctc` (FrameLevel head) and `sv_voxceleb1`; SUPERB (Yang et al.
2021), section 2. The x-vector follows Snyder et al. 2018, the loss AM-Softmax (Wang et al. 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from mambabench.benchmarks.superb.metrics import error_rate
from mambabench.errors import ProtocolError

__all__ = [
    "BLANK",
    "FrameSettings",
    "PhoneHead",
    "SpeakerHead",
    "SpeakerNetwork",
    "decode",
    "decode_greedy",
    "speaker_embeddings",
    "train_phones",
    "train_speakers",
]

BLANK = 0  # <pad>, as in SUPERB
# frames of one clip: float16 or float32 [n_frames, n_layers, dim]
Frames = npt.NDArray[np.floating]


@dataclass(frozen=True)
class FrameSettings:
    """How one head is trained. The defaults are PR's; ASV passes its own."""

    learning_rate: float = 1e-2
    total_steps: int = 100_000
    batch_size: int = 32  # times accumulation
    eval_every: int = 1_000
    gradient_norm: float = 1.0
    crop_frames: int | None = None  # ASV: 8 s of frames, drawn anew at every step


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

    def __init__(self, n_speakers: int, scale: float = 30.0, margin: float = 0.4) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_normal_(torch.empty(n_speakers, 512)))
        self.scale, self.margin = scale, margin

    def forward(self, features: torch.Tensor, speakers: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of features [n, 512] and speaker ids [n]."""
        cosine = F.linear(F.normalize(features), F.normalize(self.weight))
        target = F.one_hot(speakers, cosine.shape[1])
        return F.cross_entropy(self.scale * (cosine - self.margin * target), speakers)


def _pad(clips: Sequence[Frames]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = torch.zeros(len(clips), int(lengths.max()), *clips[0].shape[1:])
    for row, clip in enumerate(clips):
        padded[row, : len(clip)] = torch.from_numpy(np.asarray(clip, dtype=np.float32))
    return padded, lengths


def _buckets(sizes: Sequence[int], batch: int, generator: np.random.Generator) -> list[list[int]]:
    """Return one epoch's batches of clips of neighbouring target length, in random order."""
    order = np.argsort(np.asarray(sizes), kind="stable")
    batches = [order[i : i + batch].tolist() for i in range(0, len(order), batch)]
    return [batches[i] for i in generator.permutation(len(batches))]


def _step(optimiser: torch.optim.Optimizer, loss: torch.Tensor, gradient_norm: float) -> None:
    """Clip and step; a batch whose gradient is not finite is skipped, as SUPERB's runner does."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    tensors = [tensor for group in optimiser.param_groups for tensor in group["params"]]
    if math.isfinite(float(nn.utils.clip_grad_norm_(tensors, gradient_norm))):
        optimiser.step()


def decode_greedy(logits: torch.Tensor, n_frames: int) -> list[int]:
    """Return the best path of logits [n_frames, n_symbols], repeats merged, blanks dropped."""
    path = logits[:n_frames].argmax(-1)
    merged = torch.unique_consecutive(path).tolist()
    return [symbol for symbol in merged if symbol != BLANK]


def decode(head: PhoneHead, clips: Sequence[Frames]) -> list[list[int]]:
    """Return the greedily decoded symbols of each clip."""
    found = []
    with torch.no_grad():
        for clip in clips:
            logits = head(torch.from_numpy(np.asarray(clip, dtype=np.float32))[None])[0]
            found.append(decode_greedy(logits, len(clip)))
    return found


def train_phones(
    training: tuple[Sequence[Frames], Sequence[Sequence[int]]],
    validation: tuple[Sequence[Frames], Sequence[Sequence[int]]],
    n_symbols: int,
    settings: FrameSettings,
    seed: int,
) -> tuple[PhoneHead, float, int]:
    """Train one phone head; return it at its lowest validation error rate, that rate and its step.

    Each side is (frames per clip, symbols per clip); symbols start at 1, 0 is the blank. Clips are
    batched with others of similar target length, as SUPERB buckets them. Initialisation and order
    come from `seed` alone; torch's global generator is left as it was.
    """
    clips, targets = training
    if not len(clips):
        raise ProtocolError("the training split is empty; check the task's lists")
    _, n_layers, dim = clips[0].shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = PhoneHead(n_layers, dim, n_symbols)
    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    generator = np.random.default_rng([seed, 0xC7C])
    best, best_step, kept = math.inf, 0, {k: v.clone() for k, v in head.state_dict().items()}
    step = 0
    while step < settings.total_steps:
        for rows in _buckets([len(t) for t in targets], settings.batch_size, generator):
            frames, lengths = _pad([clips[row] for row in rows])
            wanted = torch.tensor([symbol for row in rows for symbol in targets[row]])
            sizes = torch.tensor([len(targets[row]) for row in rows])
            scores = F.log_softmax(head(frames), -1).transpose(0, 1)
            loss = F.ctc_loss(scores, wanted, lengths, sizes, BLANK, zero_infinity=True)
            _step(optimiser, loss, settings.gradient_norm)
            step += 1
            if step % settings.eval_every == 0 or step == settings.total_steps:
                rate, _ = error_rate(validation[1], decode(head, validation[0]))
                if rate < best:
                    best, best_step = rate, step
                    kept = {k: v.clone() for k, v in head.state_dict().items()}
            if step == settings.total_steps:
                break
    head.load_state_dict(kept)
    return head, best, best_step


def train_speakers(
    training: tuple[Sequence[Frames], npt.NDArray[np.int64]],
    settings: FrameSettings,
    seed: int,
    checkpoint_steps: Sequence[int] = (),
) -> tuple[SpeakerNetwork, dict[int, dict[str, torch.Tensor]]]:
    """Train one x-vector network; return it as it ends, and its state at `checkpoint_steps`.

    `training` is (frames per clip, speaker id per clip). Longer clips are cropped to
    `settings.crop_frames` anew at every step. AdamW with weight decay 0.01.
    """
    clips, speakers = training
    if not len(clips):
        raise ProtocolError("the training split is empty; check the task's lists")
    _, n_layers, dim = clips[0].shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SpeakerNetwork(n_layers, dim)
        head = SpeakerHead(int(speakers.max()) + 1)
    optimiser = torch.optim.AdamW(
        [*network.parameters(), *head.parameters()], lr=settings.learning_rate, weight_decay=0.01
    )
    generator = np.random.default_rng([seed, 0xA5F])
    states: dict[int, dict[str, torch.Tensor]] = {}
    step = 0
    while step < settings.total_steps:
        order = generator.permutation(len(clips))
        for start in range(0, len(order), settings.batch_size):
            rows = order[start : start + settings.batch_size]
            frames, lengths = _pad([_crop(clips[r], settings.crop_frames, generator) for r in rows])
            loss = head(network(frames, lengths), torch.from_numpy(speakers[rows]))
            _step(optimiser, loss, settings.gradient_norm)
            step += 1
            if step in checkpoint_steps:
                states[step] = {k: v.clone() for k, v in network.state_dict().items()}
            if step == settings.total_steps:
                break
    return network, states


def _crop(clip: Frames, n_frames: int | None, generator: np.random.Generator) -> Frames:
    if n_frames is None or len(clip) <= n_frames:
        return clip
    start = int(generator.integers(0, len(clip) - n_frames + 1))
    return clip[start : start + n_frames]


def speaker_embeddings(network: SpeakerNetwork, clips: Sequence[Frames]) -> npt.NDArray[np.float32]:
    """Return L2-normalised embeddings [n_clips, 512]: the score of a trial is their dot product."""
    found = []
    with torch.no_grad():
        for clip in clips:
            frames, lengths = _pad([clip])
            found.append(F.normalize(network.embed(frames, lengths))[0].numpy())
    stacked: npt.NDArray[np.float32] = np.stack(found)
    return stacked
