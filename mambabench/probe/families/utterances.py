"""Clips with one label, or one label a slot, from time means: KS, IC, SID, ER and their like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.task import Clip, Fold, Task
from mambabench.errors import DataError
from mambabench.probe.families.folded import folded
from mambabench.probe.families.recipes import recipe_of, steps_of, suite
from mambabench.probe.families.splits import Split, clip_arrays
from mambabench.probe.families.trials import Running, TrainedTrial, Trial, tensors_sha256
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.heads import weighted_sum
from mambabench.probe.heads.weighted_sum import (
    LabelledFeatures,
    WeightedSumHead,
    WeightedSumSettings,
)
from mambabench.probe.protocols import Inapplicable, Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["UtteranceFold", "plan_fold", "pool_rows", "steps"]

_TENSORS = ("layers", "first_weight", "first_bias", "second_weight", "second_bias")


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> UtteranceFold:
    """Plan one fold; Inapplicable where the store keeps something else than time means."""
    if stored.task.pooling != "time_mean":
        raise Inapplicable(
            f"{protocol.name} does not apply to {stored.task.name}: its store keeps scene "
            "embeddings, its heads need time means or frames of every layer, as `mambabench "
            'tasks prepare` asks for (or set "pooling": "time_mean" in the task\'s metadata and '
            "extract again); use sound or a kit protocol"
        )
    return UtteranceFold(stored, protocol, seed, fold)


@dataclass(frozen=True)
class UtteranceFold:
    """One fold: every learning rate is trained at once, the best on validation is tested."""

    stored: StoredTask
    protocol: Protocol
    seed: int
    fold: Fold

    @property
    def trials(self) -> Sequence[Trial]:
        """Return the one fit, of all learning rates."""
        return (Trial(f"{self.fold.test}-rates", self._train, cost=1.0),)

    def _train(self, running: Running) -> TrainedTrial:
        task, recipe = self.stored.task, recipe_of(self.stored.task, self.protocol)
        sizes, _ = _slots(task)
        total, every = steps_of(recipe, self.protocol)
        settings = WeightedSumSettings(
            sizes,
            recipe.learning_rates,
            total_steps=total,
            eval_every=every,
            batch_size=recipe.batch_size,
            balanced=recipe.balanced,
        )
        training, validation = self._learned()
        fits = weighted_sum.train(
            training, validation, settings, self.seed, device=running.device, stop=running.stop
        )
        best = max(fits, key=lambda fit: fit.validation_accuracy)  # the first of equals
        arrays = {
            name: tensor.detach().numpy()
            for name, tensor in zip(_TENSORS, best.head.tensors(), strict=True)
        }
        arrays["learning_rate"] = np.array(best.learning_rate)
        return TrainedTrial(best.validation_accuracy, best.best_step, arrays)

    def _learned(self) -> tuple[LabelledFeatures, LabelledFeatures]:
        """Return training and validation rows: the fold's splits, or the protocol's rule.

        With k folds, every split but the tested one is a pool: s3prl draws a fifth of it for
        validation, the clean rule takes its last split.
        """
        if self.stored.task.split_mode == "trainvaltest":
            training = Split(self.stored, self.fold.train[0])
            validation = Split(self.stored, self.fold.valid)
            return self._labelled([training], crops=True), self._labelled([validation])
        names = [name for name in sorted(self.stored.task.splits) if name != self.fold.test]
        pool = self._labelled([Split(self.stored, name) for name in names])
        origins = [name for name in names for _ in Split(self.stored, name).clips]
        train, valid = pool_rows(origins, clean=suite(self.protocol).clean)
        return (
            LabelledFeatures(pool.features[train], pool.targets[train]),
            LabelledFeatures(pool.features[valid], pool.targets[valid]),
        )

    def _labelled(self, parts: Sequence[Split], crops: bool = False) -> LabelledFeatures:
        sizes, places = _slots(self.stored.task)
        clips = [clip for part in parts for clip in part.clips]
        return LabelledFeatures(
            np.concatenate([part.pooled() for part in parts]),
            _targets(clips, places, len(sizes)),
            parts[0].groups() if crops else None,
        )

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Score the head that validation chose."""
        (best,) = trained
        tested = Split(self.stored, self.fold.test)
        data = self._labelled([tested])
        sizes, _ = _slots(self.stored.task)
        head = WeightedSumHead(*(torch.from_numpy(best.arrays[name]) for name in _TENSORS))
        logits = weighted_sum.predict(head, data.features)
        right = weighted_sum.correct(logits, data.targets, sizes)[0]
        metric = self.stored.task.evaluation[0]
        weights = torch.softmax(head.layers[0], 0).tolist()
        total, _ = steps_of(recipe_of(self.stored.task, self.protocol), self.protocol)
        result = FoldResult(
            fold=self.fold.test,
            scores={metric: float(right.mean())},
            grid_point={
                "learning_rate": float(best.arrays["learning_rate"]),
                "steps": total,
                "selected_on": "validation",
                "layer_weights": " ".join(f"{weight:.4f}" for weight in weights),
            },
            validation_score=best.value,
            best_epoch=best.step,
            n_epochs=total,
            n_test=len(tested.clips),
            head_sha256=tensors_sha256(head.tensors()),
        )
        arrays = clip_arrays(tested.clips)
        if len(sizes) == 1:
            arrays["target"] = data.targets[:, 0]
            arrays["probability"] = torch.softmax(logits[0], 1).numpy().astype(np.float32)
        else:
            arrays[f"counts:{metric}"] = np.stack([right, np.ones(len(right))], axis=1)
        return FoldOutcome(result, arrays)


def pool_rows(splits: Sequence[str], *, clean: bool) -> tuple[list[int], list[int]]:
    """Return training and validation rows of the clips that do not test, given each one's split.

    `clean`: the last split is for validation, so no group stands on both sides. Else s3prl's rule:
    the first int(0.8 n) of a permutation drawn from torch's generator seeded 0 are trained on.
    """
    if clean:
        last = splits[-1]
        train = [i for i, split in enumerate(splits) if split != last]
        return train, [i for i, split in enumerate(splits) if split == last]
    order = torch.randperm(len(splits), generator=torch.Generator().manual_seed(0)).tolist()
    n_train = int(0.8 * len(splits))
    return order[:n_train], order[n_train:]


def _slots(task: Task) -> tuple[tuple[int, ...], dict[str, tuple[int, int]]]:
    """Return the sizes of the slots and label -> (slot, index in it)."""
    if task.prediction_type != "slots":
        return (len(task.labels),), {label: (0, i) for i, label in enumerate(task.labels)}
    names = list(dict.fromkeys(label.partition("=")[0] for label in task.labels))
    sizes = [0] * len(names)
    places = {}
    for label in task.labels:
        slot = names.index(label.partition("=")[0])
        places[label] = (slot, sizes[slot])
        sizes[slot] += 1
    return tuple(sizes), places


def _targets(
    clips: Sequence[Clip], places: dict[str, tuple[int, int]], n_slots: int
) -> npt.NDArray[np.int64]:
    found = np.full((len(clips), n_slots), -1, np.int64)
    for row, clip in enumerate(clips):
        for label in clip.labels:
            slot, index = places[label]
            found[row, slot] = index
    if (found < 0).any():
        row = int(np.argwhere(found < 0)[0, 0])
        raise DataError(
            f"clip {clips[row].name} lacks the label of a slot (labels are written slot=value); "
            "prepare the task again"
        )
    return found


steps = folded(plan_fold)
