"""SUPERB's frame-level heads learn, ignore padding, and follow their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mambabench.benchmarks.metrics.edit_distance import error_rate
from mambabench.benchmarks.metrics.eer import equal_error_rate
from mambabench.errors import ProtocolError
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads import frame_heads as fh


def utterances(n: int, seed: int, n_symbols: int = 8) -> tuple[list[np.ndarray], list[list[int]]]:
    """Each symbol sounds for 3 to 6 frames as a noisy direction of its own, in layer 1 of 2."""
    rng = np.random.default_rng(seed)
    codes = np.random.default_rng(99).normal(size=(n_symbols, 20))
    clips, targets = [], []
    for _ in range(n):
        symbols = rng.integers(1, n_symbols, rng.integers(4, 9))
        frames = np.concatenate(
            [np.tile(codes[s], (rng.integers(3, 7), 1)) for s in _no_repeats(symbols)]
        )
        noisy = np.stack([rng.normal(size=frames.shape), frames], axis=1)
        clips.append((noisy + 0.3 * rng.normal(size=noisy.shape)).astype(np.float16))
        targets.append(_no_repeats(symbols))
    return clips, targets


def _no_repeats(symbols: np.ndarray) -> list[int]:
    return [int(s) for i, s in enumerate(symbols) if i == 0 or s != symbols[i - 1]]


def test_phones_are_learnt_below_five_per_cent():
    """Head seeds 0 to 5 gave .000 each, on validation and on new clips (one thread)."""
    settings = FrameSettings(3e-2, total_steps=400, eval_every=100)
    fitted = fh.train_phones(
        fh.Speech(*utterances(200, 0)), fh.Speech(*utterances(40, 1)), 8, settings, seed=0
    )
    head = fitted.head
    clips, targets = utterances(60, 2)
    found = [
        fh.decode_greedy(head(torch.from_numpy(c.astype(np.float32))[None])[0], len(c))
        for c in clips
    ]
    assert error_rate(targets, found)[0] < 0.05
    assert fitted.error_rate < 0.05
    assert fitted.step > 0


def test_greedy_decoding_merges_repeats_and_drops_blanks():
    path = torch.tensor([0, 3, 3, 0, 3, 2, 2, 0, 1, 1])
    logits = torch.nn.functional.one_hot(path, 5).float()
    assert fh.decode_greedy(logits, 10) == [3, 3, 2, 1]
    assert fh.decode_greedy(logits, 5) == [3, 3]


def test_x_vectors_ignore_padding():
    torch.manual_seed(0)
    network = fh.SpeakerNetwork(2, 10).eval()
    clips = [np.random.default_rng(i).normal(size=(n, 2, 10)) for i, n in enumerate((30, 50))]
    frames, lengths = fh.padded(clips)
    together = network.embed(frames, lengths)
    for index, clip in enumerate(clips):
        alone = network.embed(*fh.padded([clip]))[0]
        assert (together[index] - alone).abs().max() <= 1e-5 * alone.abs().max()
    assert network.context == 14
    with pytest.raises(ProtocolError, match="a clip has 14 frames"):
        network.embed(torch.zeros(1, 14, 2, 10), torch.tensor([14]))


def test_margin_loss_by_its_formula():
    torch.manual_seed(1)
    head = fh.SpeakerHead(4).requires_grad_(False)
    features, speakers = torch.randn(6, 512), torch.tensor([0, 1, 2, 3, 0, 1])
    cosine = torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(head.weight).T
    expected = 0.0
    for row, speaker in enumerate(speakers):
        logits = 30.0 * cosine[row]
        logits[speaker] = 30.0 * (cosine[row, speaker] - 0.4)
        expected += float(torch.logsumexp(logits, 0) - logits[speaker]) / 6
    assert float(head(features, speakers)) == pytest.approx(expected, rel=1e-5)


def test_without_crops_every_row_is_a_clip_of_its_own():
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(20, 1, 6)).astype(np.float32) for _ in range(6)]
    settings = FrameSettings(
        learning_rate=1e-3, total_steps=4, batch_size=3, accumulation=1, gradient_norm=1e3
    )
    training = rows, np.arange(6) % 2
    own, numbered, joined = (
        fh.train_speakers(training, settings, 0, crops=crops)[0].state_dict()
        for crops in (None, np.arange(6), np.zeros(6, np.int64))
    )
    assert all(torch.equal(own[name], numbered[name]) for name in own)
    assert not all(torch.equal(own[name], joined[name]) for name in own)


def test_speakers_are_told_apart_on_new_ones():
    """Chance is .5; ten fits (six seeds, one and two threads, two processors) gave .00 to .14."""
    rng = np.random.default_rng(0)
    voices = 2 * rng.normal(size=(28, 12))  # far enough apart for a fit as short as this

    def clips(speaker_ids: range, n: int) -> tuple[list[np.ndarray], np.ndarray]:
        ids = np.repeat(np.arange(len(speaker_ids)), n)
        made = [
            voices[speaker_ids[i]] + 0.5 * rng.normal(size=(rng.integers(20, 30), 12)) for i in ids
        ]
        return [m[:, None].astype(np.float32) for m in made], ids

    settings = FrameSettings(
        learning_rate=3e-4, total_steps=20, batch_size=24, accumulation=1, gradient_norm=1e3
    )
    network, states = fh.train_speakers(clips(range(10), 8), settings, 0, checkpoint_steps=(10,))
    tests, ids = clips(range(10, 14), 6)
    vectors = fh.speaker_embeddings(network, tests)
    first, second = np.triu_indices(len(ids), 1)
    rate, _ = equal_error_rate(ids[first] == ids[second], (vectors[first] * vectors[second]).sum(1))
    assert rate < 0.2
    assert list(states) == [10]
