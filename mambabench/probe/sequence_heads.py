"""SUPERB's recurrent heads on stored frames: text by CTC (ASR, SF), speakers by turns (SD).

Source: s3prl 0.4.18, downstreams `asr`, `ctc` and `diarization`; SUPERB (Yang et al. 2021),
section 2. Initial values are torch's defaults, drawn from the trial's own generators, as are
dropout, masks and the order of batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mambabench.errors import ProtocolError
from mambabench.probe.frame_training import EndlessBatches, FrameLoop, FrameSettings, initialise
from mambabench.probe.heads.frame_heads import (
    Frames,
    LayerSum,
    Speech,
    ctc_loss,
    decode_greedy,
    padded,
)
from mambabench.probe.spec_augment import drawing, spec_augment

__all__ = [
    "DiarizationHead",
    "FrameCounts",
    "RecurrentHead",
    "SpeakingHead",
    "TextHead",
    "decode_text",
    "frame_counts",
    "length_batches",
    "letter_probabilities",
    "match_length",
    "permutation_free_loss",
    "predict_speakers",
    "train_speaking",
    "train_text",
]

DROPOUT = 0.2
TEXT_WIDTH, SPEAKER_WIDTH = 1024, 512
Score = Callable[[list[list[int]]], float]  # decoded validation clips -> a rate, lower is better


def length_batches(
    n_samples: Sequence[int], bucket: int = 32, half_above: int = 2_000
) -> list[list[int]]:
    """Return ASR's batches: slices of `bucket` clips by length, longest first.

    A full slice with a clip of more than `half_above` samples becomes two halves (every one, since
    lengths are samples); a rest of one clip is left out. Equals keep their order.
    """
    order = sorted(range(len(n_samples)), key=lambda i: -n_samples[i])
    batches = []
    for start in range(0, len(order), bucket):
        part = order[start : start + bucket]
        if len(part) == bucket >= 2 and max(n_samples[i] for i in part) > half_above:
            batches += [part[: bucket // 2], part[bucket // 2 :]]
        elif len(part) == bucket or len(part) > 1:
            batches.append(part)
    return batches


class RecurrentHead(nn.Module):
    """Linear, two bidirectional LSTMs with dropout after each, Linear to the symbols."""

    def __init__(self, dim: int, n_symbols: int, project: int, width: int) -> None:
        super().__init__()
        self.projector = nn.Linear(dim, project)
        self.rnns = nn.ModuleList(
            nn.LSTM(size, width, batch_first=True, bidirectional=True)
            for size in (project, 2 * width)
        )
        self.linear = nn.Linear(2 * width, n_symbols)

    def forward(
        self, features: torch.Tensor, lengths: torch.Tensor, noise: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return logits [n_clips, n_frames, n_symbols] of features [n_clips, n_frames, dim].

        `lengths` [n_clips] lie on the CPU; padding never enters. `noise` draws dropout while
        training.
        """
        x: torch.Tensor = self.projector(features)
        for rnn in self.rnns:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            x, _ = pad_packed_sequence(rnn(packed)[0], batch_first=True)
            if self.training and noise is not None:
                kept = torch.rand(x.shape, generator=noise, device=noise.device) >= DROPOUT
                x = x * kept.to(x.device) / (1 - DROPOUT)
        logits: torch.Tensor = self.linear(x)
        return logits


