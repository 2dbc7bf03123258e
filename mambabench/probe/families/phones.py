"""Sequences of symbols by a frame-wise affine head and CTC: PR and its like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mambabench.benchmarks.metrics.edit_distance import edit_distance
from mambabench.benchmarks.task import Fold
from mambabench.probe.families.folded import folded
from mambabench.probe.families.recipes import recipe_of, steps_of
from mambabench.probe.families.splits import Split, clip_arrays
from mambabench.probe.families.symbols import share_too_long, symbol_table
from mambabench.probe.families.trials import Running, TrainedTrial, Trial, tensors_sha256
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads import frame_heads
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["PhoneFold", "plan_fold", "steps"]


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> PhoneFold:
    """Plan one fold of a sequence task; DataError where its vocabulary has no blank."""
    symbol_table(stored.task)
    return PhoneFold(stored, protocol, seed, fold)


@dataclass(frozen=True)
class PhoneFold:
    """One fold: a trial a learning rate, the lowest validation error rate is tested."""

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
                cost=10.0,
            )
            for rate in rates
        )

    def _speech(self, split: str) -> frame_heads.Speech:
        part = Split(self.stored, split)
        table = symbol_table(self.stored.task)
        targets = [table.encode(clip.labels) for clip in part.clips]
        return frame_heads.Speech(part.frames(), targets, part.samples())

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
        table = symbol_table(self.stored.task)
        found = frame_heads.train_phones(
            self._speech(self.fold.train[0]),
            self._speech(self.fold.valid),
            len(table.symbols),
            settings,
            self.seed,
            table.dropped,
        )
        arrays = {name: t.detach().cpu().numpy() for name, t in found.head.state_dict().items()}
        arrays["learning_rate"] = np.array(rate)
        return TrainedTrial(found.error_rate, found.step, arrays)

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose the learning rate (the first of equals) and test its head."""
        best = min(trained, key=lambda one: one.value)
        arrays = dict(best.arrays)
        rate = float(arrays.pop("learning_rate"))
        table = symbol_table(self.stored.task)
        tested = Split(self.stored, self.fold.test)
        frames = tested.frames()
        _, n_layers, dim = frames[0].shape
        head = frame_heads.PhoneHead(n_layers, dim, len(table.symbols))
        head.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        decoded = frame_heads.decode(head, frames, table.dropped)
        encoded = [table.encode(clip.labels) for clip in tested.clips]
        targets = [table.spoken(target) for target in encoded]
        counts = np.array(
            [(edit_distance(a, b), len(a)) for a, b in zip(targets, decoded, strict=True)],
            np.float64,
        )
        errors, length = counts.sum(axis=0)
        metric = self.stored.task.evaluation[0]
        total, _ = steps_of(recipe_of(self.stored.task, self.protocol), self.protocol)
        result = FoldResult(
            fold=self.fold.test,
            scores={metric: float(errors / length) if length else None},
            grid_point={
                "learning_rate": rate,
                "steps": total,
                "selected_on": "validation",
                "targets_longer_than_frames": share_too_long(encoded, [len(f) for f in frames]),
            },
            validation_score=best.value if math.isfinite(best.value) else None,
            best_epoch=best.step,
            n_epochs=total,
            n_test=len(decoded),
            head_sha256=tensors_sha256(list(head.parameters())),
        )
        return FoldOutcome(result, clip_arrays(tested.clips) | {f"counts:{metric}": counts})


steps = folded(plan_fold)
