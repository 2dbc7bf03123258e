"""Where checkpoints lie on this machine: no torch here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mambabench.errors import EncoderError
from mambabench.models.entry import EncoderEntry

__all__ = [
    "checkpoint_file",
    "local_checkpoint",
    "missing_weights",
    "repository_folder",
    "user_directory",
    "weights_directory",
]

RUN_SUFFIX = "_4x256_fp16_r1"  # of SSAM's training runs
SUFFIXES = (".safetensors", ".pth", ".pt")


def user_directory(variable: str, folder: str) -> Path:
    """Return the folder that an environment variable names, or `folder` in the user's cache."""
    named = os.environ.get(variable)
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME")
    base = Path(cache) if cache else Path.home() / ".cache"
    return base / "mambabench" / folder


def weights_directory() -> Path:
    """Return the folder of fetched and converted weights: MAMBABENCH_WEIGHTS, or the user's
    cache folder."""
    return user_directory("MAMBABENCH_WEIGHTS", "weights")


def repository_folder(name: str) -> Path:
    """Return where ``weights get hf@OWNER/NAME`` puts a repository's model."""
    return weights_directory() / "hf" / name.replace("/", "--")


def checkpoint_file(path: Path) -> Path:
    """Return the file that `path` means: itself, or the highest epoch below a run directory.

    Raises EncoderError where there is neither.
    """
    if path.is_file():
        return path
    if not path.exists():
        raise EncoderError(f"there is no checkpoint {path}: give the path of a file")
    epochs: dict[int, Path] = {}
    for folder in (path / "checkpoints", path):
        for file in folder.glob("checkpoint-*.pth"):
            match = re.fullmatch(r"checkpoint-(\d+)\.pth", file.name)
            if match:
                epochs.setdefault(int(match[1]), file)
    if not epochs:
        raise EncoderError(
            f"{path} is a folder without a file checkpoints/checkpoint-EPOCH.pth; name the file"
        )
    return epochs[max(epochs)]


def local_checkpoint(entry: EncoderEntry) -> Path | None:
    """Return the checkpoint of a published encoder if it is at hand.

    Looked for are, below PT_MAMBA_MODEL_DIR, SSAM's run directories and, there and in
    `weights_directory`, files named after the encoder or as its authors name them.
    """
    names = dict.fromkeys((entry.name, *entry.aliases, *entry.weight_files))
    stems = [name.removesuffix(".pth") for name in names]
    model_dir = os.environ.get("PT_MAMBA_MODEL_DIR")
    if model_dir:
        for stem in stems:
            run = Path(model_dir).expanduser() / (stem.removesuffix(RUN_SUFFIX) + RUN_SUFFIX)
            if run.is_dir():
                return checkpoint_file(run)
    folders = [Path(model_dir).expanduser()] if model_dir else []
    for folder in (*folders, weights_directory()):
        for stem in stems:
            for suffix in SUFFIXES:
                if (folder / (stem + suffix)).is_file():
                    return folder / (stem + suffix)
    return None


def missing_weights(entry: EncoderEntry) -> str:
    """Return the text of the error for a published encoder without its checkpoint."""
    return (
        f"encoder {entry.name} needs its published weights, and there are none in "
        f"{weights_directory()} or below PT_MAMBA_MODEL_DIR: {entry.weights}. "
        "It never runs on random weights"
        + ("" if entry.family not in ("ssam", "ssast") else f"; {entry.name}_random does")
    )
