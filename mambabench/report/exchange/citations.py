"""What a report rests on as BibTeX: encoders, tasks, protocols, published rows and this package."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from mambabench import __version__
from mambabench.benchmarks.known import FAMILIES
from mambabench.benchmarks.limit import whole_name
from mambabench.models.registry import encoder_entries, find_entry, is_registered

if TYPE_CHECKING:
    from mambabench.report.rows import Summary

__all__ = [
    "Bibliography",
    "bibliography",
    "entries",
    "protocol_keys",
    "published_key",
    "sources_of",
    "task_keys",
]

# Protocols that others published; linear, knn and sound are this package's own.
_PROTOCOLS = {
    "hear2021": ("turian2022hear",),
    "ssam2024": ("turian2022hear", "yadav2024audiomamba"),
    "superb": ("yang2021superb",),
    "superb-clean": ("yang2021superb",),
}
_DIGITS = ("jackson2018fsdd",)
# Corpora that are no task of a family: the name of a directory up to its version -> keys.
_CORPORA = {
    "emodb": ("burkhardt2005emodb",),
    "emodb_speaker": ("burkhardt2005emodb",),
    "esc10_mix": ("piczak2015esc", "rosen_berlin_noise"),
    "fsdd_digit": _DIGITS,
    "fsdd_digit_loso": _DIGITS,
    "fsdd_speaker": _DIGITS,
    "instr_pitch": (
        "dsmolken_double_bass",
        "freepats_guitar",
        "freepats_upright_piano",
        "karoryfer_meatbass",
        "splendid_grand_piano",
        "sullivan_e_pianos",
    ),
    "spoken_digit": _DIGITS,
    "wakeword6": ("picovoice_wakeword",),
}


@cache
def entries() -> dict[str, str]:
    """Return every known BibTeX entry by its key: those of sources.bib and of the encoders."""
    text = files(__package__).joinpath("sources.bib").read_text(encoding="ascii")
    own = [entry.bibtex for entry in encoder_entries().values() if entry.bibtex]
    return {_key(one): one.strip() + "\n" for one in (*_split(text), *map(_ascii, own))}


def _split(text: str) -> list[str]:
    return re.findall(r"^@.*?^\}$", text, flags=re.DOTALL | re.MULTILINE)


def _key(entry: str) -> str:
    found = re.match(r"\s*@\w+\{\s*([^,\s]+)", entry)
    return found.group(1) if found else entry  # another package's, and no BibTeX


def published_key(citation: str) -> str:
    """Return the BibTeX key of a published row's source: its first telling words."""
    text = re.sub(r"^repository [^/ ]+/", "", citation)
    words = re.findall(r"[A-Za-z0-9]+", text.split(":")[0].split(",")[0].split("@")[0])
    year = re.search(r"\b(20\d\d)\b", citation)
    return "".join(words[:3]).lower() + (year.group(1) if year else "")


def task_keys(tasks: Iterable[str]) -> set[str]:
    """Return the keys of what is known of the sources of these task directories.

    Other versions of a known task, parts of it and its frames have its sources; a user's own task
    has none.
    """
    wanted = {_base(task) for task in tasks}
    found = {key for name in wanted for key in _CORPORA.get(name, ())}
    for name in FAMILIES:
        family = FAMILIES[name]
        for row in family.rows():
            if _base(row.name) in wanted:
                found.update(row.sources, family.sources)
    return found


def _base(task: str) -> str:
    """Return a directory's name without version, mode, fold and kind of embedding."""
    name = re.split(r"-(?:v?\d|hear2021)", whole_name(task))[0]
    return re.sub(r"_(?:fold\d|mean_of_folds|frames)$", "", name)


def protocol_keys(protocols: Iterable[str]) -> set[str]:
    """Return the keys of published protocols, whatever their grid, stream or limit."""
    names = {re.split(r"[/+ ]", protocol)[0] for protocol in protocols}
    return {key for name in names for key in _PROTOCOLS.get(name, ())}


@dataclass(frozen=True)
class Bibliography:
    """BibTeX entries by key, sorted, and of what they are the sources: name -> keys."""

    entries: dict[str, str]
    encoders: dict[str, list[str]]
    tasks: dict[str, list[str]]
    protocols: dict[str, list[str]]
    published: dict[str, list[str]]  # by model


def bibliography(summary: Summary) -> str:
    """Return a BibTeX file, pure ASCII: each source once, sorted by its key."""
    return "\n".join(sources_of(summary).entries.values())


def sources_of(summary: Summary) -> Bibliography:
    """Return the sources of all that a report shows; this package's own entry belongs to all."""
    own = {
        "author": "{The mambabench authors}",
        "title": "mambabench: How Good Is an Audio Encoder?",
        "note": f"Version {__version__}",
    }
    texts = {**entries(), "mambabench": _entry("misc", "mambabench", own)}
    published: dict[str, set[str]] = {}
    for row in summary.published:
        key = published_key(row.citation)
        published.setdefault(row.model, set()).add(key)
        texts[key] = _entry("misc", key, {"title": f"{{{_plain(row.citation)}}}"})
    encoders = {encoder: [key] for encoder, key in _encoder_keys(summary)}
    rows = summary.rows
    tasks = {task: sorted(task_keys([task])) for task in sorted({row.task for row in rows})}
    protocols = {
        one: sorted(protocol_keys([one])) for one in sorted({row.protocol for row in rows})
    }
    models = {model: sorted(keys) for model, keys in published.items()}
    used = {
        key for of in (encoders, tasks, protocols, models) for keys in of.values() for key in keys
    }
    shown = sorted((used | {"mambabench"}) & texts.keys(), key=str.lower)
    return Bibliography({key: texts[key] for key in shown}, encoders, tasks, protocols, models)


def _encoder_keys(summary: Summary) -> Iterator[tuple[str, str]]:
    """Yield (encoder, key) for those of the catalogue, whatever they are called here."""
    for encoder, name in summary.catalogued:
        if is_registered(name) and (bibtex := find_entry(name).bibtex):
            yield encoder, _key(_ascii(bibtex))


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}}}\n"


def _plain(text: str) -> str:
    """Escape what TeX takes for a command."""
    return _ascii(re.sub(r"([&%$#_{}])", r"\\\1", text))


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
