"""``mambabench train``: encoders, DepMamba and MMML, from data to weights."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mambabench.cli import completion, options
from mambabench.cli.progress import time_left

if TYPE_CHECKING:
    from mambabench.train.loop import Tick
    from mambabench.train.recipes import Recipe

__all__ = ["command"]

ENCODERS = ("ssam", "ssast", "ssamba", "aum")
SYSTEMS = (*ENCODERS, "depmamba", "mmml")
# options that one kind of system does not know
_ENCODER_ONLY = (
    *("mode", "precision", "init", "gpus", "probe", "probe_method", "tasks", "slurm", "save_steps"),
)
_AFFECT_ONLY = ("store", "encoder", "text_encoder")


@click.command("train")
@click.argument("system", type=options.Named(SYSTEMS), required=False)
@click.option(
    "--recipe",
    shell_complete=completion.recipes,
    default=None,
    metavar="NAME",
    help="Recipe name or TOML file.",
)
@click.option("--row", "rows", multiple=True, metavar="NAME", help="Only this row of the recipe.")
@click.option("--list", "list_", is_flag=True, help="List the recipes (of SYSTEM) and stop.")
@click.option("--task", default=None, metavar="NAME", help="Corpus or stored task.")
@click.option(
    "--data",
    multiple=True,
    metavar="PATH|KEY=PATH",
    help="Corpus folder; for encoders also tars, lists, task directories, and train=, valid=, "
    "test=, labels=, weights=, audio=. Repeatable.",
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
@click.option(
    "--mode",
    type=options.Named(["published", "sound"]),
    default=None,
    help="Keep the originals' quirks that change numbers, or not.  [default: the recipe's]",
)
@click.option("--init", default=None, metavar="CHECKPOINT|imagenet", help="Weights to start from.")
@click.option(
    "--precision",
    type=options.Named(["fp32", "fp16", "bf16"]),
    default=None,
    help="Of the forward pass.  [default: the recipe's]",
)
@options.one_out
@options.device
@click.option("--gpus", type=click.IntRange(min=1), default=None, help="Start so many ranks.")
@options.engine
@options.per_node
@click.option("--resume", is_flag=True, help="Continue runs that were cut off.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the resolved settings, and with --data steps and hours; train nothing.",
)
@click.option("--slurm", is_flag=True, help="With --dry-run: print the job script.")
@click.option(
    "--probe",
    default=None,
    metavar="TASK[,TASK]@EVERY",
    help="Probe the frozen encoder every so many epochs.",
)
@click.option(
    "--probe-method", type=options.Named(["linear", "knn"]), default="linear", show_default=True
)
@options.tasks
@click.option(
    "--save-steps",
    type=click.IntRange(min=1),
    default=None,
    help="Write the state every so many steps.  [default: every 10 minutes, and every epoch]",
)
@click.option(
    "--log", multiple=True, type=options.Named(["jsonl", "wandb", "tensorboard"]),
    help="Also log there; log.jsonl is always written. Repeatable.",
)  # fmt: skip
@options.as_json
def command(system: str | None, list_: bool, **arguments: Any) -> int:
    """Train SYSTEM: an encoder (ssam, ssast, ssamba, aum), depmamba or mmml.

    Test data are never read, except by an encoder's recipe in mode published, which selects on
    them as its authors do. Judge the result with `mambabench evaluate`.
    """
    if list_:
        return _list_recipes(system)
    if system is None:
        raise click.UsageError(f"name a system: {', '.join(SYSTEMS)}")
    _check_options(system, arguments)
    arguments["settings"] = _settings(arguments.pop("overrides"))
    if system in ENCODERS:
        for key in _AFFECT_ONLY:
            arguments.pop(key)
        return _train_encoder(system, arguments)
    return _train_affect(system, arguments)


def _settings(overrides: Sequence[str]) -> dict[str, Any]:
    from mambabench.train.recipes import parse_override

    return dict(parse_override(text) for text in overrides)


def _check_options(system: str, arguments: dict[str, Any]) -> None:
    foreign = _AFFECT_ONLY if system in ENCODERS else _ENCODER_ONLY
    defaults = {"probe_method": "linear", "tasks": (), "slurm": False}
    for key in foreign:
        if arguments[key] not in (None, defaults.get(key)):
            raise click.UsageError(f"--{key.replace('_', '-')} is not an option of {system}")


def _list_recipes(system: str | None) -> int:
    from mambabench.cli.tables import print_table
    from mambabench.train.recipes import find_recipe, read_recipe, recipe_names

    found = [read_recipe(find_recipe(name), {}) for name in recipe_names()]
    rows: list[tuple[str, ...]] = []
    for name, own in groupby(sorted(found, key=lambda r: (r.system, r.name)), lambda r: r.system):
        if system in (None, name):
            rows.append((name,))
            rows += [(r.name, str(len(r.rows)), r.description.rstrip(".")) for r in own]
    print_table(("recipe", "rows", "what"), rows, numbers=("rows",))
    return 0


def _train_encoder(system: str, arguments: dict[str, Any]) -> int:
    from mambabench.train.verb import plan_encoder, resolve_device, train_encoder

    dry, slurm, gpus = (arguments.pop(k) for k in ("dry_run", "slurm", "gpus"))
    keys = ("recipe", "rows", "task", "seeds", "settings", "mode", "precision")
    planned = plan_encoder(system, **{key: arguments[key] for key in keys})
    if slurm:
        from mambabench.train.slurm import job_script

        click.echo(job_script(planned, gpus or 1, _own_arguments()), nl=False)
        return 0
    if dry:
        from mambabench.train.estimate import estimate

        _show_plan(planned)
        if arguments["data"]:
            device = resolve_device(arguments["device"])
            for line in estimate(planned, arguments["data"], arguments["init"], device, gpus or 1):
                click.echo(line)
        return 0
    elsewhere = arguments["engine"] != "local"
    if elsewhere and (gpus is not None or "RANK" in os.environ):
        raise click.UsageError(
            "--engine trains every seed and fold in one process: for one training on several GPUs "
            "give --gpus, or torchrun, without it"
        )
    if gpus is not None and gpus > 1 and "RANK" not in os.environ:
        return _start_ranks(gpus, arguments["device"])
    done = train_encoder(system, show=_ProgressLine(), note=_note, **arguments)
    if int(os.environ.get("RANK", "0")) == 0:
        for seed in done:
            state = seed.state if seed.error is None else f"failed: {seed.error}"
            click.echo(f"{seed.row} seed {seed.seed}: {state}  {seed.folder}",
                       err=seed.error is not None)  # fmt: skip
    return 1 if any(seed.error is not None for seed in done) else 0


def _own_arguments() -> list[str]:
    """Return this command's arguments without what a started rank must not repeat."""
    kept: list[str] = []
    skip = False
    for word in sys.argv[1:]:
        if skip:
            skip = False
        elif word == "--gpus":
            skip = True
        elif not word.startswith("--gpus=") and word not in ("--dry-run", "--slurm"):
            kept.append(word)
    return kept


