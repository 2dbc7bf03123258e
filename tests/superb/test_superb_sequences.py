"""ASR, SF and SD: metrics by other means, corpora and their complaints, heads, selection."""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_superb_protocol import permuted, result_of, stored
from trees import TREES

from mambabench.benchmarks.kinds import speaker_turns
from mambabench.benchmarks.kinds.speaker_turns import Turn
from mambabench.benchmarks.metrics import slot_texts
from mambabench.benchmarks.metrics.edit_distance import edit_distance_of, pooled_rate
from mambabench.benchmarks.superb import asr, sd, sf
from mambabench.benchmarks.superb.score import points
from mambabench.benchmarks.task import Clip, Event, Task, folds
from mambabench.engine.jobs import Stopped
from mambabench.errors import DataError
from mambabench.probe import sequence_heads as sh
from mambabench.probe.families import diarization as diarize
from mambabench.probe.families import sequences
from mambabench.probe.families.symbols import share_too_long
from mambabench.probe.families.trials import Running
from mambabench.probe.frame_training import FrameSettings
from mambabench.probe.heads.frame_heads import Speech
from mambabench.probe.protocols import PROTOCOLS
from mambabench.probe.protocols import superb as superb_protocol
from mambabench.store.embeddings import EmbeddingSet, StoredTask


def shortened(name, by):
    protocol = PROTOCOLS[name]
    return replace(protocol, settings=replace(protocol.settings, shorten=by))


