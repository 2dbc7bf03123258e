"""Overall scores over tasks, each with its normalisation and the models that it depends on."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mambabench.report.exchange.family_scores import defined_for, own_scores
from mambabench.report.exchange.published import published_folder, read_published
from mambabench.report.rows import Overall

if TYPE_CHECKING:
    from mambabench.report.rows import Row

__all__ = [
    "LEADERBOARD_COLUMNS",
    "leaderboard_column",
    "leaderboard_scores",
    "min_max_scores",
    "overall_scores",
]

Array = npt.NDArray[Any]

# The columns of the HEAR leaderboard's CSV and the task directory that each stands for
LEADERBOARD_COLUMNS = {
    "Beehive": "beehive_states_mean_of_folds-v2-full",
    "Beijing Opera": "beijing_opera-v1.0-hear2021-full",
    "CREMA-D": "tfds_crema_d-1.0.0-full",
    "DCASE 2016": "dcase2016_task2-hear2021-full",
    "ESC-50": "esc50-v2.0.0-full",
    "FSD50K": "fsd50k-v1.0-full",
    "GTZAN Genre": "tfds_gtzan-1.0.0-full",
    "GTZAN Music/Speech": "tfds_gtzan_music_speech-1.0.0-full",
    "Gunshot": "gunshot_triangulation-v1.0-full",
    "Libricount": "libricount-v1.0.0-hear2021-full",
    "Maestro 5h": "maestro-v3.0.0-5h",
    "Mridangam Stroke": "mridangam_stroke-v1.5-full",
    "Mridangam Tonic": "mridangam_tonic-v1.5-full",
    "NSynth Pitch 50h": "nsynth_pitch-v2.2.3-50h",
    "NSynth Pitch 5h": "nsynth_pitch-v2.2.3-5h",
    "Speech commands 5h": "speech_commands-v0.0.2-5h",
    "Speech commands full": "speech_commands-v0.0.2-full",
    "Vocal Imitation": "vocal_imitation-v1.1.3-full",
    "VoxLingua107 top 10": "vox_lingua_top10-hear2021-full",
}
_FEWEST_ENCODERS = 3  # two of them are -1 and 1, or 0 and 100, on every task
_BEEHIVE_HALF = re.compile(r"beehive_states_fold[01]-.*")


def leaderboard_column(task: str) -> str | None:
    """Return the leaderboard's column of a task directory, or None."""
    return next((name for name, own in LEADERBOARD_COLUMNS.items() if own == task), None)


def leaderboard_scores(scores: Array) -> Array:
    """Return HEAR's normalised overall score of every model, [n_models], in [-1, 1].

    scores [n_models, n_tasks], higher is better, NaN where missing: missing values are filled in
    by scikit-learn's IterativeImputer (max_iter 10, random_state 0), each task is standardised over
    the models (standard deviation with ddof 0), clipped to [-1, 1], and averaged. Source:
    hearbenchmark/hear-leaderboard, leaderboard.py.
    """
    filled = scores
    if np.isnan(scores).any():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # ten rounds are the procedure
            filled = IterativeImputer(max_iter=10, random_state=0).fit_transform(scores)
    spread = filled.std(axis=0)
    z = (filled - filled.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.clip(z, -1.0, 1.0).mean(axis=1))


def min_max_scores(scores: Array) -> Array:
    """Return s(m) = 100 / n_tasks * sum over tasks of (x - min) / (max - min), [n_models].

    scores [n_models, n_tasks] without NaN, higher is better; a task on which all models are equal
    tells them apart in nothing and is left out. NaN where no task is left.
    """
    low, high = scores.min(axis=0), scores.max(axis=0)
    useful = high > low
    if not useful.any():
        return np.full(len(scores), np.nan)
    share = (scores[:, useful] - low[useful]) / (high - low)[useful]
    return np.asarray(100.0 * share.mean(axis=1))


