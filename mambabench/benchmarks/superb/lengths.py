"""How many samples each clip has: SUPERB halves batches and trims frames by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mambabench.benchmarks.superb.sources import RATE_HZ, Corpus, SourceClip

__all__ = ["clip_samples", "lengths_of"]


def lengths_of(root: Path, corpus: Corpus) -> Mapping[str, int]:
    """Return the samples at 16 kHz of every clip whose file can be read, from its header."""
    headers: dict[str, tuple[int, int]] = {}
    found = {}
    for split, clips in corpus.splits.items():
        for clip in clips:
            n_samples = clip_samples(root, clip, headers)
            if n_samples is not None:
                found[f"{split}/{clip.name}"] = n_samples
    return found


def clip_samples(
    root: Path, clip: SourceClip, headers: dict[str, tuple[int, int]] | None = None
) -> int | None:
    """Return a clip's samples at 16 kHz; None where its file is missing or no audio."""
    import soundfile

    if clip.n_samples is not None:
        return clip.n_samples
    known = {} if headers is None else headers
    if clip.path not in known:
        try:
            info = soundfile.info(root / clip.path)
        except (OSError, soundfile.LibsndfileError):
            return None
        known[clip.path] = (info.frames, info.samplerate)
    frames, rate = known[clip.path]
    whole = frames - round(clip.start_s * rate)
    if clip.duration_s is not None:
        whole = min(whole, round(clip.duration_s * rate))
    return round(whole * RATE_HZ / rate)
