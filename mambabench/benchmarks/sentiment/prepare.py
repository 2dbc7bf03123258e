"""Write MOSI, MOSEI or CH-SIMS as task directories that point at the corpus's own audio."""

from __future__ import annotations

from pathlib import Path

from mambabench.benchmarks.affect import AffectClip, write_task
from mambabench.benchmarks.depression.sessions import SPLITS, Session
from mambabench.benchmarks.sentiment.mmsa import (
    MAX_SAMPLES,
    SAMPLE_RATE_HZ,
    BrokenClip,
    Utterance,
    broken_clips,
    of_split,
    read_utterances,
    wav_path,
)
from mambabench.errors import DataError
from mambabench.reading.audio import duration_s

__all__ = ["LABELS", "clip_name", "prepare", "scoring"]

LABELS = ("negative", "non_negative")
_SCORING = {"generated": "mosi"}


def scoring(dataset: str) -> str:
    """Return whose scores a dataset uses: its own, or MOSI's for a generated one."""
    return _SCORING.get(dataset, dataset)


def clip_name(item: Utterance) -> str:
    """Return the clip's plain file name in a task directory."""
    return f"{item.video}__{item.clip}.wav"


def prepare(dataset: str, root: Path, into: Path) -> tuple[BrokenClip, ...]:
    """Write `into`/<dataset> (scene embeddings) and `into`/<dataset>_frames (frame embeddings).

    The binary label is negative below 0, else non_negative (Has0). Both point at the first six
    seconds of the clips below `root`/wav. Returns the clips left out because they are broken.
    Raises DataError where label.csv is wrong or a split keeps no clip.
    """
    items = read_utterances(root, scoring(dataset))
    broken = broken_clips(root, items)
    bad = {clip.name for clip in broken}
    kept = [item for item in items if item.name not in bad]
    if not kept:
        raise DataError(
            f"{dataset}: none of {len(items)} clips can be read below {root / 'wav'}; the first: "
            f"{broken[0].reason}"
        )
    sessions = [_session(root, item) for item in kept]
    clips = {s: [_clip(root, item) for item in of_split(kept, s)] for s in SPLITS}
    notes = [f"left out: {clip.name}: {clip.reason}" for clip in broken]
    for pooling, suffix in (("scene", ""), ("frames", "_frames")):
        write_task(
            into / f"{dataset}{suffix}",
            kind="sentiment",
            corpus=dataset,
            root=root,
            labels=LABELS,
            sessions=sessions,
            clips=clips,
            pooling="frames" if pooling == "frames" else "scene",
            restricted=dataset != "generated",
            notes=notes,
        )
    return broken


def _duration_s(path: Path) -> float:
    try:
        return duration_s(path)
    except DataError as error:
        raise DataError(f"{path} {error}") from error


def _session(root: Path, item: Utterance) -> Session:
    return Session(
        name=item.name,
        split=item.split,
        label=int(item.M >= 0),
        duration_s=round(_duration_s(wav_path(root, item)), 4),
        speaker=item.video,  # one speaker per video; a speaker's other videos are not known
        score=item.M,
    )


def _clip(root: Path, item: Utterance) -> AffectClip:
    path = wav_path(root, item)
    limit = MAX_SAMPLES / SAMPLE_RATE_HZ
    return AffectClip(
        name=clip_name(item),
        session=item.name,
        path=str(path.relative_to(root)),
        duration_s=limit if _duration_s(path) > limit else None,
        targets={"M": item.M, "T": item.T, "A": item.A},
    )
