"""SUPERB's protocols on stored embeddings: which clips train, what is tuned, what is selected.

``superb`` follows s3prl 0.4.18, its selections on test data included (ASV: the best checkpoint by
test trials); ``superb-clean`` selects on development data only: ER's development speakers are not
trained on, ASV's checkpoint is chosen on held-out training speakers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.benchmarks.superb import TASKS, er, qbe
from mambabench.benchmarks.superb.metrics import (
    edit_distance,
    equal_error_rate,
    maximum_term_weighted_value,
)
from mambabench.benchmarks.superb.prepare import RELEVANCE, TRIALS
from mambabench.benchmarks.superb.sources import SourceClip
from mambabench.benchmarks.task import Clip, Task
from mambabench.errors import DataError, ProtocolError
from mambabench.probe.fitted import FoldOutcome
from mambabench.probe.heads import frame_heads, weighted_sum
from mambabench.probe.protocols import Inapplicable, Protocol
from mambabench.reading.tables import Row, read_table
from mambabench.store.embeddings import EmbeddingSet, StoredTask
from mambabench.store.open import read_embeddings
from mambabench.store.records import FoldResult

if TYPE_CHECKING:
    from mambabench.probe.plan import TaskPlan

__all__ = ["LEARNING_RATES", "superb_folds"]

LEARNING_RATES = tuple(10.0**-power for power in range(1, 8))  # the range its maintainers allow
FRAME_RATES = {"PR": (1e-2, 1e-3), "ASV": (1e-4,)}  # frames cost more: the published one leads
STEPS = {"KS": 200_000, "IC": 200_000, "SID": 200_000, "ER": 30_000, "PR": 100_000, "ASV": 200_000}
EVALUATIONS = {"KS": 40, "IC": 40, "SID": 40, "ER": 30, "PR": 100, "ASV": 20}
ASV_BATCH, ASV_CROP_S = 50, 8.0
# QUESST 2014's cost: false alarms against misses at its prior
TERM_BETA = (1 / 100) * (1 / 0.0008 - 1)


FoldJob = Callable[[], FoldOutcome]


def superb_folds(plan: TaskPlan, seed: int) -> list[FoldJob]:
    """Return one job a fold of the plan's SUPERB task; each returns its scored fold.

    Raises Inapplicable where the task is none of SUPERB's.
    """
    stored, preset = plan.rows.stored, plan.protocol
    if stored.task.name not in TASKS:
        raise Inapplicable(
            f"{preset.name} does not apply to {stored.task.name}: it is for SUPERB tasks "
            f"({', '.join(TASKS)}), made by `mambabench tasks prepare`; use sound or a kit protocol"
        )
    name = TASKS[stored.task.name].superb_name
    if name == "ER":
        return [
            lambda fold=fold: _emotion_fold(stored, preset, seed, fold)  # type: ignore[misc]
            for fold in er.SESSIONS
        ]
    job = {"PR": _phones, "ASV": _verification, "QbE": _queries}.get(name, _utterance_task)
    return [lambda: job(stored, preset, seed)]


def _steps(preset: Protocol, superb_name: str) -> tuple[int, int]:
    """Return (total steps, steps between evaluations)."""
    total = max(1, STEPS[superb_name] // preset.shorten)
    return total, max(1, total // EVALUATIONS[superb_name])


class _Split:
    """The rows of one stored split beside the task's clips, in the store's order."""

    def __init__(self, stored: StoredTask, split: str) -> None:
        self.embeddings: EmbeddingSet = read_embeddings(stored, split)
        known = {clip.name: clip for clip in stored.task.clips[split]}
        self.clips: tuple[Clip, ...] = tuple(known[n] for n in self.embeddings.clip_names)

    def pooled(self) -> npt.NDArray[np.float32]:
        """Return time means [n_clips, n_layers, dim]."""
        return np.array(self.embeddings.embeddings, dtype=np.float32)

    def frames(self) -> list[npt.NDArray[np.float32]]:
        """Return [n_frames, n_layers, dim] of each clip, still memory-mapped."""
        offsets = self.embeddings.offsets
        rows = self.embeddings.embeddings
        return [rows[offsets[i] : offsets[i + 1]] for i in range(len(self.clips))]

    def groups(self) -> npt.NDArray[np.int64] | None:
        """Number the clips that stored crops belong to; None where nothing is cropped."""
        origins = [
            c.source.crop_of if c.source and c.source.crop_of else c.name for c in self.clips
        ]
        if len(set(origins)) == len(origins):
            return None
        numbers = {name: i for i, name in enumerate(dict.fromkeys(origins))}
        return np.array([numbers[name] for name in origins], np.int64)


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
        raise DataError(f"clip {clips[row].name} lacks the label of a slot; prepare the task again")
    return found


def _utterance_task(stored: StoredTask, preset: Protocol, seed: int) -> FoldOutcome:
    """Run KS, IC or SID: train, validation and test splits as they stand."""
    parts = {split: _Split(stored, split) for split in ("train", "valid", "test")}
    sizes, places = _slots(stored.task)
    data = {
        split: weighted_sum.LabelledFeatures(
            part.pooled(),
            _targets(part.clips, places, len(sizes)),
            part.groups() if split == "train" else None,
        )
        for split, part in parts.items()
    }
    return _affine_fold(stored, preset, seed, "test", data, parts["test"].clips, sizes)


def _emotion_fold(stored: StoredTask, preset: Protocol, seed: int, test: str) -> FoldOutcome:
    """Run one fold of ER: one session tests, the preset's rule splits the other four."""
    sizes, places = _slots(stored.task)
    parts = {session: _Split(stored, session) for session in er.SESSIONS}
    pool = [session for session in er.SESSIONS if session != test]
    clips = [clip for session in pool for clip in parts[session].clips]
    features = np.concatenate([parts[session].pooled() for session in pool])
    targets = _targets(clips, places, 1)
    sources = [SourceClip(c.name, "", c.labels, cluster=c.cluster) for c in clips]
    rule: er.Preset = "superb-clean" if preset.clean else "superb"
    rows = dict(zip(("train", "valid"), er.development_split(sources, rule), strict=True))
    data = {
        split: weighted_sum.LabelledFeatures(features[list(chosen)], targets[list(chosen)])
        for split, chosen in rows.items()
    }
    tested = parts[test]
    data["test"] = weighted_sum.LabelledFeatures(tested.pooled(), _targets(tested.clips, places, 1))
    return _affine_fold(stored, preset, seed, test, data, tested.clips, sizes)


