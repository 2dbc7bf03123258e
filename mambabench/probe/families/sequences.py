"""Letters, with or without slots, by a recurrent head and CTC: ASR, SF and their like."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.kinds.text import text_of, units_of, words_of
from mambabench.benchmarks.metrics import slot_texts
from mambabench.benchmarks.metrics.edit_distance import edit_distance_of
from mambabench.benchmarks.task import Fold
from mambabench.probe import sequence_heads
from mambabench.probe.families.folded import folded
from mambabench.probe.families.recipes import recipe_of, steps_of, suite, width_of
from mambabench.probe.families.splits import Split, clip_arrays
from mambabench.probe.families.symbols import SymbolTable, share_too_long, symbol_table
from mambabench.probe.families.trials import Running, TrainedTrial, Trial, tensors_sha256
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.frame_training import FrameSettings, window_batches
from mambabench.probe.heads.frame_heads import Speech
from mambabench.probe.language_model import KIND, METRIC
from mambabench.probe.protocols import Protocol
from mambabench.store.embeddings import StoredTask
from mambabench.store.records import FoldResult

__all__ = ["Reading", "SequenceFold", "plan_fold", "steps"]

ClipCounts = npt.NDArray[np.float64]  # [n_clips, 2]: what was found, what it is a share of


@dataclass(frozen=True)
class Reading:
    """How one kind of text is batched, rated and selected."""

    batches: Callable[[Speech, int], list[list[int]]]  # speech, batch size -> one epoch's batches
    counts: Callable[[Sequence[str], Sequence[str]], dict[str, tuple[float, float]]]
    primary: str  # the metric that validation selects by
    higher: bool = False


def _letters(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return errors and lengths of one clip: of words, and of letters with word ends."""
    words = words_of(reference), words_of(hypothesis)
    units = units_of(reference), units_of(hypothesis)
    return {
        "wer": (edit_distance_of(*words), len(words[0])),
        "uer": (edit_distance_of(*units), len(units[0])),
    }


