"""Find what is wrong with a task directory: every defect, with the file and the remedy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mambabench.benchmarks.event_times import event_time_defects
from mambabench.benchmarks.hear import DIRECTORIES
from mambabench.benchmarks.kinds import KINDS
from mambabench.benchmarks.known import FAMILIES
from mambabench.benchmarks.layout.read import METADATA, SOURCES, VOCABULARY, read_task
from mambabench.benchmarks.metrics import METRICS
from mambabench.benchmarks.task import Clip, Defect, Task, clip_path, folds
from mambabench.errors import DataError
from mambabench.files import read_json
from mambabench.reading.audio import ENDINGS, find_file, read_audio
from mambabench.reading.audio import duration_s as file_duration_s
from mambabench.reading.text import same_name

__all__ = ["SILENCE", "TaskCheck", "check_directory", "stray_files"]

SILENCE = 4 / 32768  # a clip with no sample above this is silent: equal silences are no leak
DURATION_TOLERANCE_S = 0.01  # resamplers round the length


@dataclass(frozen=True)
class TaskCheck:
    """What `tasks check` found in one directory."""

    name: str
    directory: Path
    n_clips: int
    n_files: int  # audio files opened, over all sample rates
    duration_s: float  # of the audio at the lowest sample rate
    defects: tuple[Defect, ...]

    @property
    def ok(self) -> bool:
        """Tell whether there is no error; warnings do not count."""
        return all(defect.severity == "warning" for defect in self.defects)


def check_directory(
    directory: Path,
    *,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> TaskCheck:
    """Check one task directory: text files, counts, every audio file, leaks between splits.

    Every sample is decoded. `progress` is called with (files done, files in all).
    """
    task, defects = read_task(directory)
    if task is None:
        return TaskCheck(directory.resolve().name, directory, 0, 0, 0.0, tuple(defects))
    n_clips = sum(len(clips) for clips in task.clips.values())
    defects += _published_counts(task)
    if KINDS[task.prediction_type].classes:
        defects += _labels(task)
    defects += _names_that_clash(task)
    if any(clip.source for clips in task.clips.values() for clip in clips):
        n_files, duration_s, found = _check_corpus(task)
        return TaskCheck(task.name, directory, n_clips, n_files, duration_s, (*defects, *found))
    files, audio_defects = _decode_all(task, jobs, progress)
    defects += audio_defects
    defects += _samples_in_two_splits(files)
    defects += event_time_defects(task, {(f.split, f.clip.name): f.duration_s for f in files})
    defects += [
        Defect(name, "is not named by the task", "delete it or move it away", "warning")
        for name in stray_files(task)
    ]
    first = min(task.sample_rates_hz, default=0)
    duration_s = sum(file.duration_s for file in files if file.sample_rate_hz == first)
    return TaskCheck(task.name, directory, n_clips, len(files), duration_s, tuple(defects))


def _check_corpus(task: Task) -> tuple[int, float, list[Defect]]:
    """Check the files that a task points at (headers only) and the corpus as its family checks it.

    Returns the number of files, their duration in seconds and the defects.
    """
    defects, duration_s = [], 0.0
    sources = (c.source for clips in task.clips.values() for c in clips)
    paths = sorted({source.path for source in sources if source is not None})
    for path in paths:
        try:
            duration_s += file_duration_s(find_file(path))
        except DataError as error:
            defects.append(_unreadable(str(path), error))
    for family in FAMILIES.values():
        if family.check is not None and task.name in family.prepares:
            root = Path(read_json(task.directory / METADATA)["audio_root"])
            defects += family.check(task.name, root)
    return len(paths), duration_s, defects


def stray_files(task: Task) -> tuple[str, ...]:
    """Return the entries of the task's directory that nothing names, relative to it, sorted."""
    expected = {METADATA, VOCABULARY, ".mambabench", *(f"{split}.json" for split in task.splits)}
    clusters = read_json(task.directory / METADATA).get("clusters")
    if isinstance(clusters, str):
        expected.add(clusters)
    expected |= set(KINDS[task.prediction_type].relations)
    if any(clip.source for clips in task.clips.values() for clip in clips):
        expected.add(SOURCES)
    rates = {str(rate) for rate in task.sample_rates_hz}
    strangers = [p.name for p in task.directory.iterdir() if p.name not in expected | rates]
    for rate in rates:
        for entry in (task.directory / rate).iterdir():
            if entry.name not in task.splits or not entry.is_dir():
                strangers.append(f"{rate}/{entry.name}")
                continue
            names = _expected_names(task.clips[entry.name])
            found = (p.name for p in entry.iterdir())
            strangers += [
                f"{rate}/{entry.name}/{name}"
                for name in found
                if same_name(name) not in names and name.casefold() not in names
            ]
    return tuple(sorted(strangers))


