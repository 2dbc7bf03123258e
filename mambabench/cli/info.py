"""``mambabench info``: what this machine will use, and why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print only JSON.")
def command(as_json: bool) -> None:
    """Say what this machine will use, and why: backends, devices, precisions, versions."""
    from mambabench.cli.tables import print_facts
    from mambabench.provenance import info

    found = info()
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    single = {name: value for name, value in found.items() if not isinstance(value, dict)}
    print_facts([(_SAID.get(name, name), _plain(value)) for name, value in single.items()])
    for section, entries in found.items():
        if isinstance(entries, dict):
            click.echo(f"\n{_SAID.get(section, section)}:")
            print_facts([(f"  {name}", _spoken(section, entry)) for name, entry in entries.items()])


# what people read; JSON keeps the keys
_SAID = {
    "schema": "schema of --json",
    "git_commit": "commit of mambabench",
    "cpu_flags": "CPU can",
    "memory_gib": "memory in GiB",
    "jobs": "workers by default",
    "scan": "selective scan, by device and backend",
    "precision": "precision of encoders (--precision)",
    "engines": "where work runs (--engine)",
    "environment": "variables that are read",
}


def _plain(value: Any) -> str:
    if value is None:
        return "not known"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _spoken(section: str, entry: Any) -> str:
    """Return one entry of a section as a phrase."""
    if entry is None:
        return "not set" if section == "environment" else "not installed"
    if isinstance(entry, bool):
        return "installed" if entry else "not installed"
    if not isinstance(entry, Mapping):
        return str(entry)
    known = dict(entry)
    state = [
        said[0] if known.pop(key) else said[1]
        for key, said in (
            ("chosen", ("used", "not used")),
            ("default", ("default", "on request")),
            ("available", ("there", "not there")),
        )
        if key in known
    ]
    reason = known.pop("reason", None)
    rest = [f"{key.replace('_gib', ' in GiB')} {value}" for key, value in known.items() if value]
    return ", ".join([*state, *rest]) + (f": {reason}" if reason else "")
