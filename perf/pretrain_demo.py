"""The demonstration of recipes/pretrain_demo.sh: its data, and what its weights are worth.

    python perf/pretrain_demo.py prepare TASKS OUT   # OUT/tasks, OUT/pool
    python perf/pretrain_demo.py fold TASKS OUT NAME # OUT/tasks/NAME alone
    python perf/pretrain_demo.py judge OUT           # a table for results/training

`prepare` makes of every task one with a single test fold (the last) and gathers the other clips as
the pool to pretrain on; a clip that is tested in any task is never in the pool, nor a copy of it.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import clip_path
from mambabench.models.blocks.initialise import initialise
from mambabench.train.encoder_settings import SsamSettings
from mambabench.train.loaders import read_wave
from mambabench.train.probing import embed_task, load_clips, probe_answers, runtime_of
from mambabench.train.recipes import find_recipe, read_recipe
from mambabench.train.state import load_tensors
from mambabench.train.systems.ssam import SYSTEM

TASKS = (
    "emodb-v1-full",
    "esc50-v2.0.0-esc10",
    "fsdd_digit_loso-v1.0.9-full",
    "fsdd_speaker-v1.0.9-full",
    "instr_pitch-v1-full",
    "wakeword6-v1-full",
)


def _hash(path: Path) -> str:
    return hashlib.sha256(read_wave(path)[0].numpy().tobytes()).hexdigest()


def one_fold(source: Path, out: Path, name: str) -> list[tuple[str, str, Path]]:
    """Write OUT/tasks/NAME with one test fold, the last; return (role, name, file) of its clips."""
    task = load_task(source / name)
    splits = sorted(task.splits)
    if task.split_mode == "trainvaltest":
        roles = {"train": ["train"], "valid": ["valid"], "test": ["test"]}
    else:
        roles = {"train": splits[:-2], "valid": [splits[-2]], "test": [splits[-1]]}
    folder = out / "tasks" / name
    folder.mkdir(parents=True, exist_ok=True)
    metadata = json.loads((task.directory / "task_metadata.json").read_text())
    metadata |= {"split_mode": "trainvaltest"}
    metadata |= {"splits": ["train", "valid", "test"]} if "splits" in metadata else {}
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    labels = (task.directory / "labelvocabulary.csv").read_bytes()
    (folder / "labelvocabulary.csv").write_bytes(labels)
    found = []
    for role, parts in roles.items():
        rows = {}
        audio = folder / "16000" / role
        audio.mkdir(parents=True, exist_ok=True)
        for split in parts:
            listed = json.loads((task.directory / f"{split}.json").read_text())
            for clip in task.clips[split]:
                path = clip_path(task, 16000, split, clip.name).resolve()
                link = f"{split}_{clip.name}"
                rows[link] = listed[clip.name]
                if not (audio / link).exists():
                    (audio / link).symlink_to(path)
                found.append((role, link, path))
        (folder / f"{role}.json").write_text(json.dumps(rows))
    return found


def prepare(source: Path, out: Path) -> None:
    """Write OUT/tasks/<task> with one test fold each, and OUT/pool."""
    clips = [(name, *clip) for name in TASKS for clip in one_fold(source, out, name)]
    tested = {_hash(path) for _, role, _, path in clips if role == "test"}
    others = [(f"{name}_{link}", path) for name, role, link, path in clips if role != "test"]
    pool = out / "pool"
    pool.mkdir(exist_ok=True)
    seen = set(tested)
    for link, path in others:
        found = _hash(path)
        if found in seen:
            continue
        seen.add(found)
        if not (pool / link).exists():
            (pool / link).symlink_to(path)
    n = len(list(pool.iterdir()))
    print(
        f"{n} clips to pretrain on, {len(tested)} tested clips kept out, {len(others)} candidates"
    )


def _mcnemar(a: np.ndarray, b: np.ndarray) -> float:
    """Return the exact two-sided p-value that a and b are right equally often."""
    from scipy.stats import binomtest

    won, lost = int((a & ~b).sum()), int((~a & b).sum())
    return float(binomtest(won, won + lost).pvalue) if won + lost else 1.0


def judge(out: Path) -> None:
    """Print a Markdown table: trained, random, log-mel statistics, and the tests between them."""
    recipe = read_recipe(find_recipe("ssam-tiny-demo"), {})
    settings = recipe.rows[0].settings
    assert isinstance(settings, SsamSettings)
    weights = next(out.glob("train/ssam/demo/ssam-tiny-demo_*/weights.safetensors"))
    trained, random = SYSTEM.build(settings, 0), SYSTEM.build(settings, 0)
    trained.load_state_dict(load_tensors(weights)[0])
    initialise(random, settings.seeds[0], settings.depth or 12)
    from mambabench.models.registry import load_encoder

    statistics = load_encoder("logmel_stats")
    rows = []
    for name in TASKS:
        loaded = load_clips(out / "tasks" / name, None)[1]
        right = {}
        for key, model in (("trained", trained), ("random", random)):
            runtime = runtime_of("ssam", settings, model.eval())
            guesses, truths = probe_answers(embed_task(runtime, loaded, "cpu"))
            right[key] = guesses == truths

        class Statistics(torch.nn.Module):
            def scene(self, audio: torch.Tensor) -> torch.Tensor:
                return statistics.scene(audio, None)

        guesses, truths = probe_answers(embed_task(Statistics(), loaded, "cpu"))
        right["statistics"] = guesses == truths
        rows.append((name, right))
    print("| task (test clips) | trained | random | p | log-mel statistics | p |")
    print("|---|---|---|---|---|---|")
    for name, right in rows:
        t, r, s = right["trained"], right["random"], right["statistics"]
        print(
            f"| {name} ({len(t)}) | {t.mean():.3f} | {r.mean():.3f} | {_mcnemar(t, r):.2g} | "
            f"{s.mean():.3f} | {_mcnemar(t, s):.2g} |"
        )


if __name__ == "__main__":
    if sys.argv[1] == "prepare":
        prepare(Path(sys.argv[2]), Path(sys.argv[3]))
    elif sys.argv[1] == "fold":
        one_fold(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
    else:
        judge(Path(sys.argv[2]))
