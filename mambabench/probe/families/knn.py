"""The `knn` protocol: nearest training clips by cosine vote, their number chosen on validation."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mambabench.probe.families.scored import fitted_once
from mambabench.probe.fitted import Fitted
from mambabench.probe.monitor import chosen
from mambabench.probe.trainer import PreparedFold

__all__ = ["NEIGHBOURS", "fit_knn", "steps"]

NEIGHBOURS = (1, 5, 10, 20, 50)
_TIE_WEIGHT = 1e-3  # of the similarity in a vote: decides ties, and can decide nothing else


@dataclass(frozen=True)
class _Neighbours:
    """Class shares [n, n_labels] among the k nearest training rows of rows [n, dim]."""

    directions: torch.Tensor  # [n_train, dim] float32, unit length (0 for a zero row)
    target: torch.Tensor  # [n_train, n_labels] float32
    k: int

    def __call__(self, embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        rows = torch.from_numpy(np.array(embeddings, np.float32))
        similarity, index = self.nearest(rows, self.k)
        return self.shares(similarity, index, self.k)

    def nearest(self, rows: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return similarity and index [n, k] of the nearest training rows, nearest first."""
        found = [
            torch.topk(torch.mm(_directions(part), self.directions.t()), k)
            for part in torch.split(rows, 1024)
        ]
        return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])

    def shares(
        self, similarity: torch.Tensor, index: torch.Tensor, k: int
    ) -> npt.NDArray[np.float32]:
        """Return the votes of the first k neighbours; ties go to the more similar ones."""
        weight = 1.0 + _TIE_WEIGHT * similarity[:, :k]
        votes = torch.einsum("nk,nkc->nc", weight, self.target[index[:, :k]])
        return (votes / weight.sum(1, keepdim=True)).numpy()


def fit_knn(fold: PreparedFold) -> Fitted:
    """Return the neighbours of the k that validates best, the smallest of equals."""
    target = fold.target.t().contiguous()
    directions = _directions(fold.rows)
    allowed = tuple(k for k in NEIGHBOURS if k <= len(fold.rows))
    every = _Neighbours(directions, target, allowed[-1])
    similarity, index = every.nearest(
        torch.cat([part.t() for part in fold.validation])[: fold.n_validation], every.k
    )
    seen = [fold.monitor.of_probabilities(every.shares(similarity, index, k)) for k in allowed]
    best = chosen([monitored.value for monitored in seen])
    digest = hashlib.sha256(f"knn {allowed[best]}".encode())
    digest.update(directions.numpy().tobytes())
    digest.update(target.numpy().tobytes())
    return Fitted(
        predict=_Neighbours(directions, target, allowed[best]),
        grid_point={"k": allowed[best]},
        validation_score=seen[best].score,
        head_sha256=digest.hexdigest(),
        n_train=len(fold.rows),
    )


def _directions(rows: torch.Tensor) -> torch.Tensor:
    """Return rows of unit length; a zero row (a silent clip) stays zero."""
    return torch.nn.functional.normalize(rows, dim=1)


steps = fitted_once(fit_knn)
