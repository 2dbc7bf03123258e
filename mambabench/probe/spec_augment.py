"""SpecAugment on the weighted sum of layers: a time warp, feature masks and time masks.

Source: Park et al. 2019 with the settings of s3prl 0.4.18 (downstreams `asr` and `ctc`): window 5,
four feature masks of less than 50, two time masks of less than 40. Only training sees it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

__all__ = ["Draw", "drawing", "spec_augment"]

WINDOW = 5
FEATURE_MASKS, FEATURE_WIDTH = 4, 50
TIME_MASKS, TIME_WIDTH = 2, 40
Draw = Callable[[int, int, tuple[int, ...]], torch.Tensor]  # low, high (exclusive), shape -> int64


def drawing(generator: torch.Generator) -> Draw:
    """Return draws from a generator on the CPU."""
    return lambda low, high, shape: torch.randint(low, high, shape, generator=generator)


def spec_augment(padded: torch.Tensor, lengths: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Return augmented features [n_clips, n_frames, dim]; clips end at `lengths` [n_clips].

    What is drawn, in order: centre and place of the warp of each clip longer than twice the window;
    widths [n_clips, 4] and starts of feature masks; widths [n_clips, 2] and starts of time masks. A
    time mask may fall on padding.
    """
    rows = []
    for clip, length in zip(padded, lengths.tolist(), strict=True):
        warped = _warp(clip[:length], draw)
        rows.append(F.pad(warped, (0, 0, 0, len(clip) - length)))
    warped = torch.stack(rows)
    n_clips, n_frames, dim = warped.shape
    features = _masks(n_clips, FEATURE_MASKS, FEATURE_WIDTH, dim, draw).to(warped.device)
    masked = warped.masked_fill(features[:, None, :], 0.0)
    times = _masks(n_clips, TIME_MASKS, TIME_WIDTH, n_frames, draw).to(warped.device)
    return masked.masked_fill(times[:, :, None], 0.0)


def _warp(clip: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Move a frame of the middle by up to the window, and stretch both sides [n_frames, dim]."""
    n_frames = len(clip)
    if n_frames <= 2 * WINDOW:
        return clip
    centre = int(draw(WINDOW, n_frames - WINDOW, (1,)))
    place = int(draw(centre - WINDOW, centre + WINDOW, (1,))) + 1
    plane = clip[None, None]
    sides = [
        F.interpolate(part, (size, clip.shape[1]), mode="bicubic", align_corners=False)
        for part, size in ((plane[:, :, :centre], place), (plane[:, :, centre:], n_frames - place))
    ]
    return torch.cat(sides, dim=2)[0, 0]


def _masks(n_clips: int, n_masks: int, width: int, size: int, draw: Draw) -> torch.Tensor:
    """Return bool [n_clips, size]: what is masked along one axis."""
    widths = draw(0, width, (n_clips, n_masks))
    starts = draw(0, max(1, size - int(widths.max())), (n_clips, n_masks))
    place = torch.arange(size)
    inside = (place >= starts[:, :, None]) & (place < (starts + widths)[:, :, None])
    return inside.any(dim=1)
