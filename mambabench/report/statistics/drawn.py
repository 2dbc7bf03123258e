"""Paired test of scores whose clips stand in many parts of them: from drawn clusters alone.

Pairs of speakers and queries in shared documents are crossed: no part changes sides without the
others, so that exchanging says nothing. Student's t of the difference takes its standard error from
the drawn differences.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.report.statistics.clip_intervals import FEWEST_DRAWS, Units

__all__ = ["drawn_test"]


def drawn_test(differences: npt.NDArray[Any], observed: float, units: Units) -> float | None:
    """Return the two-sided p-value of a difference, from drawn differences [n_draws].

    The standard error is that of the draws, widened for few units as intervals are; degrees of
    freedom are those of the units. Never below 2^(1 - n), which n units could at most show by
    changing sides. None where fewer than 100 draws have both scores.
    """
    from scipy.special import stdtr

    known = differences[np.isfinite(differences)]
    if len(known) < FEWEST_DRAWS or not np.isfinite(observed):
        return None
    inflation = max(units.effective, 2.0) / units.freedom
    error = float(np.sqrt(known.var() * inflation))
    if error <= 1e-12:
        return 1.0
    p = 2 * float(stdtr(units.freedom, -abs(observed) / error))
    return max(p, 2.0 ** (1 - units.n))
