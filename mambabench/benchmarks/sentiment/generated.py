"""A generated corpus in MMSA's layout whose label needs text and voice; for tests and recipes.

Texts are kind or unkind, voices high or low; the label is positive where a kind text comes in a
high voice or an unkind one in a low voice, so that neither alone tells anything about it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["generate"]

_SPLITS = (("train", 240), ("valid", 80), ("test", 200))
_CLIPS_PER_VIDEO = 4
_SAMPLE_RATE_HZ = 16000
_DURATION_S = 0.5
_WORDS = {
    0: ("awful", "boring", "broken", "cold"),
    1: ("lovely", "bright", "gentle", "warm"),
}
_FILLERS = ("the", "film", "was", "so", "really", "and")
_PITCH_HZ = {0: 180.0, 1: 900.0}


def _voice(kind: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    import numpy as np

    n = int(_DURATION_S * _SAMPLE_RATE_HZ * rng.uniform(0.9, 1.1))
    time = np.arange(n) / _SAMPLE_RATE_HZ
    pitch = _PITCH_HZ[kind] * rng.uniform(0.9, 1.1)
    tone = sum(np.sin(2 * np.pi * pitch * h * time) / h for h in (1, 2, 3))
    noise = 0.05 * rng.standard_normal(n)
    samples: npt.NDArray[np.float32] = (0.2 * tone + noise).astype(np.float32)
    return samples


def generate(root: Path, seed: int = 0) -> None:
    """Write ROOT/wav and, last, ROOT/label.csv; equal seeds give equal bytes."""
    import numpy as np
    import soundfile

    rng = np.random.default_rng(seed)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    columns = ("video_id", "clip_id", "text", "label", "label_T", "label_A", "annotation", "mode")
    rows.writerow(columns)
    index = 0
    for split, count in _SPLITS:
        # all four combinations equally often, so that neither side alone carries the label
        for kind in rng.permutation(np.arange(count) % 4):
            text_kind, voice_kind = int(kind) // 2, int(kind) % 2
            words = [str(w) for w in rng.choice(_FILLERS, 3)]
            words.insert(int(rng.integers(4)), str(rng.choice(_WORDS[text_kind])))
            sign = 1 if text_kind == voice_kind else -1
            label = round(float(sign * rng.uniform(1.0, 2.6)), 2)
            video, clip = f"video{index // _CLIPS_PER_VIDEO:04d}", index % _CLIPS_PER_VIDEO
            path = root / "wav" / video / f"{clip}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, _voice(voice_kind, rng), _SAMPLE_RATE_HZ, subtype="PCM_16")
            annotation = "Positive" if sign > 0 else "Negative"
            rows.writerow((video, clip, " ".join(words), label, label, label, annotation, split))
            index += 1
    write_bytes(root / "label.csv", text.getvalue().encode())
