"""Take wrong results away: records, and with them the embeddings that they follow from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mambabench.benchmarks.names import named_tasks, near_tasks
from mambabench.errors import MambabenchError, StoreError, nearest_names
from mambabench.probe.chosen import is_label_of
from mambabench.settings import Names
from mambabench.store.embeddings import encoder_key, stored_task
from mambabench.store.records import protocol_folder, read_record
from mambabench.verification.aside import move_aside

__all__ = ["Forgotten", "forget", "to_forget"]


@dataclass(frozen=True)
class Forgotten:
    """What was, or would be, taken away below an output folder."""

    out: Path
    stores: tuple[Path, ...]  # folders of embeddings
    probes: tuple[Path, ...]  # folders of one (encoder, task, protocol)
    moved_to: Path | None = None  # None: deleted, or nothing was done yet

    @property
    def n_records(self) -> int:
        """Run records in these folders; 0 once they are gone."""
        return sum(1 for folder in self.probes for _ in folder.glob("seed-???.json"))


@dataclass(frozen=True)
class _ForgottenFolder:
    """One folder, and what is in it."""

    path: Path
    encoder: str
    task: str
    protocol: str  # "" of a store


def forget(
    encoder: Names = (),
    task: Names = (),
    protocol: Names = (),
    out: Path | str = "mambabench-out",
    *,
    records_only: bool = False,
    delete: bool = False,
) -> Forgotten:
    """Move the results that fit all that is given to ``out/set-aside/<time>/``, or delete them.

    With `protocol`, or with `records_only`, the embeddings stay. The same commands as before make
    again what was forgotten. Raises MambabenchError where nothing is named, StoreError, with the
    nearest names, for a name that nothing here has.
    """
    found = to_forget(encoder, task, protocol, out, records_only=records_only)
    paths = (*found.stores, *found.probes)
    if delete:
        for path in paths:
            try:
                shutil.rmtree(path)
            except OSError as error:
                raise StoreError(f"{path} cannot be deleted ({error.strerror})") from error
        moved_to = None
    else:
        moved_to = move_aside(found.out, paths)
    for parent in sorted({p for path in paths for p in path.parents}, reverse=True):
        if found.out in parent.parents and parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    return Forgotten(found.out, found.stores, found.probes, moved_to)


def to_forget(
    encoder: Names = (),
    task: Names = (),
    protocol: Names = (),
    out: Path | str = "mambabench-out",
    *,
    records_only: bool = False,
) -> Forgotten:
    """Return what `forget` would take away; nothing is changed."""
    out = Path(out)
    encoders, tasks, protocols = (
        (one,) if isinstance(one, str) else tuple(one) for one in (encoder, task, protocol)
    )
    if not (encoders or tasks or protocols):
        raise MambabenchError("nothing is named: give --encoder, --task or --protocol")
    if not out.is_dir():
        raise StoreError(f"{out}: no such output folder; give the --out of extract or probe")
    probes, stores = list(_probes(out)), list(_stores(out))
    places = [*probes, *stores]
    chosen_tasks = _tasks(tasks, {place.task for place in places}, out)
    _check("encoder", encoders, {place.encoder for place in places}, out)
    _check("protocol", protocols, {place.protocol for place in probes}, out)

    def fits(place: _ForgottenFolder) -> bool:
        return (
            (not tasks or place.task in chosen_tasks)
            and (not encoders or any(_means("encoder", e, place.encoder) for e in encoders))
            and (not protocols or any(_means("protocol", p, place.protocol) for p in protocols))
        )

    kept = protocols or records_only
    found = Forgotten(
        out,
        () if kept else tuple(place.path for place in stores if fits(place)),
        tuple(place.path for place in probes if fits(place)),
    )
    if not found.stores and not found.probes:
        raise StoreError(f"{out} holds nothing that fits all of these names")
    return found


def _probes(out: Path) -> Iterator[_ForgottenFolder]:
    for path in sorted(p for p in (out / "probes").glob("*/*/*") if p.is_dir()):
        encoder, task, protocol = path.parts[-3:]
        for record in sorted(path.glob("seed-???.json")):
            try:
                known = read_record(record)
            except StoreError:  # damaged: the folder's name says enough
                continue
            encoder, protocol = known.encoder, known.protocol
            break
        yield _ForgottenFolder(path, encoder, task, protocol)


def _stores(out: Path) -> Iterator[_ForgottenFolder]:
    for path in sorted(p for p in (out / "embeddings").glob("*/*") if p.is_dir()):
        encoder, task = path.parts[-2:]
        try:
            stored = stored_task(path)
        except MambabenchError:
            stored = None
        yield _ForgottenFolder(path, stored.encoder if stored else encoder, task, "")


def _means(what: str, name: str, known: str) -> bool:
    if what == "encoder":
        return is_label_of(name, known) or encoder_key(name) == known
    return fnmatchcase(known, name) or protocol_folder(name) == known


def _check(what: str, names: Sequence[str], known: set[str], out: Path) -> None:
    for name in names:
        if not any(_means(what, name, one) for one in known):
            raise StoreError(
                f"{out} has nothing of {what} {name!r} (there: {', '.join(sorted(known))})"
                f"{nearest_names(name, known)}"
            )


def _tasks(names: Sequence[str], known: set[str], out: Path) -> set[str]:
    found: set[str] = set()
    for name in names:
        meant = named_tasks(name, known)
        if not meant:
            raise StoreError(
                f"{out} has nothing of task {name!r} (there: {', '.join(sorted(known))})"
                f"{near_tasks(name, known)}"
            )
        found.update(meant)
    return found