def _start_ranks(n: int, device: str) -> int:
    """Run this very command under torchrun with `n` ranks."""
    import torch

    n_gpus = torch.cuda.device_count()
    if device != "cpu" and n > n_gpus:
        raise click.UsageError(
            f"--gpus {n}: this machine has {n_gpus}; --device cpu runs the ranks on its processor"
        )
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n}"]
    words = [sys.executable, *launcher, "-m", "mambabench", *_own_arguments()]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    return 1 if subprocess.run(words, env=environment).returncode else 0


def _note(line: str) -> None:
    click.echo(line, err=True)


class _ProgressLine:
    """The progress line: rewritten on a terminal, a new one every 30 s elsewhere."""

    def __init__(self) -> None:
        self._last = 0.0
        self._tty = sys.stderr.isatty()

    def __call__(self, name: str, said: Tick) -> None:
        now = time.monotonic()
        final = said.step == said.n_steps
        if not final and now - self._last < (0.2 if self._tty else 30):
            return
        self._last = now
        extra = "  ".join(f"{k} {v:.4g}" for k, v in said.shown.items())
        text = (
            f"{name} step {said.step}/{said.n_steps} epoch {said.epoch + 1}  {extra}  "
            f"rate {said.rate:.3g}  {said.clips_per_s:.1f} clips/s "
            f"({said.clips_per_s * said.clip_s:.0f} x real time)  {time_left(said.left_s)}"
        )
        click.echo(("\r\x1b[K" if self._tty else "") + text, nl=final or not self._tty, err=True)


def _train_affect(system: str, arguments: dict[str, Any]) -> int:
    from mambabench.train.verb import plan, train

    for key in _ENCODER_ONLY:
        arguments.pop(key)
    data = arguments.pop("data")
    if len(data) > 1:
        raise click.UsageError(f"{system} takes one --data folder")
    arguments["data"] = Path(data[0]) if data else None
    if arguments.pop("dry_run"):
        keys = ("recipe", "rows", "task", "seeds")
        _show_plan(plan(system, settings=arguments["settings"], **{k: arguments[k] for k in keys}))
        return 0

    def progress(name: str, seed: int, row: dict[str, Any]) -> None:
        parts = [f"{part}: {_scores(row[part])}" for part in ("train", "val")]
        click.echo(f"{name} seed {seed} epoch {row['epoch']}  " + "  ".join(parts))

    done = train(system, progress=progress, note=_note, **arguments)
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
