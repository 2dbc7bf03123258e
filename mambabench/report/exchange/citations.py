"""What a report rests on as BibTeX: encoders, tasks, protocols, published rows and this package."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from mambabench import __version__
from mambabench.models.registry import find_entry, is_registered

if TYPE_CHECKING:
    from mambabench.report.rows import Summary

__all__ = ["bibliography", "published_key", "task_keys"]

# task directory up to its version -> key; "" stands for every HEAR task
_TASK_KEYS = {
    "beehive_states_fold0": "nolasco2019beehive",
    "beehive_states_fold1": "nolasco2019beehive",
    "beehive_states_mean_of_folds": "nolasco2019beehive",
    "beijing_opera": "tian2014beijing",
    "dcase2016_task2": "mesaros2018dcase",
    "esc50": "piczak2015esc",
    "fsd50k": "fonseca2022fsd50k",
    "gunshot_triangulation": "cooper2020gunshots",
    "libricount": "stoter2018libricount",
    "maestro": "hawthorne2019maestro",
    "mridangam_stroke": "anantapadmanabhan2013mridangam",
    "mridangam_tonic": "anantapadmanabhan2013mridangam",
    "nsynth_pitch": "engel2017nsynth",
    "speech_commands": "warden2018speech",
    "tfds_crema_d": "cao2014crema",
    "tfds_gtzan": "tzanetakis2002musical",
    "tfds_gtzan_music_speech": "tzanetakis1999gtzan",
    "vocal_imitation": "kim2018vocal",
    "vox_lingua_top10": "valk2021voxlingua",
}
_HEAR = "turian2022hear"
_SUPERB = "yang2021superb"
_ENTRIES = {
    _HEAR: (
        "inproceedings",
        {
            "author": "Turian, Joseph and Shier, Jordie and Khan, Humair Raj and Raj, Bhiksha and "
            "others",
            "title": "{HEAR}: Holistic Evaluation of Audio Representations",
            "booktitle": "NeurIPS 2021 Competitions and Demonstrations Track",
            "year": "2022",
        },
    ),
    _SUPERB: (
        "inproceedings",
        {
            "author": "Yang, Shu-wen and Chi, Po-Han and Chuang, Yung-Sung and others",
            "title": "{SUPERB}: Speech Processing Universal {PERformance} Benchmark",
            "booktitle": "Interspeech",
            "year": "2021",
        },
    ),
    "tian2014beijing": (
        "inproceedings",
        {
            "author": "Tian, Mi and Srinivasamurthy, Ajay and Sandler, Mark and Serra, Xavier",
            "title": "A Study of Instrument-wise Onset Detection in Beijing Opera Percussion "
            "Ensembles",
            "booktitle": "ICASSP",
            "pages": "2159--2163",
            "year": "2014",
        },
    ),
    "nolasco2019beehive": (
        "inproceedings",
        {
            "author": "Nolasco, Ines and Terenzi, Alessandro and Cecchi, Stefania and Orcioni, "
            "Simone and Bear, Helen L. and Benetos, Emmanouil",
            "title": "Audio-based Identification of Beehive States",
            "booktitle": "ICASSP",
            "pages": "8256--8260",
            "year": "2019",
        },
    ),
    "mesaros2018dcase": (
        "article",
        {
            "author": "Mesaros, Annamaria and Heittola, Toni and Benetos, Emmanouil and others",
            "title": "Detection and Classification of Acoustic Scenes and Events: Outcome of the "
            "{DCASE} 2016 Challenge",
            "journal": "IEEE/ACM Transactions on Audio, Speech, and Language Processing",
            "volume": "26",
            "number": "2",
            "pages": "379--393",
            "year": "2018",
        },
    ),
    "cooper2020gunshots": (
        "misc",
        {
            "author": "Cooper, Seth and Shaw, Steven",
            "title": "Gunshots Recorded in an Open Field Using {iPod} Touch Devices",
            "howpublished": "Dryad, doi:10.5061/dryad.wm37pvmkc",
            "year": "2020",
        },
    ),
    "anantapadmanabhan2013mridangam": (
        "inproceedings",
        {
            "author": "Anantapadmanabhan, Akshay and Bellur, Ashwin and Murthy, Hema A.",
            "title": "Modal Analysis and Transcription of Strokes of the Mridangam Using "
            "Non-negative Matrix Factorization",
            "booktitle": "ICASSP",
            "pages": "181--185",
            "year": "2013",
        },
    ),
    "piczak2015esc": (
        "inproceedings",
        {
            "author": "Piczak, Karol J.",
            "title": "{ESC}: Dataset for Environmental Sound Classification",
            "booktitle": "ACM International Conference on Multimedia",
            "year": "2015",
        },
    ),
    "fonseca2022fsd50k": (
        "article",
        {
            "author": "Fonseca, Eduardo and Favory, Xavier and Pons, Jordi and Font, Frederic and "
            "Serra, Xavier",
            "title": "{FSD50K}: An Open Dataset of Human-Labeled Sound Events",
            "journal": "IEEE/ACM Transactions on Audio, Speech, and Language Processing",
            "year": "2022",
        },
    ),
    "stoter2018libricount": (
        "misc",
        {
            "author": r"St{\"o}ter, Fabian-Robert and Chakrabarty, Soumitro and Habets, Emanuel "
            "and Edler, Bernd",
            "title": "{LibriCount}, a Dataset for Speaker Count Estimation",
            "howpublished": "Zenodo, doi:10.5281/zenodo.1216072",
            "year": "2018",
        },
    ),
    "hawthorne2019maestro": (
        "inproceedings",
        {
            "author": "Hawthorne, Curtis and Stasyuk, Andriy and Roberts, Adam and others",
            "title": "Enabling Factorized Piano Music Modeling and Generation with the {MAESTRO} "
            "Dataset",
            "booktitle": "ICLR",
            "year": "2019",
        },
    ),
    "engel2017nsynth": (
        "inproceedings",
        {
            "author": "Engel, Jesse and Resnick, Cinjon and Roberts, Adam and others",
            "title": "Neural Audio Synthesis of Musical Notes with {WaveNet} Autoencoders",
            "booktitle": "ICML",
            "year": "2017",
        },
    ),
    "warden2018speech": (
        "misc",
        {
            "author": "Warden, Pete",
            "title": "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition",
            "howpublished": "arXiv:1804.03209",
            "year": "2018",
        },
    ),
    "cao2014crema": (
        "article",
        {
            "author": "Cao, Houwei and Cooper, David G. and Keutmann, Michael K. and others",
            "title": "{CREMA-D}: Crowd-Sourced Emotional Multimodal Actors Dataset",
            "journal": "IEEE Transactions on Affective Computing",
            "volume": "5",
            "number": "4",
            "pages": "377--390",
            "year": "2014",
        },
    ),
    "tzanetakis2002musical": (
        "article",
        {
            "author": "Tzanetakis, George and Cook, Perry",
            "title": "Musical Genre Classification of Audio Signals",
            "journal": "IEEE Transactions on Speech and Audio Processing",
            "year": "2002",
        },
    ),
    "tzanetakis1999gtzan": (
        "misc",
        {
            "author": "Tzanetakis, George",
            "title": "{GTZAN} Music/Speech Collection",
            "howpublished": "http://marsyas.info/index.html",
            "year": "1999",
        },
    ),
    "kim2018vocal": (
        "inproceedings",
        {
            "author": "Kim, Bongjun and Ghei, Madhav and Pardo, Bryan and Duan, Zhiyao",
            "title": "Vocal Imitation Set: A Dataset of Vocally Imitated Sound Events Using the "
            "{AudioSet} Ontology",
            "booktitle": "DCASE Workshop",
            "pages": "148--152",
            "year": "2018",
        },
    ),
    "valk2021voxlingua": (
        "inproceedings",
        {
            "author": r"Valk, J{\"o}rgen and Alum{\"a}e, Tanel",
            "title": "{VoxLingua107}: A Dataset for Spoken Language Recognition",
            "booktitle": "IEEE Spoken Language Technology Workshop",
            "year": "2021",
        },
    ),
}


def published_key(citation: str) -> str:
    """Return the BibTeX key of a published row's source: its first telling words."""
    text = re.sub(r"^repository [^/ ]+/", "", citation)
    words = re.findall(r"[A-Za-z0-9]+", text.split(":")[0].split(",")[0].split("@")[0])
    year = re.search(r"\b(20\d\d)\b", citation)
    return "".join(words[:3]).lower() + (year.group(1) if year else "")


