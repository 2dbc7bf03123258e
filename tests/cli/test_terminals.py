"""Shells complete names; other encodings and narrow terminals break neither verb nor word."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import mambabench
from mambabench.report.formats import FORMATS

PLAIN = str.maketrans("±–−…†‡─×", "+---+++x")  # near to what Latin-1 gets
COMMAND = [sys.executable, "-m", "mambabench"]


@pytest.mark.parametrize(
    ("words", "said", "not_said"),
    [
        ("extract --encoder ssam_tiny_r", "ssam_tiny_random", "ssam_base"),
        ("extract --task demo_p", "demo_pitch-v1-demo", "demo_vowel"),
        ("run --task spee", "speech", "music"),
        ("tasks show esc", "esc50-v2.0.0-full", "demo"),
        ("models show aum_tiny_r", "aum_tiny_random", "ssam"),
        ("train ssam --recipe s", "ssam", "mmml"),
        ("data get esc", "esc50", "libricount"),
        ("probe --protocol kn", "knn", "linear"),
        ("forg", "forget", "probe"),
    ],
)
def test_names_complete(words: str, said: str, not_said: str) -> None:
    line = f"mambabench {words}"
    environment = {
        **os.environ,
        "_MAMBABENCH_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    offered = done.stdout.splitlines()
    assert any(said in one for one in offered), done.stderr
    assert not any(not_said in one for one in offered)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results whose encoder has a name that ASCII lacks."""
    out = tmp_path_factory.mktemp("out")
    common = {"task": "demo_vowel", "out": out, "jobs": 1}
    mambabench.extract("logmel_stats", **common)
    mambabench.probe(protocol="linear", out=out, jobs=1)
    names = out / "names.csv"
    names.write_text("label,name\nlogmel_stats,Früh–Log ✓\n", encoding="utf-8")
    return out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_encodings_get_every_format(results: Path, encoding: str) -> None:
    words = ["report", "--out", str(results), "--names", str(results / "names.csv"), "--format"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for format in (name for name in FORMATS if not FORMATS[name].binary):
        done = subprocess.run([*COMMAND, *words, format], env=environment, capture_output=True)
        said = done.stderr.decode(encoding)
        assert done.returncode == 0, said
        assert "Traceback" not in said
        text = done.stdout.decode(encoding)
        assert text, format
        if format == "latex":
            assert text.isascii()


LISTS = (
    *("tasks list", "models list", "tasks show esc50", "models list ssam*", "weights list"),
    *("models show ssam_tiny", "train --list", "info", "data list", "check logmel_stats"),
)


@pytest.mark.parametrize("words", [*LISTS, "report", "status"])
def test_nothing_is_wider_than_a_terminal_nor_broken(words: str, results: Path) -> None:
    own = ["--out", str(results)] if words in ("report", "status") else []
    arguments = words.split() + own
    text = _on_a_terminal(arguments, results)
    assert "Traceback" not in text
    assert "\x1b[" not in text
    lines = text.splitlines()
    assert lines
    if words != "weights list":  # paths are as long as they are
        commands = [line for line in lines if "pip install" in line]  # to be copied whole
        assert max(len(line) for line in lines if line not in commands) <= 80
    if words not in ("report", "weights list"):  # which cut names, or say paths
        piped = subprocess.run(
            [*COMMAND, *arguments], cwd=results, capture_output=True, text=True, check=True
        )
        said = set(piped.stdout.translate(PLAIN).split())
        assert {word for word in text.split() if word.isalnum()} <= said, "a word is broken"
    if words == "tasks list":
        assert "tfds_gtzan_music_speech-1.0.0-full" in text.split()
    if words == "models list":
        assert {"69,443,392", "ssam_base_random", "repository"} & set(text.split())
        assert "ssam_base_random" in text.split()


def _on_a_terminal(arguments: list[str], cwd: Path, code: int = 0) -> str:
    """Return what a command prints on a terminal of 80 columns without colours, in Latin-1."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    environment = {
        **{k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")},
        "TERM": "dumb",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "latin-1",
    }
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment
    )
    os.close(slave)
    parts = []
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    assert process.wait(timeout=60) == code
    os.close(master)
    return b"".join(parts).decode("latin-1")


MESSAGES = (
    ("extract --encoder ssam_tini", 2),
    ("report --out nowhere/at/all/but/in/a/folder/with/a/name", 2),
    ("probe --protocol sond", 2),
)


@pytest.mark.parametrize(("words", "code"), MESSAGES)
def test_messages_break_between_words(words: str, code: int, tmp_path: Path) -> None:
    """One line in a pipe; on a terminal as many as keep every word whole."""
    piped = subprocess.run(
        [*COMMAND, *words.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (line,) = piped.stderr.splitlines()
    assert len(line) > 80
    shown = _on_a_terminal(words.split(), tmp_path, code)
    assert shown.split() == line.split()
    assert max(map(len, shown.splitlines())) <= 80
