"""Score a trained classifier on test clips, beside the published value of its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.errors import DataError, EncoderError, ProtocolError, nearest_names
from mambabench.files import read_json
from mambabench.models.weights.checkpoint import read_checkpoint
from mambabench.train.encoder_data import ClipData, ClipFold
from mambabench.train.encoder_settings import AumSettings, EncoderSettings
from mambabench.train.judge import Judge, Judged
from mambabench.train.published import save_table
from mambabench.train.published_rows import published_values
from mambabench.train.ranks import Ranks
from mambabench.train.readers import Blocks, EpicReader, FbankReader
from mambabench.train.recipes import find_recipe, read_recipe, recipe_names
from mambabench.train.scored_records import Tested, write_scored_record
from mambabench.train.settings import SYSTEMS, resolve
from mambabench.train.supervised import fbank_settings
from mambabench.train.system import find_system
from mambabench.train.unfrozen import WaveReader

__all__ = ["Scored", "evaluate_checkpoint", "is_run"]

MutableState = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Scored:
    """One evaluation: the scores of the test clips, of each fold and averaged."""

    system: str
    task: str
    mode: str
    selection: str
    metric: str
    n_clips: int
    scores: Mapping[str, float]
    folds: tuple[Mapping[str, float], ...]
    published: tuple[tuple[str, str, float], ...]  # model, metric, value as printed
    record: Path | None = None  # the run record, of a run below an output folder
    published_note: str = ""  # what the published values are not

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        own = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **own,
            "scores": dict(self.scores),
            "folds": [dict(fold) for fold in self.folds],
            "published": [{"model": m, "metric": k, "value": v} for m, k, v in self.published],
            "record": None if self.record is None else str(self.record),
        }


def is_run(path: Path) -> bool:
    """Tell whether `path` is a finished run of `mambabench train` for an encoder."""
    record = path / "run.json"
    return record.is_file() and read_json(record).get("schema") == "mambabench.train/2"


def evaluate_checkpoint(
    checkpoint: Path,
    *,
    data: Sequence[str],
    task: str | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    mode: str | None = None,
    device: str = "cpu",
) -> Scored:
    """Score a run folder, or a checkpoint of ours or the authors', on the test clips of `data`.

    A run folder knows its settings; for a file they come from `recipe`, or from the recipe of
    `task`, and its architecture from its tensors. Nothing is trained. Predictions are written
    beside a run, and below its output folder a run record for `mambabench report`.
    """
    given = {k: v for k, v in {**(settings or {}), "mode": mode}.items() if v is not None}
    if is_run(checkpoint):
        system, resolved, selection, states = _of_run(checkpoint, given)
    else:
        state = read_checkpoint(checkpoint).state
        system = _system_of(state, checkpoint)
        resolved = _settings_of(system, state, task, recipe, given)
        selection, states = "not known: a file", {"": state}
    opened = find_system(system).open_data(resolved, data)
    if selection.startswith("validation") and not _has_test(opened):
        selection += ", which are tested on here for want of others ‡"
    rows, n_clips, tested = [], 0, []
    for fold in opened.folds:
        name = getattr(fold, "name", "")
        if name not in states and "" not in states:
            raise DataError(f"the run has no fold {name!r}: {', '.join(states)}")
        own = states.get(name, states.get("", {}))
        row, judged, n = _score(system, resolved, opened, fold, own, device)
        if is_run(checkpoint):
            flat = judged.probabilities.reshape(len(judged.probabilities), -1)
            save_table(checkpoint / name / "test_predictions.csv", flat)
        if isinstance(fold, ClipFold):
            tested.append(Tested(fold, judged.probabilities, judged.targets))
        rows.append(row)
        n_clips += n
    written = None
    if is_run(checkpoint) and isinstance(opened, ClipData):
        told = read_json(checkpoint / "run.json")
        written = write_scored_record(checkpoint, told, resolved, opened, tested)
    mean = {k: float(np.mean([r[k] for r in rows])) for k in rows[0]}
    published = published_values(system, resolved, _start_of(checkpoint))
    return Scored(
        system,
        resolved.task,
        resolved.mode,
        selection,
        resolved.metric,
        n_clips,
        mean,
        tuple(rows) if len(rows) > 1 else (),
        published.values,
        written,
        published.note,
    )


def _has_test(data: Any) -> bool:
    return all(fold.test for fold in (data.folds if isinstance(data, ClipData) else (data,)))


def _start_of(checkpoint: Path) -> str | None:
    """Return what a run was initialised with, "" for nothing; None where a file cannot tell."""
    if not is_run(checkpoint):
        return None
    return read_json(checkpoint / "run.json")["settings"]["init"] or ""


def _of_run(
    folder: Path, given: Mapping[str, Any]
) -> tuple[str, EncoderSettings, str, dict[str, MutableState]]:
    record = read_json(folder / "run.json")
    told = {k: v for k, v in record["settings"].items() if k not in ("seed", "init")}
    settings = resolve(SYSTEMS[record["system"]], {**told, **given}, str(folder / "run.json"))
    assert isinstance(settings, EncoderSettings)
    states = {}
    for fold in record["folds"]:
        path = folder / fold["fold"] / "weights.safetensors"
        states[fold["fold"]] = dict(read_checkpoint(path).state)
    return record["system"], settings, record["folds"][0]["selection"], states


def _system_of(state: MutableState, path: Path) -> str:
    if any(k.startswith("mlp_head.") for k in state) and "v.cls_token" in state:
        return "ssamba"
    if any(k.startswith("encoder.blocks.0.mixer") for k in state):
        return "ssam"
    if any(k.startswith("encoder.blocks.0.attn") for k in state):
        return "ssast"
    if "head.weight" in state and any(k.startswith("layers.") for k in state):
        return "aum"
    raise EncoderError(
        f"{path} has no classifier: fine-tune it first, or embed with it and probe "
        "(`mambabench run --encoder NAME@PATH`)"
    )


def _settings_of(
    system: str, state: MutableState, task: str | None, recipe: str | None, given: Mapping[str, Any]
) -> EncoderSettings:
    """Return the recipe's settings with the architecture that the tensors show."""
    if recipe is None and task is None:
        raise ProtocolError("a checkpoint file needs --task, or --recipe with its settings")
    if recipe is None:
        recipe = _recipe_of(system, str(task))
    settings = read_recipe(find_recipe(recipe), given).rows[0].settings
    assert isinstance(settings, EncoderSettings)
    token = next(v for k, v in state.items() if "cls_token" in k)
    depth = 1 + max(
        int(part)
        for k in state
        for before, part in zip(k.split("."), k.split(".")[1:], strict=False)
        if before in ("layers", "blocks")
    )
    found: dict[str, Any] = {"embed_dim": token.shape[2], "depth": depth}
    if isinstance(settings, AumSettings):
        two = any(k.endswith("D_b") for k in state)
        one = any(k.endswith("A_b_log") for k in state)
        found["variant"] = "Bi-Bi" if two else "Fo-Bi" if one else "Fo-Fo"
    return replace(settings, **found)


