"""Record a newcomer's first hour: what is typed, what a terminal of 80 columns shows, and how long.

    python perf/first_hour.py [--to results/first_hour] [--torch SPEC] [--only N]

A fresh clone of the commit that is checked out, an empty environment, a pseudo-terminal. Four files
come out, one a walk, and README.md with what was typed and the minutes of each. The terminal is
followed letter by letter, so that the files hold what a person reads at the end, and of live lines
what stood there now and then. Paths of this machine and registries' hosts are left out.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parent.parent
COLUMNS, LINES = 80, 24
LETTERS_PER_S = 3.3  # of somebody who types 40 words a minute
LOOK_S = 20.0  # between two looks at a live line
ALIAS = "~"  # what stands for the folder in which all of it happens

PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{booktabs}
\begin{document}
\input{table}
\end{document}
"""


@dataclass(frozen=True)
class Walk:
    """A quarter of the hour: its title, and what is typed."""

    name: str
    title: str
    commands: tuple[str, ...]


def walks(torch: str) -> tuple[Walk, ...]:
    """Return what is typed; `torch` is the build to install before the rest."""
    edit = "sed -i 's/(spectrum + 1e-3).log().mean(2)/spectrum.mean(2).log1p()/' mine.py"
    return (
        Walk(
            "1-clone-to-page",
            "From a clone to the page",
            (
                'git clone "$REPOSITORY" mambabench',
                "python3 -m venv venv && . venv/bin/activate",
                f"pip install -c mambabench/constraints.txt {torch}",
                "pip install -c mambabench/constraints.txt './mambabench[plots]'",
                "mambabench run --seeds 3",
                "ls mambabench-out/report",
            ),
        ),
        Walk(
            "2-own-encoder",
            "An encoder of one's own, through check",
            (
                "mambabench check --template mine.py",
                edit,
                "mambabench check mine.py",
                "mambabench run --encoder mine.py --seeds 3",
            ),
        ),
        Walk(
            "3-own-task",
            "A task of one's own, from a CSV",
            (
                "head -4 birds.csv; ls birds | wc -l",
                "mambabench tasks make --csv birds.csv --audio birds --column label=species",
                "mambabench run --dry-run --tasks tasks --encoder mine.py --seeds 3",
                "mambabench run --tasks tasks --encoder mine.py --encoder logmel_stats --seeds 3",
            ),
        ),
        Walk(
            "4-paper",
            "The matrix in a two-column paper",
            (
                "mambabench report --protocol sound --seeds 3 --format latex > table.tex",
                f"cat > paper.tex << 'END'\n{PAPER}END",
                "pdflatex -interaction=nonstopmode paper | grep Output",
                "grep -c Overfull paper.log; ls paper.pdf",
            ),
        ),
    )


