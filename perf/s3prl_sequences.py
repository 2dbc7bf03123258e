"""ASR, SF and SD for s3prl_peer.py: s3prl's configurations, and the scores of what it wrote.

Both sides have narrower heads, larger rates and no masks, so that a few hundred steps learn. s3prl
leaves the error rate of SD to a tool that it does not ship: its predictions are scored by ours,
under the same ten settings.

Enough steps are needed: s3prl keeps no checkpoint of ASR while its WER is not below 100 %, and a
few hundred steps of SD are a lottery of seeds on both sides (compare seeds, not clips, there).
"""

from __future__ import annotations

import csv
import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import soundfile

from mambabench.benchmarks.kinds import speaker_turns
from mambabench.benchmarks.kinds.speaker_turns import Turn
from mambabench.benchmarks.metrics import slot_texts
from mambabench.benchmarks.metrics.edit_distance import edit_distance_of
from mambabench.benchmarks.superb import asr, sd, sf
from mambabench.probe import sequence_heads
from mambabench.probe.families import sequences
from mambabench.probe.protocols import superb as superb_protocol

TASKS = ("ASR", "SF", "SD")
WIDTH = {"ASR": 64, "SF": 64, "SD": 32}
RATES = {"ASR": 5e-3, "SF": 5e-3, "SD": 5e-3}
BEST = {"ASR": "dev-clean-best", "SF": "dev-best", "SD": "best-states-dev"}
TESTED = {"ASR": ["-t", "test-clean"], "SF": [], "SD": []}
DIMENSIONS = {"n_train": 240, "n_test": 300}


def recipe(task: str, root: Path, steps: int) -> tuple[str, dict[str, object]]:
    """Return the downstream's name and its configuration; the lists that it names are written."""
    expert, name, dev = {
        "ASR": (_asr, "asr", "dev-clean"),
        "SF": (_sf, "ctc", "dev"),
        "SD": (_sd, "diarization", "dev"),
    }[task]
    return name, {
        "runner": {
            "total_steps": steps,
            "gradient_clipping": 1,
            "gradient_accumulate_steps": 1,
            "log_step": steps,
            "eval_step": max(1, steps // 4),
            "save_step": steps,
            "max_keep": 1,
            "eval_dataloaders": [dev],
        },
        "optimizer": {"name": "TorchOptim", "torch_optim_name": "Adam", "lr": RATES[task]},
        "downstream_expert": expert(root),
    }


def _rnns(width: int) -> dict[str, object]:
    return {
        "total_rate": -1,
        "module": "LSTM",
        "bidirection": True,
        "dim": [width, width],
        "dropout": [0.2, 0.2],
        "layer_norm": [False, False],
        "proj": [False, False],
        "sample_rate": [1, 1],
        "sample_style": "concat",
    }


def _asr(root: Path) -> dict[str, object]:
    """Write the tables of lengths and the symbols."""
    folder = root / "len_for_bucket"
    folder.mkdir()
    for split in ("train-clean-100", "dev-clean", "test-clean"):
        paths = sorted((root / "LibriSpeech" / split).rglob("*.flac"))
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["", "file_path", "length", "label"])
            for i, path in enumerate(paths):
                name = path.relative_to(root / "LibriSpeech")
                writer.writerow([i, name, soundfile.info(path).frames, ""])
    letters = [symbol for symbol in asr.SYMBOLS if not symbol.startswith("<")]
    (root / "char.dict").write_text("".join(f"{letter} 1\n" for letter in letters))
    return {
        "datarc": {
            "train": ["train-clean-100"],
            "dev-clean": ["dev-clean"],
            "test-clean": ["test-clean"],
            "num_workers": 0,
            "batch_size": 32,
            "eval_batch_size": 1,
            "libri_root": str(root / "LibriSpeech"),
            "bucket_file": str(folder),
            "decoder_args": {"decoder_type": "none"},
            "dict_path": str(root / "char.dict"),
            "zero_infinity": True,
        },
        "modelrc": {"project_dim": WIDTH["ASR"], "select": "RNNs", "RNNs": _rnns(WIDTH["ASR"])},
    }


