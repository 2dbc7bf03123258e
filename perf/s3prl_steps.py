"""ASR and SF step by step, in s3prl's own code and in ours, from the same initial values.

s3prl's data sets give batches and targets, its experts head, loss and test scores; ours has
the same values, order of batches and frames, and reads the corpora itself. Without dropout and
masks, whose draws differ. Prints a line of JSON a task: the largest relative difference of a step's
loss, the number of targets and batches that differ, and both sides' scores. SF's lists are read for
s3prl by perf/s3prl_inside.py, since its package lacks that reader.

Runs in the environment that perf/s3prl_peer.py makes.
usage: ENV/bin/python perf/s3prl_steps.py [--steps 200] [--tasks ASR SF] [--out results/superb]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "perf"), str(ROOT / "tests" / "superb")]

import s3prl_inside  # noqa: E402

s3prl_inside.prepare()

import s3prl_sequences  # noqa: E402
import trees  # noqa: E402
from common import markdown  # noqa: E402

from mambabench.benchmarks.superb import asr, sf  # noqa: E402
from mambabench.probe import sequence_heads  # noqa: E402
from mambabench.probe.families.sequences import READINGS  # noqa: E402
from mambabench.probe.families.symbols import SymbolTable  # noqa: E402
from mambabench.probe.frame_training import initialise  # noqa: E402
from mambabench.probe.heads.frame_heads import (  # noqa: E402
    Speech,
    ctc_loss,
    decode_greedy,
    padded,
)
from mambabench.provenance import provenance  # noqa: E402

CORPORA = {"ASR": (asr, "text", "dev-clean", "test-clean"), "SF": (sf, "slot_text", "dev", "test")}
SPLITS = ("train", "valid", "test")
PER = {"ASR": 100.0, "SF": 1.0}  # s3prl logs WER in per cent
CLIP_NORM, BATCH = 1.0, 32


def frames_of(wav: np.ndarray, encoder: dict) -> torch.Tensor:
    """Return the encoder's frames [n_frames, dim], as many as s3prl keeps."""
    samples = torch.as_tensor(wav, dtype=torch.float32)[None]
    with torch.no_grad():
        found = encoder["get_timestamp_embeddings"](samples, encoder["load_model"]())[0][0]
    return found[: round(len(wav) / 160)]


class Theirs:
    """s3prl's expert and its batches, unshuffled."""

    def __init__(self, task: str, root: Path, folder: Path, encoder: dict) -> None:
        name, config = s3prl_sequences.recipe(task, root, 1)
        settings = config["downstream_expert"]
        rnns = settings["modelrc" if task == "ASR" else "model"]["RNNs"]
        rnns["dropout"] = [0.0, 0.0]
        made = importlib.import_module(f"s3prl.downstream.{name}.expert").DownstreamExpert
        self.expert = made(40, 160, downstream_expert=settings, expdir=str(folder))
        self.encoder, self.tested = encoder, CORPORA[task][3]

    def batches(self, split: str) -> list[tuple]:
        """Return (frames, targets, names) of every batch of one epoch, in the data set's order."""
        loader = self.expert.get_dataloader(split)
        rows = []
        for i in range(len(loader.dataset)):
            wavs, targets, names = loader.collate_fn([loader.dataset[i]])
            rows.append(([frames_of(wav, self.encoder) for wav in wavs], list(targets), names))
        return rows

    def load(self, head: sequence_heads.RecurrentHead) -> None:
        """Take over our initial values."""
        state = {}
        for name, value in head.state_dict().items():
            part, _, rest = name.partition(".")
            if part == "rnns":
                number, _, rest = rest.partition(".")
                name = f"model.rnns.{number}.layer.{rest}"
            elif part == "linear":
                name = f"model.{name}"
            state[name] = value
        missing = self.expert.load_state_dict(state, strict=False)
        assert not missing.unexpected_keys, missing
        assert set(missing.missing_keys) == {"best_score"}, missing

    def scores(self, batches: list[tuple]) -> dict[str, float]:
        """Return what s3prl itself logs about the test split."""
        self.expert.eval()
        records: dict[str, list] = defaultdict(list)
        logged = {}
        logger = SimpleNamespace(add_scalar=lambda key, value, **_: logged.update({key: value}))
        with torch.no_grad():
            for frames, targets, names in batches:
                self.expert(self.tested, frames, targets, names, records)
        self.expert.log_records(
            self.tested, records, logger, global_step=1, batch_ids=[], total_batch_num=1
        )
        self.expert.train()
        return {key.rpartition(f"{self.tested}-")[2]: float(v) for key, v in logged.items()}


class Ours:
    """The corpus as we read it, for names that the other side gives."""

    def __init__(self, task: str, root: Path) -> None:
        corpus, kind, _, _ = CORPORA[task]
        read = corpus.read(root)
        self.reading, self.root = READINGS[kind], root
        self.table = SymbolTable(tuple(read.labels))
        self.clips = {split: {Path(c.path).stem: c for c in read.splits[split]} for split in SPLITS}
        self.targets = {
            name: self.table.encode(c.labels) for name, c in self.clips["train"].items()
        }

    def batches(self, frames: dict[str, torch.Tensor]) -> list[list[str]]:
        """Return the names of every batch of one epoch."""
        clips = self.clips["train"]
        speech = Speech(
            [frames[name].numpy()[:, None] for name in clips],
            list(self.targets.values()),
            [soundfile.info(str(self.root / c.path)).frames for c in clips.values()],
        )
        names = list(clips)
        return [[names[i] for i in part] for part in self.reading.batches(speech, BATCH)]

    def scores(self, head: torch.nn.Module, batches: list[tuple]) -> dict[str, float]:
        """Return the rates of the test split."""
        rows = []
        with torch.no_grad():
            for given, _, (name,) in batches:
                filled, lengths = padded([given[0].numpy()])
                path = decode_greedy(head(filled, lengths)[0], len(given[0]), self.table.dropped)
                found = [self.table.symbols[k] for k in path]
                rows.append(self.reading.counts(self.clips["test"][name].labels, found))
        sums = {key: np.sum([row[key] for row in rows], axis=0) for key in rows[0]}
        return {key: float(found / length) for key, (found, length) in sums.items()}


