"""Decoding with a language model: a small model in ARPA's format, every path tried one by one."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from test_frames_again import quick
from trees import TREES

import mambabench
from mambabench.benchmarks.superb.prepare import prepare
from mambabench.errors import DataError, ProtocolError
from mambabench.probe.language_model import LanguageModel, Search, language_model
from mambabench.reading.arpa import read_arpa
from mambabench.store.records import read_predictions, read_record, record_paths

ARPA = """\\data\\
ngram 1=5
ngram 2=4

\\1-grams:
-1.0\t<s>\t-0.30
-0.8\t</s>
-0.6\tA\t-0.20
-0.9\tAB\t-0.10
-1.2\tB\t-0.40

\\2-grams:
-0.4\t<s> A
-0.7\tA AB
-0.2\tB B
-0.5\tAB </s>

\\end\\
"""
SYMBOLS = ("<s>", "|", "A", "B")


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "small.arpa"
    path.write_text(ARPA)
    return path


def test_probabilities_back_off(arpa):
    model = read_arpa(arpa)
    assert model.order == 2
    assert model.words == ("A", "AB", "B")
    assert model.score(("<s>",), "A") == (-0.4, ("A",))
    assert model.score(("<s>",), "B") == (pytest.approx(-0.30 - 1.2), ("B",))
    assert model.score(("A",), "AB")[0] == -0.7
    assert model.score(("AB",), "B")[0] == pytest.approx(-0.10 - 1.2)
    assert model.score((), "AB")[0] == -0.9
    assert model.score(("A",), "nowhere")[0] == -100.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no n-gram model"),
        (ARPA.replace("-0.7\tA AB", "-0.7\tA"), r"line 14: .* is no 2-gram"),
        (ARPA.replace("-1.2\tB", "often\tB"), r"line 10: .* no number"),
    ],
)
def test_a_file_of_another_form_is_named_with_its_line(text, said, tmp_path):
    path = tmp_path / "bad.arpa"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        read_arpa(path)


def by_hand(frames, model, search):
    """Try every path: letters of words that the model knows, each with its end."""
    best, words = -np.inf, []
    for path in itertools.product(range(len(SYMBOLS)), repeat=len(frames)):
        merged = [k for k, _ in itertools.groupby(path)]
        said = "".join(SYMBOLS[k] for k in merged if k)
        parts = [part for part in said.split("|") if part]
        if (said and not said.endswith("|")) or not set(parts) <= set(model.words):
            continue
        value = sum(frames[t, k] for t, k in enumerate(path))
        context = ("<s>",)
        for part in parts:
            one, context = model.score(context, part)
            value += search.model_weight * one + search.word_score
        value += search.model_weight * model.score(context, "</s>")[0]
        if value > best:
            best, words = value, parts
    return words


def test_words_are_those_of_the_best_of_all_paths(arpa):
    pytest.importorskip("flashlight.lib.text")
    model, search = language_model(arpa), Search(beam=500, threshold=1e9)
    found = set()
    for seed in range(8):
        rng = np.random.default_rng(seed)
        raw = rng.normal(size=(6, len(SYMBOLS))) * 3
        frames = (raw - np.log(np.exp(raw).sum(1, keepdims=True))).astype(np.float32)
        wanted = by_hand(frames, read_arpa(arpa), search)
        assert model.words(frames, SYMBOLS, search) == wanted, seed
        found.add(tuple(wanted))
    assert len(found) > 2


def test_what_cannot_be_spelled_is_refused(arpa):
    pytest.importorskip("flashlight.lib.text")
    with pytest.raises(DataError, match="none of its words is spelled in the task's letters"):
        language_model(arpa).words(np.zeros((3, 3), np.float32), ("<s>", "|", "Z"))


def test_a_missing_file_or_decoder_is_said(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "flashlight", None)
    monkeypatch.setitem(sys.modules, "flashlight.lib", None)
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(ProtocolError, match=r"pip install 'mambabench\[lm\]'"):
        language_model(tmp_path / "none.arpa")


def shown_beside_and_counted_nowhere(out, rate):
    """Every format has the column, with published rows below; no rank or score follows from it."""
    body = json.loads(mambabench.report(out, "json").text)
    assert [row["metric"] for row in body["rows"]] == ["wer"]
    (beside,) = body["beside"]
    assert (beside["metric"], beside["mean"]) == ("wer_lm", pytest.approx(rate))
    assert beside["boot_low"] <= rate <= beside["boot_high"]
    assert "decoded with the language model words.arpa" in beside["note"]
    assert (beside["best"], beside["ties"]) == (False, "")
    assert {row["task"] for row in body["ranks"]} <= {"superb_asr", None}
    points = {one["normalisation"] for one in body["overall"]}
    assert points == {"SUPERB points, ASR", "SUPERB score"}
    assert {row["metric"] for row in body["published"]} == {"wer", "wer_lm"}
    shown = f"{100 * rate:.1f}"
    texts = {
        form: mambabench.report(out, form, published=99, width=200).text
        for form in ("terminal", "markdown", "latex")
    }
    (page,) = out.rglob("report.html")
    for form, text in {**texts, "page": page.read_text()}.items():
        assert "+ LM" in text, form
        assert "in no score" in text, form
        assert shown in text, form
        assert "4.8" in text, form  # HuBERT Base with a language model, as published
    one, _, _ = mambabench.report(out, "csv", published=0).text.partition("\n\n")
    head, line = (row.split(",") for row in one.splitlines()[:2])
    (place,) = [i for i, name in enumerate(head) if name.endswith("+ LM")]
    assert float(line[place]) == pytest.approx(rate)
    assert line[place + 2] == ""
    for form in ("terminal", "markdown", "latex", "csv"):
        text = mambabench.report(out, form, table="long").text.replace("\\_", "_")
        assert "wer_lm" in text, form


def test_the_second_column_stands_beside_the_score_and_changes_nothing(tmp_path, monkeypatch):
    pytest.importorskip("flashlight.lib.text")
    quick(monkeypatch)
    prepare("superb_asr", TREES["superb_asr"](tmp_path / "corpus", 24), tmp_path / "tasks")
    texts = (tmp_path / "corpus/LibriSpeech/test-clean").rglob("*.trans.txt")
    said = {w for text in texts for line in text.read_text().splitlines() for w in line.split()[1:]}
    grams = "".join(f"-1.0\t{word}\t0.0\n" for word in ("<s>", "</s>", *sorted(said)))
    model = tmp_path / "words.arpa"
    model.write_text(f"\\data\\\nngram 1={len(said) + 2}\n\n\\1-grams:\n{grams}\n\\end\\\n")
    searched = LanguageModel.words
    # a hardly trained head spells nothing: some words are right, so that clips differ
    monkeypatch.setattr(LanguageModel, "words", lambda *a: [*searched(*a), *sorted(said)[:5]])
    out = tmp_path / "out"
    mambabench.extract(["logmel_stats"], [tmp_path / "tasks"], out=out, jobs=1)
    mambabench.probe(1, "superb", out=out, jobs=1)
    (path,) = record_paths(out)
    plain = read_record(path)
    assert mambabench.probe(1, "superb", out=out, jobs=1, lm=model).n_trained == 1
    record = read_record(path)
    assert record.score == plain.score
    scores = dict(record.folds[0].scores)
    counts = read_predictions(path)["test/counts:wer_lm"]
    assert scores.pop("wer_lm") == pytest.approx(counts[:, 0].sum() / counts[:, 1].sum())
    assert scores == plain.folds[0].scores
    assert record.folds[0].grid_point["language_model"] == "words.arpa"
    table = mambabench.load_results(out, metrics="all")
    assert set(table["metric"]) == {"wer", "uer", "wer_lm"}
    shown_beside_and_counted_nowhere(out, record.folds[0].scores["wer_lm"])
    assert mambabench.probe(1, "superb", out=out, jobs=1, lm=model).n_present == 1
    assert mambabench.verify(out).findings == ()
    with pytest.raises(ProtocolError, match="--lm decodes letters under superb"):
        mambabench.probe(1, "sound", out=out, lm=model)
