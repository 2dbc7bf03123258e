"""What a user sees while a run goes on, and when it is interrupted."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from mambabench.benchmarks import demo
from mambabench.cli import main
from mambabench.cli.progress import Display, _ProbeText, extraction_text, one_line, time_left
from mambabench.engine.units import Crew
from mambabench.extract.verb import ExtractProgress

COMMAND = [sys.executable, "-m", "mambabench"]
TASK = "demo_percussion-v1-demo"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    demo.generate(folder)
    return folder


def on_a_terminal(arguments: list[str], cwd: Path) -> tuple[int, str]:
    """Run the command on a pseudo-terminal of 80 columns; return its exit code and output."""
    master, slave = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=slave, stdout=slave, stderr=slave, cwd=cwd, env=environment
    )
    os.close(slave)
    parts = []
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        try:
            if ready:
                parts.append(os.read(master, 65536))
            elif process.poll() is not None:
                break
        except OSError:  # the other end is closed
            break
    code = process.wait(timeout=60)
    os.close(master)
    return code, b"".join(parts).decode()


def seen(text: str) -> list[str]:
    """Return the lines as they stand once everything has been overwritten."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        last = re.split(r"\r|\x1b\[1A|\x1b\[2K", line)[-1]
        lines.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", last).rstrip())
    return lines


@pytest.mark.slow
def test_run_on_a_terminal_shows_one_stage_after_the_other(tasks: Path, tmp_path: Path) -> None:
    arguments = ["run", "--tasks", str(tasks), "--task", TASK, "--encoder", "logmel_stats"]
    code, text = on_a_terminal([*arguments, "--protocol", "knn"], tmp_path)
    assert code == 0, text
    order = [text.index(stage) for stage in ("1/3 extract", "2/3 probe", "3/3 report")]
    assert order == sorted(order)
    assert "1/3 extract" not in text[order[1] :], "a stage's line goes on through the next"
    lines = seen(text)
    assert max(map(len, lines)) <= 80
    assert not any("clips" in line and "units" in line for line in lines)
    page = tmp_path / "mambabench-out" / "report" / "report.html"
    assert page.is_file()
    tail = "".join(lines[-4:])
    assert tail.endswith("page: mambabench-out/report/report.html")


def test_the_time_left_is_reckoned_from_the_first_trained_unit() -> None:
    @dataclass(frozen=True)
    class Record:
        encoder: str = "e"
        task: str = "t"
        metric: str = "top1_acc"
        score: float | None = 0.5

    @dataclass
    class Step:
        n_done: int
        seconds: float
        n_total: int = 14
        record: Record = Record()

    text = _ProbeText()
    assert "left" not in text(Step(1, 0.0), 0.0)  # type: ignore[arg-type]
    assert "left" not in text(Step(2, 0.0), 1.0)  # type: ignore[arg-type]
    assert "left" not in text(Step(3, 90.0), 91.0)  # type: ignore[arg-type]
    assert "left" not in text(Step(4, 2.0), 93.0)  # type: ignore[arg-type]
    assert "left" not in text(Step(5, 2.0), 95.0)  # type: ignore[arg-type]
    shown = text(Step(6, 2.0), 97.0)  # type: ignore[arg-type]
    assert shown == "6/14 units, 0:00:16 left, e on t: top1_acc 50.0 % over 6"
    assert "left" not in text(Step(14, 2.0), 113.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_gets_lost_ends_the_run_all_the_same(
    how: signal.Signals, code: int
) -> None:
    program = f"""
import os, signal, time
from mambabench import cli
def deaf(**options):
    try:
        os.kill(os.getpid(), {int(how)})
        time.sleep(1)
    except KeyboardInterrupt:  # as where Python drops it
        pass
    time.sleep(60)
cli.GRACE_S = 1
cli._cli.main = deaf
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == code, done.stderr
    assert "interrupted; the same command continues" in done.stderr


def test_what_was_there_counts_as_done() -> None:
    """An extraction that goes on shows the whole: what was encoded before, and what is now."""
    progress = ExtractProgress(144, 1300, 50.0, 500.0, 10.0, n_there=1540)
    said = "1684/2840 clips (1540 were there), 5.0 x real time, 0:01:30 left"
    assert extraction_text(progress) == said


def test_nodes_and_workers_are_shown_where_work_is_elsewhere() -> None:
    def text(crew: Crew | None) -> str:
        return extraction_text(ExtractProgress(30, 120, 60.0, 240.0, 2.0, crew=crew))

    alone = "30/120 clips, 30.0 x real time, 0:00:06 left"
    assert text(None) == alone
    assert text(Crew(3, 12)) == f"{alone}, 3 nodes, 12 workers"
    assert text(Crew(1, 1)) == f"{alone}, 1 node, 1 worker"
    assert extraction_text(ExtractProgress(0, 9, 0.0, 9.0, 1.0, crew=Crew(0, 0))) == (
        "0/9 clips, 0 nodes, 0 workers"
    )


def test_a_live_line_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long names are: the spinner and the text stay within the terminal."""
    from rich.console import Console

    text = "23/80 units, 0:06:05 left, an_encoder_of_a_long_name on demo_percussion-v1-demo: 70.5 %"
    assert one_line(text, 200) == text
    assert one_line(text, 40) == text[:39] + "…"
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    display = Display()
    display.stage("2/3 probe")
    display._show(text)
    console = Console(width=60, force_terminal=True)
    lines = console.render_lines(display._live.renderable)
    display._live.stop()
    assert len(lines) == 1
    assert "2/3 probe  23/80 units, 0:06:05 left" in "".join(part.text for part in lines[0])


def test_hours_are_shown() -> None:
    assert time_left(3 * 3600 + 62.5) == "3:01:02 left"
    assert time_left(-1) == "0:00:00 left"


@pytest.fixture(scope="module")
def stored(tasks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "out"
    arguments = ["--tasks", str(tasks), "--task", TASK, "--encoder", "logmel_stats"]
    subprocess.run([*COMMAND, "extract", *arguments, "--out", str(out)], check=True)
    return out


def wait_for_handlers(process: subprocess.Popen[str]) -> None:
    """Return when the program handles SIGTERM: a signal before that ends any interpreter."""
    status = Path(f"/proc/{process.pid}/status")
    while status.exists() and process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("protocol", ["sound", "ssam2024", "linear"])
def test_an_interrupted_probe_says_one_line(
    stored: Path, how: signal.Signals, code: int, protocol: str
) -> None:
    for moment in (1.0, 2.5):
        arguments = ["probe", "--protocol", protocol, "--seeds", "500", "--out", str(stored)]
        process = subprocess.Popen(
            [*COMMAND, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        wait_for_handlers(process)
        time.sleep(moment)
        process.send_signal(how)
        _, errors = process.communicate(timeout=60)
        if protocol == "linear" and "probe: 1/1 units" in errors and process.returncode == 0:
            continue  # deterministic: one seed, done before the signal or while it came
        assert process.returncode == code, errors
        last = errors.strip().splitlines()
        assert last[-1] == "interrupted; the same command continues where it stopped"
        assert "terminate called" not in errors
        assert "Traceback" not in errors


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM"])
def test_a_signal_after_all_is_done_changes_nothing(how: str) -> None:
    program = (
        "import atexit, os, signal, sys; from mambabench.cli import main\n"
        f"atexit.register(os.kill, os.getpid(), signal.{how})\n"
        "sys.argv = ['mambabench', '--version']; main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_command_in_this_process_leaves_signals_to_be_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    monkeypatch.setattr(sys, "argv", ["mambabench", "--version"])
    try:
        with pytest.raises(SystemExit):
            main()
        assert signal.SIG_IGN not in [signal.getsignal(kind) for kind in kinds]
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
