"""``mambabench classify``: name what is heard, with an encoder's own head."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mambabench.cli import options

__all__ = ["command"]

_NAMES = {
    527: "AudioSet's class_labels_indices.csv",
    309: "VGGSound's list of classes, sorted",
    1251: "VoxCeleb1's list of speakers",
    35: "the Speech Commands v2 words, as the authors' label file orders them",
    44: "EPIC-SOUNDS' list of classes",
}


@click.command(name="classify")
@click.argument("clip", type=click.Path(path_type=Path))
@click.option(
    "--encoder",
    required=True,
    metavar="E",
    help="An encoder whose checkpoint has a head, such as aum_base_scratch_audioset@PATH.",
)
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with the class names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
@options.device
def command(
    clip: Path, encoder: str, top: int, labels: Path | None, as_json: bool, device: str
) -> None:
    """Name what is heard in the audio file CLIP."""
    from mambabench.extract.classify import classify, read_labels
    from mambabench.models.registry import load_encoder

    names = read_labels(labels) if labels else None
    loaded = load_encoder(encoder, device=device)
    guesses = classify(clip, loaded, top=top, labels=names)
    if as_json:
        rows = [{"index": g.index, "label": g.label, "probability": g.probability} for g in guesses]
        value = {"schema": "mambabench.classify/1", "clip": str(clip), "encoder": loaded.label}
        click.echo(json.dumps({**value, "classes": rows}, indent=2))
        return
    for g in guesses:
        click.echo(f"{g.probability:8.4f}  {g.label if g.label is not None else g.index}")
    if names is None:
        n_classes = int(loaded.model.backbone.head.out_features)  # type: ignore[union-attr, arg-type]
        where = _NAMES.get(n_classes, "the dataset that the head was trained on")
        click.echo(f"These are class indices; for names give --labels with {where}.", err=True)
