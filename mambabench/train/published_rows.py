"""The published rows that a scored encoder stands beside: of its task, and its own among them."""

from __future__ import annotations

import csv
import re
from typing import NamedTuple

from mambabench.report.exchange.published import published_folder
from mambabench.train.encoder_settings import AumSettings, EncoderSettings
from mambabench.train.system import dimension

__all__ = ["PublishedValues", "published_values"]

# a recipe's task -> how results/published names it
AUM = {
    "audioset": "AudioSet",
    "as20k": "AudioSet-20K",
    "vggsound": "VGGSound",
    "voxceleb": "VoxCeleb",
    "speechcommands_v2": "Speech Commands V2",
    "epic_sounds": "EPIC-Sounds",
}
SSAMBA = {
    "as20k": "AudioSet-20K",
    "esc50": "ESC-50",
    "speechcommands_v1": "Speech Commands V1 (KS1)",
    "speechcommands_v2": "Speech Commands V2 (KS2)",
    "voxceleb1_sid": "VoxCeleb1 (SID)",
    "iemocap_er": "IEMOCAP (ER)",
    "urbansound8k": "",  # not among SSAST's
    "audioset": "",
}
SSAST = re.compile(r"SSAST \w+ Patch \d+")
NOT_HELD = "SSAMBA's own table is not held here: it could not be read at its source"
AUM_SIZES = {768: "B", 384: "S"}


class PublishedValues(NamedTuple):
    """Others' results on a task."""

    values: tuple[tuple[str, str, float], ...] = ()  # model, metric, value as printed
    note: str = ""  # what they are not


def published_values(system: str, settings: EncoderSettings, start: str | None) -> PublishedValues:
    """Return the published rows of the settings' task.

    start: what --init was, "" for nothing, None where it is not known. Of AuM's released
    checkpoints those of this size, variant and start, or all where none is. SSAMBA's table is not
    held: SSAST's rows of patches, and a note that says so.
    """
    if system == "aum" and settings.task in AUM:
        assert isinstance(settings, AumSettings)
        rows = _rows("aum.csv", AUM[settings.task])
        released = tuple(row for row in rows if "released checkpoint" in row[0])
        own = tuple(row for row in released if _is_own(row[0], settings, start))
        return PublishedValues(own or released)
    if system == "ssamba" and settings.task in SSAMBA:
        rows = _rows("ssamba.csv", SSAMBA[settings.task])
        patches = tuple(row for row in rows if SSAST.fullmatch(row[0]))
        return PublishedValues(
            patches, f"{NOT_HELD}{'; SSAST, fine-tuned, has' if patches else ''}"
        )
    return PublishedValues()


def _rows(file: str, task: str) -> tuple[tuple[str, str, float], ...]:
    folder = published_folder()
    if folder is None:
        return ()
    with (folder / file).open(encoding="utf-8", newline="") as opened:
        found = [row for row in csv.DictReader(opened) if row["task"] == task]
    return tuple((row["model"], row["metric"], float(row["value"])) for row in found)


def _is_own(model: str, settings: AumSettings, start: str | None) -> bool:
    """Tell whether a released checkpoint is of these settings; an unknown start fits any."""
    size = AUM_SIZES.get(dimension(settings), "?")
    if settings.depth not in (None, 24) or not model.startswith(f"AuM-{size} {settings.variant} "):
        return False
    if start is None:
        return True
    if start == "imagenet":
        return "ImageNet init" in model
    return ("AudioSet init" in model) == bool(start)