def task_keys(tasks: Iterable[str]) -> list[str]:
    """Return the keys of what is known of the sources of these task directories."""
    found = []
    for task in tasks:
        name = re.split(r"-(?:v?\d|hear2021)", task)[0]
        found += [key for start, key in _TASK_KEYS.items() if name == start]
    return sorted(set(found))


def bibliography(summary: Summary) -> str:
    """Return a BibTeX file, pure ASCII: each source once, sorted by its key."""

    entries = {
        "mambabench": _entry(
            "misc",
            "mambabench",
            {
                "author": "{The mambabench authors}",
                "title": "mambabench: How Good Is an Audio Encoder?",
                "note": f"Version {__version__}",
            },
        )
    }
    tasks = {row.task for row in summary.rows}
    keys = task_keys(tasks)
    if any(row.protocol.startswith(("hear2021", "ssam2024")) for row in summary.rows) or keys:
        keys.append(_HEAR)
    if any(row.protocol.startswith("superb") for row in summary.rows):
        keys.append(_SUPERB)
    entries |= {key: _entry(_ENTRIES[key][0], key, _ENTRIES[key][1]) for key in keys}
    for row in summary.published:
        key = published_key(row.citation)
        entries[key] = _entry("misc", key, {"title": f"{{{_plain(row.citation)}}}"})
    entries |= _of_encoders({row.encoder for row in summary.rows})
    return "\n".join(entries[key] for key in sorted(entries, key=str.lower))


def _of_encoders(labels: Iterable[str]) -> dict[str, str]:
    """Return the catalogue's own entries of the encoders in it, by their keys."""

    found = {}
    for label in labels:
        name = label.partition("@")[0]
        entry = find_entry(name) if is_registered(name) else None
        if entry is not None and entry.bibtex:
            key = re.search(r"@\w+\{\s*([^,\s]+)", entry.bibtex)
            text = entry.bibtex.strip() + "\n"
            found[key.group(1) if key else label] = text.encode("ascii", "replace").decode()
    return found


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}}}\n"


def _plain(text: str) -> str:
    """Escape what TeX takes for a command."""
    text = re.sub(r"([&%$#_{}])", r"\\\1", text)
    return text.encode("ascii", "replace").decode()
