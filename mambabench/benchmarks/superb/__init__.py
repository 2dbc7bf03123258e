"""The tasks of SUPERB in their datasets' own layouts.

One module a task, each with ``read(root) -> Corpus`` and ``check(root) -> defects``; one more task
is one more module and one row of `TASKS`. `prepare` writes a task directory that points into the
corpus: nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mambabench.benchmarks.superb.sources import Corpus, CorpusDefect
from mambabench.errors import DataError, nearest_names

__all__ = ["TASKS", "SuperbTask", "superb_task"]


@dataclass(frozen=True)
class SuperbTask:
    """One row of SUPERB's table: how a corpus becomes a task and what its head is."""

    name: str  # of the task directory
    superb_name: str  # as the leaderboard writes it
    module: str  # of this package
    prediction_type: str
    pooling: str
    metrics: tuple[str, ...]  # the first is primary
    corpus: str  # what the corpus folder holds

    n_clips: int | None  # published, all splits
    n_labels: int | None

    @property
    def metric(self) -> str:
        """The primary metric."""
        return self.metrics[0]

    def read(self, root: Path) -> Corpus:
        """Read the corpus below `root`; see the task's module."""
        corpus: Corpus = import_module(f"{__name__}.{self.module}").read(root)
        return corpus

    def check(self, root: Path) -> tuple[CorpusDefect, ...]:
        """List what is missing or extra below `root`; see the task's module."""
        found: tuple[CorpusDefect, ...] = import_module(f"{__name__}.{self.module}").check(root)
        return found


TASKS: dict[str, SuperbTask] = {
    task.name: task
    for task in (
        SuperbTask(
            "superb_ks", "KS", "ks", "multiclass", "time_mean", ("top1_acc",),
            "speech_commands_v0.01/ and speech_commands_test_set_v0.01/", 60973, 12,
        ),
        SuperbTask(
            "superb_ic", "IC", "ic", "slots", "time_mean", ("joint_acc",),
            "fluent_speech_commands_dataset/", 30043, 24,
        ),
        SuperbTask(
            "superb_sid", "SID", "sid", "multiclass", "time_mean", ("top1_acc",),
            "VoxCeleb1/ and iden_split.txt", 153516, 1251,
        ),
        SuperbTask(
            "superb_er", "ER", "er", "multiclass", "time_mean", ("top1_acc",),
            "IEMOCAP/", 5531, 4,
        ),
        SuperbTask(
            "superb_pr", "PR", "pr", "sequence", "frames", ("per",),
            "LibriSpeech/ and lexicon/", 33862, 74,
        ),
        SuperbTask(
            "superb_asr", "ASR", "asr", "text", "frames", ("wer", "uer"),
            "LibriSpeech/", 33862, 32,
        ),
        SuperbTask(
            "superb_sf", "SF", "sf", "slot_text", "frames", ("slot_type_f1", "slot_value_cer"),
            "SNIPS/", 110272, 109,
        ),
        SuperbTask(
            "superb_sd", "SD", "sd", "diarization", "frames", ("der",),
            "Libri2Mix/ and alignments/", 19900, None,
        ),
        SuperbTask(
            "superb_asv", "ASV", "asv", "trials", "frames", ("eer",),
            "VoxCeleb1/ and voxceleb1_test_v2.txt", None, 1211,
        ),
        SuperbTask(
            "superb_qbe", "QbE", "qbe", "queries", "frames", ("mtwv",),
            "scoring/, Audio/, dev_queries/ and eval_queries/", None, None,
        ),
    )
}  # fmt: skip


def superb_task(name: str) -> SuperbTask:
    """Return the task by directory name or by SUPERB's own short name.

    DataError with the nearest names for an unknown one.
    """
    for task in TASKS.values():
        if name in (task.name, task.superb_name):
            return task
    raise DataError(f"no SUPERB task named {name!r}{nearest_names(name, TASKS)}")
