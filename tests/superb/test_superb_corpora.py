"""SUPERB's corpora read in their own layouts: splits, labels, crops, counts and complaints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from trees import TREES

from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.layout.silence import trim_silence
from mambabench.benchmarks.superb import asv, er, ic, ks, pr, qbe, sid
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.cli.tasks import command
from mambabench.errors import DataError
from mambabench.probe.families.utterances import pool_rows


@pytest.fixture(scope="module")
def trees(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("superb")
    return {task: write(base / task) for task, write in TREES.items()}


def test_keywords(trees):
    corpus = ks.read(trees["superb_ks"])
    speakers = {
        split: {clip.cluster for clip in clips if clip.crop_of is None}
        for split, clips in corpus.splits.items()
        if split != "test"
    }
    assert speakers["train"]
    assert not speakers["train"] & speakers["valid"]
    assert all(ks.split_of(f"{s}_nohash_0.wav") == "train" for s in speakers["train"])
    silence = [c for c in corpus.splits["train"] if c.labels == ("_silence_",)]
    assert len(silence) == 6 * ks.SILENCE_CROPS
    assert {c.duration_s for c in silence} == {1.0}
    assert all(0 <= c.start_s <= 2 for c in silence)
    assert {c.gain_db for c in corpus.splits["test"]} == {-3.0}
    assert {c.labels[0] for c in corpus.splits["test"]} == set(ks.CLASSES)
    again = ks.read(trees["superb_ks"])
    assert again == corpus
    defects = [str(d) for d in ks.check(trees["superb_ks"])]
    assert any("published 51,088" in d for d in defects)
    assert any(d.startswith("superb_ks/test: 72 clips, published 3,081") for d in defects)


def test_intents(trees):
    corpus = ic.read(trees["superb_ic"])
    assert ic.slot_sizes(corpus.labels) == (6, 14, 4)
    assert corpus.labels[:3] == ("action=action0", "action=action1", "action=action2")
    assert all(len(clip.labels) == 3 for clip in corpus.splits["test"])
    defects = [str(d) for d in ic.check(trees["superb_ic"])]
    assert len(defects) == 3
    assert all("published" in d for d in defects)


def test_intent_list_without_a_column(tmp_path):
    folder = tmp_path / "fluent_speech_commands_dataset" / "data"
    folder.mkdir(parents=True)
    (folder / "train_data.csv").write_text("path,speakerId,action\n")
    with pytest.raises(DataError, match=r"train_data.csv: no column 'object' in path"):
        ic.read(tmp_path)


def test_speakers(trees):
    corpus = sid.read(trees["superb_sid"])
    assert len(corpus.labels) == 1251
    crops = [clip for clip in corpus.splits["train"] if clip.crop_of]
    assert len(crops) == 12 * sid.STORED_CROPS
    assert {clip.duration_s for clip in crops} == {8.0}
    assert all(0 <= clip.start_s <= 1.0 for clip in crops)
    assert len(corpus.splits["test"]) == 12
    assert any(clip.path.startswith("VoxCeleb1/test") for clip in corpus.splits["test"])
    (trees["superb_sid"] / corpus.splits["test"][0].path).rename(trees["superb_sid"] / "moved.wav")
    defects = sid.check(trees["superb_sid"])
    assert "no such file" in str(defects[0])


def test_speaker_list_of_another_form(tmp_path):
    (tmp_path / "VoxCeleb1").mkdir()
    (tmp_path / "iden_split.txt").write_text("1 id10001/v/00001.wav\n4 id10001/v/2.wav\n")
    with pytest.raises(DataError, match=r"line 2: '4 id10001/v/2.wav' is not '1\|2\|3"):
        sid.read(tmp_path)


def test_emotions(trees):
    corpus = er.read(trees["superb_er"])
    assert tuple(corpus.splits) == er.SESSIONS
    merged = [c for clips in corpus.splits.values() for c in clips]
    assert {c.labels[0] for c in merged} == set(er.CLASSES)
    assert {c.cluster for c in corpus.splits["Session1"]} == {"Session1F", "Session1M"}
    pool = [c for s in er.SESSIONS[1:] for c in corpus.splits[s]]
    sessions = [s for s in er.SESSIONS[1:] for _ in corpus.splits[s]]
    train, dev = pool_rows(sessions, clean=False)
    order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(0)).tolist()
    assert [*train, *dev] == order
    assert len(train) == int(0.8 * len(pool))
    train, dev = pool_rows(sessions, clean=True)
    speakers = [{pool[i].cluster for i in part} for part in (train, dev)]
    assert not speakers[0] & speakers[1]
    assert sorted([*train, *dev]) == list(range(len(pool)))


def test_shipped_emotion_lists_set_the_order(trees):
    root = trees["superb_er"]
    corpus = er.read(root)
    import json

    for session, clips in corpus.splits.items():
        folder = root / "meta_data" / session
        folder.mkdir(parents=True)
        entries = [{"path": c.path, "label": c.labels[0], "speaker": ""} for c in clips[::-1]]
        (folder / "test_meta_data.json").write_text(json.dumps({"meta_data": entries}))
    listed = er.read(root)
    assert listed.splits["Session3"] == corpus.splits["Session3"][::-1]
    assert listed.notes == ("clip order: s3prl's lists",)


def test_phones(trees):
    corpus = pr.read(trees["superb_pr"])
    lexicon = pr.read_lexicon(trees["superb_pr"] / "lexicon")
    assert len(lexicon["WORD0"]) == 3  # the first pronunciation wins
    assert all(len(clip.labels) == 7 for clip in corpus.splits["train"])
    assert all(clip.labels[-1] == "<eos>" for c in corpus.splits.values() for clip in c)
    assert len(corpus.labels) == 74
    assert corpus.labels[:5] == ("<pad>", "<eos>", "<unk>", "SIL", "SPN")
    assert len(set(pr.PHONES)) == 71
    (trees["superb_pr"] / "LibriSpeech/dev-clean/100/7/100-7.trans.txt").write_text(
        "100-7-0000 NEVERHEARD\n"
    )
    with pytest.raises(DataError, match="100-7-0000: NEVERHEARD not in the lexicon"):
        pr.read(trees["superb_pr"])


def test_verification(trees):
    corpus = asv.read(trees["superb_asv"])
    trials = asv.read_trials(trees["superb_asv"] / asv.TRIALS)
    assert len(corpus.labels) == 8
    names = [clip.name for clip in corpus.splits["train"]]
    assert len(names) == 8 * 5 + asv.STORED_CROPS  # the short one is dropped
    assert not any("short" in name for name in names)
    crops = [clip for clip in corpus.splits["train"] if clip.crop_of]
    assert {(c.duration_s, c.n_samples) for c in crops} == {(8.0, 128_000)}
    assert all(0 <= c.start_s <= 1.0 for c in crops)
    assert corpus.notes == ("training clips of at most 2 s after trimming, left out: 1",)
    assert {t.first for t in trials} <= {c.name for c in corpus.splits["test"]}
    assert sum(t.same for t in trials) == 4 * 10
    assert any("trials: 190, published 37,720" in str(d) for d in asv.check(trees["superb_asv"]))


def test_silence_is_trimmed():
    rng = np.random.default_rng(0)
    loud = 0.1 * rng.normal(size=8000).astype(np.float32)
    quiet = np.zeros(4800, np.float32)
    found = trim_silence(np.concatenate([quiet, loud, quiet, loud]), 16_000)
    assert np.array_equal(found, np.concatenate([loud, loud]))
    assert len(trim_silence(quiet, 16_000)) == 0


def test_the_gain_comes_before_the_silence_gate(tmp_path):
    import soundfile

    from mambabench.benchmarks.task import AudioPart
    from mambabench.extract.audio import decode

    # 3 dB decide: 1.2e-3 is above the gate of 1e-3, 0.85e-3 below
    quiet = np.full(16_000, 1.2e-3, np.float32)
    loud = np.full(16_000, 0.5, np.float32)
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, loud]), 16_000, subtype="FLOAT")
    part = AudioPart(gain_db=-3.0, trim_silence=True)
    found = decode(tmp_path / "a.wav", 16_000, None, part).samples
    assert len(found) == 16_000
    assert found[0] == pytest.approx(0.5 * 10 ** (-3 / 20))
    assert asv._trimmed_samples(tmp_path / "a.wav") == 16_000


def test_a_phone_that_superb_does_not_know(tmp_path):
    (tmp_path / "words.txt").write_text("ONE W AH1 N\nTWO T UW9\n")
    with pytest.raises(DataError, match=r"words.txt, line 2: 'TWO' has UW9, none of SUPERB's 71"):
        pr.read_lexicon(tmp_path)


def test_queries(trees):
    corpus = qbe.read(trees["superb_qbe"])
    assert len(corpus.splits["documents"]) == 19  # the albanian one is left out
    truth = qbe.read_relevance(trees["superb_qbe"], "valid")
    names = {Path(clip.name).stem for clip in corpus.splits["valid"]}
    assert truth
    assert {query for query, _ in truth} <= names
    assert qbe.check(trees["superb_qbe"]) == ()


@pytest.mark.parametrize("module", [ks, ic, sid, er, pr, asv, qbe])
def test_an_empty_folder_says_what_is_missing(module, tmp_path):
    with pytest.raises(DataError, match="missing; "):
        module.read(tmp_path / "nothing")


@pytest.mark.parametrize("name", list(TREES))
def test_a_prepared_task_points_into_its_corpus(name, trees, tmp_path):
    if name == "superb_pr":
        TREES[name](tmp_path / "fresh")
    root = tmp_path / "fresh" if name == "superb_pr" else trees[name]
    done = prepare(name, root, tmp_path / "tasks")
    first = {p.name: p.read_bytes() for p in done.directory.iterdir()}
    prepare(name, root, tmp_path / "tasks")
    assert first == {p.name: p.read_bytes() for p in done.directory.iterdir()}
    task = load_task(done.directory)
    assert task.name == name
    assert task.layers == "all"
    assert task.notes == done.notes
    assert {s: len(c) for s, c in task.clips.items()} == done.n_clips
    sources = [clip.source for clips in task.clips.values() for clip in clips]
    assert all(s is not None and (s.path.is_file() or name == "superb_sid") for s in sources)
    clip = task.clips["train"][0] if "train" in task.clips else None
    if name == "superb_ks":
        assert clip.source.gain_db == -3.0
    if name == "superb_asv":
        assert clip.source.trim_silence
    if name == "superb_ic":
        assert len(clip.labels) == 3


def test_preparing_from_the_wrong_folder_says_what_it_should_hold(tmp_path):
    with pytest.raises(DataError, match="no such folder; it should hold IEMOCAP/"):
        prepare("ER", tmp_path / "x", tmp_path)
    with pytest.raises(DataError, match="no SUPERB task named 'superb_sit'; did you mean"):
        prepare("superb_sit", tmp_path, tmp_path)


def test_the_command_prepares_and_the_check_names_counts(trees, tmp_path):
    run = CliRunner().invoke
    done = run(command, ["prepare", "ER", "--data", str(trees["superb_er"]), "--to", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "superb_er: Session1" in done.output
    checked = run(command, ["check", str(tmp_path / "superb_er")])
    assert checked.exit_code == 1
    assert "superb_er/Session1: 32 clips, published 1,085" in checked.output.replace("\n", "")
    assert "label neu: 24 clips, published 1,708" in checked.output
    listed = run(command, ["list"])
    assert "superb_asv" in listed.output