def _affine_fold(
    stored: StoredTask,
    preset: Protocol,
    seed: int,
    fold: str,
    data: dict[str, weighted_sum.LabelledFeatures],
    clips: Sequence[Clip],
    sizes: tuple[int, ...],
) -> FoldOutcome:
    """Train every learning rate, keep the best on validation (the largest of equals), test it."""
    name = TASKS[stored.task.name].superb_name
    total, every = _steps(preset, name)
    settings = weighted_sum.WeightedSumSettings(
        sizes, LEARNING_RATES, total_steps=total, eval_every=every, balanced=name == "KS"
    )
    fits = weighted_sum.train(data["train"], data["valid"], settings, seed)
    best = max(fits, key=lambda fit: fit.validation_accuracy)  # the first of equals
    logits = weighted_sum.predict(best.head, data["test"].features)
    right = weighted_sum.correct(logits, data["test"].targets, sizes)[0]
    metric = stored.task.evaluation[0]
    weights = torch.softmax(best.head.layers[0], 0).tolist()
    result = FoldResult(
        fold=fold,
        scores={metric: float(right.mean())},
        grid_point={
            "learning_rate": best.learning_rate,
            "steps": total,
            "selected_on": "validation",
            "layer_weights": " ".join(f"{weight:.4f}" for weight in weights),
        },
        validation_score=best.validation_accuracy,
        best_epoch=best.best_step,
        n_epochs=total,
        n_test=len(clips),
        head_sha256=_sha256(best.head.tensors()),
    )
    arrays = _clip_arrays(clips)
    if len(sizes) == 1:
        arrays["target"] = data["test"].targets[:, 0]
        arrays["probability"] = torch.softmax(logits[0], 1).numpy().astype(np.float32)
    else:
        arrays[f"counts:{metric}"] = np.stack([right, np.ones(len(right))], axis=1)
    return FoldOutcome(result, arrays)


def _clip_arrays(clips: Sequence[Clip]) -> dict[str, npt.NDArray[Any]]:
    return {
        "clip": np.array([clip.name for clip in clips]),
        "cluster": np.array([clip.cluster or "" for clip in clips]),
    }