def _expected_names(clips: tuple[Clip, ...]) -> set[str]:
    """Return the names under which the clips' audio may lie; those that differ in case only are
    told where the clip is missed."""
    names = {same_name(clip.name) for clip in clips}
    stems = [Path(name).with_suffix("") for name in names]
    standing = {str(stem.with_suffix(ending)) for stem in stems for ending in ENDINGS}
    return names | standing | {name.casefold() for name in names}


def _published_counts(task: Task) -> Iterator[Defect]:
    published = DIRECTORIES.get(task.name)
    if published is None:
        return
    n_clips = sum(len(clips) for clips in task.clips.values())
    for what, ours, theirs in (
        ("clips", n_clips, published.n_clips),
        ("labels", len(task.labels), published.n_labels),
        ("splits", len(task.splits), published.n_splits),
    ):
        if ours != theirs:
            yield Defect(
                VOCABULARY if what == "labels" else METADATA,
                f"the task has {ours} {what}, HEAR published {theirs} for {task.name}",
                "fetch the archive again, or give a selection another directory name",
            )


def _labels(task: Task) -> Iterator[Defect]:
    if len(task.labels) == 1:
        yield Defect(
            VOCABULARY,
            f"has one label only, {task.labels[0]!r}",
            "a head needs two at least, and every encoder would be right: list the others",
            "error" if KINDS[task.prediction_type].exactly_one else "warning",
        )
    for split in task.splits:
        used = _labels_of(task.clips[split])
        if task.clips[split] and len(used) < 2 <= len(task.labels):
            seen = f"only the label {next(iter(used))!r}" if used else "no label at all"
            yield Defect(
                f"{split}.json",
                f"split {split!r} has {seen}",
                "a head can neither learn nor be scored on it: redraw the splits",
            )
    for fold in folds(task):
        learned = set().union(*(_labels_of(task.clips[split]) for split in fold.train))
        for label in sorted(_labels_of(task.clips[fold.test]) & set(task.labels) - learned):
            yield Defect(
                f"{fold.test}.json",
                f"label {label!r} occurs in the test split but not in training "
                f"({', '.join(fold.train)})",
                "no head can predict it: redraw the splits, or accept the lost points",
                "warning",
            )
    for name in task.evaluation:
        asked = METRICS[name].labels_problem if name in METRICS else None
        if asked is not None and (found := asked(task.labels)) is not None:
            yield Defect(VOCABULARY, *found, "warning")


def _labels_of(clips: tuple[Clip, ...]) -> set[str]:
    scene = {label for clip in clips for label in clip.labels}
    return scene | {event.label for clip in clips for event in clip.events}


def _names_that_clash(task: Task) -> Iterator[Defect]:
    """Yield clips that a file system without cases could not hold side by side, and sources that
    two splits share."""
    remedy = "keep it in one split: test clips must not be trained on"
    sources: dict[tuple[str, str, float], str] = {}
    for split in task.splits:
        seen: dict[str, str] = {}
        for clip in task.clips[split]:
            other = seen.setdefault(clip.name.casefold(), clip.name)
            if other != clip.name and same_name(other) != same_name(clip.name):
                problem = f"clips {min(other, clip.name)!r} and {max(other, clip.name)!r} differ "
                yield Defect(f"{split}.json", problem + "in case only", "rename one of them")
            if clip.source is not None:
                key = (clip.name, str(clip.source.path), clip.source.start_s)
                first = sources.setdefault(key, split)
                if first != split:
                    problem = f"clip {clip.name!r} is also in split {first!r}"
                    yield Defect(f"{split}.json", problem, remedy)


@dataclass(frozen=True)
class _File:
    split: str
    clip: Clip
    sample_rate_hz: int
    duration_s: float
    digest: str | None  # of the samples; None where silent or unreadable


