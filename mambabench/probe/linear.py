"""The `linear` protocol: logistic regression on standardised rows, solved to its optimum.

The objective is scikit-learn's: C * sum of losses + |W|^2 / 2, the bias not penalised. It is convex
and solved by L-BFGS in double precision from zero, so there is nothing random and one seed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.probe.fitted import Fitted, HeadPredictor
from mambabench.probe.heads import HeadParameters
from mambabench.probe.monitor import Monitored, chosen
from mambabench.probe.trainer import PreparedFold

__all__ = ["STRENGTHS", "fit_linear", "solve"]

STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)  # C, from strong to weak


def fit_linear(fold: PreparedFold) -> Fitted:
    """Return the head of the strength that validates best, the strongest of equals.

    Each strength starts from the solution of the one before.
    """
    rows, target = fold.rows.double(), fold.target.double()
    solution = np.zeros((fold.n_labels, fold.dim + 1))
    heads: list[HeadParameters] = []
    seen: list[Monitored] = []
    for strength in STRENGTHS:
        solution = solve(rows, target, strength, solution, multilabel=fold.multilabel)
        weight = np.ascontiguousarray(solution[:, :-1], np.float32)
        bias = np.ascontiguousarray(solution[:, -1], np.float32)
        heads.append(HeadParameters((weight,), (bias,), (), ()))
        seen.append(fold.monitor(fold.validation_logits(heads[-1].logits)))
    best = chosen([monitored.value for monitored in seen])
    return Fitted(
        predict=HeadPredictor(heads[best], fold.scaler, fold.multilabel),
        grid_point={"C": STRENGTHS[best]},
        validation_score=seen[best].score,
        head_sha256=heads[best].sha256(),
        post_processing=seen[best].post_processing,
        n_train=len(fold.rows),
    )


def solve(
    rows: torch.Tensor,
    target: torch.Tensor,
    strength: float,
    start: npt.NDArray[np.float64],
    *,
    multilabel: bool,
) -> npt.NDArray[np.float64]:
    """Return the optimal [n_labels, dim + 1], bias last.

    rows [n, dim] and target [n_labels, n] float64; the objective is divided by strength * n.
    """
    from scipy.optimize import minimize

    n = rows.shape[0]
    ridge = 1.0 / (strength * n)

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        both = torch.from_numpy(flat.reshape(start.shape))
        weight, bias = both[:, :-1].contiguous(), both[:, -1:]
        logits = torch.addmm(bias, weight, rows.t())
        if multilabel:
            loss = (torch.nn.functional.softplus(logits) - target * logits).sum()
            delta = torch.sigmoid(logits).sub_(target)
        else:
            loss = (torch.logsumexp(logits, 0) - (target * logits).sum(0)).sum()
            delta = torch.softmax(logits, 0).sub_(target)
        delta /= n
        gradient = torch.empty_like(both)
        gradient[:, :-1] = torch.mm(delta, rows).add_(weight, alpha=ridge)
        gradient[:, -1] = delta.sum(1)
        value = float(loss) / n + 0.5 * ridge * float((weight * weight).sum())
        return value, gradient.numpy().reshape(-1)

    options: dict[str, Any] = {"maxiter": 300, "gtol": 1e-5, "ftol": 1e-9, "maxcor": 10}
    found = minimize(objective, start.reshape(-1), jac=True, method="L-BFGS-B", options=options)
    solution: npt.NDArray[np.float64] = np.asarray(found.x).reshape(start.shape)
    if not math.isfinite(float(found.fun)):
        return start
    return solution
