"""Affect tasks through extract, probe and evaluate; sequence probes on stored frames; severity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mambabench.benchmarks.affect import AffectClip, read_affect, write_task
from mambabench.benchmarks.depression.sessions import Session
from mambabench.benchmarks.layout.read import load_task
from mambabench.cli.evaluate import command as evaluate_command
from mambabench.cli.evaluate import describe
from mambabench.cli.train import command as train_command
from mambabench.errors import DataError, ProtocolError, StoreError
from mambabench.extract.verb import extract
from mambabench.probe.verb import probe
from mambabench.store.open import list_stored_tasks
from mambabench.train.evaluate import evaluate
from mambabench.train.severity import severity
from mambabench.train.verb import train


def _sessions() -> list[Session]:
    rng = np.random.default_rng(0)
    out = []
    for i in range(30):
        split = ("train", "train", "train", "valid", "test")[i % 5]
        score = float(rng.integers(0, 24))
        out.append(
            Session(
                f"s{i:02d}",
                split,
                int(score >= 10),
                gender="fm"[i % 2],
                duration_s=5.0,
                speaker=f"p{i:02d}",
                score=score,
            )
        )
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interviews whose pitch follows the score, extracted and probed by the verbs."""
    out = tmp_path_factory.mktemp("pipeline")
    root = out / "corpus"
    root.mkdir()
    sessions = _sessions()
    clips: dict[str, list[AffectClip]] = {"train": [], "valid": [], "test": []}
    for session in sessions:
        assert session.score is not None
        time = np.arange(16000 * 2) / 16000
        wave = 0.3 * np.sin(2 * np.pi * (150 + 60 * session.score) * time)
        soundfile.write(root / f"{session.name}.wav", wave, 16000)
        clips[session.split] += [
            AffectClip(f"{session.name}__{k}.wav", session.name, f"{session.name}.wav", k, 0.9)
            for k in (0.0, 1.0)
        ]
    for pooling, name in (("scene", "talks"), ("frames", "talks_frames")):
        write_task(
            out / "tasks" / name,
            kind="depression",
            corpus="talks",
            root=root,
            labels=("normal", "depressed"),
            sessions=sessions,
            clips=clips,
            pooling=pooling,  # type: ignore[arg-type]
        )
    extract(encoder=("logmel_stats",), tasks=(out / "tasks",), out=out, jobs=1)
    probe(seeds=2, task=("talks",), out=out, jobs=1)
    return out


def test_probes_are_judged_by_session(out: Path) -> None:
    done = evaluate(out, n_resamples=30)
    (row,) = done.rows
    assert (row["task"], row["model"], row["restricted"]) == ("talks", "logmel_stats", True)
    assert row["result"]["n_sessions"] == 6  # twelve clips
    assert row["result"]["n_seeds"] == 2
    assert row["audit"]["verdict"] == "no speaker in two splits"
    text = done.files[0].read_text()
    assert not any(f"s{i:02d}" in text or f"p{i:02d}" in text for i in range(30))


def test_severity_is_regressed_from_session_means(out: Path) -> None:
    stored = next(s for s in list_stored_tasks(out) if s.task.name == "talks")
    affect = read_affect(stored.directory)
    assert affect is not None
    row = severity(stored, affect, n_resamples=50)
    assert row is not None
    assert row["scores"]["mae"] < row["trivial_mean"]["mae"]
    assert row["scores"]["ccc"] > 0.5
    assert row["intervals"]["mae"][0] <= row["scores"]["mae"] <= row["intervals"]["mae"][1]
    bare = {k: replace(v, score=None) for k, v in affect.sessions.items()}
    assert severity(stored, replace(affect, sessions=bare)) is None


