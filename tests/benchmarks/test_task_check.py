"""`tasks check` finds every planted defect, names its file and remedy, and finds no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mambabench.benchmarks import tasks
from mambabench.benchmarks.hear import DIRECTORIES
from mambabench.benchmarks.layout.check import check_directory
from mambabench.cli.tasks import command
from mambabench.errors import DataError

RNG = np.random.default_rng(7)


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> None:
    import soundfile

    soundfile.write(path, samples, rate, subtype="PCM_16")


def noise(n: int = 1600) -> np.ndarray:
    return RNG.uniform(-0.5, 0.5, n)


def rewrite(folder: Path, split: str, clips: dict[str, list[str]]) -> None:
    (folder / f"{split}.json").write_text(json.dumps(clips))


Spoil = Callable[[Path], object]

DEFECTS: list[tuple[str, Spoil, str]] = [
    (
        "missing file",
        lambda d: (d / "16000/test/test_cat.wav").unlink(),
        "16000/test/test_cat.wav: is missing; restore it, or take 'test_cat.wav' out of test.json",
    ),
    (
        "unreadable file",
        lambda d: (d / "16000/test/test_cat.wav").write_bytes(b"RIFFgarbage"),
        "16000/test/test_cat.wav: is no readable audio",
    ),
    (
        "sample rate",
        lambda d: write_wav(d / "16000/test/test_cat.wav", noise(4410), 44100),
        "16000/test/test_cat.wav: has 44100 Hz in the folder of 16000 Hz",
    ),
    (
        "channels",
        lambda d: write_wav(d / "16000/test/test_cat.wav", noise(3200).reshape(-1, 2)),
        "16000/test/test_cat.wav: has 2 channels; mix it down",
    ),
    (
        "duration",
        lambda d: write_wav(d / "16000/test/test_cat.wav", noise(3200)),
        "16000/test/test_cat.wav: lasts 0.200 s, sample_duration says 0.1 s; pad or trim it",
    ),
    (
        "no samples",
        lambda d: write_wav(d / "16000/test/test_cat.wav", noise(0)),
        "16000/test/test_cat.wav: has no samples",
    ),
    (
        "clip in two splits by name",
        lambda d: (
            rewrite(d, "valid", {"test_cat.wav": ["cat"], "valid_dog.wav": ["dog"]}),
            (d / "16000/test/test_cat.wav").replace(d / "16000/valid/test_cat.wav"),
            (d / "16000/test/test_cat.wav").write_bytes(
                (d / "16000/valid/test_cat.wav").read_bytes()
            ),
            (d / "16000/valid/valid_cat.wav").unlink(),
        ),
        "16000/test/test_cat.wav: has the same samples as valid/test_cat.wav; keep the recording",
    ),
    (
        "clip in two splits by samples",
        lambda d: (d / "16000/test/test_cat.wav").write_bytes(
            (d / "16000/train/train_dog.wav").read_bytes()
        ),
        "16000/test/test_cat.wav: has the same samples as train/train_dog.wav",
    ),
    (
        "split of one class",
        lambda d: rewrite(d, "valid", {"valid_cat.wav": ["cat"], "valid_dog.wav": ["cat"]}),
        "valid.json: split 'valid' has only the label 'cat'; a head can neither learn",
    ),
    (
        "label outside the vocabulary",
        lambda d: rewrite(d, "test", {"test_cat.wav": ["cat"], "test_dog.wav": ["dogs"]}),
        "test.json: label 'dogs' of 'test_dog.wav' is not in labelvocabulary.csv; did you mean",
    ),
]


def test_a_faultless_task_has_no_defect(scene_task: Callable[..., Path]) -> None:
    result = check_directory(scene_task())
    assert result.defects == ()
    assert result.ok
    assert (result.n_clips, result.n_files) == (6, 6)
    assert result.duration_s == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("spoil", "message"), [d[1:] for d in DEFECTS], ids=[d[0] for d in DEFECTS]
)
def test_finds_the_planted_defect(
    scene_task: Callable[..., Path], spoil: Spoil, message: str
) -> None:
    folder = scene_task()
    spoil(folder)
    result = check_directory(folder)
    errors = [str(defect) for defect in result.defects if defect.severity == "error"]
    assert any(error.startswith(message) for error in errors), errors
    assert not result.ok
    expected = 2 if "dogs" in message else 1  # the label's split then has one known class left
    assert len(errors) <= expected, errors


def test_one_name_for_two_recordings_is_no_leak(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    rewrite(folder, "valid", {"test_cat.wav": ["cat"], "valid_dog.wav": ["dog"]})
    (folder / "16000/valid/valid_cat.wav").rename(folder / "16000/valid/test_cat.wav")
    assert check_directory(folder).defects == ()


def test_a_vocabulary_of_one_label(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,cat\n")
    for split in ("train", "valid", "test"):
        rewrite(folder, split, {f"{split}_cat.wav": ["cat"], f"{split}_dog.wav": ["cat"]})
    errors = [str(d) for d in check_directory(folder).defects if d.severity == "error"]
    assert len(errors) == 1
    assert errors[0].startswith("labelvocabulary.csv: has one label only, 'cat'; a head needs two")


def test_lists_every_defect_and_not_only_the_first(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    (folder / "16000/test/test_cat.wav").unlink()
    (folder / "16000/train/train_cat.wav").write_bytes(b"")
    write_wav(folder / "16000/valid/valid_dog.wav", noise(800))
    (folder / "old.zip").write_text("x")
    files = [defect.file for defect in check_directory(folder).defects]
    assert sorted(files) == [
        "16000/test/test_cat.wav",
        "16000/train/train_cat.wav",
        "16000/valid/valid_dog.wav",
        "old.zip",
    ]


def test_equal_silence_is_no_leak(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    for name in ("test/test_cat.wav", "train/train_cat.wav"):
        write_wav(folder / "16000" / name, np.full(1600, 3 / 32768))
    assert check_directory(folder).defects == ()


def test_a_task_without_audio(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    (folder / "16000").rename(folder.parent / "elsewhere")
    defects = check_directory(folder).defects
    assert [str(d).split(";")[0] for d in defects] == [
        ".: has no audio folder named by a sample rate"
    ]


def test_flac_stands_for_wav(scene_task: Callable[..., Path]) -> None:
    import soundfile

    folder = scene_task()
    for wav in (folder / "16000").glob("*/*.wav"):
        samples, rate = soundfile.read(wav, dtype="int16")
        soundfile.write(wav.with_suffix(".flac"), samples, rate)
        wav.unlink()
    assert check_directory(folder).defects == ()


def test_event_that_starts_after_its_clip(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(embedding_type="event", evaluation=["event_onset_50ms_fms"])
    late = [{"label": "cat", "start": 5000, "end": 6000}, {"label": "dog", "start": 0, "end": 9}]
    for split in ("train", "valid", "test"):
        rewrite(folder, split, {f"{split}_cat.wav": late, f"{split}_dog.wav": []})  # type: ignore[dict-item]
    errors = [str(d) for d in check_directory(folder).defects]
    starts = [error for error in errors if "but an event starts" in error]
    assert len(starts) == 3
    assert "lasts 0.100 s, but an event starts at 5000 ms; correct the event's times" in starts[0]
    assert sum("1 events end past their clips, such as 6000 ms" in error for error in errors) == 3


def test_labels_that_only_the_test_split_has(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,cat\n1,dog\n2,cow\n")
    rewrite(folder, "test", {"test_cat.wav": ["cow"], "test_dog.wav": ["dog"]})
    result = check_directory(folder)
    assert result.ok
    assert "label 'cow' occurs in the test split but not in training" in str(result.defects[0])


def test_published_counts_for_exact_names_only(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    renamed = folder.rename(folder.parent / "speech_commands-v0.0.2-5h")
    errors = [str(d) for d in check_directory(renamed).defects]
    assert any("has 6 clips, HEAR published 22890 for speech_commands" in e for e in errors)
    assert any("has 2 labels, HEAR published 12" in e for e in errors)
    other = renamed.rename(folder.parent / "speech_commands-v0.0.2-tiny")
    assert check_directory(other).defects == ()


def test_chroma_of_a_vocabulary_with_gaps(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(evaluation=["pitch_acc", "chroma_acc"])
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,40\n1,52\n")
    for split in ("train", "valid", "test"):
        rewrite(folder, split, {f"{split}_cat.wav": [40], f"{split}_dog.wav": [52]})  # type: ignore[list-item]
    result = check_directory(folder)
    assert result.ok
    assert "chroma_acc compares indices modulo 12" in str(result.defects[0])


def test_the_real_tasks_have_no_error(test_data_dir: Path, tmp_path: Path) -> None:
    wanted = "instr_pitch-v1-full"
    subprocess.run(
        [sys.executable, test_data_dir / "unpack.py", tmp_path / "tasks", wanted],
        check=True,
        capture_output=True,
    )
    (result,) = tasks.check(tmp_path / "tasks")
    assert result.ok
    assert (result.name, result.n_clips) == (wanted, 500)


@pytest.mark.parametrize("archive", ["spoken_digit", "beijing_opera", "mridangam_tonic", "esc50"])
def test_hears_own_archives_are_read(test_data_dir: Path, tmp_path: Path, archive: str) -> None:
    import tarfile

    (path,) = (test_data_dir / "hear_small").glob(f"*-{archive}*.tar.gz")
    with tarfile.open(path) as tar:
        tar.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("*/tasks")
    (result,) = tasks.check(folder)
    problems = [str(d) for d in result.defects if d.severity == "error"]
    allowed = "only the label"  # tiny folds lack classes; the audio and the text files are right
    assert all(allowed in problem for problem in problems), problems
    assert result.n_files == result.n_clips > 0


def test_a_task_that_points_into_a_corpus(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(audio_root="../corpus")
    corpus = folder.parent / "corpus"
    (folder / "16000").rename(corpus)
    rows = ["split,clip,path,start_s,duration_s,gain_db,trim_silence,crop_of"]
    for wav in sorted(corpus.glob("*/*.wav")):
        rows.append(f"{wav.parent.name},{wav.name},{wav.relative_to(corpus)},0,,0,0,")
    (folder / "sources.csv").write_text("\n".join(rows) + "\n")
    result = check_directory(folder)
    assert result.defects == ()
    assert result.n_files == 6
    (corpus / "test" / "test_cat.wav").unlink()
    (defect,) = check_directory(folder).defects
    assert "corpus/test/test_cat.wav: is missing" in str(defect)


def test_show_and_list(scene_task: Callable[..., Path]) -> None:
    names = {row.name for row in tasks.list()}
    assert set(DIRECTORIES) <= names
    assert sum(row.family == "demo" for row in tasks.list()) == 4
    folder = scene_task()
    (row,) = tasks.list([folder])
    assert (row.name, row.n_clips, row.n_labels, row.metric) == ("tiny-v1-test", 6, 2, "top1_acc")
    assert tasks.show(folder).name == tasks.show("tiny-v1-test", [folder.parent]).name
    assert tasks.show("esc50-v2.0.0-full").n_labels == 50  # type: ignore[union-attr]
    assert tasks.show("esc50").name == "esc50-v2.0.0-full"
    with pytest.raises(DataError, match=r"no task named 'esc51'.*did you mean 'esc50"):
        tasks.show("esc51")


def test_command_line(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    runner = CliRunner()
    ok = runner.invoke(command, ["check", str(folder), "--jobs", "1"])
    assert ok.exit_code == 0, ok.output
    assert "tiny-v1-test: 6 clips, 6 audio files, 0.0 min; no defect" in ok.output
    (folder / "16000/test/test_cat.wav").unlink()
    bad = runner.invoke(command, ["check", str(folder)])
    assert bad.exit_code == 1
    assert f"error: {folder}/16000/test/test_cat.wav: is missing; restore it" in bad.output
    facts = json.loads(runner.invoke(command, ["check", "--json", str(folder)]).output)
    assert facts["schema"] == "mambabench.tasks-check/1"
    assert facts["tasks"][0]["defects"][0]["file"] == "16000/test/test_cat.wav"
    shown = json.loads(runner.invoke(command, ["show", "--json", str(folder)]).output)
    assert shown["clips"] == {"train": 2, "valid": 2, "test": 2}
    listed = runner.invoke(command, ["list"]).output
    assert "nsynth_pitch-v2.2.3-5h" in listed
    assert "demo_pitch-v1-demo" in listed


def test_help_is_light() -> None:
    code = (
        "import sys; import mambabench.cli.tasks; "
        "assert not {'torch', 'scipy', 'pandas', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
