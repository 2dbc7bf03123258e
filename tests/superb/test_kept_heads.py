"""Which head of a fit is kept: the best at validation, the first of equals, its weights with it."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mambabench.probe import sequence_heads as sh
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads.frame_heads import Speech

Kept = tuple[torch.nn.Module, float, int]


def text_fit(scores: Iterator[float], steps: int) -> Kept:
    """Fit letters to noise with these scores at every second step; the lowest is the best."""
    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(20, 1, 60)).astype(np.float16) for _ in range(8)]
    speech = Speech(frames, [[1, 2], [2, 1, 1]] * 4, [320 * 20] * 8)
    batches = sh.length_batches(speech.samples(), 4)
    settings = FrameSettings(1e-2, steps, batch_size=4, accumulation=1, eval_every=2)
    options = {"n_symbols": 4, "width": 8, "batches": batches}
    return sh.train_text(speech, frames[:2], lambda _: next(scores), settings, 0, **options)


def speaking_fit(accuracies: Iterator[float], steps: int) -> Kept:
    """Fit speakers to noise; two clips have one less and one more .1 than these accuracies."""
    rng = np.random.default_rng(0)
    pieces = [rng.normal(size=(12, 1, 5)).astype(np.float16) for _ in range(6)]
    labels = [(rng.random((12, 2)) < 0.5).astype(np.float32) for _ in range(6)]
    settings = FrameSettings(1e-2, steps, batch_size=2, accumulation=1, eval_every=2)
    by_clip = (value + sign * 0.1 for value in accuracies for sign in (-1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sh, "frame_counts", lambda *_: SimpleNamespace(accuracy=next(by_clip)))
        validation = pieces[:2], labels[:2]
        return sh.train_speaking((pieces, labels), validation, settings, 0, width=6)


@pytest.mark.parametrize(
    ("fit", "values"),
    [(text_fit, [0.5, 0.2, 0.4, 0.2]), (speaking_fit, [0.3, 0.7, 0.4, 0.7])],
)
def test_the_first_of_the_best_heads_is_kept(fit, values):  # type: ignore[no-untyped-def]
    head, value, step = fit(iter(values), 8)
    assert (value, step) == (pytest.approx(values[1]), 4)
    short = fit(iter(values), 4)[0].state_dict()
    assert all(torch.equal(weights, short[name]) for name, weights in head.state_dict().items())
    last = fit(iter([*values[:3], values[1] + (values[1] - values[0])]), 8)
    assert last[2] == 8
    assert not all(torch.equal(w, short[name]) for name, w in last[0].state_dict().items())