def train(
    theirs: Theirs, ours: Ours, head: torch.nn.Module, epoch: list[tuple], steps: int, rate: float
) -> np.ndarray:
    """Take the same steps on both sides; return both losses of each [n_steps, 2]."""
    sides = [(m, torch.optim.Adam(m.parameters(), lr=rate)) for m in (head, theirs.expert)]
    losses = []
    for number in np.random.default_rng(0).integers(0, len(epoch), steps):
        given, wanted, names = epoch[number]
        filled, lengths = padded([f.numpy() for f in given])
        pair = (
            ctc_loss(head(filled, lengths), lengths, [ours.targets[name] for name in names]),
            theirs.expert("train", given, wanted, names, defaultdict(list)),
        )
        for loss, (module, optimiser) in zip(pair, sides, strict=True):
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            optimiser.step()
        losses.append([float(loss) for loss in pair])
    return np.array(losses)


def compare(task: str, steps: int, base: Path) -> dict[str, object]:
    """Return how far both sides are apart after the same steps."""
    root = base / "corpus"
    trees.TREES[f"superb_{task.lower()}"](root, **s3prl_sequences.DIMENSIONS)
    encoder: dict = {}
    exec(trees.ENCODER, encoder)
    theirs, ours = Theirs(task, root, base, encoder), Ours(task, root)
    epoch, test = theirs.batches("train"), theirs.batches(CORPORA[task][3])
    frames, wanted = {}, {}
    for part in epoch:
        frames |= dict(zip(part[2], part[0], strict=True))
        wanted |= dict(zip(part[2], part[1], strict=True))
    width, rate = s3prl_sequences.WIDTH[task], s3prl_sequences.RATES[task]
    head = sequence_heads.RecurrentHead(40, len(ours.table.symbols), width, width)
    theirs.load(initialise(head, 0))
    losses = train(theirs, ours, head, epoch, steps, rate)
    apart = np.abs(losses[:, 0] / losses[:, 1] - 1).max()
    own, peer = ours.scores(head.eval(), test), theirs.scores(test)
    return {
        "task": task,
        "steps": steps,
        "batches": len(epoch),
        "other_batches": differing(
            ours.batches(frames), [part[2] for part in epoch], by_length(task, ours, frames)
        ),
        "other_targets": sum(list(map(int, wanted[n])) != t for n, t in ours.targets.items()),
        "first_loss": round(losses[0, 1], 4),
        "last_loss": round(losses[-1, 1], 4),
        "apart": float(apart),
        "n_test": len(test),
        "ours": {key: round(value, 6) for key, value in own.items()},
        "s3prl": {key: round(peer[key] / PER[task], 6) for key in own},
    }


def by_length(task: str, ours: Ours, frames: dict[str, torch.Tensor]) -> dict[str, int]:
    """Return what batches are sorted by: equals may stand in another order."""
    return {n: len(ours.targets[n] if task == "SF" else frames[n]) for n in ours.targets}


def differing(
    ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]], sizes: dict[str, int]
) -> int:
    """Return how many batches of an epoch hold clips of other sizes."""
    pairs = zip(ours, theirs, strict=True)
    return sum(sorted(map(sizes.get, a)) != sorted(map(sizes.get, b)) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--tasks", nargs="*", default=list(CORPORA))
    parser.add_argument("--noise", type=float, nargs=2, default=(0.01, 0.5), metavar="SIGMA")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    trees.LETTER_NOISE, trees.LOUDEST_NOISE = options.noise
    rows = []
    for task in options.tasks:
        with tempfile.TemporaryDirectory() as base:
            rows.append(compare(task, options.steps, Path(base)))
        print("FOUND " + json.dumps(rows[-1]), flush=True)
    if options.out:
        write(rows, options.out)


def write(rows: list[dict[str, object]], out: Path) -> None:
    """Write the numbers and their table; rows of tasks that are left out stay."""
    known = out / "s3prl_steps.json"
    kept = json.loads(known.read_text())["rows"] if known.exists() else []
    rows = list({row["task"]: row for row in (*kept, *rows)}.values())
    body = {"rows": rows, **provenance()}
    out.mkdir(parents=True, exist_ok=True)
    (out / "s3prl_steps.json").write_text(json.dumps(body, indent=2) + "\n")
    (out / "s3prl_steps.md").write_text(
        "# ASR and SF step by step: s3prl's own heads and ours\n\n`python perf/s3prl_steps.py`, "
        f"{body['cpu']}, one thread: the same initial values, frames and order of batches, heads "
        "narrower than SUPERB's, no dropout and no masks (their draws differ). apart: the largest "
        "relative difference of a step's loss; other_batches, other_targets: how many differ as "
        "each side reads the corpus; s3prl's scores are those it logs itself.\n\n" + markdown(rows)
    )


if __name__ == "__main__":
    main()
