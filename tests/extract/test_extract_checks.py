"""What `check` finds cheaply, extract finds too: times, modes, labels in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mambabench.benchmarks.layout.check import check_directory
from mambabench.errors import EncoderError
from mambabench.extract.verb import extract
from mambabench.files import read_json
from mambabench.hear_api.times import fault_of_times

Make = Callable[..., Path]
Provide = Callable[..., str]
TIMES = "times = 12.5 + 20.0 * torch.arange(values.shape[1]).repeat(len(audio), 1)"


def rewritten(path: str, old: str, new: str) -> str:
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))
    return path


REFUSED = [
    (
        "seconds",
        TIMES.replace("12.5 + 20.0", "0.0125 + 0.02"),
        r"to 0\.5 ms of 500 ms.*millis",
    ),
    ("numbers", TIMES.replace("12.5 + 20.0 *", "0.2 *"), "give milliseconds, not seconds or frame"),
    ("falling", TIMES + ".flip(1)", "do not ascend"),
    ("constant", TIMES + " * 0 + 9", "do not ascend"),
    ("negative", TIMES.replace("12.5", "-30.0"), "are counted from the clip's start"),
    ("training", TIMES + "\n    model.train()", "put the model into training mode"),
]
WARNED = [
    ("beyond", TIMES.replace("12.5 + 20.0", "12.5 + 30.0"), "past its end"),
    ("half", TIMES.replace("12.5 + 20.0", "12.5 + 10.0"), "a part of the clip is not heard"),
]


@pytest.mark.parametrize(("new", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_times_that_make_every_score_false_end_the_run(
    make_task: Make, provider: Provide, tmp_path: Path, new: str, message: str
) -> None:
    name = rewritten(provider(), TIMES, new)
    with pytest.raises(EncoderError, match=rf"enc'.*{message}"):
        extract([name], [make_task(kind="event")], out=tmp_path / "out", jobs=1)


@pytest.mark.parametrize(("new", "message"), [w[1:] for w in WARNED], ids=[w[0] for w in WARNED])
def test_doubtful_times_are_warned_of_once(
    make_task: Make, provider: Provide, tmp_path: Path, new: str, message: str
) -> None:
    name = rewritten(provider(), TIMES, new)
    done = extract([name], [make_task(kind="event")], out=tmp_path / "out", jobs=1)
    (outcome,) = done.outcomes
    assert outcome.state == "sealed"
    assert len(outcome.warnings) == 3  # one a shard
    assert all(message in text for text in outcome.warnings.values())


def test_good_times_have_no_fault() -> None:
    for hop, n in ((20.0, 50), (50.0, 20), (500.0, 2), (1000.0, 1)):
        times = (hop / 2 + hop * np.arange(n, dtype=np.float32))[None]
        assert fault_of_times(times, 1000.0) is None
    assert fault_of_times(np.zeros((2, 0), np.float32), 1000.0) is None
    assert fault_of_times(np.array([[0.4, 0.6]], np.float32), 1.0) is None  # a clip of 1 ms


def scaled(directory: Path, split: str, factor: float, shift: float = 0.0) -> None:
    path = directory / f"{split}.json"
    clips = read_json(path)
    for events in clips.values():
        for event in events:
            event["start"] = event["start"] * factor + shift
            event["end"] = event["end"] * factor + shift
    path.write_text(json.dumps(clips))


LABELS = [
    ("seconds", 0.001, 0.0, "all 6 events end below a thousandth of their clips", "error"),
    ("samples", 16.0, 0.0, "6 events end past their clips, such as 3280 ms", "error"),
    ("past the end", 1.0, 380.0, "6 events end past their clips, such as 585 ms", "warning"),
]


@pytest.mark.parametrize(
    ("factor", "shift", "message", "severity"), [x[1:] for x in LABELS], ids=[x[0] for x in LABELS]
)
def test_events_that_are_no_milliseconds(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    factor: float,
    shift: float,
    message: str,
    severity: str,
) -> None:
    directory = make_task(kind="event")
    scaled(directory, "valid", factor, shift)
    found = [d for d in check_directory(directory).defects if message in d.problem]
    assert [(d.file, d.severity) for d in found] == [("valid.json", severity)]
    (outcome,) = extract([provider()], [directory], out=tmp_path / "out", jobs=1).outcomes
    assert list(outcome.warnings) == ["valid.json"]
    assert message in outcome.warnings["valid.json"]
