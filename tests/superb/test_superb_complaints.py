"""ASR, SF and SD: what is wrong with a corpus is named by file and line; published sizes."""

from __future__ import annotations

import pytest
import soundfile
from trees import TREES

from mambabench.benchmarks.superb import asr, pr, sd, sf
from mambabench.errors import DataError

MODULES = {"superb_asr": asr, "superb_sf": sf, "superb_sd": sd}
TRANSCRIPTS = "LibriSpeech/dev-clean/100/7/100-7.trans.txt"
TEXTS = "SNIPS/all.iob.snips.txt"
RTTM = "alignments/dev-clean.rttm"
METADATA = "Libri2Mix/wav16k/max/metadata/mixture_dev_mix_both.csv"
HEAD = "mixture_ID,mixture_path,length\n"


@pytest.mark.parametrize(
    ("task", "file", "text", "message"),
    [
        ("superb_asr", TRANSCRIPTS, "100-7-0000 A\n100-7-0000 B",
         r"100-7.trans.txt, line 2: '100-7-0000.flac' stands on another line too"),
        ("superb_sf", TEXTS, 2 * "Ivy-snips-train-0 BOS E EOS\tO O P\n",
         r"snips.txt, line 2: 'Ivy-snips-train-0' stands on another line too"),
        ("superb_sf", TEXTS, "Ivy-snips-train-0 BOS E EOS O O P",
         r"snips.txt, line 1: .* is not 'BOS words EOS<TAB>O tags intent'"),
        ("superb_sf", TEXTS, b"Ivy-snips-train-0 BOS CAF\xc9 EOS\tO O P",
         r"snips.txt: line 1 is not UTF-8 text"),
        ("superb_sf", "SNIPS/slots.txt", "O", r"slot types must be there"),
        ("superb_sf", "SNIPS/slots.txt", "O\nartist\nartist", r"each once and none empty"),
        ("superb_sd", RTTM, "SPEAKER 2000-0000 1 0.5 -1.0 <NA> <NA> 31 <NA>",
         r"dev-clean.rttm, line 1: .* is not 'SPEAKER file 1 start duration"),
        ("superb_sd", RTTM, "SPEAKER 2000-0000 1 nan 1.0 <NA> <NA> 31 <NA>",
         r"dev-clean.rttm, line 1: .* is not 'SPEAKER file 1 start duration"),
        ("superb_sd", RTTM, "SPEAKER 2000-0000 1 0.5",
         r"dev-clean.rttm, line 1: .* is not 'SPEAKER file 1 start duration"),
        ("superb_sd", METADATA, HEAD + "31-2000-0000_9-2000-0001,x,two",
         r"dev_mix_both.csv, line 2: length 'two' is no whole number"),
        ("superb_sd", METADATA, HEAD + "31-2000-0000_9-2000-0001,x",
         r"dev_mix_both.csv, line 2: has not 3 fields, as its head"),
        ("superb_sd", METADATA, HEAD + 2 * "31-2000-0000_9-2000-0001,x,9\n",
         r"dev_mix_both.csv, line 3: '31-2000-0000_9-2000-0001' stands on another line too"),
    ],
)  # fmt: skip
def test_malformed_lines_are_named(tmp_path, task, file, text, message):
    root = TREES[task](tmp_path, 8)
    data = text if isinstance(text, bytes) else text.encode()
    (root / file).write_bytes(data + b"\n")
    with pytest.raises(DataError, match=message):
        MODULES[task].read(root)


@pytest.mark.parametrize("task", MODULES)
def test_another_rate_no_audio_and_no_file_are_named(task, tmp_path):
    module = MODULES[task]
    root = TREES[task](tmp_path, 8)
    whole = [str(defect) for defect in module.check(root)]
    assert whole  # other counts than published, and nothing else
    assert all("published" in text for text in whole)
    first, second, third = [clip.path for clip in module.read(root).splits["train"]][:3]
    samples, rate = soundfile.read(root / first)
    assert rate == 16_000
    soundfile.write(root / first, samples, 8_000)
    (root / second).write_bytes(b"no audio at all")
    (root / third).unlink()
    found = {d.where: d for d in module.check(root) if "published" not in d.problem}
    assert set(found) == {first, second, third}
    assert found[first].problem == "has 8000 Hz, SUPERB's is 16,000"
    assert found[third].problem == "listed, but there is no such file"
    assert found[second].problem
    assert all(defect.remedy for defect in found.values())


def test_published_counts():
    assert asr.PUBLISHED_COUNTS == {"train": 28_539, "valid": 2_703, "test": 2_620}
    assert sf.PUBLISHED_COUNTS == {"train": 104_672, "valid": 2_800, "test": 2_800}
    assert sd.PUBLISHED_COUNTS == {"train": 13_900, "valid": 3_000, "test": 3_000}
    assert len(asr.SYMBOLS) == 32
    assert len({*pr.SPECIALS, *pr.PHONES}) == 74
    assert sf.N_SYMBOLS == len(sf.symbols_of([f"type{i}" for i in range(39)])) == 109


def test_a_recording_of_another_length_than_listed_is_named(tmp_path):
    root = TREES["superb_sd"](tmp_path, 8)
    clip = sd.read(root).splits["test"][0]
    samples, rate = soundfile.read(root / clip.path)
    soundfile.write(root / clip.path, samples[:-7], rate)
    (defect,) = [d for d in sd.check(root) if d.where == clip.path]
    assert defect.problem == "has 31,993 samples, the list of mixtures says 32,000"
