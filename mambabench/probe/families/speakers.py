"""Speakers that trials compare, by x-vectors: ASV and its like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.kinds.trials import TRIALS
from mambabench.benchmarks.metrics.eer import equal_error_rate
from mambabench.benchmarks.task import Fold
from mambabench.errors import DataError
from mambabench.probe.families.folded import folded
from mambabench.probe.families.recipes import recipe_of, steps_of, suite
from mambabench.probe.families.splits import Split, clip_arrays, relation_rows
from mambabench.probe.families.trials import Running, TrainedTrial, Trial, tensors_sha256
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads import frame_heads
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["SpeakerFold", "plan_fold", "steps"]

Pairs = tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> SpeakerFold:
    """Plan the one fold of a verification task."""
    return SpeakerFold(stored, protocol, seed, fold)


def checkpoints_of(total: int, n: int) -> list[int]:
    """Return the steps whose networks are tried: `n` evenly spread, the last step included.

    s3prl's are 20,000, 40,000 ... 200,000.
    """
    every = max(1, total // n)
    return list(range(every, total + 1, every))[-n:]


@dataclass(frozen=True)
class SpeakerFold:
    """Train speakers; test trials pick the checkpoint under ``superb``, held-out ones if clean."""

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
                cost=100.0,
            )
            for rate in rates
        )

    def _held_speakers(self, speakers: Sequence[str]) -> set[str]:
        """Return who is held out: one speaker in ten, two at least, under the clean protocol."""
        names = list(dict.fromkeys(speakers))
        return set(names[-max(2, len(names) // 10) :]) if suite(self.protocol).clean else set()

    def _train(self, running: Running, rate: float) -> TrainedTrial:
        recipe = recipe_of(self.stored.task, self.protocol)
        total, _ = steps_of(recipe, self.protocol)
        train = Split(self.stored, "train")
        frames = train.frames()
        speakers = [_speaker(train, i) for i in range(len(frames))]
        held = self._held_speakers(speakers)
        kept = [i for i, speaker in enumerate(speakers) if speaker not in held]
        names = dict.fromkeys(speakers[i] for i in kept)
        if len(names) < 2:
            raise DataError(
                f"task {self.stored.task.name}: {len(names)} training speakers are left; a speaker "
                "head needs two at least"
            )
        numbers = {name: i for i, name in enumerate(names)}
        ids = np.array([numbers[speakers[i]] for i in kept], np.int64)
        groups = train.groups()
        settings = FrameSettings(
            rate,
            total,
            batch_size=recipe.batch_size,
            accumulation=recipe.accumulation,
            gradient_norm=1e3,
            device=running.device,
            stop=running.stop,
            snapshot=running.snapshot,
        )
        _, states = frame_heads.train_speakers(
            ([frames[i] for i in kept], ids),
            settings,
            self.seed,
            checkpoints_of(total, recipe.evaluations),
            None if groups is None else groups[kept],
        )
        arrays = {
            f"{step}/{name}": tensor.numpy()
            for step, state in states.items()
            for name, tensor in state.items()
        }
        arrays["learning_rate"] = np.array(rate)
        return TrainedTrial(float("nan"), total, arrays)

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose the checkpoint as the protocol does, and test it."""
        test = Split(self.stored, "test")
        trials = _trials(self.stored, test)
        choosing = self._held_out() if suite(self.protocol).clean else (test, trials)
        best: tuple[float, int, float, frame_heads.SpeakerNetwork] | None = None
        for one in trained:
            rate = float(one.arrays["learning_rate"])
            for step in sorted({int(n.partition("/")[0]) for n in one.arrays if "/" in n}):
                network = _network(one, step)
                error = equal_error_rate(choosing[1][0], _scores(network, *choosing))[0]
                if best is None or error < best[0]:
                    best = (error, step, rate, network)
        assert best is not None
        error, step, rate, network = best
        scores = _scores(network, test, trials)
        metric = self.stored.task.evaluation[0]
        total, _ = steps_of(recipe_of(self.stored.task, self.protocol), self.protocol)
        result = FoldResult(
            fold="test",
            scores={metric: equal_error_rate(trials[0], scores)[0]},
            grid_point={
                "learning_rate": rate,
                "steps": total,
                "selected_on": "held-out training speakers"
                if suite(self.protocol).clean
                else "test",
            },
            validation_score=error if suite(self.protocol).clean else None,
            best_epoch=step,
            n_epochs=total,
            n_test=len(test.clips),
            head_sha256=tensors_sha256(list(network.parameters())),
        )
        arrays = clip_arrays(test.clips) | {
            "trial_first": trials[1],
            "trial_second": trials[2],
            "trial_same": trials[0],
            "trial_score": scores,
        }
        return FoldOutcome(result, arrays)

    def _held_out(self) -> tuple[Split, Pairs]:
        """Return the training split and all pairs of its clips of held-out speakers."""
        train = Split(self.stored, "train")
        speakers = np.array([_speaker(train, i) for i in range(len(train.clips))])
        held = self._held_speakers(list(speakers))
        rows = np.flatnonzero(np.isin(speakers, sorted(held)))
        groups = train.groups()
        if groups is not None:  # one crop of each clip: crops of one clip are no trial
            rows = rows[np.unique(groups[rows], return_index=True)[1]]
        first, second = np.triu_indices(len(rows), 1)
        same = speakers[rows][first] == speakers[rows][second]
        return train, (same, rows[first], rows[second])


def _speaker(train: Split, row: int) -> str:
    clip = train.clips[row]
    if len(clip.labels) != 1:
        raise DataError(
            f"task {train.stored.task.name}: training clip {clip.name!r} has {len(clip.labels)} "
            "labels, it needs one, its speaker: correct train.json"
        )
    return clip.labels[0]


def _network(trained: TrainedTrial, step: int) -> frame_heads.SpeakerNetwork:
    prefix = re.compile(rf"^{step}/")
    state = {
        prefix.sub("", name): torch.from_numpy(array)
        for name, array in trained.arrays.items()
        if prefix.match(name)
    }
    network = frame_heads.SpeakerNetwork(
        len(state["layers.weights"]), state["connector.weight"].shape[1]
    )
    network.load_state_dict(state)
    return network


def _scores(
    network: frame_heads.SpeakerNetwork, split: Split, pairs: Pairs
) -> npt.NDArray[np.float64]:
    """Return the cosine of every pair; a clip is encoded once."""
    _, first, second = pairs
    used = np.unique(np.concatenate([first, second]))
    frames = split.frames()
    found = frame_heads.speaker_embeddings(network, [frames[i] for i in used])
    vectors = np.zeros((len(frames), found.shape[1]))
    vectors[used] = found
    scores: npt.NDArray[np.float64] = (vectors[first] * vectors[second]).sum(axis=1)
    return scores


def _trials(stored: StoredTask, test: Split) -> Pairs:
    row = {clip.name: i for i, clip in enumerate(test.clips)}
    listed: list[dict[str, Any]] = list(relation_rows(stored, TRIALS))
    trials = [t for t in listed if t["first"] in row and t["second"] in row]
    if not trials:
        raise DataError(f"task {stored.task.name}: no trial has both its clips embedded")
    return (
        np.array([trial["same"] == "1" for trial in trials]),
        np.array([row[trial["first"]] for trial in trials]),
        np.array([row[trial["second"]] for trial in trials]),
    )


steps = folded(plan_fold)
