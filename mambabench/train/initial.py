"""Weights to start from: --init."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from mambabench.errors import EncoderError
from mambabench.models.weights.checkpoint import read_checkpoint
from mambabench.models.weights.locate import weights_directory

__all__ = ["IMAGENET", "initial_path", "initial_state"]

IMAGENET = "vim_s_midclstok_80p5acc.pth"  # Vim-S, from hustvl/Vim


def initial_path(name: str | None) -> Path | None:
    """Return the checkpoint that --init names; "imagenet" is Vim-S in the folder of weights."""
    if name is None:
        return None
    if name != "imagenet":
        path = Path(name)
        if not path.exists():
            raise EncoderError(f"--init {name}: no such file or run folder")
        weights = path / "weights.safetensors"
        return weights if weights.is_file() else path

    named = os.environ.get("PT_MAMBA_MODEL_DIR")
    folders = [weights_directory(), *([Path(named).expanduser()] if named else [])]
    for folder in folders:
        if (folder / IMAGENET).is_file():
            return folder / IMAGENET
    raise EncoderError(
        f"--init imagenet needs {IMAGENET} (Vim-S, linked from https://github.com/hustvl/Vim) in "
        f"{' or '.join(str(f) for f in folders)}; or give its path"
    )


def initial_state(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint in float32, under bare names."""
    state = read_checkpoint(path).state
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