def test_evaluate_prints_honest_lines(out: Path) -> None:
    shown = CliRunner().invoke(evaluate_command, ["--run", str(out), "--resamples", "20"])
    assert shown.exit_code == 0, shown.output
    for words in (
        "who always says that",
        "metadata probe: a classifier of duration, gender alone",
        "confusion: tp",
        "audit: no speaker in two splits",
        "severity: mae",
        "fewer than five seeds",
        "not a diagnostic",
        "f (3 sessions)",
    ):
        assert words in shown.output
    (row,) = evaluate(out, n_resamples=20).rows
    for lines in (describe(row, 80), describe(row, 60)):
        words = {word for line in lines for word in line.split()}
        assert words == {word for line in describe(row) for word in line.split()}, "none is broken"
    assert max(map(len, describe(row, 80))) <= 80
    as_json = CliRunner().invoke(evaluate_command, ["--run", str(out), "--json"])
    assert as_json.output.lstrip().startswith("[")


SEQUENCE = {
    "task": "talks_frames",
    "features": "logmel_stats",
    "modalities": "audio",
    "mm_input_size": 8,
    "mm_output_sizes": (8,),
    "d_state": 2,
    "expand": 1,
    "d_conv": 2,
    "epochs": 1,
    "augment": False,
    "max_frames": 30,
}


@pytest.mark.slow
def test_depmamba_is_a_sequence_probe_on_stored_frames(out: Path, tmp_path: Path) -> None:
    done = train("depmamba", store=out, out=tmp_path, settings=SEQUENCE, seeds=[0])
    assert not done.failed, done.seeds[0].error
    (row,) = evaluate(done.seeds[0].folder.parent, n_resamples=10).rows
    assert row["result"]["n_sessions"] == 6
    assert row["restricted"]
    assert done.seeds[0].result is not None
    assert done.seeds[0].result["n_train"] == 18  # a session's clips are one sequence


def test_sequence_probes_need_one_stream_and_two_labels(out: Path, tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="set modalities='audio'"):
        train("depmamba", store=out, out=tmp_path, settings={**SEQUENCE, "modalities": "both"})
    with pytest.raises(StoreError, match=r"no embeddings of task 'talk_frames'.*did you mean"):
        train("depmamba", store=out, out=tmp_path, settings={**SEQUENCE, "task": "talk_frames"})
    (tmp_path / "probes").mkdir()
    with pytest.raises(StoreError, match="holds no probes of depression or sentiment tasks"):
        evaluate(tmp_path)


@pytest.mark.slow
def test_the_train_command_names_folders_and_failures(tmp_path: Path) -> None:
    arguments = ["depmamba", "--task", "generated", "--out", str(tmp_path), "--seeds", "1"]
    small = {**{k: v for k, v in SEQUENCE.items() if k not in ("task", "features")}}
    small |= {"mm_output_sizes": [8], "batch_size": 64}
    sets = [x for k, v in small.items() for x in ("--set", f"{k}={_toml(v)}")]
    shown = CliRunner().invoke(train_command, [*arguments, *sets])
    assert shown.exit_code == 0, shown.output
    assert "epoch 0" in shown.output
    assert "seed 0: trained" in shown.output
    again = CliRunner().invoke(train_command, [*arguments, *sets])
    assert "seed 0: already" in again.output


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_task_directories_refuse_what_does_not_fit(tmp_path: Path) -> None:
    def write(clips: dict[str, list[AffectClip]]) -> None:
        write_task(
            tmp_path / "t",
            kind="depression",
            corpus="t",
            root=tmp_path,
            labels=("a", "b"),
            sessions=[Session("s", "train", 0)],
            clips=clips,
        )

    one = [AffectClip("a.wav", "s", "a.wav")]
    with pytest.raises(DataError, match="no clips for split 'valid'"):
        write({"train": one})
    with pytest.raises(DataError, match=r"two clips of split 'train' are named 'a.wav'"):
        write({"train": one * 2, "valid": one, "test": one})
    stranger = [replace(one[0], session="x")]
    with pytest.raises(DataError, match=r"clip a\.wav is of no known session x"):
        write({"train": stranger, "valid": stranger, "test": stranger})
    write({"train": one, "valid": one, "test": one})
    assert load_task(tmp_path / "t").restricted
