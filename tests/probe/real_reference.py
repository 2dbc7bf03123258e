"""Scikit-learn's logistic regression on the embeddings and folds of a stored task."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression

from mambabench.probe.data import TaskRows


def logistic_regression(rows: TaskRows) -> float:
    """Return the mean accuracy over folds of C = 0.05 on standardised rows."""
    scores = []
    for fold in rows.folds:
        training, test = rows.training(fold), rows.test(fold)
        mean, scale = training.embeddings.mean(0), training.embeddings.std(0) + 1e-9
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=0.05, max_iter=1000)
            model.fit((training.embeddings - mean) / scale, training.targets)
        scores.append(np.mean(model.predict((test.embeddings - mean) / scale) == test.targets))
    return float(np.mean(scores))