class TextHead(nn.Module):
    """Weighted sum of layers, SpecAugment while training, then the recurrent head."""

    def __init__(
        self,
        n_layers: int,
        dim: int,
        n_symbols: int,
        width: int = TEXT_WIDTH,
        augmented: bool = True,
    ) -> None:
        super().__init__()
        self.augmented = augmented
        self.layers = LayerSum(n_layers)
        self.head = RecurrentHead(dim, n_symbols, width, width)

    def forward(
        self, frames: torch.Tensor, lengths: torch.Tensor, noise: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return logits of frames [n_clips, n_frames, n_layers, dim]."""
        summed = self.layers(frames)
        if self.training and self.augmented and noise is not None:
            summed = spec_augment(summed, lengths, drawing(noise))
        logits: torch.Tensor = self.head(summed, lengths, noise)
        return logits


def decode_text(
    head: TextHead, clips: Sequence[Frames], dropped: Sequence[int] = ()
) -> list[list[int]]:
    """Return the greedily decoded symbols of each clip, one clip at a time."""
    device = str(next(head.parameters()).device)
    found = []
    with torch.no_grad():
        for clip in clips:
            frames, lengths = padded([clip], device)
            found.append(decode_greedy(head(frames, lengths)[0], len(clip), dropped))
    return found


def letter_probabilities(
    head: TextHead, clips: Sequence[Frames]
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the log-probabilities [n_frames, n_symbols] of each clip, one clip at a time."""
    device = str(next(head.parameters()).device)
    with torch.no_grad():
        for clip in clips:
            frames, lengths = padded([clip], device)
            yield F.log_softmax(head(frames, lengths)[0].float(), dim=-1).cpu().numpy()


def train_text(
    training: Speech,
    clips: Sequence[Frames],
    score: Score,
    settings: FrameSettings,
    seed: int,
    *,
    n_symbols: int,
    width: int,
    batches: Sequence[Sequence[int]],
    dropped: Sequence[int] = (),
    augmented: bool = True,
) -> tuple[TextHead, float, int]:
    """Train a text head; return it at its lowest score, that score and its step.

    `clips` are the validation clips that `score` rates as decoded; of equals the first is kept.
    `batches` are those of one epoch, taken in an order drawn anew every epoch; `augmented` masks
    and warps features while training.
    """
    if not len(training.frames) or not len(batches):
        raise ProtocolError("the training split has no batch; check the task's lists")
    _, n_layers, dim = training.frames[0].shape
    head = TextHead(n_layers, dim, n_symbols, width, augmented)
    initialise(head, seed).to(settings.device)
    noise = torch.Generator().manual_seed(seed ^ 0x5EC)
    epochs = EndlessBatches(
        lambda g: [batches[i] for i in g.permutation(len(batches))], (seed, 0xA58)
    )
    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    loop = FrameLoop(nn.ModuleDict({"head": head}), optimiser, epochs, settings, noise)
    loop.kept = {"value": math.inf, "step": 0, "state": loop.state()}

    def loss(rows: Sequence[int]) -> torch.Tensor:
        frames, lengths = padded([training.frames[row] for row in rows], settings.device)
        logits = head(frames, lengths, noise)
        return ctc_loss(logits, lengths, [training.targets[row] for row in rows])

    def evaluate(step: int) -> None:
        value = score(decode_text(head, clips, dropped))
        if value < loop.kept["value"]:
            loop.kept = {"value": value, "step": step, "state": loop.state()}

    loop.run(loss, evaluate)
    loop.modules.load_state_dict(loop.kept["state"])
    return head.eval(), float(loop.kept["value"]), int(loop.kept["step"])


class DiarizationHead(nn.Module):
    """One LSTM and Linear to the speakers, frame by frame."""

    def __init__(self, dim: int, width: int = SPEAKER_WIDTH, n_speakers: int = 2) -> None:
        super().__init__()
        self.rnn = nn.LSTM(dim, width, batch_first=True)
        self.linear = nn.Linear(width, n_speakers)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [n_clips, n_frames, n_speakers]; padding comes after and is not masked."""
        logits: torch.Tensor = self.linear(self.rnn(features)[0])
        return logits


def match_length(features: torch.Tensor, n_labels: int) -> torch.Tensor:
    """Return padded features [n_clips, n_labels, dim] for labels of another number of frames.

    Every frame is repeated round(labels / frames) times; then the tensor is cut, or its last row
    repeated, which is zeros for every clip but the longest, as in s3prl.
    """
    factor = round(n_labels / features.shape[1])
    if factor > 1:
        features = features.repeat_interleave(factor, dim=1)
    missing = n_labels - features.shape[1]
    if missing > 0:
        features = torch.cat([features, features[:, -1:].expand(-1, missing, -1)], dim=1)
    return features[:, :n_labels]


def permutation_free_loss(
    logits: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of two speakers in the better order, and labels in that order.

    `logits` and `labels` are [n_clips, n_frames, 2], `lengths` [n_clips]. For both orders: binary
    cross-entropy, mean over speakers, sum over valid frames; the smaller of a clip counts (the
    first of equals); summed over clips and divided by all valid frames.
    """
    valid = torch.arange(logits.shape[1], device=logits.device) < lengths.to(logits.device)[:, None]
    orders = [labels, labels.flip(2)]
    costs = [
        (F.binary_cross_entropy_with_logits(logits, order, reduction="none").mean(2) * valid).sum(1)
        for order in orders
    ]
    second = costs[1] < costs[0]
    chosen = torch.where(second, costs[1], costs[0])
    ordered = torch.where(second[:, None, None], orders[1], orders[0])
    return chosen.sum() / valid.sum(), ordered


class FrameCounts:
    """Frames of a batch by what became of them, as EEND counts them; all are plain numbers."""

    NAMES = (
        "correct",
        "frames",
        "speech_scored",
        "speech_miss",
        "speech_false_alarm",
        "speaker_scored",
        "speaker_miss",
        "speaker_false_alarm",
        "speaker_error",
    )

    def __init__(self, values: npt.NDArray[np.float64]) -> None:
        self.values = values  # [9] in the order of NAMES

    @property
    def accuracy(self) -> float:
        """Equal entries over entries; 0 where nobody speaks, as in s3prl."""
        silent = self.values[2] == 0 or self.values[5] == 0 or self.values[1] == 0
        return 0.0 if silent else float(self.values[0] / self.values[1])

    @property
    def error_rate(self) -> float:
        """Miss, false alarm and error over scored speaker frames; 0 where nobody speaks."""
        silent = self.values[2] == 0 or self.values[5] == 0
        return 0.0 if silent else float(self.values[6:].sum() / self.values[5])


def frame_counts(logits: torch.Tensor, ordered: torch.Tensor, lengths: torch.Tensor) -> FrameCounts:
    """Count the frames of logits above 0 against labels in their best order."""
    valid = torch.arange(logits.shape[1], device=logits.device) < lengths.to(logits.device)[:, None]
    there = (ordered > 0.5) & valid[:, :, None]
    given = (logits > 0) & valid[:, :, None]
    n_there, n_given = there.sum(2), given.sum(2)
    right = ((there == given) & valid[:, :, None]).sum() / logits.shape[2]
    mapped = (there & given).sum(2)
    values = [
        right,
        valid.sum(),
        (n_there > 0).sum(),
        ((n_there > 0) & (n_given == 0)).sum(),
        ((n_there == 0) & (n_given > 0) & valid).sum(),
        n_there.sum(),
        (n_there - n_given).clamp_min(0).sum(),
        (n_given - n_there).clamp_min(0).sum(),
        (torch.minimum(n_there, n_given) - mapped).sum(),
    ]
    return FrameCounts(np.array([float(value) for value in values]))


class SpeakingHead(nn.Module):
    """Weighted sum of layers, length matched to the labels, then the diarization head."""

    def __init__(self, n_layers: int, dim: int, width: int = SPEAKER_WIDTH) -> None:
        super().__init__()
        self.layers = LayerSum(n_layers)
        self.head = DiarizationHead(dim, width)

    def forward(self, frames: torch.Tensor, n_labels: int) -> torch.Tensor:
        """Return logits [n_clips, n_labels, 2] of frames [n_clips, n_frames, n_layers, dim]."""
        logits: torch.Tensor = self.head(match_length(self.layers(frames), n_labels))
        return logits


def _padded_labels(
    labels: Sequence[npt.NDArray[np.float32]], device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(one) for one in labels])
    filled = torch.zeros(len(labels), int(lengths.max()), labels[0].shape[1])
    for row, one in enumerate(labels):
        filled[row, : len(one)] = torch.from_numpy(one)
    return filled.to(device), lengths


