"""Tasks of SUPERB by s3prl's own run_downstream and by ours, on the same generated corpora.

Makes an environment of its own for s3prl 0.4.18 (--env), runs its recipes with an encoder of ours
as the upstream, runs `extract` and `probe` on the same trees with the same learning rate and number
of steps, and prints both test scores with their 95 % intervals (binomial for accuracies, 2,000
resamples of clips or trials for PR and ASV), the clips that went through the encoder, and CPU
seconds.

With several seeds the intervals are Student's over seeds, which hold the spread of
initial values and of orders; the corpora stay the same.

usage: python perf/s3prl_peer.py --env ENV [--steps 200] [--encoder logmel_stats] [--tasks PR ASV]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "perf"), str(ROOT / "tests" / "superb")]

import s3prl_sequences  # noqa: E402
import trees  # noqa: E402

import mambabench  # noqa: E402
from mambabench.benchmarks.metrics.edit_distance import edit_distance_of  # noqa: E402
from mambabench.benchmarks.metrics.eer import equal_error_rate  # noqa: E402
from mambabench.benchmarks.superb import TASKS, er, pr  # noqa: E402
from mambabench.benchmarks.superb.prepare import prepare  # noqa: E402
from mambabench.probe.protocols import superb as superb_protocol  # noqa: E402
from mambabench.provenance import provenance  # noqa: E402
from mambabench.report.statistics.intervals import t_interval  # noqa: E402
from mambabench.store.records import (  # noqa: E402
    read_predictions,
    read_record,
    record_paths,
)

LEARNING_RATE = 1e-2
RATES = {"ASV": 1e-4}
CHECKPOINTS = 10  # ASV
MORE = {
    "SID": {"n_videos": 20, "n_held": 8},
    "PR": {"n_train": 160, "n_held": 500},
    "ASV": {"n_test": 8, "jitter": 0.1},
    **dict.fromkeys(s3prl_sequences.TASKS, s3prl_sequences.DIMENSIONS),
}
PINNED = ["torch==2.13.0", "numpy<2.5", "scipy", "setuptools<81", "pyyaml"]
PEER = ["s3prl==0.4.18", "torchaudio==2.11.0"]  # without their own needs: these drag CUDA along
NEEDS = [
    "tensorboardX",
    "huggingface_hub",
    "catalyst==22.4",
    "librosa",
    "pandas",
    "editdistance",
    "h5py",
    "sox",
    "joblib",
    "tqdm",
    "filelock",
    "requests",
    "omegaconf",
    "gdown",
    "tensorboard",
    "soundfile",
    "soxr",
    "click",
    "rich",
    "numba",
    "safetensors",
    "scikit-learn",
    "pooch",
    "transformers",
]


def install(env: Path) -> Path:
    """Return the peer's python; its environment is made once."""
    python = env / "bin" / "python"
    if (env / "ready").exists():
        return python
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *PINNED], check=True)
    subprocess.run([*pip, "--no-deps", *PEER], check=True)
    subprocess.run([*pip, *NEEDS], check=True)
    # torchaudio's own library wants CUDA; without it, its Python part imports
    for folder in env.glob("lib/python*/site-packages/torchaudio"):
        for library in [*folder.glob("lib/*.so"), *folder.glob("*.so")]:
            library.unlink()
    (env / "ready").touch()
    return python


