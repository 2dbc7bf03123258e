"""Splits of a table: those that it names, or ones made here that tear no group apart."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mambabench.benchmarks.making.table import Entry
from mambabench.errors import DataError

__all__ = ["SHARES", "Splits", "splits_of"]

SHARES = {"train": 0.6, "valid": 0.2, "test": 0.2}  # of clips, where nothing is said
_ALSO = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev", "development"),
    "test": ("test", "testing", "evaluation", "eval"),
}


@dataclass(frozen=True)
class Splits:
    """Which entries are in which split, and how that came about."""

    mode: str  # trainvaltest, presplit_kfold or new_split_kfold
    entries: dict[str, tuple[Entry, ...]]
    notes: tuple[str, ...]


def splits_of(entries: Sequence[Entry], n_folds: int | None, seed: int) -> Splits:
    """Return the splits that the entries name, else make three, or `n_folds` folds.

    What is made keeps groups whole and labels in like shares, follows from `seed` and the names
    alone, and says so in a note. Raises DataError where fewer splits come about than needed.
    """
    if not any(entry.split for entry in entries):
        return _made(entries, n_folds, seed)
    if n_folds is not None:
        raise DataError("the table has a column of splits: leave --folds out, or that column")
    names = {entry.split for entry in entries}
    known = {also: split for split, all_ in _ALSO.items() for also in all_}
    if all(name.lower() in known for name in names):
        by_split: dict[str, list[Entry]] = {"train": [], "valid": [], "test": []}
        for entry in entries:
            by_split[known[entry.split.lower()]].append(entry)
        return _named(by_split, seed)
    if len(names) < 3:
        raise DataError(
            f"the splits are {', '.join(sorted(names))}: name them train, valid and test, or give "
            "three folds at least"
        )
    folds = {
        name: tuple(e for e in entries if e.split == name) for name in sorted(names, key=_natural)
    }
    width = max(2, len(str(len(folds) - 1)))
    entries_of = {f"fold{i:0{width}d}": own for i, own in enumerate(folds.values())}
    said = ", ".join(f"{new} is {old!r}" for new, old in zip(entries_of, folds, strict=True))
    return Splits("presplit_kfold", entries_of, (f"folds of the table: {said}", *_torn(entries_of)))


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


def _named(by_split: dict[str, list[Entry]], seed: int) -> Splits:
    """Return the table's own splits; a validation split that it lacks is cut from training."""
    for split in ("train", "test"):
        if not by_split[split]:
            raise DataError(
                f"the table has no clips for {split}: name some, or leave the column out"
            )
    notes: tuple[str, ...] = ()
    if not by_split["valid"]:
        cut = _assigned(by_split["train"], {"train": 0.8, "valid": 0.2}, seed)
        by_split = {**by_split, "train": list(cut["train"]), "valid": list(cut["valid"])}
        notes = (f"valid was cut from the table's train by mambabench (a fifth, seed {seed})",)
    entries = {split: tuple(own) for split, own in by_split.items()}
    return Splits("trainvaltest", entries, (*notes, *_torn(entries)))


def _made(entries: Sequence[Entry], n_folds: int | None, seed: int) -> Splits:
    grouped = any(entry.group for entry in entries)
    how = "whole groups" if grouped else "clips, which count as independent"
    if n_folds is None:
        found = _assigned(entries, SHARES, seed)
        said = "train, valid and test (60, 20 and 20 %)"
        mode = "trainvaltest"
    else:
        if n_folds < 3:
            raise DataError(f"--folds {n_folds}: one tests, one selects, the rest train: give 3")
        width = max(2, len(str(n_folds - 1)))
        found = _assigned(
            entries, {f"fold{i:0{width}d}": 1 / n_folds for i in range(n_folds)}, seed
        )
        said, mode = f"{n_folds} folds", "new_split_kfold"
    return Splits(mode, found, (f"{said} were made by mambabench from {how} with seed {seed}",))


def _torn(entries: Mapping[str, Sequence[Entry]]) -> tuple[str, ...]:
    """Say which groups the table's own splits tear apart."""
    where: dict[str, set[str]] = {}
    for split, own in entries.items():
        for entry in own:
            if entry.group:
                where.setdefault(entry.group, set()).add(split)
    torn = sorted(group for group, splits in where.items() if len(splits) > 1)
    if not torn:
        return ()
    shown = ", ".join(torn[:5]) + (", ..." if len(torn) > 5 else "")
    return (f"{len(torn)} groups are in more than one of the table's splits: {shown}",)


def _assigned(
    entries: Sequence[Entry], shares: Mapping[str, float], seed: int
) -> dict[str, tuple[Entry, ...]]:
    """Give every group to the split that lacks its labels most, the largest groups first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        key = ("group", entry.group) if entry.group else ("file", entry.path.as_posix())
        groups.setdefault(key, []).append(entry)
    if len(groups) < len(shares):
        raise DataError(
            f"{len(groups)} groups cannot fill {len(shares)} splits without tearing one apart: "
            "give more groups or fewer splits"
        )
    total = Counter(label for entry in entries for label in _counted(entry))
    have = {split: Counter[str]() for split in shares}
    members: dict[str, list[Entry]] = {split: [] for split in shares}
    order = sorted(groups, key=lambda key: (-len(groups[key]), _drawn(key, seed)))
    for i, key in enumerate(order):
        counts = Counter(label for entry in groups[key] for label in _counted(entry))
        empty = [split for split in shares if not members[split]]
        open_splits = empty if len(order) - i <= len(empty) else list(shares)

        def need(split: str, counts: Counter[str] = counts) -> float:
            """How much of what it should have is lacking, in labels of this group."""
            return sum(
                n
                * (shares[split] - have[split][label] / total[label])
                / shares[split]
                / total[label]
                for label, n in counts.items()
            )

        best = max(open_splits, key=need)
        have[best] += counts
        members[best] += groups[key]
    order_of = {id(entry): i for i, entry in enumerate(entries)}
    return {s: tuple(sorted(own, key=lambda e: order_of[id(e)])) for s, own in members.items()}


def _counted(entry: Entry) -> tuple[str, ...]:
    return entry.all_labels or ("",)


def _drawn(key: tuple[str, str], seed: int) -> str:
    return hashlib.sha256(f"{seed} {key[0]} {key[1]}".encode()).hexdigest()