def overall_scores(rows: Sequence[Row]) -> tuple[Overall, ...]:
    """Return the overall scores of every protocol that has at least two encoders and two tasks.

    A score goes to the encoders that have every task of the protocol; where some lack tasks, all
    of them are scored once more on the tasks that they have in common. Nothing is filled in for an
    encoder of ours. Under `hear2021` the encoders are also placed among the models of the HEAR
    leaderboard. Beehive's two directories count once, as their mean.
    """
    result: list[Overall] = []
    for protocol in sorted({row.protocol for row in rows}):
        if any(defined_for(score, protocol) for score in own_scores()):
            continue  # a family's own score stands for it
        own = [row for row in rows if row.protocol == protocol]
        if any(row.task == LEADERBOARD_COLUMNS["Beehive"] for row in own):
            own = [row for row in own if not _BEEHIVE_HALF.fullmatch(row.task)]
        encoders = sorted({row.encoder for row in own})
        tasks = sorted({row.task for row in own})
        table = _table(own, encoders, tasks)
        if len(encoders) > 1 and len(tasks) > 1:
            result += _normalised(protocol, encoders, tasks, table)
        if protocol.removesuffix("+exact") == "hear2021":
            result += _among_published(protocol, encoders, tasks, table)
    return tuple(result)


def _normalised(
    protocol: str, encoders: Sequence[str], tasks: Sequence[str], table: Array
) -> list[Overall]:
    """Score the encoders on all tasks and, where some lack one, on those that all have."""
    result: list[Overall] = []
    common = np.asarray(~np.isnan(table).any(axis=0))
    for name, scores in (("hear-leaderboard", leaderboard_scores), ("min-max", min_max_scores)):
        result += _by(name, scores, protocol, encoders, tasks, table)
        if 1 < common.sum() < len(tasks):
            shared = [task for task, kept in zip(tasks, common, strict=True) if kept]
            result += _by(
                f"{name}, common tasks", scores, protocol, encoders, shared, table[:, common]
            )
    return result


def _table(rows: Sequence[Row], encoders: Sequence[str], tasks: Sequence[str]) -> Array:
    """Means with their sign turned where lower is better, [n_encoders, n_tasks], NaN if missing."""
    table = np.full((len(encoders), len(tasks)), np.nan)
    for row in rows:
        if row.mean is not None:
            sign = 1.0 if row.higher_is_better else -1.0
            table[encoders.index(row.encoder), tasks.index(row.task)] = sign * row.mean
    return table


def _by(
    normalisation: str,
    scores: Callable[[Array], Array],
    protocol: str,
    encoders: Sequence[str],
    tasks: Sequence[str],
    table: Array,
) -> list[Overall]:
    """Give a normalised score to the encoders that have every task; they are each other's pool."""
    complete = np.asarray(~np.isnan(table).any(axis=1))
    pool = [name for name, has in zip(encoders, complete, strict=True) if has]
    found = np.full(len(encoders), np.nan)
    if len(pool) >= _FEWEST_ENCODERS:
        found[complete] = scores(table[complete])
    result = []
    for i, name in enumerate(encoders):
        missing = [task for task, x in zip(tasks, table[i], strict=True) if np.isnan(x)]
        reason = "all encoders are equal on every task"
        if missing:
            reason = f"no score without all tasks; missing {', '.join(missing)}"
        elif len(pool) < _FEWEST_ENCODERS:
            reason = (
                f"no normalised score below {_FEWEST_ENCODERS} encoders with every task "
                f"({len(pool)} here): they would stand at the ends of every scale, however near "
                "they are; see the pairs"
            )
        known = bool(np.isfinite(found[i]))
        score = float(found[i]) if known else None
        result.append(
            Overall(
                *(name, protocol, normalisation, score, len(tasks), tuple(tasks), tuple(pool), 0),
                reason=None if known else reason,
            )
        )
    return result


def _among_published(
    protocol: str, encoders: Sequence[str], tasks: Sequence[str], table: Array
) -> list[Overall]:
    """Place encoders among the HEAR leaderboard's models, on the tasks that all of them have."""

    shared = [
        i
        for i, task in enumerate(tasks)
        if leaderboard_column(task) and not np.isnan(table[:, i]).any()
    ]
    folder = published_folder()
    if len(shared) < 2 or folder is None:
        return []
    names = [tasks[i] for i in shared]
    others: dict[str, list[float]] = {}
    for row in read_published(folder / "hear_leaderboard.csv"):
        if row.task in names:
            scores = others.setdefault(row.model, [float("nan")] * len(names))
            scores[names.index(row.task)] = row.score
    joined = np.concatenate([table[:, shared], np.array(list(others.values()))])
    pool = (*encoders, *others)
    found = leaderboard_scores(joined)
    n_imputed = int(np.isnan(joined).sum())
    return [
        Overall(
            *(name, protocol, "hear-leaderboard+published", float(found[i])),
            *(len(names), tuple(names), pool, n_imputed),
            reason=None,
        )
        for i, name in enumerate(encoders)
    ]
