"""Event labels whose times cannot be milliseconds of their clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mambabench.benchmarks.task import Defect, Task

__all__ = ["FRAME_MS", "event_time_defects"]

FRAME_MS = 50.0  # an end may lie a frame behind the clip's


def event_time_defects(task: Task, duration_s: Mapping[tuple[str, str], float]) -> Iterator[Defect]:
    """Yield a defect for each split whose events are in seconds, or end far past their clips.

    `duration_s` is the length of each (split, clip) that is known. Twice a clip's length or more
    is an error; an end past the clip by more than `FRAME_MS` is a warning.
    """
    for split in task.splits:
        ends = [
            (event.end_ms, 1000.0 * duration_s[split, clip.name], clip.name)
            for clip in task.clips[split]
            if duration_s.get((split, clip.name))
            for event in clip.events
        ]
        file = f"{split}.json"
        if ends and all(end <= length / 1000.0 for end, length, _ in ends):
            yield Defect(
                file,
                f"all {len(ends)} events end below a thousandth of their clips",
                "times are milliseconds: multiply seconds by 1000",
            )
            continue
        past = [one for one in ends if one[0] > one[1] + FRAME_MS]
        if past:
            end, length, name = max(past, key=lambda one: one[0] / one[1])
            yield Defect(
                file,
                f"{len(past)} events end past their clips, such as {end:g} ms in {name!r} of "
                f"{length:g} ms",
                "correct the times (milliseconds from the clip's start)",
                "error" if end >= 2 * length else "warning",
            )
