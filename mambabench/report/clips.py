"""Every test clip with what each seed made of it, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mambabench.errors import MambabenchError
from mambabench.report.names import chosen
from mambabench.report.results import group_runs, read_runs
from mambabench.report.runs import Group, Run
from mambabench.store.records import read_predictions

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CLIP_COLUMNS", "load_clips"]

# The columns of `load_clips`, in order: a row per (encoder, task, protocol, seed, fold, clip)
CLIP_COLUMNS = (
    "encoder",
    "task",
    "protocol",
    "seed",
    "fold",
    "clip",
    "cluster",
    "target",
    "prediction",
    "probability",
    "right",
)


def load_clips(
    out: str | Path | Sequence[str | Path] = "mambabench-out",
    *,
    encoder: str | Sequence[str] = (),
    task: str | Sequence[str] = (),
    wrong: bool = False,
) -> pd.DataFrame:
    """Return the test clips of scene tasks with one label a clip, a row per seed and clip.

    The columns are exactly `CLIP_COLUMNS`: `target` and `prediction` are label indices,
    `probability` is that of the prediction, `right` whether they are equal; its mean over a fold is
    the fold's accuracy. Clips and clusters of restricted tasks are numbered, not named. `encoder`
    and `task` are globs; `wrong` keeps what was not right only. MambabenchError where the choice
    has no such clips (multilabel and timestamp tasks have no single label); StoreError as
    `load_results` raises.
    """
    import pandas as pd

    outs = [out] if isinstance(out, (str, Path)) else list(out)
    groups = group_runs(read_runs([Path(folder) for folder in outs]))
    encoders = chosen("encoder", (g.encoder for g in groups), _patterns(encoder))
    tasks = chosen("task", (g.task for g in groups), _patterns(task))
    own = [group for group in groups if group.encoder in encoders and group.task in tasks]
    frames = [frame for group in own for run in group.runs for frame in _frames(group, run)]
    if not frames:
        raise MambabenchError(
            "no clip of these encoders and tasks has a single label and stored predictions; "
            "choose a multiclass task that was probed here"
        )
    result = pd.concat(frames, ignore_index=True)
    return result[~result["right"]].reset_index(drop=True) if wrong else result


def _patterns(given: str | Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _frames(group: Group, run: Run) -> Iterator[pd.DataFrame]:
    import numpy as np
    import pandas as pd

    if not run.has_predictions or run.source != "mambabench":
        return
    arrays = read_predictions(run.path)
    for fold in run.record.folds:
        name = fold.fold
        target, probability = (arrays.get(f"{name}/{key}") for key in ("target", "probability"))
        if target is None or probability is None or target.ndim > 1:
            return
        predicted = probability.argmax(axis=1)
        clips = arrays[f"{name}/clip"]
        clusters = arrays.get(f"{name}/cluster", np.full(len(clips), ""))
        if group.restricted:
            clips = np.arange(len(clips))
            clusters = np.unique(clusters, return_inverse=True)[1]
        columns = {
            "encoder": group.encoder,
            "task": group.task,
            "protocol": group.protocol,
            "seed": run.record.seed,
            "fold": name,
            "clip": clips.astype(str),
            "cluster": clusters.astype(str),
            "target": target,
            "prediction": predicted,
            "probability": probability[np.arange(len(target)), predicted].astype(np.float64),
            "right": predicted == target,
        }
        yield pd.DataFrame(columns, columns=list(CLIP_COLUMNS))
