"""A cluster of three nodes on this machine under the verbs, and everything that goes wrong there.

Usage: ``python perf/cluster_faults.py [--case NAME]...``; writes ``results/scale/faults.json`` and
``faults.md``. Every case ends with the same command and its bytes are held against those of the
local engine. Needs Ray; no other Ray may run here.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")

from common import machine
from signals import RESULTS, commands, differences, lasting, make_task
from train_kill import make_clips

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20}
# a provider that takes its time and notes which clips it has seen, on which process
PROVIDER = """
import os, time
import torch

NOTE, DEADLY = "NOTE_PATH", DEADLY_VALUE

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 8
    timestamp_embedding_size = 8

def load_model(model_file_path=""):
    return Model().eval()

def get_timestamp_embeddings(audio, model):
    n = audio.shape[1] // 320
    frames = audio[:, : n * 320].unfold(1, 320, 320)[:, :, :8]
    return frames, 20.0 * torch.arange(n).repeat(len(audio), 1)

def get_scene_embeddings(audio, model):
    if os.path.exists(NOTE):
        with open(NOTE, "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(0.3)
    if DEADLY is not None and abs(float(audio[0, 0]) - DEADLY) < 1e-9:
        os.kill(os.getpid(), 9)
    return audio.unfold(1, 2000, 2000)[:, :8].abs().mean(-1)
"""
DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from cluster_faults import small_shards
from mambabench.cli import main
small_shards()
sys.argv = ["mambabench", *sys.argv[2:]]
main()
"""
SEEDS = 24


def small_shards() -> None:
    """Plan shards of one second, so that a small task has sixty."""
    from mambabench.extract import verb
    from mambabench.extract.plan import Budget

    verb.BUDGETS["cpu"] = Budget(1.0, 1.0)


def left(out: Path) -> dict[str, bytes]:
    """Return embeddings and records below a folder, without times and places."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for top in ("embeddings", "probes")
        for path in sorted((out / top).rglob("*"))
        if path.is_file() and not path.name.endswith(("provenance.json", "audio-seen.json"))
    }


def weights(out: Path) -> dict[str, bytes]:
    """Return what a training leaves: weights and records, without times and places."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.suffix in (".safetensors", ".pth", ".npz")
    }


