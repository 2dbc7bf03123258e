"""Run the golden data cases: loaders, order, crops, contexts and audio preparation."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_common import Case, assert_close, assert_outputs

from mambabench.benchmarks.depression import dvlog, lmvd
from mambabench.benchmarks.depression.openface import extract_landmarks
from mambabench.benchmarks.depression.sessions import crops, select
from mambabench.benchmarks.sentiment.mmsa import (
    context_of,
    normalised,
    of_split,
    read_audio,
    read_utterances,
    wav_path,
)
from mambabench.train.sequences import FeatureSequence, collate


def run_depression(case: Case) -> None:
    corpus = {"dataset.dvlog": dvlog, "dataset.lmvd": lmvd}[case.info["kind"]].CORPUS
    root = case.folder / "dataset"
    sessions = corpus.read_sessions(root)
    for name, want in case.info["results"].items():
        fold, gender, augment = name.split("/")
        rng = random.Random(case.info["aug_seed"])
        items: list[FeatureSequence] = []
        for session in select(sessions, fold, gender):
            features = corpus.features(root, session)
            items.append(FeatureSequence(session.name, features, session.label))
            if augment == "aug" and fold == "train":
                parts = crops(
                    len(features), rng, case.info["min_crop"], case.info["crops_per_item"]
                )
                items += [
                    FeatureSequence(session.name, features[part], session.label) for part in parts
                ]
        assert len(items) == want["n"], name
        assert [item.label for item in items] == want["labels"], name
        assert [len(item.features) for item in items] == want["lengths"], name
        assert {str(item.features.dtype) for item in items} == {want["dtype"]}, name
        sums = [float(item.features.sum(dtype=np.float64)) for item in items]
        assert_close(case, name, sums, want["checksums"])
        columns = case.info["results_rules"]["first_rows_head_columns"]
        heads = [item.features[0, columns] for item in items]
        assert_close(case, name, heads, want["first_rows_head"])
    valid = [
        FeatureSequence(s.name, corpus.features(root, s), s.label)
        for s in select(sessions, "valid", "both")
    ]
    batch = collate(valid, parity=True)
    got = {
        "collate_x": batch.inputs,
        "collate_y": batch.targets,
        "collate_mask": batch.draws["mask"],
    }
    assert_outputs(case, got)


def run_openface(case: Case) -> None:
    assert_outputs(case, {"visual": extract_landmarks(case.folder / "openface.csv")})


def _valid_part(samples: np.ndarray) -> np.ndarray:
    return samples[:4000]


def _audio(root: Path, items: Any) -> np.ndarray:
    parts = [read_audio(wav_path(root, item)) for item in items]
    return normalised(np.concatenate(parts)) if parts else np.zeros(0, np.float32)


def run_mosi(case: Case) -> None:
    root = case.folder / "dataset"
    everything = read_utterances(root, "mosi")
    got: dict[str, Any] = {}
    for split, wanted in case.info["items"].items():
        items = of_split(everything, split)
        assert [f"{item.name}.wav" for item in items] == [want["file"] for want in wanted]
        for i, (item, want) in enumerate(zip(items, wanted, strict=True)):
            context = context_of(
                items, i, case.info["text_context_length"], case.info["audio_context_length"]
            )
            assert (item.text, context.text) == (want["text"], want["text_context"])
            assert_close(case, "target", np.float32(item.M), want["target"])
            now, before = _audio(root, (item,)), _audio(root, context.audio)
            assert (len(now), len(before)) == (want["audio_len"], want["audio_context_len"])
            # an absent context has a float mask in the original, a present one an integer mask
            absent = want["audio_context_mask_dtype"] == "torch.float32"
            assert (len(before) == 0) == absent
            assert_close(case, "abs sum", np.abs(now).sum(dtype=float), want["audio_abs_sum"])
            assert_close(case, "context", np.abs(before).sum(dtype=float), want["ctx_abs_sum"])
            got[f"{split}.{i}.audio_inputs"] = _valid_part(now)
            got[f"{split}.{i}.audio_context_inputs"] = _valid_part(before)
    assert_outputs(case, got)


def run_sims(case: Case) -> None:
    root = case.folder / "dataset"
    everything = read_utterances(root, "sims")
    got: dict[str, Any] = {}
    for split, wanted in case.info["items"].items():
        items = of_split(everything, split)
        assert [f"{item.name}.wav" for item in items] == [want["file"] for want in wanted]
        for i, (item, want) in enumerate(zip(items, wanted, strict=True)):
            assert item.text == want["text"]
            for head, target in want["target"].items():
                assert_close(case, head, getattr(item, head), target)
            now = _audio(root, (item,))
            assert len(now) == want["audio_len"]
            got[f"{split}.{i}.audio_inputs"] = _valid_part(now)
        for head in "MTA":
            values = [getattr(item, head) for item in items]
            got[f"{split}.targets_{head}"] = torch.tensor(values, dtype=torch.float32)
    assert_outputs(case, got)
