"""Make the generated corpora, and their stores, where a recipe asks for them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mambabench.benchmarks.depression.generated import generate as generate_depression
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.sentiment.generated import generate as generate_sentiment
from mambabench.benchmarks.sentiment.prepare import prepare
from mambabench.extract.verb import extract
from mambabench.store.open import list_stored_tasks
from mambabench.store.texts import extract_text, load_text_encoder
from mambabench.train.settings import DepMambaSettings, Settings
from mambabench.train.sources import Sources

__all__ = ["provide"]

ENCODER = "logmel_stats"
TEXT_ENCODER = "words:64"


def provide(settings: Settings, sources: Sources, out: Path) -> Sources:
    """Return sources in which the task "generated" exists; others come back as they are.

    Everything lies below `out`: generated/ (corpora), tasks/, embeddings/ and text/.
    """
    if settings.task != "generated" or sources.data is not None:
        return sources
    if isinstance(settings, DepMambaSettings):
        root = out / "generated" / "depression"
        if settings.features is not None:
            return sources
        if not (root / "labels.csv").is_file():
            generate_depression(root)
        return replace(sources, data=root)
    return _sentiment(sources, out)


def _sentiment(sources: Sources, out: Path) -> Sources:
    root, tasks = out / "generated" / "sentiment", out / "tasks"
    if not (root / "label.csv").is_file():
        generate_sentiment(root)
    if not (tasks / "generated_frames" / "task_metadata.json").is_file():
        prepare("generated", root, tasks)
    encoder = sources.encoder or ENCODER
    names = ("generated", "generated_frames")
    stored = {(s.encoder, s.task.name) for s in list_stored_tasks(out)}
    if any((encoder, name) not in stored for name in names):
        extract(
            encoder=(encoder,), tasks=(tasks,), task=names, out=out, device=sources.device, jobs=1
        )
    text = load_text_encoder(sources.text_encoder or TEXT_ENCODER)
    extract_text(text, load_task(tasks / "generated_frames"), out)
    return replace(sources, data=root, store=out, encoder=encoder, text_encoder=text.name)