@dataclass
class Terminal:
    """What a terminal shows, line by line; what has scrolled away stays."""

    lines: list[list[str]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    rest: str = ""  # of a sequence that has not come to its end

    def feed(self, text: str) -> None:
        """Show more text."""
        text = self.rest + text
        self.rest = ""
        place = 0
        while place < len(text):
            letter = text[place]
            if letter == "\x1b":
                found = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[^\[\]])").match(
                    text, place
                )
                if found is None:
                    self.rest = text[place:]
                    return
                self._control(found[1])
                place = found.end()
                continue
            self._letter(letter)
            place += 1

    def _letter(self, letter: str) -> None:
        if letter == "\n":
            self._to(self.row + 1)
        elif letter == "\r":
            self.column = 0
        elif letter == "\b":
            self.column = max(0, self.column - 1)
        elif letter == "\t":
            self.column = min(COLUMNS - 1, self.column // 8 * 8 + 8)
        elif letter >= " ":
            if self.column >= COLUMNS:
                self._to(self.row + 1)
                self.column = 0
            line = self.lines[self.row]
            line += [" "] * (self.column + 1 - len(line))
            line[self.column] = letter
            self.column += 1

    def _to(self, row: int) -> None:
        self.row = max(0, row)
        while len(self.lines) <= self.row:
            self.lines.append([])

    def _control(self, sequence: str) -> None:
        kind, numbers = sequence[-1], sequence[1:-1]
        count = int(numbers) if numbers.isdigit() else 1
        if kind == "A":
            self._to(self.row - count)
        elif kind == "B":
            self._to(self.row + count)
        elif kind == "C":
            self.column += count
        elif kind == "D":
            self.column = max(0, self.column - count)
        elif kind == "G":
            self.column = count - 1
        elif kind == "K":
            whole, line = numbers == "2", self.lines[self.row]
            del line[0 if whole else self.column :]
        elif kind == "J" and numbers in ("", "0"):
            del self.lines[self.row][self.column :]
            del self.lines[self.row + 1 :]

    def shown(self, first: int = 0) -> list[str]:
        """Return the lines from `first` on, without blanks at their ends."""
        return ["".join(line).rstrip() for line in self.lines[first:]]


@dataclass(frozen=True)
class Ran:
    """One command: what was seen, and the seconds it took."""

    command: str
    code: int
    seconds: float
    lines: tuple[str, ...]
    looks: tuple[tuple[float, str], ...]  # live lines: seconds since the start, text


def run(command: str, folder: Path, environment: dict[str, str]) -> Ran:
    """Run a command line on a terminal of its own."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (LINES, COLUMNS))
    start = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", command], stdin=slave, stdout=slave, stderr=slave, cwd=folder,
        env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    screen, looks, looked = Terminal(), [], 0.0
    while True:
        ready, _, _ = select.select([master], [], [], 0.5)
        try:
            data = os.read(master, 65536) if ready else b""
        except OSError:  # the other end is closed
            break
        if ready and not data:
            break
        screen.feed(data.decode("utf-8", "replace"))
        now = time.monotonic() - start
        if now - looked > LOOK_S:
            looked = now
            looks.append((now, "".join(screen.lines[screen.row]).strip()))
    code = process.wait()
    os.close(master)
    lines = screen.shown()
    while lines and not lines[-1]:
        lines.pop()
    final = set(map(str.strip, lines))
    live = tuple((at, text) for at, text in looks if text and text not in final)
    return Ran(command, code, time.monotonic() - start, tuple(lines), live)


def birds(folder: Path) -> None:
    """Make what stands for a user's own recordings: three calls, twelve recordings, two rates."""
    (folder / "birds").mkdir()
    draw = np.random.default_rng(0)
    rows = ["file,species,recording"]
    for recording in range(24):
        rate = 22050 if recording % 3 else 44100
        time_s = np.arange(rate) / rate
        for clip in range(4):
            species = ("wren", "robin", "thrush")[recording % 3]
            pitch = {"wren": 3000, "robin": 2600, "thrush": 2200}[species] * draw.uniform(0.8, 1.25)
            trill = np.sin(2 * np.pi * {"wren": 18, "robin": 12, "thrush": 8}[species] * time_s)
            call = np.sin(2 * np.pi * pitch * time_s + 12 * trill) * (trill > -0.3)
            wave = 0.2 * call + 0.08 * draw.normal(size=rate)
            name = f"r{recording:02d}-{clip}.wav"
            soundfile.write(folder / "birds" / name, wave, rate)
            rows.append(f"{name},{species},r{recording:02d}")
    (folder / "birds.csv").write_text("\n".join(rows) + "\n")


def scrubbed(lines: tuple[str, ...], folder: Path) -> list[str]:
    """Return the lines without paths of this machine, its name, and registries' hosts."""
    found = []
    for line in lines:
        text = line.replace(str(folder.resolve()), ALIAS).replace(str(folder), ALIAS)
        text = text.replace(str(ROOT), "$REPOSITORY")
        text = re.sub(rf"\b{re.escape(socket.gethostname())}\b", "here", text)
        found.append(text)
    return found


def _without_progress(one: Ran) -> tuple[str, ...]:
    """Return what was shown; of pip only what it installed."""
    if not one.command.startswith("pip "):
        return one.lines
    first = [n for n, text in enumerate(one.lines) if text.startswith("Successfully installed")]
    return ("[pip's lines of progress]", *one.lines[first[-1] :]) if first else one.lines


def told(walk: Walk, done: list[Ran], folder: Path) -> str:
    """Return the text of a walk."""
    parts = [f"{walk.title}: a terminal of {COLUMNS} columns\n"]
    for one in done:
        parts.append(f"$ {one.command}")
        parts += scrubbed(_without_progress(one), folder)
        if one.looks and not one.command.startswith("pip "):
            parts.append("   [while it ran, in the last line:")
            step = max(1, len(one.looks) // 6)
            for at, text in one.looks[::step]:
                parts += scrubbed((f"   {at:4.0f} s: {text}",), folder)
            parts[-1] += "]"
        ended = "" if one.code == 0 else f", exit code {one.code}"
        parts.append(f"   [{one.seconds:.1f} s{ended}]\n")
    return "\n".join(parts)


def table(results: list[tuple[Walk, list[Ran]]]) -> list[str]:
    """Return the lines of a table: what was typed and how long it took."""
    lines = ["| what | typed letters | minutes to type | minutes to run |", "|---|---|---|---|"]
    total = [0, 0.0]
    for walk, done in results:
        letters = sum(len(one.command) + 1 for one in done)
        seconds = sum(one.seconds for one in done)
        total = [total[0] + letters, total[1] + seconds]
        typed = letters / LETTERS_PER_S / 60
        lines.append(
            f"| [{walk.title}]({walk.name}.txt) | {letters} | {typed:.1f} | {seconds / 60:.1f} |"
        )
    typed = total[0] / LETTERS_PER_S / 60
    return [*lines, f"| all | {total[0]} | {typed:.1f} | {total[1] / 60:.1f} |"]


def readme(results: list[tuple[Walk, list[Ran]]], load: tuple[float, float]) -> str:
    """Return the README of the recording."""
    failed = [one.command for _, done in results for one in done if one.code]
    lines = [
        "# The first hour\n",
        "What a newcomer types and sees: a fresh clone, an empty environment, a terminal of "
        f"{COLUMNS} columns,\nno GPU. Recorded by `python perf/first_hour.py`; the files hold what "
        "the terminal shows, without paths of\nthe machine, and without pip's lines of progress. "
        "`birds/` and `birds.csv` stand for a user's own\nrecordings: 96 clips of three made-up "
        "calls, in two sample rates.\n",
        *table(results),
        "",
        f"{os.cpu_count()} cores of a shared machine, load {load[0]:.1f} at the "
        f"start and {load[1]:.1f} at the end:\nthe minutes to run are those of a busy machine. "
        f"Minutes to type: {LETTERS_PER_S} letters a second (40 words a minute).\n",
        "Every command ended with 0."
        if not failed
        else "Not ended with 0: " + ", ".join(f"`{one}`" for one in failed),
        "",
        "What was typed:\n",
        "```",
        *(f"{one.command}" for _, done in results for one in done),
        "```",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--to", type=Path, default=ROOT / "results" / "first_hour")
    parser.add_argument("--torch", default="torch", help="requirement of the torch to install")
    parser.add_argument("--keep", type=Path, help="work in this new folder, and leave it there")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="first-hour-"))
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "LANG", "LC_ALL") or name.startswith("PIP_")
    }
    environment |= {
        "PATH": f"{folder / 'venv' / 'bin'}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
        "REPOSITORY": str(ROOT),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    environment.setdefault("LANG", "C.UTF-8")
    birds(folder)
    before = os.getloadavg()[0]
    results = []
    asked.to.mkdir(parents=True, exist_ok=True)
    for walk in walks(asked.torch):
        done = []
        for command in walk.commands:
            print(f"$ {command}", file=sys.stderr, flush=True)
            done.append(run(command, folder, environment))
            print(f"  {done[-1].seconds:.1f} s, code {done[-1].code}", file=sys.stderr, flush=True)
        results.append((walk, done))
        (asked.to / f"{walk.name}.txt").write_text(told(walk, done, folder), encoding="utf-8")
    text = readme(results, (before, os.getloadavg()[0]))
    (asked.to / "README.md").write_text(text, encoding="utf-8")
    if asked.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