def predict_speakers(
    head: SpeakingHead, pieces: Sequence[Frames], n_labels: Sequence[int], *, cut: bool
) -> npt.NDArray[np.float32]:
    """Return probabilities [n_frames, 2] of a recording from its pieces, in one padded batch.

    `n_labels` are the label frames of each piece. Without `cut` the outputs on the padding of
    shorter pieces stay, as in s3prl.
    """
    device = str(next(head.parameters()).device)
    frames, _ = padded(pieces, device)
    with torch.no_grad():
        found = torch.sigmoid(head(frames, max(n_labels))).cpu().numpy()
    kept = [row[:n] if cut else row for row, n in zip(found, n_labels, strict=True)]
    probability: npt.NDArray[np.float32] = np.concatenate(kept)
    return probability


def train_speaking(
    training: tuple[Sequence[Frames], Sequence[npt.NDArray[np.float32]]],
    validation: tuple[Sequence[Frames], Sequence[npt.NDArray[np.float32]]],
    settings: FrameSettings,
    seed: int,
    width: int = SPEAKER_WIDTH,
) -> tuple[SpeakingHead, float, int]:
    """Train a diarization head; return it at its highest frame accuracy, that and its step.

    Each side is (frames of each piece, its labels float32 [n_frames, 2]). Validation is piece by
    piece; accuracies have to exceed 0.
    """
    pieces, labels = training
    if not len(pieces):
        raise ProtocolError("the training split is empty; check the task's lists")
    _, n_layers, dim = pieces[0].shape
    head = SpeakingHead(n_layers, dim, width)
    initialise(head, seed).to(settings.device)
    size = settings.batch_size

    def draw(generator: np.random.Generator) -> list[list[int]]:
        order = generator.permutation(len(pieces)).tolist()
        return [order[start : start + size] for start in range(0, len(order), size)]

    optimiser = torch.optim.Adam(head.parameters(), lr=settings.learning_rate)
    epochs = EndlessBatches(draw, (seed, 0x5D))
    loop = FrameLoop(nn.ModuleDict({"head": head}), optimiser, epochs, settings)
    loop.kept = {"value": 0.0, "step": 0, "state": loop.state()}

    def loss(rows: Sequence[int]) -> torch.Tensor:
        frames, _ = padded([pieces[row] for row in rows], settings.device)
        wanted, lengths = _padded_labels([labels[row] for row in rows], settings.device)
        return permutation_free_loss(head(frames, wanted.shape[1]), wanted, lengths)[0]

    def evaluate(step: int) -> None:
        accuracy = []
        for clip, label in zip(*validation, strict=True):
            frames, _ = padded([clip], settings.device)
            wanted, lengths = _padded_labels([label], settings.device)
            logits = head(frames, wanted.shape[1])
            ordered = permutation_free_loss(logits, wanted, lengths)[1]
            accuracy.append(frame_counts(logits, ordered, lengths).accuracy)
        value = float(np.mean(accuracy))
        if value > loop.kept["value"]:
            loop.kept = {"value": value, "step": step, "state": loop.state()}

    loop.run(loss, evaluate)
    loop.modules.load_state_dict(loop.kept["state"])
    return head.eval(), float(loop.kept["value"]), int(loop.kept["step"])