def _sha256(tensors: Sequence[torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _phones(stored: StoredTask, preset: Protocol, seed: int) -> FoldOutcome:
    """Run PR: every learning rate by CTC, the lowest validation error rate is tested."""
    parts = {split: _Split(stored, split) for split in ("train", "valid", "test")}
    symbols = {label: i + 1 for i, label in enumerate(stored.task.labels)}  # 0 is the blank
    sides = {
        split: (part.frames(), [[symbols[label] for label in c.labels] for c in part.clips])
        for split, part in parts.items()
    }
    total, every = _steps(preset, "PR")
    fits = []
    for rate in FRAME_RATES["PR"]:
        settings = frame_heads.FrameSettings(rate, total, eval_every=every)
        n_symbols = len(symbols) + 1
        fits.append(
            (
                *frame_heads.train_phones(
                    sides["train"], sides["valid"], n_symbols, settings, seed
                ),
                rate,
            )
        )
    head, validation, step, rate = min(fits, key=lambda fit: fit[1])
    decoded = frame_heads.decode(head, sides["test"][0])
    counts = np.array(
        [
            (edit_distance(target, found), len(target))
            for target, found in zip(sides["test"][1], decoded, strict=True)
        ],
        np.float64,
    )
    errors, length = counts.sum(axis=0)
    result = FoldResult(
        fold="test",
        scores={"per": float(errors / length)},
        grid_point={"learning_rate": rate, "steps": total, "selected_on": "validation"},
        validation_score=validation,
        best_epoch=step,
        n_epochs=total,
        n_test=len(decoded),
        head_sha256=_sha256(list(head.parameters())),
    )
    arrays = _clip_arrays(parts["test"].clips) | {"counts:per": counts}
    return FoldOutcome(result, arrays)


def _pairs(speakers: Sequence[str]) -> tuple[npt.NDArray[np.bool_], tuple[Any, Any]]:
    """Return all pairs of clips: whether the speakers are the same, and (first, second) rows."""
    first, second = np.triu_indices(len(speakers), 1)
    names = np.asarray(speakers)
    return names[first] == names[second], (first, second)


def _verification(stored: StoredTask, preset: Protocol, seed: int) -> FoldOutcome:
    """Run ASV; test trials pick the checkpoint under ``superb``, held-out ones if clean."""
    train, test = _Split(stored, "train"), _Split(stored, "test")
    frames = train.frames()
    speakers = [clip.labels[0] for clip in train.clips]
    names = list(dict.fromkeys(speakers))
    # one speaker in ten, two at least, is held out under the clean preset
    held = set(names[-max(2, len(names) // 10) :]) if preset.clean else set()
    kept = [i for i, speaker in enumerate(speakers) if speaker not in held]
    numbers = {name: i for i, name in enumerate(n for n in names if n not in held)}
    ids = np.array([numbers[speakers[i]] for i in kept], np.int64)
    total, every = _steps(preset, "ASV")
    checkpoints = list(range(every, total + 1, every))[-10:]
    (rate,) = FRAME_RATES["ASV"]
    hop = _hop_ms(train)
    settings = frame_heads.FrameSettings(
        rate,
        total,
        batch_size=ASV_BATCH,
        gradient_norm=1e3,
        crop_frames=max(15, round(ASV_CROP_S * 1000 / hop)),
    )
    network, states = frame_heads.train_speakers(
        ([frames[i] for i in kept], ids), settings, seed, checkpoints
    )
    same, (first, second) = _trials(stored, test)
    tested = test.frames()
    held_rows = [i for i, speaker in enumerate(speakers) if speaker in held]
    best: tuple[float, int, npt.NDArray[np.float64]] | None = None
    for step in checkpoints:
        network.load_state_dict(states[step])
        vectors = frame_heads.speaker_embeddings(network, tested).astype(np.float64)
        scores = (vectors[first] * vectors[second]).sum(axis=1)
        if preset.clean:
            own = frame_heads.speaker_embeddings(network, [frames[i] for i in held_rows])
            matches, (a, b) = _pairs([speakers[i] for i in held_rows])
            chosen_by = equal_error_rate(matches, (own[a] * own[b]).sum(axis=1).astype(float))[0]
        else:
            chosen_by = equal_error_rate(same, scores)[0]
        if best is None or chosen_by < best[0]:
            best = (chosen_by, step, scores)
    assert best is not None
    network.load_state_dict(states[best[1]])
    result = FoldResult(
        fold="test",
        scores={"eer": equal_error_rate(same, best[2])[0]},
        grid_point={
            "learning_rate": rate,
            "steps": total,
            "selected_on": "held-out training speakers" if preset.clean else "test",
        },
        validation_score=best[0] if preset.clean else None,
        best_epoch=best[1],
        n_epochs=total,
        n_test=len(tested),
        head_sha256=_sha256(list(network.parameters())),
    )
    arrays = _clip_arrays(test.clips) | {
        "trial_first": np.asarray(first, np.int64),
        "trial_second": np.asarray(second, np.int64),
        "trial_same": same,
        "trial_score": best[2],
    }
    return FoldOutcome(result, arrays)


def _hop_ms(split: _Split) -> float:
    """Return the median distance of neighbouring frames of the split's first clips."""
    times = split.embeddings.timestamps_ms
    if times is None or len(times) < 2:
        raise ProtocolError(
            "frame-level tasks need stored frames with timestamps; extract the task again"
        )
    steps = np.diff(times[: int(split.embeddings.offsets[1])])
    return float(np.median(steps)) if len(steps) else 20.0


def _rows_of(stored: StoredTask, name: str) -> Iterator[Row]:
    path = stored.task.directory / name
    if not path.is_file():
        raise DataError(f"{path}: missing; prepare the task and extract it again")
    yield from read_table(path, strip=False)


def _trials(stored: StoredTask, test: _Split) -> tuple[npt.NDArray[np.bool_], tuple[Any, Any]]:
    row = {clip.name: i for i, clip in enumerate(test.clips)}
    trials = [t for t in _rows_of(stored, TRIALS) if t["first"] in row and t["second"] in row]
    if not trials:
        raise DataError(f"task {stored.task.name}: no trial has both its clips embedded")
    return (
        np.array([trial["same"] == "1" for trial in trials]),
        (
            np.array([row[trial["first"]] for trial in trials]),
            np.array([row[trial["second"]] for trial in trials]),
        ),
    )


def _queries(stored: StoredTask, preset: Protocol, seed: int) -> FoldOutcome:
    """Run QbE: no training; the layer with the best term value on validation queries is tested."""
    parts = {split: _Split(stored, split) for split in ("documents", "valid", "test")}
    relevant = {
        (row["split"], row["query"], row["document"]) for row in _rows_of(stored, RELEVANCE)
    }
    truth = {
        split: np.array(
            [
                [(split, q.name, d.name) in relevant for d in parts["documents"].clips]
                for q in parts[split].clips
            ]
        )
        for split in ("valid", "test")
    }
    n_layers = parts["documents"].embeddings.embeddings.shape[1]
    values = []
    for layer in range(n_layers):
        scores = _layer_scores(parts, layer, "valid")
        values.append(maximum_term_weighted_value(truth["valid"], scores, beta=TERM_BETA))
    best = int(np.nanargmax(values))
    scores = _layer_scores(parts, best, "test")
    value = maximum_term_weighted_value(truth["test"], scores, beta=TERM_BETA)
    result = FoldResult(
        fold="test",
        scores={"mtwv": value},
        grid_point={"layer": best, "selected_on": "validation"},
        validation_score=values[best],
        best_epoch=None,
        n_epochs=None,
        n_test=len(parts["test"].clips),
        head_sha256=None,
    )
    arrays = _clip_arrays(parts["test"].clips) | {
        "query_score": scores,
        "query_relevant": truth["test"],
    }
    return FoldOutcome(result, arrays)


def _layer_scores(parts: dict[str, _Split], layer: int, split: str) -> npt.NDArray[np.float64]:
    """Return standardised scores [n_queries, n_documents] of one layer."""
    documents = [f[:, layer].astype(np.float64) for f in parts["documents"].frames()]
    queries = [f[:, layer].astype(np.float64) for f in parts[split].frames()]
    everything = np.concatenate(documents + queries)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    ready = [(document - mean) / deviation for document in documents]
    raw = np.stack([qbe.query_scores((query - mean) / deviation, ready) for query in queries])
    return qbe.z_normalise(raw)
