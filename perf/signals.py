"""Interrupt commands at random moments, give them again, and compare every byte they leave.

Usage: ``python perf/signals.py [--times 25] [--seed 0] [--verb NAME]...``; writes
``results/scale/signals.json`` and ``signals.md``.

SIGINT and SIGTERM each end every command so many times, at moments drawn evenly over the time that
the whole command takes. The same command is given again in the same folder, and interrupted again,
until it comes to its end; then all that it left must be the bytes of a run that nobody disturbed.
Commands run in forks of a process that has imported everything, so that moments fall into work and
not into imports; every twelfth is a process of its own, from `python -m mambabench` on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile
from common import machine
from train_kill import LISTED, SMALL, make_clips

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "scale"
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
ENDED = {"SIGINT": 130, "SIGTERM": 143}  # exit codes
MOST_HERE = 5  # interrupts in one folder, before it is brought to its end and compared
MOST_S = 40.0  # after which a command that was told to end counts as deaf
# what holds times and places, and a run's own settings
NOT_COMPARED = (
    "provenance.json", "audio-seen.json", "log.jsonl", "report.html", ".pdf", ".png", ".toml",
)  # fmt: skip


def make_task(directory: Path) -> None:
    """Write a task of 60 clips of noise with a tone, two classes."""
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        folder = directory / "16000" / split
        folder.mkdir(parents=True)
        entries = {}
        for i in range(20):
            tone = 0.1 * np.sin(2 * np.pi * (300, 900)[i % 2] * np.arange(16000) / 16000)
            wave = tone + 0.1 * rng.standard_normal(16000)
            soundfile.write(folder / f"{split}{i:03d}.wav", wave, 16000)
            entries[f"{split}{i:03d}.wav"] = [i % 2]
        (directory / f"{split}.json").write_text(json.dumps(entries))
    (directory / "labelvocabulary.csv").write_text("idx,label\n0,0\n1,1\n")
    metadata = {
        "task_name": directory.name, "embedding_type": "scene", "prediction_type": "multiclass",
        "split_mode": "trainvaltest", "splits": ["train", "valid", "test"],
        "sample_duration": 1.0, "evaluation": ["top1_acc"],
    }  # fmt: skip
    (directory / "task_metadata.json").write_text(json.dumps(metadata))


def commands(given: Path) -> dict[str, list[str]]:
    """Return verb -> arguments, without --out."""
    task = str(given / "noise-v1-test")
    settings = {**SMALL, **LISTED, "masks": 12, "evaluate_every": 5, "epochs": 6}
    sets = [
        word for key, value in settings.items() for word in ("--set", f"{key}={str(value).lower()}")
    ]
    train = ["train", "ssamba", "--data", str(given / "lists"), *sets, "--seeds", "2", "--resume"]
    seeds = ["--seeds", "4", "--protocol", "sound", "--device", "cpu"]
    encoders = ["--encoder", "ssam_tiny_random", "--encoder", "logmel_stats"]
    extract = [*encoders, "--tasks", task, "--device", "cpu"]
    return {
        "extract": ["extract", *extract],
        "probe": ["probe", *seeds],
        "run": ["run", *extract, *seeds],
        "train": [*[word.lower() if word in ("True", "False") else word for word in train],
                  "--save-steps", "1", "--device", "cpu"],
    }  # fmt: skip


def preload() -> None:
    """Import what commands need, so that forks begin with the work."""
    import mambabench.cli
    import mambabench.extract.verb
    import mambabench.pipeline
    import mambabench.probe.heads.with_numba
    import mambabench.probe.verb
    import mambabench.report.verb
    import mambabench.train.systems.ssamba
    import mambabench.train.verb  # noqa: F401


def fork(words: list[str], errors: Path) -> int:
    """Run a command in a fork; return its number."""
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        file = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["mambabench", *words]
        from mambabench.cli import main as command

        command()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def process(words: list[str], errors: Path) -> int:
    """Run a command in a process of its own; return its number."""
    with errors.open("wb") as file:
        started = subprocess.Popen(
            [sys.executable, "-m", "mambabench", *words], stdout=subprocess.DEVNULL, stderr=file
        )
    return started.pid


def handled(number: int) -> None:
    """Return when a command handles SIGTERM, or has ended: before that it is no command yet."""
    status = Path(f"/proc/{number}/status")
    while not os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def wait(number: int, until: float) -> int | None:
    """Return the exit code of a command; None if it goes on until then."""
    while True:
        found, status = os.waitpid(number, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.002)


@dataclass
class Found:
    """What came of one verb under one signal."""

    interrupted: int = 0
    finished: int = 0  # runs that came to their end and were compared
    slowest_s: float = 0.0  # from the signal to the end
    codes: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def left(out: Path) -> dict[str, bytes]:
    """Return all that lies below a folder, but what tells of times and places."""
    return {
        str(path.relative_to(out)): lasting(path, out)
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.endswith(NOT_COMPARED)
        and "cache" not in path.parts and "tasks" not in path.parts
    }  # fmt: skip


def lasting(path: Path, out: Path) -> bytes:
    """Return a file's bytes; of a report without the seconds that its runs took, and its place."""
    if path.name != "report.json":
        return path.read_bytes()
    body = {key: part for key, part in json.loads(path.read_text()).items() if key != "costs"}
    return json.dumps(body, sort_keys=True).replace(str(out), "OUT").encode()