class Cases:
    """What can go wrong, each from a fresh folder."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder, self.n = folder, 0
        self.task, self.note = folder / "noise-v1-test", folder / "note"
        make_task(self.task)
        self.encoder = folder / "slow.py"
        text = PROVIDER.replace("NOTE_PATH", str(self.note))
        self.encoder.write_text(text.replace("DEADLY_VALUE", "None"))
        head = {**NODE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            self.cluster.add_node(**NODE)
        self.ray = f"ray:{self.cluster.address}"
        self.local = folder / "local"
        self.command("extract", self.local, "local")
        self.command("probe", self.local, "local")
        self.wanted = left(self.local)

    def close(self) -> None:
        """End the cluster."""
        self.cluster.shutdown()

    def fresh(self) -> Path:
        """Return a new folder; the provider is slow from now on."""
        self.n += 1
        self.note.write_text("")
        return self.folder / f"out-{self.n}"

    def words(self, verb: str, out: Path, engine: str) -> list[str]:
        """Return the command's arguments."""
        if verb == "probe":
            return ["probe", "--seeds", str(SEEDS), "--protocol", "sound", "--out", str(out),
                    "--engine", engine]  # fmt: skip
        return ["extract", "--encoder", str(self.encoder), "--tasks", str(self.task),
                "--out", str(out), "--engine", engine, "--jobs", "1"]  # fmt: skip

    def start(self, verb: str, out: Path, engine: str) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        words = [sys.executable, "-c", DRIVER, str(Path(__file__).parent)]
        return subprocess.Popen(
            [*words, *self.words(verb, out, engine)],
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def command(self, verb: str, out: Path, engine: str) -> str:
        """Run a command to its end; return what it said. RuntimeError where it fails."""
        process = self.start(verb, out, engine)
        said, _ = process.communicate(timeout=600)
        if process.returncode:
            raise RuntimeError(f"{verb} on {engine} ended with {process.returncode}: {said}")
        return said

    def until(self, done: Callable[[], bool]) -> None:
        """Wait for something that a command does."""
        end = time.monotonic() + 300
        while not done():
            if time.monotonic() > end:
                raise RuntimeError("nothing happened for 300 s")
            time.sleep(0.05)

    def calls(self) -> list[int]:
        """Return the process of every call of the encoder."""
        return [int(line) for line in self.note.read_text().split()]

    def encoded(self) -> int:
        """Return how many shards were begun; whoever loads an encoder calls it twice besides."""
        return len(self.calls()) - 2 * len(set(self.calls()))

    def records(self, out: Path) -> int:
        """Return how many seeds are recorded."""
        return len(list((out / "probes").rglob("seed-*.npz")))

    def same(self, out: Path) -> str:
        """Say whether a folder holds the bytes of the local engine."""
        differ = differences(left(out), self.wanted)
        return "yes" if not differ else f"NO: {', '.join(differ[:3])}"

    def whole(self, out: Path, begun: str = "") -> dict[str, Any]:
        """Do what is left of both verbs, and compare."""
        if begun != "probe":
            self.command("extract", out, self.ray)
        self.command("probe", out, self.ray)
        return {"same bytes": self.same(out)}

    def undisturbed(self) -> dict[str, Any]:
        """Three nodes, nothing happens."""
        out = self.fresh()
        found = self.whole(out)
        return {**found, "shards encoded": self.encoded(), "of": 60}

    def demo(self) -> dict[str, Any]:
        """`run` on the demo, both demo encoders, three seeds."""
        self.note.unlink(missing_ok=True)
        outs = {}
        for engine in ("local", self.ray):
            self.n += 1
            out = outs[engine] = self.folder / f"out-{self.n}"
            words = ["run", "--seeds", "3", "--out", str(out), "--engine", engine]
            subprocess.run([sys.executable, "-m", "mambabench", *words], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        here, there = left(outs["local"]), left(outs[self.ray])
        differ = differences(there, here)
        return {"files": len(here), "same bytes": "yes" if not differ else f"NO: {differ[:3]}"}

    def report_elsewhere(self) -> dict[str, Any]:
        """`report` on three nodes, and in a job array of this machine."""
        texts = {}
        for engine in ("local", self.ray, "slurm:cluster=local,shares=2"):
            self.n += 1
            out = self.folder / f"out-{self.n}"
            shutil.copytree(self.local, out, ignore=shutil.ignore_patterns("*cache*"))
            self.mambabench("report", "--out", out, "--format", "json", "--engine", engine)
            texts[engine] = lasting(next(out.rglob("report.json")), out)
        differ = [engine for engine, text in texts.items() if text != texts["local"]]
        return {"same bytes": "yes" if not differ else f"NO: {differ}"}

    def train_elsewhere(self) -> dict[str, Any]:
        """Two seeds of a training on three nodes, and in a job array of this machine."""
        data = self.folder / "for-training"
        data.mkdir()
        make_clips(data)
        words = commands(data)["train"]
        outs = {}
        for engine in ("local", self.ray, "slurm:cluster=local,shares=2"):
            self.n += 1
            outs[engine] = self.folder / f"out-{self.n}"
            self.mambabench(*words, "--out", outs[engine], "--engine", engine)
        kept = {engine: weights(out) for engine, out in outs.items()}
        differ = [engine for engine in kept if differences(kept[engine], kept["local"])]
        return {"files": len(kept["local"]), "same bytes": "yes" if not differ else f"NO: {differ}"}

    def mambabench(self, *words: str | Path) -> None:
        """Run a command. RuntimeError where it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "mambabench", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words[0]} ended with {done.returncode}: {done.stdout[-2000:]}")

    def node_leaves_extract(self) -> dict[str, Any]:
        """A node is removed in the middle of extract."""
        out, leaver = self.fresh(), self.cluster.add_node(**NODE)
        process = self.start("extract", out, self.ray)
        self.until(lambda: self.encoded() > 12)
        at = self.encoded()
        self.cluster.remove_node(leaver, allow_graceful=False)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        again = self.encoded() - 60
        return {"after shards": at, "begun twice": again, **self.whole(out)}

    def node_leaves_probe(self) -> dict[str, Any]:
        """A node is removed in the middle of probe."""
        out, leaver = self.fresh(), self.cluster.add_node(**NODE)
        self.command("extract", out, self.ray)
        process = self.start("probe", out, self.ray)
        self.until(lambda: self.records(out) > 2)
        at = self.records(out)
        self.cluster.remove_node(leaver, allow_graceful=False)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return {"after seeds": at, "same bytes": self.same(out)}

    def worker_dies(self) -> dict[str, Any]:
        """A worker is killed with -9 in the middle of extract."""
        out = self.fresh()
        process = self.start("extract", out, self.ray)
        self.until(lambda: self.encoded() > 12)
        os.kill(self.calls()[-1], signal.SIGKILL)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return {"begun twice": self.encoded() - 60, **self.whole(out)}

    def driver_dies_extract(self) -> dict[str, Any]:
        """The command itself is killed with -9 in extract, and given again."""
        out = self.fresh()
        process = self.start("extract", out, self.ray)
        committed = out / "embeddings"
        self.until(lambda: len(list(committed.rglob("*.rows"))) > 12)
        process.kill()
        process.communicate()
        time.sleep(3)  # its workers end with it
        n_committed = len(list(committed.rglob("*.rows")))
        before = self.encoded()
        found = self.whole(out)
        return {
            "committed": n_committed,
            "encoded after": self.encoded() - before,
            "of": 60,
            **found,
        }

    def driver_dies_probe(self) -> dict[str, Any]:
        """The command itself is killed with -9 in probe, and given again."""
        out = self.fresh()
        self.command("extract", out, self.ray)
        process = self.start("probe", out, self.ray)
        self.until(lambda: self.records(out) > 2)
        process.kill()
        process.communicate()
        n = len(list((out / "probes").rglob("seed-*.json")))
        said = self.command("probe", out, self.ray)
        told = [line for line in said.splitlines() if "already" in line]
        return {"recorded": n, "said": " ".join(told).split(";")[0], "same bytes": self.same(out)}

    def two_drivers(self) -> dict[str, Any]:
        """Two commands work in one folder at once."""
        out = self.fresh()
        codes = []
        for verb in ("extract", "probe"):
            both = [self.start(verb, out, self.ray) for _ in range(2)]
            for process in both:
                said, _ = process.communicate(timeout=600)
                codes.append(process.returncode)
                assert process.returncode == 0, said
        return {"exit codes": codes, "same bytes": self.same(out)}

    def always_fails(self) -> dict[str, Any]:
        """One clip kills every worker: skipped by name, the others are embedded."""
        import soundfile

        out = self.fresh()
        first = soundfile.read(self.task / "16000" / "test" / "test007.wav", dtype="float32")[0][0]
        plain = self.encoder.read_text()
        try:
            self.encoder.write_text(plain.replace("DEADLY = ", "DEADLY = ").replace(
                "None\n", f"{float(first)!r}\n", 1))  # fmt: skip
            words = self.words("extract", out, self.ray)
            process = subprocess.run(
                [sys.executable, "-c", DRIVER, str(Path(__file__).parent), *words,
                 "--on-error", "skip"], text=True, capture_output=True, timeout=600,
            )  # fmt: skip
        finally:
            self.encoder.write_text(plain)
        manifest = json.loads(next((out / "embeddings").rglob("manifest.json")).read_text())
        n = sum(split["n_clips"] for split in manifest["splits"].values())
        named = [line for line in (process.stdout + process.stderr).splitlines()
                 if "test007.wav" in line]  # fmt: skip
        return {"exit code": process.returncode, "embedded": n, "of": 60, "said": named[:1]}


CASES = (
    "undisturbed", "demo", "report_elsewhere", "train_elsewhere", "node_leaves_extract",
    "node_leaves_probe", "worker_dies", "driver_dies_extract", "driver_dies_probe", "two_drivers",
    "always_fails",
)  # fmt: skip


def main() -> None:
    """Do the cases and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", action="append", choices=CASES)
    options = parser.parse_args()
    path = RESULTS / "faults.json"
    table: dict[str, Any] = json.loads(path.read_text())["cases"] if path.is_file() else {}
    failed = False
    with tempfile.TemporaryDirectory() as name:
        cases = Cases(Path(name))
        try:
            for case in options.case or CASES:
                begun = time.monotonic()
                try:
                    found = getattr(cases, case)()
                except (RuntimeError, AssertionError, subprocess.TimeoutExpired) as error:
                    found, failed = {"FAILED": str(error)[-800:]}, True
                table[case] = {
                    "what": (getattr(Cases, case).__doc__ or "").rstrip("."),
                    **found,
                    "seconds": round(time.monotonic() - begun, 1),
                }
                failed |= "NO" in str(found.get("same bytes"))
                print(case, json.dumps(table[case]), flush=True)
                write(path, table)
        finally:
            cases.close()
    sys.exit(failed)


def write(path: Path, table: dict[str, Any]) -> None:
    """Write the tables."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    body = {"machine": machine(), "cases": table}
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")
    lines = [
        "# Faults on a cluster of three nodes", "",
        "Made by `python perf/cluster_faults.py`: a task of 60 clips in 60 shards, 24 seeds of one "
        "protocol; bytes are held against those of the local engine.", "",
        "| what happens | what came of it |", "|---|---|",
    ]  # fmt: skip
    for case in CASES:
        if case in table:
            told = {k: v for k, v in table[case].items() if k not in ("what", "seconds")}
            text = "; ".join(f"{key}: {value}" for key, value in told.items())
            lines.append(f"| {table[case]['what']} | {text} |")
    (RESULTS / "faults.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
