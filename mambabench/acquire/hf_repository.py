"""Models of a public Hugging Face repository by name: ``weights get hf@OWNER/NAME``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mambabench.acquire.fetch import OnBytes, RemoteFile, fetch, remote_size, require_network
from mambabench.errors import DataError, EncoderError
from mambabench.models.weights.locate import repository_folder

__all__ = ["HUB", "Repository", "get_repository", "hub_address", "look_up"]

HUB = "https://huggingface.co"  # HF_ENDPOINT names another, as that hub's own tools take it
# what save_pretrained writes of an audio encoder; safetensors hold numbers only and run no code
_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")


@dataclass(frozen=True)
class Repository:
    """What a repository holds of a model, at one commit."""

    name: str  # OWNER/NAME
    commit: str
    licence: str  # as its card states it, "" where it does not
    files: tuple[RemoteFile, ...]
    n_bytes: int | None  # None: the host does not say


def hub_address() -> str:
    """Return the address of the hub, or of the one that stands for it."""
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def look_up(name: str) -> Repository:
    """Ask the hub what `name` ("OWNER/NAME") holds; nothing large is downloaded.

    Raises EncoderError where it is no public repository with the files of a model, DataError
    without a network.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise EncoderError(f"hf@{name} names no repository: write hf@OWNER/NAME")
    hub = hub_address()
    facts = _facts(f"{hub}/api/models/{name}", name)
    there = {str(one.get("rfilename")) for one in facts.get("siblings", [])}
    lacking = [file for file in _FILES if file not in there]
    if lacking:
        raise EncoderError(
            f"{hub}/{name} lacks {', '.join(lacking)}: it holds no audio encoder as "
            "save_pretrained writes one; save it with safetensors and give the folder, hf@FOLDER"
        )
    commit = str(facts.get("sha") or "main")
    base = f"{hub}/{name}/resolve/{commit}"
    files = tuple(RemoteFile(file, f"{base}/{file}") for file in _FILES)
    sizes = [remote_size(file) for file in files]
    known = [size for size in sizes if size is not None]
    card = facts.get("cardData") or {}
    licence = card.get("license", "") if isinstance(card, dict) else ""
    n_bytes = sum(known) if len(known) == len(sizes) else None
    return Repository(name, commit, str(licence), files, n_bytes)


def _facts(url: str, name: str) -> dict[str, Any]:
    import requests

    require_network(f"asking for {url}")
    try:
        answer = requests.get(url, timeout=30)
    except requests.RequestException as error:
        raise DataError(f"{url} cannot be reached ({type(error).__name__}): try again") from error
    if answer.status_code in (401, 403, 404):
        raise EncoderError(f"{url}: no public repository named {name!r} (some want a click first)")
    if answer.status_code != 200:
        raise DataError(f"{url} answered {answer.status_code}: try again later")
    try:
        facts = answer.json()
    except ValueError as error:
        raise DataError(f"{url} answered no JSON: is HF_ENDPOINT right?") from error
    return facts if isinstance(facts, dict) else {}


def get_repository(found: Repository, *, progress: OnBytes | None = None) -> Path:
    """Download the files of a repository to where ``hf@OWNER/NAME`` looks, and return the folder.

    The configuration comes last: a folder without it is no model yet.
    """
    folder = repository_folder(found.name)
    for file in reversed(found.files):
        fetch(file, folder, progress=progress)
    return folder