def _recipe_of(system: str, task: str) -> str:
    tasks: dict[str, str] = {}
    for name in recipe_names():
        read = read_recipe(find_recipe(name), {})
        settings = read.rows[0].settings
        if read.system == system and getattr(settings, "objective", "") == "classify":
            tasks.setdefault(settings.task, name)
    if task not in tasks:
        known = ", ".join(sorted(tasks))
        raise ProtocolError(
            f"no recipe of {system} for task {task!r}{nearest_names(task, tasks)}; tasks: {known}; "
            "or give --recipe"
        )
    return tasks[task]


def _score(
    system: str, settings: EncoderSettings, data: Any, fold: Any, state: MutableState, device: str
) -> tuple[dict[str, float], Judged, int]:
    model = find_system(system).build(settings, len(data.labels))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"the weights do not fit these settings: {error}") from error
    model.to(device).eval()
    blocks = _test_blocks(system, settings, data, fold)
    judge = Judge(
        model, blocks, settings.loss, settings.metric, 8, settings.mode == "sound", device,
        settings.precision,
    )  # fmt: skip
    with torch.no_grad():
        judged = judge.score(Ranks())
    row = {k: v for k, v in judged.row.items() if isinstance(v, float)}
    row["left_out_classes"] = float(judged.row.get("left_out_classes", 0))
    return row, judged, blocks.n_clips


def _test_blocks(system: str, settings: EncoderSettings, data: Any, fold: Any) -> Blocks:
    published = settings.mode == "published"
    size = 2 * settings.batch_size
    if not isinstance(data, ClipData):
        read: Any = EpicReader(
            data.tested, data.audio, len(data.labels), 0, False, published, settings.n_frames
        )
        return Blocks(read, len(data.tested), size, settings.workers)
    clips = fold.test or fold.valid
    if not clips:
        raise DataError("there are no test clips: give --data test=PATH")
    if getattr(settings, "pooling", "") == "s3prl":
        return Blocks(WaveReader(clips, len(data.labels), 0), len(clips), 1, settings.workers)
    n_frames = settings.n_frames
    ssam = system in ("ssam", "ssast")
    if ssam:
        clip_frames = int(getattr(settings, "clip_frames", n_frames))
        n_frames = -(-clip_frames // n_frames) * n_frames
    read = FbankReader(
        clips, fbank_settings(settings, n_frames, ssam), len(data.labels), 0, False, 0.0,
        None if published else 16000,
    )  # fmt: skip
    return Blocks(read, len(clips), size, settings.workers)
