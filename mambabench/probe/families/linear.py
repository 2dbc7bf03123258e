"""The `linear` protocol: logistic regression on standardised rows, solved to its optimum.

The objective is scikit-learn's: C * sum of losses + |W|^2 / 2, the bias not penalised. It is convex
and solved by L-BFGS in double precision from zero, so there is nothing random and one seed.

L-BFGS sees the rows in the axes of their own scatter, each axis scaled by the curvature that the
loss has along it. The penalty does not change under a rotation, so the optimum is the same, and a
weak penalty on correlated columns takes tens of iterations instead of thousands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mambabench.errors import ProtocolError
from mambabench.probe.families.scored import fitted_once
from mambabench.probe.fitted import Fitted, HeadPredictor
from mambabench.probe.heads.parameters import HeadParameters
from mambabench.probe.monitor import Monitored, chosen
from mambabench.probe.trainer import PreparedFold

__all__ = ["STRENGTHS", "Axes", "fit_linear", "principal_axes", "solve", "steps"]

STRENGTHS = (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0, 10.0)  # C, from strong to weak

_TOLERANCE = 1e-7  # of the largest derivative along a scaled axis
_ACCEPTED = 1e-6  # where rounding ends the search before
_ITERATIONS = 10_000
_LARGEST_ROTATION = 4096  # axes; beyond, finding them costs more than they save


def fit_linear(fold: PreparedFold) -> Fitted:
    """Return the head of the strength that validates best, the strongest of equals.

    Each strength starts from the solution of the one before. ProtocolError where one has none.
    """
    axes, target = principal_axes(fold.rows), fold.target.double()
    solution = np.zeros((fold.n_labels, axes.n_axes + 1))
    heads: list[HeadParameters] = []
    seen: list[Monitored] = []
    for strength in STRENGTHS:
        solution = solve(axes, target, strength, solution, multilabel=fold.multilabel)
        heads.append(HeadParameters(*axes.weight_and_bias(solution), (), ()))
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


@dataclass(frozen=True)
class Axes:
    """Rows in orthonormal axes that hold all of them."""

    rows: torch.Tensor  # [n, n_axes] float64
    scatter: torch.Tensor  # [n_axes] float64: sum of squares of `rows` along each axis
    basis: torch.Tensor | None  # [dim, n_axes] float64; None: the columns themselves

    @property
    def n_axes(self) -> int:
        """Number of axes: at most the smaller of rows and columns, where there is a basis."""
        return int(self.rows.shape[1])

    def weight_and_bias(
        self, solution: npt.NDArray[np.float64]
    ) -> tuple[tuple[npt.NDArray[np.float32]], tuple[npt.NDArray[np.float32]]]:
        """Return the weight [n_labels, dim] and bias of a solution [n_labels, n_axes + 1]."""
        weight = torch.from_numpy(np.ascontiguousarray(solution[:, :-1]))
        if self.basis is not None:
            weight = weight @ self.basis.t()
        bias = np.ascontiguousarray(solution[:, -1], np.float32)
        return (np.ascontiguousarray(weight.numpy(), np.float32),), (bias,)


def principal_axes(rows: torch.Tensor) -> Axes:
    """Return rows [n, dim] float32 in the axes of their scatter; very wide and many as they are."""
    rows = rows.double()
    n, dim = rows.shape
    if min(n, dim) > _LARGEST_ROTATION:
        return Axes(rows, (rows * rows).sum(0), None)
    basis = None
    if n < dim:  # the optimum lies in the span of the rows
        basis, triangle = torch.linalg.qr(rows.t())
        rows = triangle.t().contiguous()
    scatter, rotation = torch.linalg.eigh(rows.t() @ rows)
    basis = rotation if basis is None else basis @ rotation
    return Axes(rows @ rotation, scatter.clamp(min=0.0), basis)


def solve(
    axes: Axes,
    target: torch.Tensor,
    strength: float,
    start: npt.NDArray[np.float64],
    *,
    multilabel: bool,
) -> npt.NDArray[np.float64]:
    """Return the optimal [n_labels, n_axes + 1], bias last.

    target [n_labels, n] float64; the objective is divided by strength * n. ProtocolError where the
    search ends away from the optimum or with a value that is not finite.
    """
    from scipy.optimize import minimize

    n, n_labels = len(axes.rows), len(target)
    ridge = 1.0 / (strength * n)
    spread = 0.25 if multilabel else (1.0 - 1.0 / n_labels) / n_labels  # p (1 - p) of a guess
    curvature = torch.cat([axes.scatter * (spread / n) + ridge, torch.tensor([spread]).double()])
    scale = curvature.rsqrt()

    def objective(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        both = torch.from_numpy(flat.reshape(start.shape)) * scale
        weight, bias = both[:, :-1].contiguous(), both[:, -1:]
        logits = torch.addmm(bias, weight, axes.rows.t())
        if multilabel:
            loss = (torch.nn.functional.softplus(logits) - target * logits).sum()
            delta = torch.sigmoid(logits).sub_(target)
        else:
            loss = (torch.logsumexp(logits, 0) - (target * logits).sum(0)).sum()
            delta = torch.softmax(logits, 0).sub_(target)
        delta /= n
        gradient = torch.empty_like(both)
        gradient[:, :-1] = torch.mm(delta, axes.rows).add_(weight, alpha=ridge)
        gradient[:, -1] = delta.sum(1)
        gradient *= scale
        value = float(loss) / n + 0.5 * ridge * float((weight * weight).sum())
        return value, gradient.numpy().reshape(-1)

    options: dict[str, Any] = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "maxcor": 20}
    options |= {"gtol": _TOLERANCE, "ftol": 0.0}
    first = (torch.from_numpy(start) / scale).numpy().reshape(-1)
    found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
    _check_solved(float(found.fun), float(np.abs(found.jac).max()), strength, int(found.nit))
    solution = torch.from_numpy(found.x.reshape(start.shape)) * scale
    return np.asarray(solution.numpy(), np.float64)


def _check_solved(value: float, derivative: float, strength: float, n_iterations: int) -> None:
    if math.isfinite(value) and derivative <= _ACCEPTED:
        return
    raise ProtocolError(
        f"the regression of the protocol linear at C = {strength:g} did not reach its optimum: "
        f"after {n_iterations} iterations the objective is {value:g} and its largest derivative "
        f"{derivative:.1e} (at most {_ACCEPTED:.0e} is accepted); check the embeddings for values "
        "of absurd size, or use --protocol sound"
    )


steps = fitted_once(fit_linear)
