"""A metric: the reciprocal of the rank of the right label, the mean over clips."""

import numpy as np

from mambabench.benchmarks.metrics.metric import Metric, PerClip


def reciprocal_ranks(target: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return 1 / rank of every clip's label, float64 [n_clips]; equal probabilities rank last."""
    own = probability[np.arange(len(target)), target]
    return 1.0 / (probability >= own[:, None]).sum(axis=1)


def score(target: np.ndarray, probability: np.ndarray) -> float:
    """Return the mean; NaN where nothing is scored or a probability is NaN."""
    if probability.size == 0 or np.isnan(probability).any():
        return float("nan")
    return float(reciprocal_ranks(target, probability).mean())


METRIC = Metric(
    "reciprocal_rank",
    "reciprocal rank",
    statistic=PerClip(reciprocal_ranks),  # intervals and tests follow from this
    compute=score,
    chance=lambda target, n_labels: float(np.mean(1.0 / np.arange(1, n_labels + 1))),
)
