"""Every golden case of the affect systems, found through its index."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import golden_data
import golden_depmamba
import golden_metrics
import golden_mmml
import golden_runs
import pytest
import torch
from golden_common import read_case

FOLDER = (
    Path(
        os.environ.get(
            "MAMBABENCH_GOLDENS", Path(__file__).resolve().parents[2] / "../shared/goldens"
        )
    ).resolve()
    / "affect"
)

RUNNERS = {
    "CNNEncoderLayer": golden_depmamba.run_cnn,
    "MMCNNEncoderLayer": golden_depmamba.run_cnn,
    "dataset.dvlog": golden_data.run_depression,
    "dataset.lmvd": golden_data.run_depression,
    "lmvd_extract": golden_data.run_openface,
    "mmml.dataset_mosi": golden_data.run_mosi,
    "mmml.dataset_sims": golden_data.run_sims,
    "depmamba.adam_trajectory": golden_depmamba.run_adam,
    "depmamba.forward": golden_depmamba.run_model,
    "depmamba.padding_dependence": golden_depmamba.run_padding_dependence,
    "depmamba.run": golden_runs.run_depmamba,
    "mmml.run": golden_runs.run_mmml,
    "depmamba.train_step": golden_depmamba.run_model,
    "mmml.audio_raw": golden_mmml.run_audio_raw,
    "mmml.audio_smile": golden_mmml.run_audio_smile,
    "mmml.audio_spec": golden_mmml.run_audio_spec,
    "mmml.cme_layer": golden_mmml.run_cme_layer,
    "mmml.end_to_end": golden_mmml.run_end_to_end,
    "mmml.fusion": golden_mmml.run_fusion,
    "mmml.text_context": golden_mmml.run_text_context,
    "mixer.bimamba": golden_depmamba.run_mixer,
    "mixer.mm_bimamba": golden_depmamba.run_mixer,
    "tmeannet.forward": golden_depmamba.run_tmeannet,
}


def _cases() -> list[Any]:
    if not (FOLDER / "INDEX.json").is_file():
        reason = f"{FOLDER} is absent: set MAMBABENCH_GOLDENS to the golden data"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    index = json.loads((FOLDER / "INDEX.json").read_text(encoding="utf-8"))
    entries = [*index["cases"], *({**entry, "kind": None} for entry in index.get("metrics", ()))]
    return [pytest.param(entry, id=entry["path"]) for entry in entries]


@pytest.mark.parametrize("entry", _cases())
def test_golden_affect(entry: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    path = FOLDER / entry["path"]
    if entry["kind"] is None:
        golden_metrics.run(path)
        return
    case = read_case(path)
    kind = case.info["kind"]
    assert kind in RUNNERS, f"no runner for the kind {kind!r}"
    RUNNERS[kind](case)
