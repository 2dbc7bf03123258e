"""Inputs on which users of this field's tools met trouble: what must happen, happens.

Each folder of the cases has its runner here, or is named in `ELSEWHERE` with the test that has it;
a folder with neither fails.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., object]

ELSEWHERE = {
    "scan-groups": "tests/models/test_scan_cases.py",
    "mixer-adapters-and-hooks": "tests/models/test_scan_cases.py",
    "scan-under-trace": "tests/models/test_scan_cases.py",
    "store-damaged-in-place": "tests/extract/test_verify.py",
}
RUNNERS: dict[str, Callable[..., None]] = {}


def case(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register the runner of a folder."""

    def register(runner: Callable[..., None]) -> Callable[..., None]:
        RUNNERS[name] = runner
        return runner

    return register


def test_every_case_has_a_runner(cases: Path) -> None:
    found = {path.name for path in cases.iterdir() if path.is_dir()}
    assert found <= set(RUNNERS) | set(ELSEWHERE)


@pytest.fixture
def own(cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that copies a case to where it can be written, and goes there."""

    def copied(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(cases / name, folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        monkeypatch.chdir(folder)
        return folder

    return copied


SOUND = str(Path(__file__).with_name("sound.py"))


def _embed(run, *files, output="x.npz"):
    said = run("embed", *files, "--encoder", SOUND, "-o", output)
    assert said.code == 0, said.text
    with np.load(output) as arrays:
        return said, {name: arrays[name] for name in arrays.files}


def _extract(run, *extra, encoder=SOUND, task="task", code=0):
    said = run(
        "extract", "--encoder", encoder, "--tasks", task, "--out", "out", "--jobs", "1", *extra
    )
    assert said.code == code, said.text
    return said.text


@case("flac-unknown-length")
def flac_unknown_length(folder, run):
    _, arrays = _embed(run, "clip.flac")
    assert arrays["duration_s"] == pytest.approx(1.0)
    assert "flac: lasts 1.000 s, sample_duration says 0.5 s" in run("tasks", "check", "task").text
    assert "stored" in _extract(run)


@case("mp3-without-length")
def mp3_without_length(folder, run):
    _, arrays = _embed(run, "clip.mp3")
    assert arrays["duration_s"][0] == pytest.approx(12.04, abs=0.05)


@case("clip-named-raw")
def clip_named_raw(folder, run):
    assert "no defect" in run("tasks", "check", "task").text
    assert "stored" in _extract(run)


@case("clip-cut-off")
def clip_cut_off(folder, run):
    said = run("tasks", "check", "task")
    assert said.code == 1
    assert "train0.wav: is cut off: it holds 0.28 s, its header promises 1.00 s" in said.text
    assert "warning: train/train0.wav: is cut off" in _extract(run)


@case("metadata-with-bom")
def metadata_with_bom(folder, run):
    assert "no defect" in run("tasks", "check", "task").text
    assert "stored" in _extract(run)
    assert run("probe", "--out", "out", "--protocol", "linear", "--seeds", "1").code == 0


@case("names-differ-in-case")
def names_differ_in_case(folder, run):
    wanted = "train0.WAV lies there and differs in case only"
    said = run("tasks", "check", "task")
    assert said.code == 1
    assert wanted in said.text
    assert "is not named by the task" not in said.text
    assert wanted in _extract(run, code=1)


@case("event-times-in-seconds")
def event_times_in_seconds(folder, run):
    said = run("tasks", "check", "task")
    assert re.search(r"train\.json: all \d+ events end below .* milliseconds", said.text)
    assert re.search(r"warning: train\.json: all \d+ events end below a thousandth", _extract(run))


@case("timestamps-in-seconds")
def timestamps_in_seconds(folder, run):
    text = _extract(run, encoder="encoder.py", code=2)
    assert re.search(r"encoder'.*frames cover 0\.0 to 0\.5 ms of 500 ms", text)


@case("provider-changes-directory")
def provider_changes_directory(folder, run):
    before = Path.cwd()
    assert "stored" in _extract(run, encoder="encoder.py")
    wav = "task/16000/train/train0.wav"
    said = run("embed", wav, "--encoder", "encoder.py", "-o", "x.npz")
    assert said.code == 0, said.text
    done = run(
        "run", "--encoder", "encoder.py", "--tasks", "task", "--out", "whole",
        "--protocol", "linear", "--seeds", "1", "--jobs", "2",
    )  # fmt: skip
    assert done.code == 0, done.text
    assert Path.cwd() == before
    found = {path.name for path in folder.iterdir()}
    assert found - {"__pycache__"} == {"README.md", "encoder.py", "task", "out", "whole", "x.npz"}
    assert (folder / "whole" / "report").is_dir()


@case("provider-error-without-place")
def provider_error_without_place(folder, run):
    text = _extract(run, encoder="encoder.py", code=2)
    assert re.search(r"KeyError .*encoder\.py, line \d+, in _weights: return state\[", text)
    text = _extract(run, encoder="assert_only.py", code=2)
    assert re.search(r"AssertionError .*assert_only\.py, line \d+, in get_scene_emb", text)
    whole = run("extract", "--encoder", "encoder.py", "--tasks", "task", "--traceback")
    assert "Traceback (most recent call last)" in whole.err


@case("provider-left-in-training-mode")
def provider_left_in_training_mode(folder, run):
    said = run("check", "encoder.py", "--json", "--long-s", "5")
    status = {c["name"]: c["status"] for c in json.loads(said.out)["checks"]}
    assert status.pop("eval mode") == "fail"
    assert said.code == 1
    assert status.pop("load_model") == "pass"
    assert "not run" not in status.values()


@case("provider-model-methods")
def provider_model_methods(folder, run):
    for name in ("train_returns_nothing.py", "to_refuses.py"):
        assert "stored" in _extract(run, encoder=name)


@case("severity-not-a-number")
def severity_not_a_number(folder, run):
    from mambabench.benchmarks.depression import daic_woz
    from mambabench.errors import DataError

    with pytest.raises(DataError, match=r"_AVEC2017\.csv, line \d+: PHQ8_\w+ is 'nan'"):
        daic_woz.read_sessions(folder)
    said = run("tasks", "prepare", "daic_woz", "--data", ".", "--to", "tasks")
    assert said.code == 2
    assert re.search(r"\.csv, line \d+: PHQ8_\w+ is 'nan', not a finite number", said.text)


@case("depression-features")
def depression_features(folder, run):
    wanted = {
        "npy_truncated": r"_visual\.npy is damaged or cut off",
        "npy_empty": r"\.npy is empty \(0 bytes\)",
        "duration_text": r"labels\.csv, line \d+: duration is '11:40'.*here 700",
    }
    for name, message in wanted.items():
        said = run(
            "train", "depmamba", "--task", "dvlog", "--data", name, "--out", f"out-{name}",
            "--set", "epochs=1", "--set", "min_crop=2",
        )  # fmt: skip
        assert said.code in (1, 2)
        assert re.search(message, said.text), said.text


@case("sentiment-label-files")
def sentiment_label_files(folder, run):
    wanted = {
        "sims_gbk": r"label\.csv: line \d+ is not UTF-8 text .*GBK.*iconv",
        "mosi_short_row": r"label\.csv, line \d+: the row ends early, without",
        "mosi_nan_label": r"label\.csv, line \d+: label is 'nan', not a finite number",
    }
    for name, message in wanted.items():
        corpus = name.partition("_")[0]
        said = run("tasks", "prepare", corpus, "--data", name, "--to", "tasks")
        assert said.code == 2
        assert re.search(message, said.text), said.text


@case("kit-tree-without-timestamps")
def kit_tree_without_timestamps(folder, run):
    said = run(
        "probe", "--out", "out", "--layout", "hear-eval-kit", "--protocol", "linear", "--seeds", "1"
    )
    assert said.code == 1
    assert re.search(r"failed: .*test\.filename-timestamps\.json is missing; remove", said.text)


@case("checkpoint-of-compiled-model")
def checkpoint_of_compiled_model(folder, run):
    import os

    goldens = Path(__file__).resolve().parents[2] / "../shared/goldens"
    environment = {"MAMBABENCH_GOLDENS": str(goldens), **os.environ}
    if not Path(environment["MAMBABENCH_GOLDENS"]).is_dir():
        pytest.skip("the golden data are absent: set MAMBABENCH_GOLDENS")
    subprocess.run([sys.executable, "make.py", "made"], check=True, env=environment)
    from mambabench.models.registry import load_encoder

    identities = {
        load_encoder(f"aum_tiny_unpublished_audioset@made/{name}.pth", device="cpu").identity
        for name in ("bare", "compiled", "parallel", "inside")
    }
    assert len(identities) == 1


@case("results-that-cannot-be-written")
def results_that_cannot_be_written(folder, run):
    """What `probe` does; `report` has a test of its own."""
    import errno
    import os

    from mambabench.store import records

    def refuse(code):
        def write(path, write_it):
            raise OSError(code, os.strerror(code), str(path))

        return write

    task = folder.parent / "task"
    _scene_task(task)
    _extract(run, task=task)
    arguments = ("probe", "--out", "out", "--protocol", "hear2021", "--grid", "faster")
    assert run(*arguments, "--seeds", "1").code == 0
    with pytest.MonkeyPatch.context() as patch:
        for code in (errno.EROFS, errno.ENOSPC):
            patch.setattr(records, "atomic_write", refuse(code))
            assert "1 there already" in run(*arguments, "--seeds", "1").text
            said = run(*arguments, "--seeds", "2")
            assert said.code == 2
            assert re.search(rf"cannot write \S*out/probes/\S+: {os.strerror(code)}", said.text)
    assert run(*arguments, "--seeds", "2").code == 0


def _scene_task(directory):
    """Write a small task of two sounds."""
    import soundfile

    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        (directory / "16000" / split).mkdir(parents=True)
        clips = {f"{split}{i}.wav": [i % 2] for i in range(6)}
        for name, (label,) in clips.items():
            noise = rng.standard_normal(4000) * (0.3 if label else 0.03)
            soundfile.write(directory / "16000" / split / name, noise, 16000)
        (directory / f"{split}.json").write_text(json.dumps(clips))
    (directory / "labelvocabulary.csv").write_text("idx,label\n0,0\n1,1\n")
    metadata = {
        "embedding_type": "scene",
        "prediction_type": "multiclass",
        "split_mode": "trainvaltest",
        "splits": ["train", "valid", "test"],
        "sample_duration": 0.25,
        "evaluation": ["top1_acc"],
    }
    (directory / "task_metadata.json").write_text(json.dumps(metadata))


@pytest.mark.parametrize("name", sorted(RUNNERS))
def test_case(name: str, cases: Path, own: Callable[[str], Path], run: Run) -> None:
    if not (cases / name).is_dir():
        pytest.skip(f"{cases} has no folder {name}")
    RUNNERS[name](own(name), run)