def _slotted(reference: Sequence[str], hypothesis: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the F1 of one clip's slot types, and errors and lengths of its slots' values."""
    wanted, found = text_of(reference, until_end=True), text_of(hypothesis)
    return {
        "slot_type_f1": (slot_texts.type_f1_of(wanted, found), 1),
        "slot_value_cer": slot_texts.value_errors(wanted, found),
    }


def _by_length(speech: Speech, size: int) -> list[list[int]]:
    return sequence_heads.length_batches(speech.samples(), size)


def _windows(speech: Speech, size: int) -> list[list[int]]:
    return window_batches([len(target) for target in speech.targets], speech.samples(), size)


READINGS = {
    "text": Reading(_by_length, _letters, "wer"),
    "slot_text": Reading(_windows, _slotted, "slot_type_f1", higher=True),
}


def plan_fold(stored: StoredTask, protocol: Protocol, seed: int, fold: Fold) -> SequenceFold:
    """Plan one fold of a text task; DataError where its vocabulary has no blank."""
    symbol_table(stored.task)
    return SequenceFold(stored, protocol, seed, fold)


@dataclass(frozen=True)
class SequenceFold:
    """One fold: a trial a learning rate, the best on validation is tested."""

    stored: StoredTask
    protocol: Protocol
    seed: int
    fold: Fold

    @property
    def _reading(self) -> Reading:
        return READINGS[self.stored.task.prediction_type]

    @property
    def _table(self) -> SymbolTable:
        return symbol_table(self.stored.task)

    @property
    def trials(self) -> Sequence[Trial]:
        """Return one fit a learning rate."""
        rates = recipe_of(self.stored.task, self.protocol).learning_rates
        return tuple(
            Trial(
                f"{self.fold.test}-{rate:g}",
                lambda running, rate=rate: self._train(running, rate),  # type: ignore[misc]
                cost=1000.0,
            )
            for rate in rates
        )

    def _speech(self, split: str) -> tuple[Speech, Split]:
        part = Split(self.stored, split)
        targets = [self._table.encode(clip.labels) for clip in part.clips]
        return Speech(part.frames(), targets, part.samples()), part

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
        training, _ = self._speech(self.fold.train[0])
        validation, part = self._speech(self.fold.valid)
        reading = self._reading

        def score(decoded: list[list[int]]) -> float:
            counts = self._counts(part, decoded)[reading.primary].sum(axis=0)
            value = float(counts[0] / counts[1]) if counts[1] else math.inf
            return -value if reading.higher else value

        head, value, step = sequence_heads.train_text(
            training,
            validation.frames,
            score,
            settings,
            self.seed,
            n_symbols=len(self._table.symbols),
            width=width_of(recipe, self.protocol),
            batches=reading.batches(training, recipe.batch_size),
            dropped=self._table.dropped,
            augmented=suite(self.protocol).shorten == 1,  # few steps do not overfit
        )
        arrays = {name: t.detach().cpu().numpy() for name, t in head.state_dict().items()}
        arrays["learning_rate"] = np.array(rate)
        return TrainedTrial(value, step, arrays)

    def _counts(self, part: Split, decoded: Sequence[Sequence[int]]) -> dict[str, ClipCounts]:
        """Return each metric's counts [n_clips, 2] of decoded clips."""
        symbols = self._table.symbols
        rows = [
            self._reading.counts(clip.labels, [symbols[k] for k in path])
            for clip, path in zip(part.clips, decoded, strict=True)
        ]
        return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}

    def _named_model(self) -> dict[str, str]:
        model = suite(self.protocol).language_model
        if model is None or self.stored.task.prediction_type != KIND:
            return {}
        return {"language_model": model.path.name, "language_model_sha256": model.sha256}

    def _with_language_model(
        self, head: sequence_heads.TextHead, part: Split, tested: Speech
    ) -> ClipCounts | None:
        """Return word errors and words of every clip, decoded with the language model."""
        model = suite(self.protocol).language_model
        if model is None or self.stored.task.prediction_type != KIND:
            return None
        rows = []
        for clip, frames in zip(
            part.clips, sequence_heads.letter_probabilities(head, tested.frames), strict=True
        ):
            said = words_of(clip.labels)
            rows.append(
                (edit_distance_of(said, model.words(frames, self._table.symbols)), len(said))
            )
        return np.array(rows, np.float64)

    def finish(self, trained: Sequence[TrainedTrial], running: Running) -> FoldOutcome:
        """Choose the learning rate (the first of equals) and test its head."""
        best = min(trained, key=lambda one: one.value)
        arrays = dict(best.arrays)
        rate = float(arrays.pop("learning_rate"))
        recipe = recipe_of(self.stored.task, self.protocol)
        width = width_of(recipe, self.protocol)
        tested, part = self._speech(self.fold.test)
        _, n_layers, dim = tested.frames[0].shape
        head = sequence_heads.TextHead(n_layers, dim, len(self._table.symbols), width)
        head.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        head.eval().to(running.device)
        decoded = sequence_heads.decode_text(head, tested.frames, self._table.dropped)
        counts = self._counts(part, decoded)
        scores: dict[str, float | None] = {}
        for name in self.stored.task.evaluation:
            found, length = counts[name].sum(axis=0)
            scores[name] = float(found / length) if length else None
        second = self._with_language_model(head, part, tested)
        if second is not None:
            counts[METRIC] = second
            found, length = second.sum(axis=0)
            scores[METRIC] = float(found / length) if length else None
        total, _ = steps_of(recipe, self.protocol)
        value = -best.value if self._reading.higher else best.value
        lengths = [len(clip) for clip in tested.frames]
        result = FoldResult(
            fold=self.fold.test,
            scores=scores,
            grid_point={
                "learning_rate": rate,
                "steps": total,
                "width": width,
                "spec_augment": suite(self.protocol).shorten == 1,
                "selected_on": "validation",
                "targets_longer_than_frames": share_too_long(tested.targets, lengths),
                **self._named_model(),
            },
            validation_score=value if math.isfinite(value) else None,
            best_epoch=best.step,
            n_epochs=total,
            n_test=len(decoded),
            head_sha256=tensors_sha256(list(head.cpu().parameters())),
        )
        found_arrays = {f"counts:{name}": counts[name] for name in scores}
        return FoldOutcome(result, clip_arrays(part.clips) | found_arrays)


steps = folded(plan_fold)
