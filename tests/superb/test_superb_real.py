"""Speaker verification on real speakers: x-vectors on filter-bank frames, unseen test speakers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.metrics.eer import equal_error_rate
from mambabench.benchmarks.task import clip_path
from mambabench.extract.audio import decode
from mambabench.models.encoders.frontends import SsamLogMel
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads.frame_heads import speaker_embeddings, train_speakers

TASK = "emodb_speaker-v1-full"


@pytest.mark.slow
def test_unseen_speakers_are_told_apart_by_what_was_learned(
    test_data_dir: Path, tmp_path: Path
) -> None:
    unpack = [sys.executable, str(test_data_dir / "unpack.py"), str(tmp_path), TASK]
    subprocess.run(unpack, check=True, capture_output=True)
    task = load_task(tmp_path / TASK)
    front_end, clips, speakers = SsamLogMel(), [], []
    for split in task.splits:
        for clip in task.clips[split]:
            samples = torch.from_numpy(
                decode(clip_path(task, 16000, split, clip.name), 16000).samples
            )
            loud = torch.nonzero(samples.abs() > 1e-3)  # clips are filled up with silence
            spoken = samples[int(loud[0]) : int(loud[-1]) + 1]
            clips.append(front_end(spoken[None]).reshape(-1, 1, 80).numpy())
            speakers.append(clip.labels[0])
    names = np.array(speakers)
    tested = np.isin(names, sorted(set(speakers))[::3])  # two men and two women of ten speakers
    seen = np.concatenate([clip for clip, out in zip(clips, tested, strict=True) if not out])
    frames = [(clip - seen.mean(0)) / seen.std(0) for clip in clips]
    middles = [clip[len(clip) // 2 - 60 : len(clip) // 2 + 60] for clip in frames]  # 1.2 s
    training = [clip for clip, out in zip(middles, tested, strict=True) if not out]
    ids = np.unique(names[~tested], return_inverse=True)[1]
    held = [clip for clip, out in zip(frames, tested, strict=True) if out]
    first, second = np.triu_indices(len(held), 1)
    same = names[tested][first] == names[tested][second]

    def errors(seed: int, n_steps: int) -> float:
        settings = FrameSettings(2e-4, n_steps, batch_size=16, gradient_norm=1e3)
        network, _ = train_speakers((training, ids), settings, seed)
        vectors = speaker_embeddings(network, held).astype(np.float64)
        return equal_error_rate(same, (vectors[first] * vectors[second]).sum(1))[0]

    before = np.mean([errors(seed, 1) for seed in (0, 1)])  # .46 and .45
    after = np.mean([errors(seed, 120) for seed in (0, 1)])  # .32 and .27
    assert after < before - 0.08
