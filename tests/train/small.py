"""Trainings of every system that take a second: what to call them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mambabench.train.state import load_tensors
from mambabench.train.verb import train_encoder

TINY: dict[str, Any] = {"embed_dim": 16, "depth": 2, "workers": 0, "batch_size": 8, "epochs": 2}
SHORT: dict[str, Any] = {"ranks": 1, "n_frames": 40}  # 50 patches of SSAM's
# name -> (system, which data, settings)
SMALL: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ssam": ("ssam", "tars", {**SHORT, "warmup_epochs": 1, "lr": 0.05, "d_state": 8}),
    "ssast": ("ssast", "tars", {**SHORT, "warmup_epochs": 1, "lr": 0.05}),
    "ssamba": (
        "ssamba",
        "lists",
        {"n_frames": 64, "masks": 12, "warmup": False, "lr": 1e-3, "evaluate_every": 2},
    ),
    "ssamba-classify": (
        "ssamba",
        "lists",
        {
            "objective": "classify", "n_frames": 64, "stride": 10, "loss": "CE", "head_lr": 3.0,
            "lr": 1e-3, "freqm": 12, "timem": 8, "noise": True, "decay_start": 1, "decay_step": 1,
        },
    ),
    "aum": (
        "aum",
        "lists",
        {"n_frames": 64, "mixup": 0.5, "lr": 1e-3, "balanced": True, "random_class_place": True},
    ),
    "ssam-classify": (
        "ssam",
        "lists",
        {**SHORT, "objective": "classify", "clip_frames": 100, "lr": 1e-3, "loss": "CE"},
    ),
}  # fmt: skip


def run(
    name: str, data: dict[str, Path], out: Path, settings: dict[str, Any] | None = None, **more: Any
) -> Any:
    """Train one of SMALL; return its only TrainedSeed."""
    system, kind, own = SMALL[name]
    (done,) = train_encoder(
        system,
        data=[data[kind]],
        settings={**TINY, **own, **(settings or {})},
        out=out,
        device="cpu",
        **more,
    )
    return done


def weights(done: Any) -> dict[str, torch.Tensor]:
    """Return the weights that a run left."""
    found, _ = load_tensors(done.folder / "weights.safetensors")
    return found


# biases whose true gradient is zero: Adam turns the rounding in theirs into whole steps
NO_GRADIENT = ("cpredlayer.0.bias", "cpredlayer.2.bias", "qkv_layer.bias")


def furthest(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], exactly: bool = False
) -> float:
    """Return the largest absolute difference of two state dicts.

    exactly: of every tensor; otherwise those without a true gradient are left out.
    """
    assert a.keys() == b.keys()
    return max(
        float((a[k].double() - b[k].double()).abs().max())
        for k in a
        if exactly or not k.endswith(NO_GRADIENT)
    )
