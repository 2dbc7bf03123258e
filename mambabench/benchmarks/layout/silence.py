"""Drop what is silent in a clip, where its row of sources.csv asks for it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["trim_silence"]


def trim_silence(
    samples: npt.NDArray[np.float32], rate_hz: int, threshold: float = 1e-3
) -> npt.NDArray[np.float32]:
    """Cut silence from both ends and shorten inner silences, as a plain amplitude gate.

    Stands in for ``silence 1 0.1 0.1% -1 0.1 0.1%`` of SoX: blocks of 0.1 s whose root mean square
    is below 0.1 % of full scale are dropped. SoX's own running window can differ by one block.
    `samples` is [n] in [-1, 1]; an all-silent clip comes back empty.
    """
    block = max(1, rate_hz // 10)
    n_blocks = -(-len(samples) // block)
    padded = np.pad(samples.astype(np.float64), (0, n_blocks * block - len(samples)))
    loud = np.sqrt((padded.reshape(n_blocks, block) ** 2).mean(axis=1)) >= threshold
    kept: npt.NDArray[np.float32] = samples[np.repeat(loud, block)[: len(samples)]]
    return kept
