"""``mambabench info``: what this machine will use, and why."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def command(as_json: bool) -> None:
    """Say what this machine will use, and why: backends, devices, precisions, versions."""
    from mambabench.provenance import info

    found = info()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for section, value in found.items():
        if isinstance(value, dict):
            click.echo(f"{section}:")
            for key, entry in value.items():
                if isinstance(entry, dict):
                    entry = ", ".join(f"{k}: {v}" for k, v in entry.items() if v is not None)
                absent = "not set" if section == "environment" else "not installed"
                click.echo(f"  {key}: {absent if entry is None else entry}")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            click.echo(f"{section}: {shown}")
