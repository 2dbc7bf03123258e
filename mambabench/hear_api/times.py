"""The times of an encoder's frames against the clip that they are of, cheap enough for every batch.

Source of the rules: HEAR 2021, "Common API": timestamps are milliseconds, the centres of the
frames, in ascending order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["TimesFault", "fault_of_times"]

SLACK_MS = 1.0
SECONDS = 50.0  # frames that end before this part of the clip are not in milliseconds


class TimesFault(NamedTuple):
    """What is wrong with the times of a batch, and whether its embeddings can be used at all."""

    problem: str
    usable: bool


def fault_of_times(
    times_ms: npt.NDArray[np.float32], duration_ms: float, hop_limit_ms: float = 50.0
) -> TimesFault | None:
    """Return what is wrong with `times_ms` [n_clips, n_frames] of clips of one length; None if
    nothing is.

    Times that do not ascend, are negative or are in seconds make every event score false; frames
    that reach past the clip, or leave more than 1.5 hops (and `hop_limit_ms`) of it out, make it
    doubtful. Values that are not finite are the caller's business.
    """
    import numpy as np

    if times_ms.size == 0 or not np.isfinite(times_ms).all():
        return None
    first, last = float(times_ms.min()), float(times_ms.max())
    covered = f"frames cover {first:.1f} to {last:.1f} ms of {duration_ms:.0f} ms"
    if first < -SLACK_MS:
        return TimesFault(f"{covered}: times are counted from the clip's start", False)
    if times_ms.shape[1] > 1:
        steps = np.diff(times_ms, axis=1)
        if float(steps.min()) <= 0:
            return TimesFault(f"{covered} and do not ascend: give every frame its centre", False)
        if last < duration_ms / SECONDS and duration_ms >= 100.0:
            return TimesFault(f"{covered}: give milliseconds, not seconds or frame numbers", False)
        hop = float(steps.mean())
        if last > duration_ms + hop + SLACK_MS:
            return TimesFault(f"{covered}, past its end: give the centres of its frames", True)
        gap = max(first, duration_ms - last)
        if gap > 1.5 * hop + SLACK_MS and gap > hop_limit_ms:
            return TimesFault(f"{covered}: a part of the clip is not heard", True)
    elif last > duration_ms + SLACK_MS:
        return TimesFault(f"{covered}, past its end: give the centres of its frames", True)
    return None
