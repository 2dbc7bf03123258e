"""What a training leaves when its last step is done: weights, averages, scores of all folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mambabench.errors import StoreError
from mambabench.train.encoder_data import ClipFold
from mambabench.train.encoder_settings import EncoderSettings
from mambabench.train.judge import Judge
from mambabench.train.loop import Progress, writing
from mambabench.train.published import average_states, prefixed, save_pth, save_table
from mambabench.train.ranks import Ranks
from mambabench.train.readers import Blocks
from mambabench.train.scores import best_average_epoch
from mambabench.train.state import load_tensors, save_tensors, weights_of, weights_sha256
from mambabench.train.system import PreparedTraining

__all__ = ["finish_fold", "finish_folds"]

_SHOWN = ("main", "acc", "mAP", "auc", "d_prime", "valid_loss")


def finish_fold(
    settings: EncoderSettings,
    prepared: PreparedTraining,
    fold: Any,
    name: str,
    folder: Path,
    progress: Progress,
    ranks: Ranks,
) -> dict[str, Any]:
    """Write weights.safetensors (the best, or the last) and return the fold's record."""
    work = prepared.work
    ranks.wait()  # the first rank has written what all read
    state = weights_of(work.model)
    last_row = progress.history[-1] if progress.history else None
    best_row = next((r for r in progress.history if r["step"] == progress.best_step), None)
    averaged = None
    if settings.average and isinstance(work.evaluate, Judge):
        averaged = _averaged(settings, prepared, folder, len(progress.history), ranks)
    if prepared.selection:
        # where this was reached before and then killed, the best are the final weights already
        kept = (folder / name for name in ("best.safetensors", "weights.safetensors"))
        best = next((path for path in kept if path.is_file()), None)
        state = state if best is None else load_tensors(best)[0]
    record: dict[str, Any] = {
        "fold": name,
        "selection": prepared.selection or "none: the last weights",
        "steps": progress.step,
        "epochs": progress.epoch,
        "clips": progress.clips,
        "skipped_steps": progress.skipped,
        "overflowed_steps": progress.overflows,
        "facts": dict(prepared.facts),
        "last_loss": progress.last.get("loss"),
        "best": _plain(best_row),
        "last": _plain(last_row),
        "history": [_plain(row) for row in progress.history],
        "weights_sha256": weights_sha256(state),
    }
    if averaged is not None:
        record["averaged"] = _plain(averaged)
    ranks.wait()
    if ranks.first:
        header = {"objective": settings.objective, "sha256": record["weights_sha256"]}
        with writing(f"the weights of {folder}"):
            save_tensors(folder / "weights.safetensors", state, header)
        (folder / "best.safetensors").unlink(missing_ok=True)
    ranks.wait()
    published = settings.mode == "published"
    if published and isinstance(fold, ClipFold) and fold.valid and fold.test and not name:
        record["test"] = _eval_result(prepared, fold, folder, state, best_row, ranks)
    return record


def _plain(row: Any) -> Any:
    if row is None:
        return None
    lost = {k for k, v in row.items() if isinstance(v, float) and not math.isfinite(v)}
    return {k: None if k in lost else v for k, v in row.items()}


def _averaged(
    settings: EncoderSettings,
    prepared: PreparedTraining,
    folder: Path,
    n_epochs: int,
    ranks: Ranks,
) -> dict[str, Any]:
    """Average the kept weights, score them and write wa_result.csv: mAP, AUC, P, R, d'.

    Empty where the training ended before the first of these epochs.
    """
    first, last = settings.average[0], min(settings.average[-1], n_epochs)
    if last < first:
        return {}
    paths = [folder / "models" / f"audio_model.{e}.pth" for e in range(first, last + 1)]
    made = folder / "models" / "audio_model_wa.pth"
    mean = {k.removeprefix("module."): v for k, v in _mean_weights(paths, made).items()}
    judge = prepared.work.evaluate
    assert isinstance(judge, Judge)
    own = weights_of(judge.model)
    judge.model.load_state_dict(mean)
    judge.model.eval()
    with torch.no_grad():
        judged = judge.score(ranks)
    judge.model.load_state_dict(own)
    columns = ("mAP", "auc", "middle_precision", "middle_recall", "d_prime")
    if ranks.first:
        with writing(f"the averaged weights of {folder}"):
            save_table(folder / "wa_result.csv", [judged.row[c] for c in columns])
            save_pth(made, prefixed(mean))
        for path in paths[1:]:  # the first stays, as published
            path.unlink(missing_ok=True)
    return {"epochs": [first, last], **{k: judged.row[k] for k in _SHOWN if k in judged.row}}


def _mean_weights(paths: Sequence[Path], made: Path) -> Mapping[str, torch.Tensor]:
    """Return the mean of all of `paths`, or what was `made` of them before they were removed.

    StoreError where some are missing: the mean of the others would be another model.
    """
    missing = [path.name for path in paths if not path.is_file()]
    if not missing:
        return average_states([torch.load(path, weights_only=True) for path in paths])
    if made.is_file():
        state: Mapping[str, torch.Tensor] = torch.load(made, weights_only=True)
        return state
    raise StoreError(
        f"{paths[0].parent} lacks {', '.join(missing)}, whose weights are to be averaged: remove "
        f"{made.parents[1]} and train again"
    )


def _eval_result(
    prepared: PreparedTraining,
    fold: ClipFold,
    folder: Path,
    state: dict[str, torch.Tensor],
    best_row: dict[str, Any] | None,
    ranks: Ranks,
) -> dict[str, Any]:
    """Score the weights chosen on validation on the evaluation set: eval_result.csv."""
    judge = prepared.work.evaluate
    assert isinstance(judge, Judge)
    assert isinstance(judge.validation, Blocks)
    read = replace(judge.validation.read, clips=fold.test)
    on_test = replace(
        judge, validation=replace(judge.validation, read=read, n_clips=len(fold.test)), kept={}
    )
    judge.model.load_state_dict(state)
    judge.model.eval()
    with torch.no_grad():
        judged = on_test.score(ranks)
    if ranks.first and best_row is not None and "auc" in judged.row:
        row = [best_row["acc"], best_row["auc"], judged.row["acc"], judged.row["auc"]]
        save_table(folder / "eval_result.csv", row)
    scores: dict[str, Any] = _plain({k: judged.row[k] for k in _SHOWN if k in judged.row})
    return scores


def finish_folds(
    settings: EncoderSettings, folder: Path, folds: Sequence[dict[str, Any]], ranks: Ranks
) -> dict[str, Any]:
    """Return the scores over all folds; published: one epoch for all, the best on average."""
    if len(folds) < 2 or not all(f["history"] for f in folds):
        return {}
    tables = [np.array([[row["main"]] for row in f["history"]]) for f in folds]
    shortest = min(len(t) for t in tables)
    best, scores = best_average_epoch([t[:shortest] for t in tables])
    last = [float(t[-1, 0]) for t in tables]
    own = [float(t.max()) for t in tables]
    if ranks.first:
        save_table(folder / "acc_fold.csv", [*scores, float(np.mean(scores))])
        save_table(
            folder / "best_result.csv", np.mean([t[:shortest] for t in tables], axis=0)[best]
        )
    return {
        "best_average_epoch": best + 1,
        "folds_at_best_average_epoch": scores,
        "mean_at_best_average_epoch": float(np.mean(scores)),
        "mean_at_last_epoch": float(np.mean(last)),
        "mean_of_own_best": float(np.mean(own)),
    }
