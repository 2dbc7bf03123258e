"""Who of two speakers speaks when, by an LSTM and a permutation-free loss: SD and its like."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.kinds import speaker_turns
from mambabench.benchmarks.kinds.speaker_turns import Turn, labelled
from mambabench.benchmarks.task import Clip, Fold
from mambabench.errors import DataError
from mambabench.probe import sequence_heads
from mambabench.probe.families.folded import folded
from mambabench.probe.families.recipes import recipe_of, steps_of, suite, width_of
from mambabench.probe.families.splits import SAMPLES_PER_MS, Frames, Split, clip_arrays
from mambabench.probe.families.trials import Running, TrainedTrial, Trial, tensors_sha256
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["CHUNK_FRAMES", "DiarizationFold", "plan_fold", "steps"]

CHUNK_FRAMES = 2_000
FrameLabels = npt.NDArray[np.float32]  # [n_frames, 2]


@dataclass(frozen=True)
class _Recording:
    """One clip in pieces of up to `CHUNK_FRAMES` label frames."""

    clip: Clip
    turns: tuple[Turn, ...]
    pieces: list[Frames]
    labels: list[FrameLabels]


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> DiarizationFold:
    """Plan one fold; DataError where a clip has not two speakers at most."""
    for split, clips in stored.task.clips.items():
        for clip in clips:
            speakers = {event.label for event in clip.events}
            if len(speakers) > 2:
                raise DataError(
                    f"{stored.task.directory / split}.json: clip {clip.name!r} has {len(speakers)} "
                    "speakers; the diarization head tells two apart: take the clip out"
                )
    return DiarizationFold(stored, protocol, seed, fold)


@dataclass(frozen=True)
class DiarizationFold:
    """One fold: a trial a learning rate; threshold and median are chosen as the protocol does.

    ``superb`` takes the setting with the lowest test error and keeps outputs on padding, as s3prl;
    ``superb-clean`` chooses the setting on validation recordings and cuts the padding.
    """

    stored: StoredTask
    protocol: Protocol
    seed: int
    fold: Fold

    @property
    def trials(self) -> Sequence[Trial]:
        """Return one fit a learning rate."""
        rates = recipe_of(self.stored.task, self.protocol).learning_rates
        return tuple(
            Trial(
                f"{self.fold.test}-{rate:g}",
                lambda running, rate=rate: self._train(running, rate),  # type: ignore[misc]
                cost=500.0,
            )
            for rate in rates
        )

    def _recordings(self, split: str) -> tuple[list[_Recording], float]:
        """Return the recordings of a split and the label shift in samples: the encoder's stride."""
        part = Split(self.stored, split)
        shift = part.hop_ms * SAMPLES_PER_MS
        rows = zip(part.clips, part.frames(), part.samples(), strict=True)
        return [_recording(clip, frames, n, shift) for clip, frames, n in rows], shift

    def _train(self, running: Running, rate: float) -> TrainedTrial:
        recipe = recipe_of(self.stored.task, self.protocol)
        total, every = steps_of(recipe, self.protocol)
        settings = FrameSettings(
            rate,
            total,
            batch_size=recipe.batch_size,
            accumulation=recipe.accumulation,
            eval_every=every,
            device=running.device,
            stop=running.stop,
            snapshot=running.snapshot,
        )
        sides = []
        for split in (self.fold.train[0], self.fold.valid):
            recordings, _ = self._recordings(split)
            pieces = [piece for one in recordings for piece in one.pieces]
            sides.append((pieces, [labels for one in recordings for labels in one.labels]))
        head, value, step = sequence_heads.train_speaking(
            sides[0], sides[1], settings, self.seed, width_of(recipe, self.protocol)
        )
        arrays = {name: t.detach().cpu().numpy() for name, t in head.state_dict().items()}
        arrays["learning_rate"] = np.array(rate)
        return TrainedTrial(value, step, arrays)

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose the learning rate by frame accuracy, then the setting, and score the test."""
        best = max(trained, key=lambda one: one.value)  # the first of equals
        arrays = dict(best.arrays)
        rate = float(arrays.pop("learning_rate"))
        recipe = recipe_of(self.stored.task, self.protocol)
        width = width_of(recipe, self.protocol)
        n_layers = len(arrays["layers.weights"])
        head = sequence_heads.SpeakingHead(
            n_layers, arrays["head.rnn.weight_ih_l0"].shape[1], width
        )
        head.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        head.eval().to(running.device)
        chosen = self._setting(head, self.fold.valid)[0] if suite(self.protocol).clean else None
        setting, counts, shift, clips = self._tested(head, chosen)
        wrong, scored = counts.sum(axis=0)
        total, _ = steps_of(recipe, self.protocol)
        metric = self.stored.task.evaluation[0]
        result = FoldResult(
            fold=self.fold.test,
            scores={metric: float(wrong / scored) if scored else None},
            grid_point={
                "learning_rate": rate,
                "steps": total,
                "width": width,
                "threshold": setting[0],
                "median_frames": setting[1],
                "label_shift_samples": shift,
                "selected_on": "validation" if suite(self.protocol).clean else "test",
            },
            validation_score=best.value,
            best_epoch=best.step,
            n_epochs=total,
            n_test=len(clips),
            head_sha256=tensors_sha256(list(head.cpu().parameters())),
        )
        return FoldOutcome(result, clip_arrays(clips) | {f"counts:{metric}": counts})

    def _tested(
        self, head: sequence_heads.SpeakingHead, setting: tuple[float, int] | None
    ) -> tuple[tuple[float, int], npt.NDArray[np.float64], float, list[Clip]]:
        """Return the setting, counts [n_clips, 2], label shift and clips of the test."""
        if setting is None:
            setting, counts, shift, clips = self._setting(head, self.fold.test)
            return setting, counts, shift, clips
        _, counts, shift, clips = self._setting(head, self.fold.test, (setting,))
        return setting, counts, shift, clips

    def _setting(
        self,
        head: sequence_heads.SpeakingHead,
        split: str,
        settings: Sequence[tuple[float, int]] = tuple(
            itertools.product(speaker_turns.THRESHOLDS, speaker_turns.MEDIANS)
        ),
    ) -> tuple[tuple[float, int], npt.NDArray[np.float64], float, list[Clip]]:
        """Return the setting with the lowest error on a split (the first of equals), its counts."""
        recordings, shift = self._recordings(split)
        cut = suite(self.protocol).clean
        found = [
            sequence_heads.predict_speakers(
                head, one.pieces, [len(labels) for labels in one.labels], cut=cut
            )
            for one in recordings
        ]
        tables = []
        for threshold, median in settings:
            rows = []
            for one, probability in zip(recordings, found, strict=True):
                given = speaker_turns.speech_turns(
                    one.clip.name, probability, threshold, median, shift
                )
                counts = speaker_turns.count_errors(one.turns, given)
                rows.append((counts.miss + counts.false_alarm + counts.error, counts.scored))
            tables.append(np.array(rows, np.float64))
        rates = [float(t[:, 0].sum() / max(t[:, 1].sum(), 1e-12)) for t in tables]
        best = int(np.argmin(rates))
        return settings[best], tables[best], shift, [one.clip for one in recordings]


def _recording(clip: Clip, frames: Frames, n_samples: int, shift: float) -> _Recording:
    """Cut a clip's frames and labels into pieces."""
    turns = tuple(
        Turn(clip.name, event.start_ms / 1000, event.end_ms / 1000, event.label)
        for event in clip.events
    )
    speakers = sorted({turn.speaker for turn in turns})
    speakers += [f"nobody {i}" for i in range(2 - len(speakers))]
    pieces, labels = [], []
    for first, last in speaker_turns.chunks_of(n_samples, shift, CHUNK_FRAMES):
        piece = frames[first:last]
        if len(piece):
            pieces.append(piece)
            labels.append(speaker_turns.frame_labels(labelled(turns), speakers, first, last, shift))
    if not pieces:
        raise DataError(
            f"clip {clip.name!r} has no frame of {shift:g} samples: it is too short for the encoder"
        )
    return _Recording(clip, turns, pieces, labels)


steps = folded(plan_fold)