FASTER = {name: shortened(name, 100) for name in ("superb", "superb-clean")}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def slow_distance(a: list[str], b: list[str]) -> int:
    """Levenshtein by its recursive definition, cell by cell."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        table[i, j] = min(
            table[i - 1, j] + 1,
            table[i, j - 1] + 1,
            table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
        )
    return table[len(a), len(b)]


def test_word_error_rates_by_another_implementation():
    rng = np.random.default_rng(0)
    pairs = [
        [list(rng.choice(["A", "BE", "SEE"], rng.integers(0, 6))) for _ in range(2)]
        for _ in range(60)
    ]
    for reference, hypothesis in pairs:
        assert edit_distance_of(reference, hypothesis) == slow_distance(reference, hypothesis)
    expected = sum(slow_distance(*pair) for pair in pairs) / sum(len(r) for r, _ in pairs)
    assert pooled_rate([r for r, _ in pairs], [h for _, h in pairs]) == pytest.approx(expected)


def brute_error(reference: list[Turn], hypothesis: list[Turn], tick: float = 0.01) -> float:
    """The error rate tick by tick, over every one-to-one map of speakers."""
    last = max(t.end_s for t in reference + hypothesis)
    ticks = np.arange(0, round(last / tick)) * tick + tick / 2

    def active(turns: list[Turn]) -> dict[str, np.ndarray]:
        names = sorted({t.speaker for t in turns})
        return {
            n: np.any([(ticks > t.start_s) & (ticks < t.end_s) for t in turns if t.speaker == n], 0)
            for n in names
        }

    there, given = active(reference), active(hypothesis)
    n_there, n_given = sum(map(np.int64, there.values())), sum(map(np.int64, given.values()))
    left, right = list(there), list(given)
    right += [None] * max(0, len(left) - len(right))
    right_sets = itertools.permutations(right, len(left))
    common = max(
        sum(int((there[a] & given[b]).sum()) for a, b in zip(left, pick, strict=True) if b)
        for pick in right_sets
    )
    wrong = np.maximum(n_there, n_given).sum() - common
    return float(wrong / n_there.sum())


def test_diarization_errors_by_brute_force():
    rng = np.random.default_rng(1)
    for _ in range(25):
        sides = []
        for prefix in "rh":
            turns = []
            for _ in range(rng.integers(1, 5)):
                start, length = rng.integers(0, 300) / 100, rng.integers(1, 150) / 100
                turns.append(Turn("a", start, start + length, f"{prefix}{rng.integers(0, 3)}"))
            sides.append(turns)
        found = speaker_turns.error_rate([speaker_turns.count_errors(*sides)])
        assert found == pytest.approx(brute_error(*sides), abs=1e-9)
    assert math.isnan(speaker_turns.error_rate([speaker_turns.count_errors([], [])]))


def test_medians_by_scipy():
    from scipy.ndimage import median_filter

    probability = np.random.default_rng(2).random((90, 2))
    for median in (1, 11):
        turns = speaker_turns.speech_turns("a", probability, 0.5, median, 160, rounded=False)
        expected = (probability > 0.5).astype(int)
        if median > 1:
            expected = median_filter(expected, (median, 1), mode="constant")
        found = np.zeros_like(expected)
        for turn in turns:
            span = slice(round(turn.start_s * 100), round(turn.end_s * 100))
            found[span, int(turn.speaker[-1])] = 1
        assert np.array_equal(found, expected)


def test_slot_types_and_values():
    reference = "PLAY B-artist SADE E-artist B-timeRange NOW E-timeRange"
    assert slot_texts.type_f1_of(reference, "PLAY B-artist SAD E-artist") == pytest.approx(2 / 3)
    assert slot_texts.value_errors(reference, "PLAY B-artist SAD E-artist") == (1 + 3, 7)
    # markers in a value: taken out of a hypothesis, not of a reference
    nested = "B-artist B-x SADE E-artist"
    assert slot_texts.value_errors(nested, "B-artist SADE E-artist") == (4, 8)
    assert slot_texts.value_errors("B-artist SADE E-artist", nested) == (0, 4)
    assert slot_texts.type_f1_of("HELLO", "HELLO") == 1.0
    assert math.isnan(slot_texts.value_rate(["HELLO"], ["HELLO"]))
    assert math.isnan(slot_texts.type_f1([], []))


def test_published_sizes():
    text = sh.TextHead(1, 768, 32).head
    slot = sh.TextHead(1, 768, 109).head
    turns = sh.DiarizationHead(768)
    sizes = [sum(p.numel() for p in head.parameters()) for head in (text, slot, turns)]
    assert sizes == [42_828_832, 42_986_605, 2_626_562]
    lengths = np.random.default_rng(0).integers(20_000, 400_000, 28_539)
    batches = sh.length_batches(lengths.tolist())
    assert len(batches) == 1_783
    assert sorted({len(batch) for batch in batches}) == [16, 27]
    assert len(asr.SYMBOLS) == 32
    assert len(sf.symbols_of([f"type{i}" for i in range(39)])) == 109


def test_hubert_base_points():
    assert points("ASR", {"wer": 6.42}) == pytest.approx(856.9, abs=0.05)
    assert points("SF", {"f1": 88.53, "cer": 25.20}) == pytest.approx(913.1, abs=0.05)
    assert points("SD", {"der": 5.88}) == pytest.approx(941.3, abs=0.05)


def test_corpora_in_their_layouts(tmp_path):
    corpus = asr.read(TREES["superb_asr"](tmp_path / "asr"))
    assert {s: len(c) for s, c in corpus.splits.items()} == {"train": 96, "valid": 24, "test": 24}
    assert {c.labels[-1] for c in corpus.splits["test"]} == {"</s>"}
    assert {c.cluster for c in corpus.splits["test"]} == {"100", "101", "102", "103"}
    assert any("published 28,539" in str(d) for d in asr.check(tmp_path / "asr"))
    corpus = sf.read(TREES["superb_sf"](tmp_path / "sf"))
    assert len(corpus.labels) == 31 + 4
    assert corpus.splits["train"][0].cluster.startswith("snips-train-")
    assert any("35 symbols, published 109" in str(d) for d in sf.check(tmp_path / "sf"))
    corpus = sd.read(TREES["superb_sd"](tmp_path / "sd"))
    assert {c.cluster for c in corpus.splits["train"]} == {"11+23", "31+9"}
    assert all(len(c.turns) == 2 for c in corpus.splits["train"])
    assert any("10 clips, published 3,000" in str(d) for d in sd.check(tmp_path / "sd"))


@pytest.mark.parametrize(
    ("task", "file", "line", "message"),
    [
        ("superb_asr", "LibriSpeech/dev-clean/100/7/100-7.trans.txt", "100-7-0000 CAFÉ",
         r"line 1, clip 100-7-0000: the letters É are none of ASR's 32 symbols"),
        ("superb_asr", "LibriSpeech/dev-clean/100/7/100-7.trans.txt", "100-7-0000",
         r"line 1: '100-7-0000' is not 'id TRANSCRIPT'"),
        ("superb_sf", "SNIPS/all.iob.snips.txt", "Ivy-snips-train-0 BOS A B EOS\tO O Play",
         r"line 1: .* is not 'BOS words EOS<TAB>O tags intent'"),
        ("superb_sf", "SNIPS/all.iob.snips.txt", "Ivy-snips-train-0 BOS A EOS\tO city Play",
         r"line 1: tag 'city' is no type of slots.txt"),
        ("superb_sf", "SNIPS/all.iob.snips.txt", "Nobody-1 BOS A EOS\tO O Play",
         r"has no line for Ivy-snips-train-0"),
        ("superb_sf", "SNIPS/slots.txt", "artist\ntimeRange",
         r"the first line is 'artist', not 'O'"),
        ("superb_sd", "alignments/dev-clean.rttm", "SPEAKER 2000-0000 1 zero 1.0 <NA> <NA> 31",
         r"dev-clean.rttm, line 1: .* is not 'SPEAKER file 1 start duration"),
        ("superb_sd", "alignments/dev-clean.rttm", "SPEAKER 9-9 1 0.0 1.0 <NA> <NA> 31 <NA>",
         r"line 2: no alignment of utterance '2000-0000'"),
        ("superb_sd", "Libri2Mix/wav16k/max/metadata/mixture_dev_mix_both.csv", "mixture_ID\nx",
         r"has no column mixture_path, length"),
        ("superb_sd", "Libri2Mix/wav16k/max/metadata/mixture_dev_mix_both.csv",
         "mixture_ID,mixture_path,length\nx,y,12", r"line 2: mixture_ID 'x' is not"),
    ],
)  # fmt: skip
def test_malformed_lines_are_named(tmp_path, task, file, line, message):
    module = {"superb_asr": asr, "superb_sf": sf, "superb_sd": sd}[task]
    root = TREES[task](tmp_path, 8)
    (root / file).write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        module.read(root)


def test_another_sample_rate_is_named(tmp_path):
    import soundfile

    root = TREES["superb_sd"](tmp_path, 8)
    clip = sd.read(root).splits["test"][0]
    samples, _ = soundfile.read(root / clip.path)
    soundfile.write(root / clip.path, samples, 8_000)
    assert any("has 8000 Hz, SUPERB's is 16,000" in str(d) for d in sd.check(root))
    (root / clip.path).unlink()
    assert any("no such file" in str(d) for d in sd.check(root))


@pytest.mark.parametrize("module", [asr, sf, sd])
def test_an_empty_folder_says_what_is_missing(module, tmp_path):
    with pytest.raises(DataError, match="missing; "):
        module.read(tmp_path / "nothing")


def test_targets_that_do_not_fit_are_counted():
    assert share_too_long([[1, 1, 2], [1, 2], [3]], [3, 2, 1]) == pytest.approx(1 / 3)
    assert share_too_long([], []) == 0.0


def test_text_heads_ignore_padding_and_draw_from_their_own_noise():
    head = sh.TextHead(2, 60, 9, width=8)
    clips = [np.random.default_rng(i).normal(size=(n, 2, 60)) for i, n in enumerate((30, 45))]
    from mambabench.probe.heads.frame_heads import padded

    head.eval()
    together = head(*padded(clips))
    for i, clip in enumerate(clips):
        alone = head(*padded([clip]))[0]
        assert (together[i, : len(clip)] - alone).abs().max() <= 1e-5
    head.train()
    draws = [head(*padded(clips), torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    torch.manual_seed(7)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_cut_off_text_trial_goes_on_to_the_same_bytes(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.normal(size=(20, 1, 60)).astype(np.float16) for _ in range(12)]
    speech = Speech(frames, [[1, 2], [2, 1, 1]] * 6, [320 * 20] * 12)
    stop, calls = threading.Event(), []

    def train(settings: FrameSettings) -> tuple[dict, float, int]:
        def score(decoded: list[list[int]]) -> float:
            calls.append(len(decoded))
            if len(calls) == 3 and settings.stop is not None:
                stop.set()
            return 1.0 - 0.01 * len(calls)

        head, value, step = sh.train_text(
            speech, frames[:3], score, settings, 0, n_symbols=4, width=8,
            batches=sh.length_batches(speech.samples(), 4),
        )  # fmt: skip
        return head.state_dict(), value, step

    plain = FrameSettings(1e-2, 12, batch_size=4, accumulation=1, eval_every=2)
    whole = train(plain)
    calls.clear()
    with pytest.raises(Stopped):
        train(replace(plain, stop=stop, snapshot=tmp_path / "s.pt"))
    again = train(replace(plain, snapshot=tmp_path / "s.pt"))
    assert len(calls) == 6
    assert again[1:] == whole[1:]
    assert all(torch.equal(again[0][k], whole[0][k]) for k in whole[0])


def two_speakers(monkeypatch, tmp_path, n: int = 10) -> StoredTask:
    """Two speakers as noisy directions, one after the other, half a second in common."""
    rng = np.random.default_rng(3)
    codes = rng.normal(size=(2, 8))
    clips, sets = {}, {}
    for split in ("train", "valid", "test"):
        named, rows = [], []
        for i in range(n):
            first, second = sorted(rng.integers(5, 55, 2).tolist())
            events = (
                Event("s1", 0.0, 20.0 * (second + 5)),
                Event("s2", 20.0 * first, 1200.0),
            )
            frames = 0.8 * rng.normal(size=(60, 8))
            frames[: second + 5] += codes[0]
            frames[first:] += codes[1]
            rows.append(frames)
            named.append(Clip(f"{split}{i}", events=events, cluster="s1+s2"))
        clips[split] = tuple(named)
        sets[split] = EmbeddingSet(
            split,
            tuple(c.name for c in named),
            np.concatenate(rows)[:, None].astype(np.float16),
            np.arange(n + 1) * 60,
            np.tile(np.arange(60, dtype=np.float32) * 20, n),
        )
    task = Task(
        name="meetings",
        directory=tmp_path,
        embedding_type="event",
        prediction_type="diarization",
        split_mode="trainvaltest",
        splits=("train", "valid", "test"),
        sample_duration_s=None,
        evaluation=("der",),
        labels=("s1", "s2"),
        clips=clips,
        sample_rates_hz=(),
        pooling="frames",
    )
    return stored(monkeypatch, task, sets)


def shifted(one: StoredTask, split: str) -> StoredTask:
    """Say that somebody else speaks, at other times, in a split."""
    clips = tuple(
        replace(c, events=(Event("s1", 0.0, 300.0), Event("s2", 600.0, 700.0)))
        for c in one.task.clips[split]
    )
    return replace(one, task=replace(one.task, clips=one.task.clips | {split: clips}))


def test_test_turns_reach_the_setting_of_superb_but_not_of_the_clean_preset(monkeypatch, tmp_path):
    monkeypatch.setitem(
        superb_protocol.RECIPES,
        "SD",
        replace(
            superb_protocol.RECIPES["SD"], total_steps=6_000, shortened_rates=(1e-2,), evaluations=3
        ),
    )
    one = two_speakers(monkeypatch, tmp_path)
    other = shifted(one, "test")
    found = {}
    for name, preset in FASTER.items():
        plan = diarize.plan_fold(one, preset, 0, folds(one.task)[0])
        trained = [trial.run(Running()) for trial in plan.trials]
        later = diarize.plan_fold(other, preset, 0, folds(one.task)[0])
        found[name] = [p.finish(trained, Running()).result for p in (plan, later)]
    before, after = found["superb-clean"]
    assert before.grid_point == after.grid_point
    assert before.head_sha256 == after.head_sha256
    assert before.scores["der"] < 0.2
    assert after.scores["der"] > before.scores["der"]
    assert found["superb"][0].grid_point != found["superb"][1].grid_point
    assert found["superb"][0].grid_point["selected_on"] == "test"
    assert before.grid_point["selected_on"] == "validation"
    assert before.grid_point["label_shift_samples"] == 320


def test_three_speakers_are_refused(monkeypatch, tmp_path):
    one = two_speakers(monkeypatch, tmp_path, n=2)
    clips = one.task.clips["test"]
    crowded = replace(clips[0], events=(*clips[0].events, Event("s3", 0.0, 1.0)))
    wrong = replace(one, task=replace(one.task, clips=one.task.clips | {"test": (crowded,)}))
    with pytest.raises(DataError, match="clip 'test0' has 3 speakers"):
        diarize.plan_fold(wrong, PROTOCOLS["superb"], 0, folds(one.task)[0])


def test_a_foreign_text_task_is_probed_and_its_test_labels_do_not_choose(monkeypatch, tmp_path):
    from test_superb_protocol import phone_task

    monkeypatch.setitem(
        superb_protocol.RECIPES,
        "ASR",
        replace(superb_protocol.RECIPES["ASR"], total_steps=600, evaluations=3, batch_size=4),
    )
    one = phone_task(monkeypatch, tmp_path, ("<s>", "<eos>", "</s>", "A", "|"))
    text = replace(one, task=replace(one.task, prediction_type="text", evaluation=("wer", "uer")))
    monkeypatch.setitem(PROTOCOLS, "superb-clean", FASTER["superb-clean"])
    before = result_of(sequences, text, "superb-clean")
    after = result_of(sequences, permuted(text, "test"), "superb-clean")
    assert before.head_sha256 == after.head_sha256
    assert before.grid_point == after.grid_point
    assert set(before.scores) == {"wer", "uer"}
    assert before.grid_point["width"] == 64
