"""``mambabench config``: show and check the file that tells `run` all."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON only.")


@click.group(name="config")
def command() -> None:
    """Show and check configuration files of `mambabench run`."""


@command.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_as_json
def show(file: Path | None, as_json: bool) -> None:
    """Print all that FILE comes to; without FILE the defaults, as a file to start from."""
    from mambabench.experiment import experiment_of, read_experiment
    from mambabench.files import toml_text

    plain = (experiment_of({}) if file is None else read_experiment(file)).plain()
    if as_json:
        value = {"schema": "mambabench.config/1", "settings": plain}
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
        return
    click.echo(toml_text(plain), nl=False)


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@_as_json
def check(file: Path, as_json: bool) -> int:
    """Say what would stop `mambabench run --config FILE`, without loading an encoder.

    Exit code 1 if anything would.
    """
    from mambabench.experiment import read_experiment
    from mambabench.preflight import problems

    found = problems(read_experiment(file))
    if as_json:
        value = {"schema": "mambabench.config-check/1", "file": str(file), "problems": found}
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        for problem in found:
            click.echo(f"{file}: {problem}")
        click.echo(f"{file}: {len(found) or 'no'} problem{'' if len(found) == 1 else 's'}")
    return 1 if found else 0