def _sf(root: Path) -> dict[str, object]:
    """Write the lists of files and lines, and the letters."""
    lines = dict(
        line.split(" ", 1)
        for line in (root / "SNIPS" / "all.iob.snips.txt").read_text().splitlines()
    )
    lists = {}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        clips = sf.read(root).splits[split]
        rows = [[str(root / c.path), lines[Path(c.path).stem]] for c in clips]
        lists[name] = str(root / f"{name}.list.json")
        Path(lists[name]).write_text(json.dumps(rows))
    (root / "letters.txt").write_text("\n".join(sf.LETTERS))
    # s3prl splits at line ends: a last one would be a slot type without a name
    kinds = (root / "SNIPS" / "slots.txt").read_text().rstrip("\n")
    (root / "slots.txt").write_text(kinds)
    return {
        "corpus": {
            "name": "snips",
            **lists,
            "bucketing": True,
            "batch_size": 32,
            "num_workers": 0,
        },
        "text": {
            "mode": "character-slot",
            "vocab_file": str(root / "letters.txt"),
            "slots_file": str(root / "slots.txt"),
        },
        "model": {
            "project_dim": WIDTH["SF"],
            "select": "RNNs",
            "RNNs": _rnns(WIDTH["SF"]),
            "zero_infinity": True,
        },
        "save_best_on": ["dev"],
        "metric_higher_better": True,
        "metric": ["slot_type_f1", "slot_value_cer"],
    }


def _sd(root: Path) -> dict[str, object]:
    """Write the folders in Kaldi's layout."""
    folders = {}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        clips = sd.read(root).splits[split]
        mixtures = [
            sd.Mixture(
                Path(c.path).stem,
                int(c.n_samples or 0),
                tuple(Turn(Path(c.path).stem, t.start_s, t.end_s, t.speaker) for t in c.turns),
            )
            for c in clips
        ]
        paths = {Path(c.path).stem: str(root / c.path) for c in clips}
        folder = root / "kaldi" / name
        folder.mkdir(parents=True)
        for file, text in sd.kaldi_files(mixtures, paths).items():
            (folder / file).write_text(text)
        folders[f"{name}_dir"] = str(folder)
    return {
        "loaderrc": {"num_workers": 0, "train_batchsize": 8, "eval_batchsize": 1, **folders},
        "datarc": {
            "num_speakers": 2,
            "chunk_size": 2000,
            "rate": 16000,
            "subsampling": 1,
            "use_last_samples": True,
            "label_delay": 0,
        },
        "modelrc": {"rnn_layers": 1, "hidden_size": WIDTH["SD"]},
        "scorerc": {"save_predictions": True},
    }


def peer_counts(task: str, folder: Path, root: Path) -> dict[str, np.ndarray]:
    """Return each metric's counts [n_clips, 2] of what s3prl wrote at its test."""
    if task == "SD":
        return {"der": _sd_counts(folder, root)}
    stem = "test-clean-noLM" if task == "ASR" else "test"
    sides = [(folder / f"{stem}-{side}.ark").read_text().splitlines() for side in ("ref", "hyp")]
    pairs = list(zip(*([line.partition(" ")[2] for line in side] for side in sides), strict=True))
    if task == "ASR":
        counts = [(edit_distance_of(r.split(), h.split()), len(r.split())) for r, h in pairs]
        return {"wer": np.array(counts, float)}
    return {
        "slot_type_f1": np.array([(slot_texts.type_f1_of(r, h), 1) for r, h in pairs], float),
        "slot_value_cer": np.array([slot_texts.value_errors(r, h) for r, h in pairs], float),
    }


def _sd_counts(folder: Path, root: Path) -> np.ndarray:
    """Return wrong and scored seconds [n_recordings, 2] under the setting of least error."""
    shift = int((folder / "frame_shift").read_text())
    spoken: dict[str, list[Turn]] = {}
    for turn in speaker_turns.read_rttm((root / "kaldi" / "test" / "rttm").read_text()):
        spoken.setdefault(turn.recording, []).append(turn)
    with np.load(folder.parent / "predictions.npz") as file:
        given = dict(file)
    tables = []
    for setting in itertools.product(speaker_turns.THRESHOLDS, speaker_turns.MEDIANS):
        found = [
            speaker_turns.count_errors(
                turns, speaker_turns.speech_turns(name, given[name], *setting, shift)
            )
            for name, turns in spoken.items()
        ]
        tables.append(np.array([(c.miss + c.false_alarm + c.error, c.scored) for c in found]))
    return min(tables, key=lambda table: table[:, 0].sum())


def set_ours(task: str, steps: int) -> None:
    """Give our recipe the same width, rate, steps and batches, and take the masks away."""
    known = superb_protocol.RECIPES[task]
    superb_protocol.RECIPES[task] = replace(
        known,
        learning_rates=(RATES[task],),
        total_steps=steps,
        evaluations=4,
        width=WIDTH[task],
        accumulation=1,
    )

    def without_masks(*arguments, **options):
        return sequence_heads.train_text(*arguments, **{**options, "augmented": False})

    sequences.sequence_heads = SimpleNamespace(
        **{**vars(sequence_heads), "train_text": without_masks}
    )
