"""Say where a kit protocol hardly trains: one optimiser step an epoch on a small set."""

from __future__ import annotations

from mambabench.store.records import RunRecord

__all__ = ["hardly_trained"]


def hardly_trained(record: RunRecord) -> str | None:
    """Return a sentence for a reader of the record, or None where nothing needs to be said.

    It works from what the record holds: the protocol's name, and rows, batch size, steps and
    learning rate of every fold's head. Records without these say nothing.
    """
    protocol = record.protocol.partition("+")[0].partition("/")[0]
    small = [
        (fold.n_steps, fold.n_train, fold.grid_point.get("lr"))
        for fold in record.folds
        if fold.n_train and fold.batch_size and fold.n_steps and fold.n_train <= fold.batch_size
    ]
    if not small:
        return None
    steps, rows, rate = min(small, key=lambda head: head[0])
    smaller = "" if protocol == "sound" else "--protocol sound takes smaller batches, "
    return (
        f"one optimiser step an epoch: {rows} training rows are one batch of {protocol}, and a "
        f"head had {steps} steps at learning rate {rate}; the score may say more about the "
        f"training than about the encoder. {smaller}--protocol linear solves to the optimum"
    )
