"""Speaker diarization (SD): two-speaker mixtures of Libri2Mix, who speaks when.

Source: s3prl 0.4.18, downstream `diarization`, and the preparation that its recipe names; SUPERB
(Yang et al. 2021), table 1. 16 kHz, mode max, mixed with noise; both sources start at 0.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mambabench.benchmarks.kinds.speaker_turns import RATE_HZ, Turn, read_rttm, segment_of
from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    SpokenTurn,
    count_defects,
    missing_files,
    once,
    require_folder,
    wrong_rates,
)
from mambabench.errors import DataError
from mambabench.reading.audio import find_file, read_header
from mambabench.reading.text import read_text

__all__ = ["Mixture", "check", "kaldi_files", "mixtures_of", "read"]

FOLDER, PART, AUDIO = "Libri2Mix", "wav16k/max", "mix_both"
SPLIT_FOLDERS = {"train": "train-100", "valid": "dev", "test": "test"}
PUBLISHED_COUNTS = {"train": 13_900, "valid": 3_000, "test": 3_000}
ALIGNMENTS = "alignments"
_COLUMNS = ("mixture_ID", "mixture_path", "length")
_REMEDY = (
    f"generate Libri2Mix at 16 kHz, mode max, so that {FOLDER}/{PART}/train-100/{AUDIO} and "
    f"{FOLDER}/{PART}/metadata lie in the corpus folder, and put the RTTM files of LibriSpeech's "
    f"alignments into {ALIGNMENTS}/"
)


@dataclass(frozen=True)
class Mixture:
    """One recording: its turns by speaker, in the order of its two utterances."""

    name: str
    n_samples: int
    turns: tuple[Turn, ...]


def mixtures_of(
    rows: Sequence[Mapping[str, str]], alignment: Mapping[str, Sequence[Turn]], where: Path
) -> tuple[Mixture, ...]:
    """Join mixtures with the turns of their utterances; DataError names a row that does not fit.

    Mixture ``r1-c1-u1_r2-c2-u2`` speaks as the utterances ``c1-u1`` and ``c2-u2`` do.
    """
    mixtures: dict[str, Mixture] = {}
    for line, row in enumerate(rows, start=2):
        name = row["mixture_ID"]
        halves = name.split("_")
        if len(halves) != 2 or any(half.count("-") != 2 for half in halves):
            raise DataError(
                f"{where}, line {line}: mixture_ID {name!r} is not "
                "'reader-chapter-utterance_reader-chapter-utterance'"
            )
        once(mixtures, name, f"{where}, line {line}", _REMEDY)
        if not row["length"].isdigit():
            raise DataError(f"{where}, line {line}: length {row['length']!r} is no whole number")
        turns: list[Turn] = []
        for half in halves:
            utterance = half.partition("-")[2]
            if utterance not in alignment:
                raise DataError(
                    f"{where}, line {line}: no alignment of utterance {utterance!r}; {_REMEDY}"
                )
            reader = half.partition("-")[0]
            others = {turn.speaker for turn in alignment[utterance]} - {reader}
            if others:
                raise DataError(
                    f"{where}, line {line}: utterance {utterance!r} is of reader {reader}, its "
                    f"alignment of {', '.join(sorted(others))}; {_REMEDY}"
                )
            turns += [turn._replace(recording=name) for turn in alignment[utterance]]
        mixtures[name] = Mixture(name, int(row["length"]), tuple(turns))
    return tuple(mixtures.values())


def kaldi_files(mixtures: Sequence[Mixture], paths: Mapping[str, str]) -> dict[str, str]:
    """Return wav.scp, segments, utt2spk, spk2utt, reco2dur and rttm, as s3prl's recipe reads them.

    A segment's id holds recording and times but not the speaker.
    """
    written = {"wav.scp": "", "segments": "", "utt2spk": "", "reco2dur": "", "rttm": ""}
    spoken: dict[str, list[str]] = {}
    for mixture in mixtures:
        written["wav.scp"] += f"{mixture.name} {paths[mixture.name]}\n"
        written["reco2dur"] += f"{mixture.name} {mixture.n_samples / RATE_HZ}\n"
        for turn in mixture.turns:
            segment = segment_of(turn)
            written["segments"] += f"{segment} {mixture.name} {turn.start_s} {turn.end_s}\n"
            written["utt2spk"] += f"{segment} {turn.speaker}\n"
            duration = round(turn.end_s - turn.start_s, 6)
            written["rttm"] += "\t".join(
                ["SPEAKER", mixture.name, "1", str(turn.start_s), str(duration), "<NA>", "<NA>"]
            )
            written["rttm"] += f"\t{turn.speaker}\t<NA>\n"
            spoken.setdefault(turn.speaker, []).append(mixture.name)
    written["spk2utt"] = "".join(f"{who} {' '.join(where)}\n" for who, where in spoken.items())
    return written


def _alignment(root: Path) -> dict[str, list[Turn]]:
    folder = require_folder(root / ALIGNMENTS, "the alignments of LibriSpeech", _REMEDY)
    found: dict[str, list[Turn]] = {}
    paths = sorted(folder.rglob("*.rttm"))
    if not paths:
        raise DataError(f"{folder}: holds no RTTM file; {_REMEDY}")
    for path in paths:
        try:
            turns = read_rttm(read_text(path, remedy=_REMEDY))
        except ValueError as error:
            raise DataError(f"{path}, {error}; take the alignments as published") from error
        for turn in turns:
            end_s = round(turn.end_s, 6)
            found.setdefault(turn.recording, []).append(turn._replace(end_s=end_s))
    return found


def _metadata(root: Path, part: str) -> tuple[Path, list[dict[str, str]]]:
    path = root / FOLDER / PART / "metadata" / f"mixture_{part}_{AUDIO}.csv"
    if not path.is_file():
        raise DataError(f"{path}: the list of mixtures is missing; {_REMEDY}")
    reader = csv.DictReader(io.StringIO(read_text(path, remedy=_REMEDY), newline=""))
    absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if absent:
        raise DataError(f"{path}: has no column {', '.join(absent)}; {_REMEDY}")
    rows = list(reader)
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            n = len(reader.fieldnames or ())
            raise DataError(f"{path}, line {line}: has not {n} fields, as its head; {_REMEDY}")
    return path, rows


def read(root: Path) -> Corpus:
    """Read `root`/Libri2Mix and `root`/alignments; the clusters are pairs of readers.

    Clips carry their turns. The audio is sought below `root`, whatever the lists' own paths say.
    """
    require_folder(root / FOLDER / PART, "Libri2Mix at 16 kHz, mode max,", _REMEDY)
    alignment = _alignment(root)
    splits = {}
    for split, part in SPLIT_FOLDERS.items():
        path, rows = _metadata(root, part)
        splits[split] = tuple(
            _clip(mixture, f"{FOLDER}/{PART}/{part}/{AUDIO}/{mixture.name}.wav")
            for mixture in mixtures_of(rows, alignment, path)
        )
    readers = {turn.speaker for clips in splits.values() for clip in clips for turn in clip.turns}
    return Corpus("superb_sd", splits, tuple(sorted(readers)))


def _clip(mixture: Mixture, path: str) -> SourceClip:
    pair = [half.partition("-")[0] for half in mixture.name.split("_")]
    return SourceClip(
        f"{mixture.name}.wav",
        path,
        (),
        cluster="+".join(sorted(pair)),
        n_samples=mixture.n_samples,
        turns=tuple(SpokenTurn(t.speaker, t.start_s, t.end_s) for t in mixture.turns),
    )


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List missing audio, other rates and splits of another size than published."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    rates = wrong_rates(root, clips, _REMEDY)
    other = {defect.where for defect in rates}
    wrong = []
    for clip in clips:
        path = find_file(root / clip.path)
        if clip.path in other or not path.is_file():
            continue
        if (n_samples := read_header(path).n_frames) != clip.n_samples:
            problem = f"has {n_samples:,} samples, the list of mixtures says {clip.n_samples:,}"
            wrong.append(CorpusDefect(clip.path, problem, _REMEDY))
    return (
        missing_files(root, clips, _REMEDY)
        + rates
        + tuple(wrong)
        + count_defects(corpus, PUBLISHED_COUNTS, _REMEDY)
    )
