"""The rates of ASR, SF and SD against jiwer, pyannote.metrics and s3prl's own functions.

Without them the tests are skipped: `pip install jiwer pyannote.metrics`; for s3prl see
perf/s3prl_peer.py and MAMBABENCH_S3PRL_PYTHON.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mambabench.benchmarks.kinds import speaker_turns
from mambabench.benchmarks.kinds.speaker_turns import Turn
from mambabench.benchmarks.metrics import slot_texts
from mambabench.benchmarks.metrics.edit_distance import pooled_rate

pytestmark = pytest.mark.peer

WORDS = ["A", "BE", "SEE", "DEER", "B-artist", "E-artist", "B-city", "E-city"]


def test_word_and_letter_error_rates_by_jiwer():
    jiwer = pytest.importorskip("jiwer")
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(WORDS[:4], rng.integers(1, 9))) for _ in range(200)]
    found = [" ".join(rng.choice(WORDS[:4], rng.integers(0, 9))) for _ in range(200)]
    words = pooled_rate([s.split() for s in said], [f.split() for f in found])
    assert words == pytest.approx(jiwer.wer(said, found), abs=1e-12)
    letters = pooled_rate([list(s) for s in said], [list(f) for f in found])
    assert letters == pytest.approx(jiwer.cer(said, found), abs=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_diarization_errors_by_pyannote():
    core = pytest.importorskip("pyannote.core")
    metric = pytest.importorskip("pyannote.metrics.diarization").DiarizationErrorRate(
        collar=0.0, skip_overlap=False
    )

    def annotation(turns):
        made = core.Annotation()
        for i, turn in enumerate(turns):
            made[core.Segment(turn.start_s, turn.end_s), i] = turn.speaker
        return made.support()  # overlapping turns of one speaker are one, as the scorer has it

    rng = np.random.default_rng(1)
    counts = []
    for _ in range(60):
        sides = []
        for prefix in "rh":
            turns = []
            for _ in range(rng.integers(1, 6)):
                start, length = rng.integers(0, 300) / 100, rng.integers(1, 150) / 100
                turns.append(Turn("a", start, start + length, f"{prefix}{rng.integers(0, 3)}"))
            sides.append(turns)
        counts.append(speaker_turns.count_errors(*sides))
        reference, hypothesis = map(annotation, sides)
        extent = reference.get_timeline().union(hypothesis.get_timeline()).extent()
        detail = metric(reference, hypothesis, uem=core.Timeline([extent]), detailed=True)
        assert detail["total"] == pytest.approx(counts[-1].scored, abs=1e-9)
        assert detail["missed detection"] == pytest.approx(counts[-1].miss, abs=1e-9)
        assert detail["false alarm"] == pytest.approx(counts[-1].false_alarm, abs=1e-9)
        assert detail["confusion"] == pytest.approx(counts[-1].error, abs=1e-9)
    assert speaker_turns.error_rate(counts) == pytest.approx(abs(metric), abs=1e-9)


SCRIPT = """
import json, sys
sys.path[:0] = [{root!r}, {root!r} + "/perf"]
import s3prl_inside
s3prl_inside.prepare()
from s3prl.metric.slot_filling import slot_type_f1, slot_value_cer
said, found = json.load(sys.stdin)
one = [slot_type_f1([h], [r]) for r, h in zip(said, found)]
print("FOUND " + json.dumps([one, slot_type_f1(found, said), slot_value_cer(found, said)]))
"""


def test_slot_scores_by_s3prl():
    python = os.environ.get("MAMBABENCH_S3PRL_PYTHON")
    if not python:
        pytest.skip("MAMBABENCH_S3PRL_PYTHON names no Python with s3prl: see perf/s3prl_peer.py")
    root = str(Path(__file__).resolve().parents[2])
    rng = np.random.default_rng(2)
    texts = [
        [" ".join(rng.choice(WORDS, rng.integers(1, 14))) for _ in range(400)] for _ in range(2)
    ]
    said, found = texts
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT.format(root=root)],
        input=json.dumps(texts), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [x for x in done.stdout.splitlines() if x.startswith("FOUND ")]
    each, f1, cer = json.loads(line.removeprefix("FOUND "))
    for r, h, theirs in zip(said, found, each, strict=True):
        assert slot_texts.type_f1_of(r, h) == pytest.approx(theirs, abs=1e-12)
    assert slot_texts.type_f1(said, found) == pytest.approx(f1, abs=1e-12)
    assert slot_texts.value_rate(said, found) == pytest.approx(cer, abs=1e-12)


def test_text_heads_step_by_step_by_s3prl():
    python = os.environ.get("MAMBABENCH_S3PRL_PYTHON")
    if not python:
        pytest.skip("MAMBABENCH_S3PRL_PYTHON names no Python with s3prl: see perf/s3prl_peer.py")
    script = Path(__file__).resolve().parents[2] / "perf" / "s3prl_steps.py"
    done = subprocess.run(
        [python, "-W", "ignore", str(script), "--steps", "6"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [x.removeprefix("FOUND ") for x in done.stdout.splitlines() if x.startswith("FOUND ")]
    rows = {row["task"]: row for row in map(json.loads, lines)}
    assert list(rows) == ["ASR", "SF"]
    for row in rows.values():
        assert row["other_batches"] == row["other_targets"] == 0
        assert row["last_loss"] < row["first_loss"]
        assert row["apart"] < 1e-5
        assert row["ours"] == pytest.approx(row["s3prl"], abs=1e-6)
