"""Which of the stored embeddings a call of `probe` means."""

from __future__ import annotations

from mambabench.benchmarks.limit import limit_of, limited_name, parse_limit, whole_name
from mambabench.errors import DataError, StoreError, nearest_names
from mambabench.models.naming import short_name
from mambabench.models.registry import encoder_list
from mambabench.probe.settings import ProbeSettings
from mambabench.store.embeddings import StoredTask
from mambabench.store.open import list_stored_tasks

__all__ = ["is_label_of", "selected"]


def selected(settings: ProbeSettings) -> tuple[StoredTask, ...]:
    """Return the stored tasks that the names choose; StoreError or DataError if there are none."""
    out, encoders, tasks = settings.out, settings.encoder, settings.task
    found = list_stored_tasks(out, settings.layout)
    if not found:
        raise StoreError(
            f"{out / 'embeddings'}: no finished embeddings; run `mambabench extract` with the same "
            "--out first"
        )
    if settings.limit is not None:
        limit = parse_limit(settings.limit)
        found = tuple(
            s for s in found if s.task.name == limited_name(whole_name(s.task.name), limit)
        )
        if not found:
            raise StoreError(
                f"{out / 'embeddings'}: nothing that is limited to {settings.limit}; run "
                f"`mambabench extract --limit {settings.limit}` with the same --out first"
            )
        tasks = tuple(n if limit_of(n) else limited_name(n, limit) for n in tasks)
    for name in tasks:
        known = sorted({stored.task.name for stored in found})
        if name not in known:
            raise DataError(
                f"no embeddings of task {name!r} below {out} (there: {', '.join(known)})"
                f"{nearest_names(name, known)}"
            )
    encoders = encoder_list(encoders) if "zoo" in encoders else encoders
    for name in encoders:
        labels = sorted({stored.encoder for stored in found})
        if not any(is_label_of(name, label) for label in labels):
            raise StoreError(
                f"no embeddings of encoder {name!r} below {out} (there: {', '.join(labels)})"
                f"{nearest_names(name, labels)}"
            )
    return tuple(
        stored
        for stored in found
        if (not tasks or stored.task.name in tasks)
        and (not encoders or any(is_label_of(name, stored.encoder) for name in encoders))
    )


def is_label_of(name: str, label: str) -> bool:
    """Say whether [NAME=]E or E@PATH may be meant by a stored label E or E@<digits>."""
    name = short_name(name)
    same_kind = ("@" in name) == ("@" in label)
    return name == label or (same_kind and name.partition("@")[0] == label.partition("@")[0])