def recipe(task: str, root: Path, steps: int) -> tuple[str, dict[str, object]]:
    """Return the downstream's name and what its yaml says, with our paths, steps and rate."""
    data: dict[str, object] = {"num_workers": 0, "batch_size": 32, "eval_batch_size": 32}
    accumulate, downstream = 1, "speech_commands"
    if task == "KS":
        data |= {
            "speech_commands_root": str(root / "speech_commands_v0.01"),
            "speech_commands_test_root": str(root / "speech_commands_test_set_v0.01"),
        }
    elif task == "IC":
        downstream = "fluent_commands"
        data |= {
            "file_path": str(root / "fluent_speech_commands_dataset"),
            "train_batch_size": 32,
        }
    elif task == "SID":
        downstream, accumulate = "voxceleb1", 4
        data |= {
            "file_path": str(root / "VoxCeleb1"),
            "meta_data": str(root / "iden_split.txt"),
            "max_timestep": 128000,
            "train_batch_size": 8,
            "eval_batch_size": 1,
        }
    elif task in s3prl_sequences.TASKS:
        return s3prl_sequences.recipe(task, root, steps)
    elif task in ("PR", "ASV"):
        return frame_recipe(task, root, steps)
    else:
        downstream, accumulate = "emotion", 8
        write_emotion_lists(root)
        data |= {
            "root": str(root / "IEMOCAP"),
            "meta_data": str(root / "meta_data"),
            "pre_load": True,
            "valid_ratio": 0.2,
            "train_batch_size": 4,
            "eval_batch_size": 4,
            "test_fold": "fold1",
        }
    return downstream, {
        "runner": {
            "total_steps": steps,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": accumulate,
            "log_step": steps,
            "eval_step": max(1, steps // 4),
            "save_step": steps,
            "max_keep": 1,
            "eval_dataloaders": ["dev"],
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": LEARNING_RATE},
        "downstream_expert": {
            "datarc": data,
            "modelrc": {
                "projector_dim": 256,
                "select": "UtteranceLevel",
                "UtteranceLevel": {"pooling": "MeanPooling"},
            },
        },
    }


def frame_recipe(task: str, root: Path, steps: int) -> tuple[str, dict[str, object]]:
    """Return the recipe of a task on frames, as s3prl's configuration files have it."""
    runner = {
        "total_steps": steps,
        "gradient_clipping": 1 if task == "PR" else 1e3,
        "gradient_accumulate_steps": 2 if task == "PR" else 5,
        "log_step": steps,
        "eval_step": max(1, steps // 4) if task == "PR" else steps,
        "save_step": steps if task == "PR" else steps // CHECKPOINTS,
        "max_keep": 20,
        "eval_dataloaders": ["dev"] if task == "PR" else [],
    }
    rate = RATES.get(task, LEARNING_RATE)
    name = "Adam" if task == "PR" else "AdamW"
    expert = phone_expert(root) if task == "PR" else speaker_expert(root)
    return "ctc" if task == "PR" else "sv_voxceleb1", {
        "runner": runner,
        "optimizer": {"name": "TorchOptim", "torch_optim_name": name, "lr": rate},
        "downstream_expert": expert,
    }


def phone_expert(root: Path) -> dict[str, object]:
    """Return PR's part of the configuration, and write the lists and symbols that it names."""
    corpus = pr.read(root)
    (root / "phones.txt").write_text("\n".join(pr.PHONES))
    lists = {}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        rows = [[str(root / c.path), " ".join(c.labels[:-1])] for c in corpus.splits[split]]
        lists[name] = str(root / f"{name}.list.json")
        Path(lists[name]).write_text(json.dumps(rows))
    return {
        "corpus": {
            "name": "libriphone",
            **lists,
            "bucketing": True,
            "batch_size": 16,
            "num_workers": 0,
        },
        "text": {"mode": "word", "vocab_file": str(root / "phones.txt")},
        "model": {"project_dim": 256, "zero_infinity": True, "select": "FrameLevel"},
        "save_best_on": ["dev"],
        "metric_higher_better": False,
        "metric": ["per"],
    }


def speaker_expert(root: Path) -> dict[str, object]:
    """Return ASV's part of the configuration."""
    trials = str(root / "voxceleb1_test_v2.txt")
    return {
        "datarc": {
            "vad_config": {"min_sec": 32000},
            "file_path": str(root / "VoxCeleb1"),
            "train_meta_data": trials,
            "dev_meta_data": trials,
            "test_meta_data": trials,
            "max_timestep": 128000,
            "n_shot": 2,
            "train_batch_size": 10,
            "eval_batch_size": 1,
            "num_workers": 0,
        },
        "modelrc": {
            "module": "XVector",
            "input_dim": 512,
            "agg_module": "SP",
            "utter_module": "UtteranceExtractor",
            "module_config": {
                "XVector": {"agg_dim": 1500, "dropout_p": 0.0, "batch_norm": False},
            },
            "ObjectiveLoss": "AMSoftmaxLoss",
            "LossConfig": {"AMSoftmaxLoss": {"s": 30.0, "m": 0.4}},
        },
    }


def write_emotion_lists(root: Path) -> None:
    """Write the lists that s3prl ships, from the corpus' own labels; ours read them too."""
    corpus = er.read(root)
    for test in er.SESSIONS:
        parts = {
            "test": corpus.splits[test],
            "train": [c for s in er.SESSIONS if s != test for c in corpus.splits[s]],
        }
        for part, clips in parts.items():
            entries = [
                {
                    "path": c.path.removeprefix("IEMOCAP/"),
                    "label": c.labels[0],
                    "speaker": c.cluster,
                }
                for c in clips
            ]
            folder = root / "meta_data" / test
            folder.mkdir(parents=True, exist_ok=True)
            labels = {label: i for i, label in enumerate(er.CLASSES)}
            (folder / f"{part}_meta_data.json").write_text(
                json.dumps({"labels": labels, "meta_data": entries})
            )


def run_peer(
    python: Path, encoder: str, task: str, config: tuple, folder: Path, seed: int = 1337
) -> dict:
    """Train and test one task in s3prl; return accuracy, clips encoded and CPU seconds.

    A run that is finished below `folder` is read, not run again.
    """
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    shutil.rmtree(folder, ignore_errors=True)
    for name in (".cache", ".wav_lengths"):  # keyed by the split's name only
        for cache in python.parent.parent.glob(
            f"lib/python*/site-packages/s3prl/downstream/*/{name}"
        ):
            shutil.rmtree(cache)
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(config[1]))  # JSON is YAML
    inside = [str(python), str(ROOT / "perf" / "s3prl_inside.py"), encoder]
    train = ["-m", "train", "--seed", str(seed), "-d", config[0], "-c", str(folder / "config.yaml")]
    tested = [s3prl_sequences.BEST.get(task, "dev-best")]
    split = s3prl_sequences.TESTED.get(task, [])
    if task == "ASV":
        every = config[1]["runner"]["save_step"]
        tested = [f"states-{every * (i + 1)}" for i in range(CHECKPOINTS)]
    result = {"clips": 0, "cpu_s": 0.0, "score": float("nan"), "interval": None}
    for name, arguments in (
        ("train", [*train, "-p", str(folder / "exp")]),
        *(
            (state, ["-m", "evaluate", *split, "-e", str(folder / "exp" / f"{state}.ckpt")])
            for state in tested
        ),
    ):
        counter = folder / f"{name}.json"
        done = subprocess.run(
            [*inside, str(counter), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(folder)},
        )
        if done.returncode or not counter.exists():
            raise SystemExit(f"s3prl failed on {task} ({name}):\n{done.stderr[-3000:]}")
        used = json.loads(counter.read_text())
        result["clips"] += used["clips"]
        result["cpu_s"] += used["cpu_s"]
        if name != "train" and task in s3prl_sequences.TASKS:
            root = folder.parent / "corpus"
            counts = s3prl_sequences.peer_counts(task, folder / "exp", root)
            result |= scored(counts)
            continue
        found = re.findall(r"test(?: acc| per|-EER): ([\d.eE+-]+)", done.stdout)
        if not found or name == "train":
            continue
        score = float(found[-1])
        if task != "ASV" or not score >= result["score"]:  # the lowest test rate, as s3prl
            result["score"] = score
            result["interval"] = peer_interval(task, folder / "exp")
    (folder / "result.json").write_text(json.dumps(result))
    return result


def peer_interval(task: str, folder: Path) -> tuple[float, float] | None:
    """Return the interval of what s3prl wrote about its last test."""
    if task == "PR":
        sides = [(folder / f"test-{s}.ark").read_text().splitlines() for s in ("ref", "hyp")]
        texts = [[line.split()[1:] for line in side] for side in sides]
        counts = [(edit_distance_of(r, h), len(r)) for r, h in zip(*texts, strict=True)]
        return ratio_interval(np.array(counts, float))
    if task == "ASV":
        # the labels stand in the trial list, in the same order
        trials = (folder.parent.parent / "corpus" / "voxceleb1_test_v2.txt").read_text()
        same = np.array([line.startswith("1") for line in trials.splitlines()])
        found = (folder / "test_predict.txt").read_text().splitlines()
        return rate_interval(same, np.array([float(line.split()[-1]) for line in found]))
    return None


def scored(counts: dict[str, np.ndarray]) -> dict:
    """Return score and interval of the first metric, and both of the others."""
    found = {
        name: (float(c[:, 0].sum() / c[:, 1].sum()), ratio_interval(c))
        for name, c in counts.items()
    }
    first, *others = found
    more = {name: found[name] for name in others}
    return {"score": found[first][0], "interval": found[first][1], "more": more}


def ratio_interval(counts: np.ndarray) -> tuple[float, float]:
    drawn = np.random.default_rng(0).integers(0, len(counts), (2000, len(counts)))
    sums = counts[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], (0.025, 0.975))
    return round(float(low), 3), round(float(high), 3)


def rate_interval(same: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    rates = []
    for _ in range(2000):
        rows = generator.integers(0, len(same), len(same))
        rates.append(equal_error_rate(same[rows], scores[rows])[0])
    low, high = np.nanquantile(rates, (0.025, 0.975))
    return round(float(low), 3), round(float(high), 3)


def run_ours(encoder: str, task: str, root: Path, folder: Path, steps: int, seeds: int = 1) -> dict:
    """Extract and probe the same corpus; return accuracy, clips, test clips and CPU seconds.

    Seeds that are finished below `folder` are not trained again.
    """
    name = next(t.name for t in TASKS.values() if t.superb_name == task)
    if task in s3prl_sequences.TASKS:
        s3prl_sequences.set_ours(task, steps)
    else:
        superb_protocol.RECIPES[task] = replace(
            superb_protocol.RECIPES[task],
            learning_rates=(RATES.get(task, LEARNING_RATE),),
            total_steps=steps,
            evaluations=CHECKPOINTS if task == "ASV" else 4,
        )
    kept = folder / "ours.json"
    known = json.loads(kept.read_text()) if kept.exists() else {"scores": ()}
    if len(known["scores"]) == seeds:
        return known
    shutil.rmtree(folder / "tasks", ignore_errors=True)
    prepared = prepare(name, root, folder / "tasks")
    start = time.process_time()
    mambabench.extract([encoder], [prepared.directory], out=folder / "out", jobs=1)
    mambabench.probe(seeds, "superb", out=folder / "out", jobs=1)
    path, *others = record_paths(folder / "out")
    record = read_record(path)
    fold, metric = record.folds[0], record.metric
    arrays = read_predictions(path)
    own, n_test, more = None, fold.n_test, {}
    if task in s3prl_sequences.TASKS:
        names = [metric, *(name for name in fold.scores if name != metric)]
        found = scored({name: arrays[f"test/counts:{name}"] for name in names})
        own, more = found["interval"], found["more"]
    elif task == "PR":
        own = ratio_interval(arrays["test/counts:per"])
    elif task == "ASV":
        own = rate_interval(arrays["test/trial_same"], arrays["test/trial_score"])
        n_test = len(arrays["test/trial_same"])
    further = [read_record(other).folds[0] for other in others]
    result = {
        "score": fold.scores[metric],
        "scores": [one.scores[metric] for one in (fold, *further)],
        "interval": own,
        "more": more,
        "others": {name: [one.scores[name] for one in (fold, *further)] for name in more},
        "clips": sum(prepared.n_clips.values()),
        "n_test": n_test,
        "cpu_s": round(known.get("cpu_s", 0.0) + time.process_time() - start, 2),
    }
    kept.write_text(json.dumps(result))
    return result


def mean_over_seeds(scores: list[float]) -> tuple[float, tuple[float, float]]:
    """Return the mean of several seeds and its 95 % t-interval."""
    found = t_interval(scores)
    return float(np.mean(scores)), (max(0.0, round(found.low, 3)), round(found.high, 3))


def over_seeds(side: dict, scores: list[float]) -> None:
    """Put the mean of several seeds and its t-interval in the place of one seed's."""
    mean, interval = mean_over_seeds(scores)
    side |= {
        "score": mean,
        "scores": [round(score, 4) for score in scores],
        "interval": interval,
    }


def interval(accuracy: float, n: int) -> tuple[float, float]:
    found = binomtest(round(accuracy * n), n).proportion_ci(0.95)
    return round(found.low, 3), round(found.high, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--encoder", default="logmel_stats")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.3, help="in the generated tones")
    parser.add_argument(
        "--loudest", type=float, help="letters: a clip's own noise, from --noise up to this"
    )
    parser.add_argument("--seeds", type=int, default=1, help="more: intervals over seeds")
    parser.add_argument("--tasks", nargs="*", default=["KS", "SID", "IC", "ER"])
    parser.add_argument(
        "--keep", type=Path, help="a folder: runs that are finished there are not run again"
    )
    parser.add_argument("--name", default="s3prl_peer", help="of the two files written")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "superb")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trees.NOISE = options.noise
    if set(options.tasks) & set(s3prl_sequences.TASKS):
        trees.LETTER_NOISE, trees.LOUDEST_NOISE = options.noise, options.loudest
    python = install(options.env.absolute())
    rows = []
    for task in options.tasks:
        with contextlib.ExitStack() as stack:
            if options.keep:
                folder = options.keep.absolute() / task
                folder.mkdir(parents=True, exist_ok=True)
            else:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            generate = trees.TREES[f"superb_{task.lower()}"]
            encoder = options.encoder
            if task in s3prl_sequences.TASKS and encoder == "logmel_stats":
                encoder = str(folder / "bands.py")  # 10 ms a frame: letters need them
                Path(encoder).write_text(trees.ENCODER)
            root = folder / "corpus"
            if not (folder / "config.json").exists():
                shutil.rmtree(root, ignore_errors=True)
                generate(root, **MORE.get(task, {}))
                config = recipe(task, root, options.steps)
                (folder / "config.json").write_text(json.dumps(config))
            config = json.loads((folder / "config.json").read_text())
            runs = [
                run_peer(python, encoder, task, config, folder / f"peer{seed}", 1337 + seed)
                for seed in range(options.seeds)
            ]
            theirs = runs[0] | {key: sum(r[key] for r in runs) for key in ("clips", "cpu_s")}
            theirs["scores"] = [round(run["score"], 4) for run in runs]
            ours = run_ours(encoder, task, root, folder, options.steps, options.seeds)
            if options.seeds > 1:
                over_seeds(theirs, [run["score"] for run in runs])
                over_seeds(ours, ours["scores"])
                shared = {n: f for n, f in ours["others"].items() if n in theirs["more"]}
                for name, found in shared.items():
                    per_seed = [run["more"][name][0] for run in runs]
                    theirs["more"][name] = mean_over_seeds(per_seed)
                    ours["more"][name] = mean_over_seeds(found)
            more = {
                name: [
                    {"score": round(score, 4), "interval": list(ends)}
                    for score, ends in (side["more"].get(name) for side in (theirs, ours))
                ]
                for name in set(theirs.get("more", ())) & set(ours["more"])
            }
        low, high = theirs["interval"] or interval(theirs["score"], ours["n_test"])
        own_low, own_high = ours["interval"] or interval(ours["score"], ours["n_test"])
        rounding = 5e-4  # the ends have three digits
        agree = own_low - rounding <= theirs["score"] <= own_high + rounding
        agree = agree and low - rounding <= ours["score"] <= high + rounding
        rows.append(
            {
                "task": task,
                "encoder": Path(encoder).name,
                "learning_rate": s3prl_sequences.RATES.get(task, RATES.get(task, LEARNING_RATE)),
                "s3prl": round(theirs["score"], 4),
                "s3prl_interval": [low, high],
                "ours": round(ours["score"], 4),
                "ours_interval": [own_low, own_high],
                "within_each_other": agree,
                "s3prl_seeds": theirs.get("scores", []),
                "our_seeds": ours["scores"] if options.seeds > 1 else [],
                "other_metrics": more,
                "n_test": ours["n_test"],
                "s3prl_clips": theirs["clips"],
                "our_clips": ours["clips"],
                "s3prl_cpu_s": round(theirs["cpu_s"], 1),
                "our_cpu_s": ours["cpu_s"],
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    noise = f"{options.noise:g}"
    if options.loudest:
        noise += f" to {options.loudest:g}, log-uniform, a clip's own"
    settings = {"steps": options.steps, "noise": noise, "encoder": options.encoder}
    write({**settings, "seeds": options.seeds, "rows": rows, **provenance()}, options)


def write(body: dict[str, object], options: argparse.Namespace) -> None:
    """Write the numbers and their table."""
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"{options.name}.json").write_text(json.dumps(body, indent=2) + "\n")
    rows = body["rows"]
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[key]) for key in head] for row in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    said = {
        "ER": "ER is fold 1",
        "PR": "PR: phone error rate",
        "ASV": f"ASV: lowest equal error rate of {CHECKPOINTS} checkpoints, n_test counts trials",
        "ASR": "ASR: word error rate",
        "SF": "SF: slot-type F1",
        "SD": "SD: diarization error rate under the best of ten settings, as s3prl has it",
    }
    what = list(dict.fromkeys(said[row["task"]] for row in rows if row["task"] in said))
    if body["seeds"] > 1:
        what.append(
            f"{body['seeds']} seeds a side: means, and intervals of Student's t over the seeds, "
            "which are listed"
        )
    else:
        what.append("one seed a side: intervals over clips or trials, without the spread of seeds")
    (options.out / f"{options.name}.md").write_text(
        "# s3prl's run_downstream beside ours\n\nThe same generated corpora (noise "
        f"{body['noise']}), encoder, learning rate and steps ({body['steps']}); "
        f"{'; '.join(what)}. CPU seconds, one thread, {body['cpu']}; s3prl's include its imports "
        f"(train and test), ours the extraction of all splits.\n\n{table}\n"
    )


if __name__ == "__main__":
    main()
