"""Where our numbers are not s3prl's by construction: the list that records carry and docs print.

docs/superb.md prints every sentence under "Differences from s3prl"; a test compares the two.
"""

from __future__ import annotations

from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.task import Task

__all__ = ["BY_KIND", "BY_TASK", "CLEAN", "EVERY_TASK", "all_notes", "notes_of"]

EVERY_TASK = (
    "A seed drives initial values, order and every other draw of its trial from generators of the "
    "trial's own; s3prl seeds global generators, and again at every evaluation.",
    "A clip is encoded alone or with clips of its length; s3prl fills batches up, which changes "
    "the frames of an encoder that does not ignore padding.",
)
_POOLED = (
    "Time means are over all frames that the encoder gives a clip; s3prl leaves out those beyond "
    "round(samples / stride).",
    "The learning rate is the best of 1e-1, 1e-2 ... 1e-7 on validation data, the larger of "
    "equals; SUPERB leaves its tuning to the user.",
)
_FRAMES = ("Frames are stored in half precision.",)
_ACCUMULATED = (
    "A step is the mean over its clips; s3prl averages the means of accumulated parts, which "
    "differs in the last batch of an epoch only.",
)
BY_KIND: dict[str, tuple[str, ...]] = {
    "multiclass": _POOLED,
    "slots": _POOLED,
    "sequence": (
        *_FRAMES,
        "Training clips with targets of equal length stand in the order of their names; s3prl "
        "takes the order in which the file system lists them.",
        "PR's learning rate is the better of 1e-2 (published) and 1e-3 on validation data.",
    ),
    "text": (
        *_FRAMES,
        "ASR's learning rate is the published 1e-4; the second column, with a language "
        "model, is there only where --lm names one.",
    ),
    "slot_text": (
        *_FRAMES,
        "SF's learning rate is the published 1e-4; training clips with targets of equal length "
        "stand in the order of their names.",
        "Slot values with a colon or semicolon are scored; s3prl's scorer stops at them.",
    ),
    "diarization": (
        *_FRAMES,
        "SD's learning rate is the published 1e-4.",
        "SD's recordings are encoded whole and cut into pieces of 2,000 frames afterwards; s3prl "
        "encodes piece by piece, which differs for recordings over 20 s at 10 ms a frame.",
    ),
    "trials": (
        *_FRAMES,
        *_ACCUMULATED,
        "ASV's learning rate is the published 1e-4.",
        "The mean and deviation over time leave padding out; s3prl's take one padded frame in.",
    ),
    "queries": (
        *_FRAMES,
        "QbE's term value is computed here, not by the official script; its costs (1 for a false "
        "alarm, 100 for a miss, prior 0.0008) were not verified against it.",
    ),
}
BY_TASK: dict[str, tuple[str, ...]] = {
    "KS": (
        "KS's validation clips are taken once each; s3prl draws them with replacement.",
        "KS's silences are 16 stored crops of each noise file a split, and an epoch takes one of "
        "each file; s3prl crops anew at every load.",
    ),
    "SID": (
        *_ACCUMULATED,
        "SID's training clips over 8 s are 4 stored crops of 8 s, of which an epoch takes one; "
        "s3prl crops anew at every load.",
    ),
    "ER": (
        *_ACCUMULATED,
        "ER's clips are in the order of s3prl's lists only where those lie in meta_data/; in "
        "sorted order the development clips are drawn by the same rule but are others.",
    ),
    "ASV": (
        "ASV's training clips over 8 s after trimming are 4 stored crops of 8 s, of which an epoch "
        "takes one; s3prl crops anew at every load.",
        "ASV's silence gate (after the gain of -3 dB) drops blocks of 0.1 s by their energy; the "
        "running window of SoX can differ by a block.",
    ),
}
CLEAN: dict[str, tuple[str, ...]] = {
    "SD": (
        "superb-clean: SD's threshold and median are chosen on validation recordings and outputs "
        "on padding are cut; s3prl takes the setting with the lowest test error and keeps them.",
    ),
    "ER": (
        "superb-clean: ER's development clips are the last of the four sessions that do not test, "
        "so no speaker is trained on and developed on.",
    ),
    "ASV": (
        "superb-clean: ASV's checkpoint is chosen by the equal error rate on one training speaker "
        "in ten, who is not trained on; s3prl takes the lowest test rate.",
    ),
}


def notes_of(task: Task, clean: bool) -> tuple[str, ...]:
    """Return the sentences that hold for a task under ``superb`` or, `clean`, ``superb-clean``."""
    known = TASKS.get(task.name)
    name = known.superb_name if known else ""
    found = [*EVERY_TASK, *BY_KIND.get(task.prediction_type, ()), *BY_TASK.get(name, ())]
    return tuple(dict.fromkeys(found + list(CLEAN.get(name, ())) * clean))


def all_notes() -> tuple[str, ...]:
    """Return every sentence once, in the order in which the docs print them."""
    groups = [EVERY_TASK, *BY_KIND.values(), *BY_TASK.values(), *CLEAN.values()]
    return tuple(dict.fromkeys(note for group in groups for note in group))
