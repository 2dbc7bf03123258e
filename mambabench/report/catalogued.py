"""Which encoders of a report are the catalogue's, whatever their runs are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mambabench.files import read_json
from mambabench.models.registry import encoder_entries, find_entry, is_registered
from mambabench.report.runs import Group
from mambabench.store.embeddings import MANIFEST

__all__ = ["catalogued", "store_of"]


def catalogued(groups: Sequence[Group]) -> tuple[tuple[str, str], ...]:
    """Return (encoder, its name in the catalogue) for every encoder that is in it, by encoder.

    What a store says of its encoder counts: users call encoders as they like. The label is taken
    at its word only where no store lies beside the records.
    """
    members: dict[str, list[Group]] = {}
    for group in groups:
        members.setdefault(group.encoder, []).append(group)
    names = {encoder: _name(members[encoder]) for encoder in sorted(members)}
    return tuple((encoder, name) for encoder, name in names.items() if name is not None)


def store_of(group: Group) -> Path | None:
    """Return the folder of the embeddings that a group's records lie beside, there or not."""
    run = group.runs[0]
    if run.source != "mambabench" or len(run.path.parents) < 5:
        return None
    out, key = run.path.parents[4], run.path.parents[2].name
    return out / "embeddings" / key / run.record.task


def _name(groups: Sequence[Group]) -> str | None:
    for group in groups:
        if (configuration := _configuration(store_of(group))) is not None:
            return _of_configuration(configuration)
    label = groups[0].runs[0].record.encoder.partition("@")[0].partition(":")[0]
    return find_entry(label).name if is_registered(label) else None


def _configuration(store: Path | None) -> Mapping[str, Any] | None:
    """Return what a store's manifest says of its encoder; None where none can be read."""
    try:
        found = read_json(store / MANIFEST)["encoder_configuration"] if store else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def _of_configuration(configuration: Mapping[str, Any]) -> str | None:
    """Return the entry that an encoder was loaded from: it is named, or its package is."""
    name, package = configuration.get("encoder"), configuration.get("package")
    for entry in encoder_entries().values():
        if entry.name == name or (package and entry.package == package):
            return entry.name
    return None
