"""``mambabench train``: DepMamba and MMML, from data to weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import options

if TYPE_CHECKING:
    from mambabench.train.recipes import Recipe

__all__ = ["command"]


@click.command("train")
@click.argument("system", type=options.Named(["depmamba", "mmml"]))
@click.option("--recipe", default=None, metavar="NAME", help="Recipe name or TOML file.")
@click.option("--row", "rows", multiple=True, metavar="NAME", help="Only this row of the recipe.")
@click.option("--task", default=None, metavar="NAME", help="Corpus or stored task.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of the corpus in its own layout.",
)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    default=None,
    help="Output folder of extract.  [default: --out]",
)
@click.option("--encoder", default=None, metavar="E", help="Whose stored embeddings to use.")
@click.option("--text-encoder", default=None, metavar="T", help="Whose stored texts to use.")
@click.option("--seeds", type=click.IntRange(min=1), default=None, help="How many seeds.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a setting. Repeatable."
)
@options.one_out
@options.device
@click.option("--resume", is_flag=True, help="Continue runs that were cut off.")
@click.option("--dry-run", is_flag=True, help="Print the resolved settings and stop.")
@click.option(
    "--log", multiple=True, type=options.Named(["wandb"]), help="Also log there. Repeatable."
)
def command(system: str, overrides: tuple[str, ...], dry_run: bool, **arguments: Any) -> int:
    """Train SYSTEM (depmamba or mmml); test data are never read.

    Judge the result with `mambabench evaluate --run FOLDER`.
    """
    from mambabench.train.recipes import parse_override
    from mambabench.train.verb import plan, train

    settings = dict(parse_override(text) for text in overrides)
    if dry_run:
        keys = ("recipe", "rows", "task", "seeds")
        planned = plan(system, settings=settings, **{key: arguments[key] for key in keys})
        _show_plan(planned)
        return 0

    def progress(name: str, seed: int, row: dict[str, Any]) -> None:
        parts = [f"{part}: {_scores(row[part])}" for part in ("train", "val")]
        click.echo(f"{name} seed {seed} epoch {row['epoch']}  " + "  ".join(parts))

    done = train(system, settings=settings, progress=progress, **arguments)
    for seed in done.seeds:
        state = seed.state if seed.error is None else f"failed: {seed.error}"
        click.echo(
            f"{seed.row} seed {seed.seed}: {state}  {seed.folder}", err=seed.error is not None
        )
    return 1 if done.failed else 0


def _scores(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in values.items())


def _show_plan(planned: Recipe) -> None:
    import json
    from dataclasses import asdict

    document = {
        "recipe": planned.name,
        "system": planned.system,
        "description": planned.description,
        "source": planned.source,
        "rows": {row.name: asdict(row.settings) for row in planned.rows},
    }
    click.echo(json.dumps(document, indent=2))
