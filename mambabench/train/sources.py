"""Where a training finds its data: a corpus folder, a folder of stored embeddings, or both."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mambabench.errors import DataError, StoreError, nearest_names
from mambabench.store.embeddings import StoredTask, encoder_key
from mambabench.store.open import list_stored_tasks

__all__ = ["Sources", "stored_task"]


@dataclass(frozen=True)
class Sources:
    """Folders and names that a training reads; paths never become part of a result."""

    data: Path | None = None  # root of the corpus
    store: Path | None = None  # output folder of extract
    encoder: str | None = None
    text_encoder: str | None = None
    device: str = "cpu"

    def corpus_root(self, what: str) -> Path:
        """Return the corpus folder; DataError where none was given or it does not exist."""
        if self.data is None:
            raise DataError(f"{what} is read from its corpus: give its folder with --data DIR")
        if not self.data.is_dir():
            raise DataError(f"--data {self.data}: no such folder")
        return self.data

    def store_root(self, what: str) -> Path:
        """Return the folder of extract; DataError where none was given."""
        if self.store is None:
            raise DataError(f"{what} is read from stored embeddings: give --store DIR")
        return self.store


def stored_task(root: Path, task: str, encoder: str | None) -> StoredTask:
    """Return the sealed embeddings of `task` under `root`, of `encoder` where several are there.

    `encoder` may be a label or its folder name. Raises StoreError that lists what is stored.
    """
    found = [stored for stored in list_stored_tasks(root) if stored.task.name == task]
    if encoder is not None:
        found = [s for s in found if encoder in (s.encoder, encoder_key(s.encoder))]
    if len(found) == 1:
        return found[0]
    every = [(s.encoder, s.task.name) for s in list_stored_tasks(root)]
    shown = ", ".join(f"{e} on {t}" for e, t in every)
    if found:
        raise StoreError(f"{root} holds {task} of several encoders ({shown}): give --encoder")
    of = f" of {encoder}" if encoder else ""
    there = f" (but {shown})" if shown else ""
    near = nearest_names(task, [t for _, t in every if t != task])
    raise StoreError(
        f"{root} holds no embeddings of task {task!r}{of}{there}{near}; "
        f"run `mambabench extract --task {task}` first, name another --task, or choose a recipe "
        "(`mambabench train --list`)"
    )