def differences(found: dict[str, bytes], wanted: dict[str, bytes]) -> list[str]:
    """Return the names of files that differ, lack or are too many."""
    names = sorted(found.keys() | wanted.keys())
    return [name for name in names if found.get(name) != wanted.get(name)]


class Ground:
    """A folder in which commands are interrupted."""

    def __init__(self, folder: Path, words: dict[str, list[str]]) -> None:
        self.folder, self.words = folder, words
        self.n = 0

    def fresh(self, verb: str) -> Path:
        """Return a new output folder; that of `probe` holds what `extract` made."""
        self.n += 1
        out = self.folder / f"out-{self.n}" / "out"
        out.mkdir(parents=True)
        if verb == "probe":
            subprocess.run(["cp", "-a", f"{self.folder}/extracted/.", str(out)], check=True)
        return out

    def whole(self, verb: str, out: Path) -> float:
        """Run a command to its end; return the seconds it took. RuntimeError where it fails."""
        errors = self.folder / "errors"
        begun = time.monotonic()
        code = wait(fork([*self.words[verb], "--out", str(out)], errors), begun + 600)
        if code != 0:
            raise RuntimeError(f"{verb} ended with {code}: {errors.read_text()[-2000:]}")
        return time.monotonic() - begun

    def disturb(self, verb: str, name: str, times: int, rng: random.Random) -> Found:
        """Interrupt a command so often; compare whenever it comes to its end."""
        wanted_at = self.fresh(verb)
        self.whole(verb, wanted_at)
        length = self.whole(verb, self.fresh(verb))  # what is read from the disk is in memory now
        wanted, found = left(wanted_at), Found()
        out, here = self.fresh(verb), 0  # times interrupted in this folder
        errors = self.folder / "errors"
        while found.interrupted < times or out is not None:
            if out is None:
                out, here = self.fresh(verb), 0
            more = [] if verb == "train" or rng.random() < 0.8 else ["--jobs", "2"]
            words = [*self.words[verb], "--out", str(out), *more]
            begin = process if found.interrupted % 12 == 11 else fork
            begun = time.monotonic()
            number = begin(words, errors)
            handled(number)
            more_to_come = found.interrupted < times and here < MOST_HERE
            delay = rng.uniform(0, length) if more_to_come else 900.0
            code = wait(number, begun + delay)
            if code is None:
                os.kill(number, SIGNALS[name])
                told = time.monotonic()
                code = wait(number, told + MOST_S)
                if code is None:
                    found.wrong.append(f"deaf after {delay:.2f} s")
                    os.kill(number, signal.SIGKILL)
                    os.waitpid(number, 0)
                found.slowest_s = max(found.slowest_s, time.monotonic() - told)
                found.interrupted += 1
                here += 1
            said = errors.read_text(errors="replace")
            found.codes[-1 if code is None else code] += 1
            if "Traceback" in said or code not in (0, ENDED[name], None):
                found.wrong.append(f"exit code {code} after {delay:.2f} s: {said[-600:]}")
            if code == 0:
                found.finished += 1
                differ = differences(left(out), wanted)
                if differ:
                    found.wrong.append(f"differ: {', '.join(differ[:6])}")
                out = None
        return found


def main() -> None:
    """Interrupt, compare, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verb", action="append", choices=("extract", "probe", "run", "train"))
    options = parser.parse_args()
    # where this was begun in the background, SIGINT is ignored, by all that is begun from here too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    preload()
    path = RESULTS / "signals.json"
    table: dict[str, Any] = json.loads(path.read_text())["verbs"] if path.is_file() else {}
    wrong = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_task(folder / "noise-v1-test")
        make_clips(folder)
        ground = Ground(folder, commands(folder))
        (folder / "extracted").mkdir()
        ground.whole("extract", folder / "extracted")
        for verb in options.verb or ("extract", "probe", "run", "train"):
            for number in SIGNALS:
                rng = random.Random(f"{options.seed} {verb} {number}")
                one = ground.disturb(verb, number, options.times, rng)
                wrong |= bool(one.wrong)
                table[f"{verb} {number}"] = {
                    "interrupted": one.interrupted,
                    "finished": one.finished,
                    "slowest_s": round(one.slowest_s, 2),
                    "codes": {str(code): n for code, n in sorted(one.codes.items())},
                    "wrong": one.wrong,
                }
                print(verb, number, json.dumps(table[f"{verb} {number}"]), flush=True)
                write(path, options.seed, table)
    sys.exit(wrong)


def write(path: Path, seed: int, table: dict[str, Any]) -> None:
    """Write the tables."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    body = {"machine": machine(), "seed": seed, "verbs": table}
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")
    lines = [
        "# SIGINT and SIGTERM at random moments", "",
        "Made by `python perf/signals.py`: a command is interrupted, given again and interrupted "
        "again, until it ends; then its bytes are compared with those of a run that nobody "
        "disturbed.", "",
        "| verb, signal | interrupted | ended and compared | other bytes, tracebacks, other codes "
        "| slowest end, s |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {verb} | {one['interrupted']} | {one['finished']} | {len(one['wrong'])} | "
        f"{one['slowest_s']} |"
        for verb, one in sorted(table.items())
    ]
    (RESULTS / "signals.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
