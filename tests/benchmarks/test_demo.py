"""The demo: deterministic, complete, faultless, and neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mambabench.benchmarks import demo, discover
from mambabench.benchmarks.demo import synthesis
from mambabench.benchmarks.layout.check import check_directory
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Task
from mambabench.errors import DataError

NAMES = sorted(demo.DEMO_TASKS)


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def test_has_the_four_kinds_of_task(demo_folder: Path) -> None:
    tasks = {task.name: task for task in discover([demo_folder])}
    assert list(tasks) == NAMES
    assert tasks["demo_events-v1-demo"].embedding_type == "event"
    assert tasks["demo_percussion-v1-demo"].split_mode == "new_split_kfold"
    assert tasks["demo_pitch-v1-demo"].evaluation[0] == "pitch_acc"
    assert all(task.protocol == demo.DEMO_PROTOCOL for task in tasks.values())
    for task in tasks.values():
        assert 200 <= sum(len(clips) for clips in task.clips.values()) <= 500


@pytest.mark.parametrize("name", NAMES)
def test_has_no_defect(demo_folder: Path, name: str) -> None:
    result = check_directory(demo_folder / name)
    assert result.defects == ()


@pytest.mark.parametrize("name", NAMES)
def test_the_clips_of_a_task_are_all_different_and_not_clipped(
    demo_folder: Path, name: str
) -> None:
    import soundfile

    task = load_task(demo_folder / name)
    seen = set()
    for split in task.splits:
        for clip in task.clips[split][::7]:
            samples, rate = soundfile.read(task.directory / "16000" / split / clip.name)
            assert rate == demo.SAMPLE_RATE_HZ
            assert 0.05 < np.abs(samples).max() < 0.95
            seen.add(samples.tobytes())
    assert len(seen) == sum(len(task.clips[split][::7]) for split in task.splits)


def test_the_timbre_of_the_pitch_test_is_held_out(demo_folder: Path) -> None:
    task = load_task(demo_folder / "demo_pitch-v1-demo")
    timbres = {s: {clip.name.split("_")[0] for clip in task.clips[s]} for s in task.splits}
    assert timbres["test"] == {"brass"}
    assert not timbres["test"] & (timbres["train"] | timbres["valid"])
    assert len(timbres["train"]) >= 3


def test_the_speakers_of_the_vowels_are_clusters_of_one_split(demo_folder: Path) -> None:
    task = load_task(demo_folder / "demo_vowel-v1-demo")
    speakers = [{clip.cluster for clip in task.clips[split]} for split in task.splits]
    assert None not in set().union(*speakers)
    assert sum(map(len, speakers)) == len(set().union(*speakers))
    assert len(speakers[2]) >= 10


def test_events_overlap(demo_folder: Path) -> None:
    task = load_task(demo_folder / "demo_events-v1-demo")
    overlapping = 0
    for clip in task.clips["train"]:
        events = sorted(clip.events, key=lambda event: event.start_ms)
        pairs = itertools.pairwise(events)
        overlapping += any(a.end_ms > b.start_ms for a, b in pairs)
        assert len({event.label for event in events}) == len(events)
    assert overlapping > len(task.clips["train"]) / 2


def test_generating_again_changes_nothing(demo_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo_folder.rglob("*")}
    assert demo.generate(demo_folder) == tuple(demo_folder / name for name in NAMES)
    assert {path: path.stat().st_mtime_ns for path in demo_folder.rglob("*")} == before


def test_another_process_writes_the_same_bytes(demo_folder: Path, tmp_path: Path) -> None:
    name = "demo_percussion-v1-demo"
    code = (
        "import sys; from pathlib import Path; from mambabench.benchmarks import demo; "
        f"demo.DEMO_TASKS = {{{name!r}: demo.DEMO_TASKS[{name!r}]}}; "
        "demo.generate(Path(sys.argv[1])); "
        "assert not {'torch', 'scipy', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert digest(tmp_path / name) == digest(demo_folder / name)


def test_an_interrupted_task_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(samples: object) -> bytes:
        raise OSError("disk full")

    monkeypatch.setattr(demo, "_wav", fail)
    with pytest.raises(OSError, match="disk full"):
        demo.generate(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_task_is_named(demo_folder: Path, tmp_path: Path) -> None:
    for name in NAMES:
        shutil.copytree(demo_folder / name, tmp_path / name)
    (tmp_path / NAMES[0] / "task_metadata.json").unlink()
    with pytest.raises(DataError, match=f"{NAMES[0]} is no demo task .*; delete the folder"):
        demo.generate(tmp_path)


def test_harmonics_are_sines() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    sound = synthesis.harmonics(200.0, [1.0, 0.0, 0.5], 0.5, rng)
    spectrum = np.abs(np.fft.rfft(sound)) / (len(sound) / 2)
    level = {hz: float(spectrum[round(hz * 0.5)]) for hz in (200, 400, 600)}
    assert level == pytest.approx({200: 1.0, 400: 0.0, 600: 0.5}, abs=1e-3)
    assert synthesis.midi_to_hz(69) == 440.0


def test_noise_lies_in_its_band_and_at_its_ratio() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    band = synthesis.noise(1.0, rng, low_hz=2000, high_hz=4000)
    assert float(np.mean(band**2)) == pytest.approx(1.0)
    power = np.abs(np.fft.rfft(band)) ** 2
    assert power[1900:4200].sum() > 0.97 * power.sum()
    tone = synthesis.tone(1000.0, 1.0)
    quiet, loud = (synthesis.add_noise(tone, snr, rng) for snr in (0.0, 40.0))
    for mixed, snr in ((quiet, 0.0), (loud, 40.0)):
        power = np.abs(np.fft.rfft(mixed)) ** 2
        ratio = power[1000] / (power.sum() - power[1000])
        assert 10 * math.log10(ratio) == pytest.approx(snr, abs=0.7)


def _log_spectra(task: Task, split: str) -> tuple[np.ndarray, np.ndarray]:
    import soundfile

    rows, labels = [], []
    for clip in task.clips[split]:
        samples, _ = soundfile.read(task.directory / "16000" / split / clip.name)
        frames = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
        power = np.abs(np.fft.rfft(frames)) ** 2
        bands = np.log(
            np.add.reduceat(power, np.unique(np.geomspace(1, 257, 65).astype(int))[:-1], axis=1)
            + 1e-6
        )
        rows.append(np.concatenate([bands.mean(0), bands.std(0)]))
        labels.append(task.labels.index(clip.labels[0]))
    return np.array(rows), np.array(labels)


@pytest.mark.parametrize("name", [name for name in NAMES if "events" not in name])
def test_is_neither_trivial_nor_hopeless(demo_folder: Path, name: str) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    task = load_task(demo_folder / name)
    test = task.splits[-1]
    parts = [_log_spectra(task, split) for split in task.splits if split != test]
    train = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    scale = StandardScaler().fit(train[0])
    head = LogisticRegression(C=0.05, max_iter=500).fit(scale.transform(train[0]), train[1])
    x, y = _log_spectra(task, test)
    accuracy = head.score(scale.transform(x), y)
    assert 1 / len(task.labels) + 0.2 < accuracy < 0.97