def _decode_all(
    task: Task, jobs: int, progress: Callable[[int, int], None] | None
) -> tuple[list[_File], list[Defect]]:
    if not task.sample_rates_hz:
        remedy = "put the audio below <sample rate in Hz>/<split>/, as in 16000/test/"
        return [], [Defect(".", "has no audio folder named by a sample rate", remedy)]
    work = [
        (task, rate, split, clip)
        for rate in task.sample_rates_hz
        for split in task.splits
        for clip in task.clips[split]
    ]
    files, defects = [], []
    with ThreadPoolExecutor(jobs) as pool:
        for done, (file, found) in enumerate(pool.map(lambda item: _decode(*item), work), start=1):
            defects += found
            if file is not None:
                files.append(file)
            if progress:
                progress(done, len(work))
    return files, defects


def _decode(task: Task, rate: int, split: str, clip: Clip) -> tuple[_File | None, list[Defect]]:
    path = clip_path(task, rate, split, clip.name)
    name = str(path.relative_to(task.directory))
    try:
        audio = read_audio(path)
    except DataError as error:
        restore = f"restore it, or take {clip.name!r} out of {split}.json"
        return None, [_unreadable(name, error, restore if str(error) == "is missing" else None)]
    samples, found_rate, duration_s = audio.samples, audio.sample_rate_hz, audio.duration_s
    defects = []
    if audio.problem is not None:
        defects.append(Defect(name, audio.problem, "fetch it again"))
    if path.name != clip.name and path.suffix == Path(clip.name).suffix:
        remedy = "nothing is to be done here; elsewhere the names may not match"
        spelt = "is written in another Unicode form in the split's file"
        defects.append(Defect(name, spelt, remedy, "warning"))
    defects += [
        Defect(name, problem, remedy)
        for problem, remedy in _audio_problems(task, rate, clip, samples, found_rate)
    ]
    silent = samples.size == 0 or float(np.abs(samples).max()) <= SILENCE
    digest = None if silent else hashlib.sha256(samples.tobytes()).hexdigest()
    return _File(split, clip, rate, duration_s, digest), defects


def _unreadable(name: str, error: DataError, remedy: str | None = None) -> Defect:
    """Return the defect of a file that cannot be decoded: the reader says problem and remedy."""
    problem, _, advice = str(error).rpartition(": ") if remedy is None else ("", "", "")
    return Defect(name, problem or str(error), remedy or advice or "restore it")


def _audio_problems(
    task: Task, rate: int, clip: Clip, samples: np.ndarray, found_rate: int
) -> Iterator[tuple[str, str]]:
    """Yield (problem, remedy) for one decoded clip [n_samples, n_channels]."""
    duration_s = len(samples) / found_rate
    if found_rate != rate:
        yield f"has {found_rate} Hz in the folder of {rate} Hz", "resample or move it"
    if samples.shape[1] != 1:
        yield f"has {samples.shape[1]} channels", "mix it down to one, as HEAR's tasks are"
    if len(samples) == 0:
        yield "has no samples", "fetch it again or take the clip out"
        return
    if not np.isfinite(samples).all():
        yield "has samples that are NaN or infinite", "convert it again"
    expected = task.sample_duration_s
    if expected is not None and abs(duration_s - expected) > DURATION_TOLERANCE_S:
        remedy = "pad or trim it, or set sample_duration to null where clips differ"
        yield f"lasts {duration_s:.3f} s, sample_duration says {expected:g} s", remedy
    late = [event for event in clip.events if event.start_ms >= 1000 * duration_s]
    if late:
        problem = f"lasts {duration_s:.3f} s, but an event starts at {late[0].start_ms:g} ms"
        yield problem, "correct the event's times (milliseconds)"


def _samples_in_two_splits(files: list[_File]) -> Iterator[Defect]:
    first: dict[tuple[int, str], _File] = {}
    for file in files:
        if file.digest is None:
            continue
        other = first.setdefault((file.sample_rate_hz, file.digest), file)
        if other.split != file.split:
            yield Defect(
                f"{file.sample_rate_hz}/{file.split}/{file.clip.name}",
                f"has the same samples as {other.split}/{other.clip.name}",
                "keep the recording in one split: test clips must not be trained on",
            )
