"""Runners for the golden cases of SUPERB's sequence tasks: kind -> function of a case."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from mambabench.benchmarks.kinds import speaker_turns
from mambabench.benchmarks.kinds.text import text_of, units_of, words_of
from mambabench.benchmarks.metrics import slot_texts
from mambabench.benchmarks.metrics.edit_distance import pooled_rate
from mambabench.benchmarks.superb import asr, sd, sf
from mambabench.probe import sequence_heads as sh
from mambabench.probe.heads import frame_heads as fh
from mambabench.probe.spec_augment import spec_augment

Case = dict[str, Any]


def load(folder: Path) -> Case:
    return json.loads((folder / "case.json").read_text())


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def listed(found: dict[str, np.ndarray], prefix: str) -> list[np.ndarray]:
    return [found[f"{prefix}/{i}"] for i in range(sum(n.startswith(f"{prefix}/") for n in found))]


def near(found: Any, expected: Any, case: Case) -> None:
    """Compare as the case's tolerance says."""
    tolerance = case["recommended_tolerance"]
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    scale = (
        1.0 if tolerance["kind"] == "abs" else max(float(np.abs(expected).max(initial=0)), 1e-30)
    )
    assert np.abs(found - expected).max(initial=0) <= tolerance["value"] * scale


def asr_text(case: Case, folder: Path) -> None:
    assert list(asr.SYMBOLS) == case["dictionary"]
    for one in case["cases"]:
        symbols = asr.encode_text(one["text"])
        assert [asr.SYMBOLS.index(s) for s in symbols] == one["ids"]
        assert " ".join(units_of(symbols)) == one["tokens_back"]
        assert words_of(symbols) == one["words_back"]


def wer(case: Case, folder: Path) -> None:
    def rates(pairs: list[Case]) -> dict[str, float]:
        words = [(p["reference"].split(), p["hypothesis"].split()) for p in pairs]
        units = [(p["reference_units"].split(), p["hypothesis_units"].split()) for p in pairs]
        return {
            name: 100 * pooled_rate([r for r, _ in sides], [h for _, h in sides])
            for name, sides in (("wer", words), ("uer", units))
        }

    for one in case["cases"]:
        for name, value in rates([one]).items():
            near(value, one["alone"][name], case)
    for key, pairs in (("pooled", case["cases"]), ("of_nothing", [])):
        for name, value in rates(pairs).items():
            near(value, case[key][name], case)


def _named(weights: dict[str, torch.Tensor], *, text: bool) -> dict[str, torch.Tensor]:
    """Give s3prl's parameters our names: model.rnns.0.layer.x -> rnns.0.x."""
    return {
        name.replace("model.", "").replace(".layer.", "."): tensor
        for name, tensor in weights.items()
        if not name.startswith("featurizer")
    }


def _text_head(case: Case, folder: Path, n_symbols: int, dim: int) -> sh.RecurrentHead:
    width = case["config"]["RNNs"]["dim"][0]
    head = sh.RecurrentHead(dim, n_symbols, case["config"]["project_dim"], width)
    head.load_state_dict(_named(load_file(folder / "weights.safetensors"), text=True))
    return head


def _gradients(head: torch.nn.Module, out: dict[str, np.ndarray], case: Case) -> None:
    wanted = {
        name.removeprefix("grad/").replace("model.", "").replace(".layer.", "."): value
        for name, value in out.items()
        if name.startswith("grad/")
    }
    found = dict(head.named_parameters())
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        near(found[name].grad, value, case)


def text_head(case: Case, folder: Path) -> None:
    given, out = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    features = [torch.from_numpy(f).requires_grad_() for f in listed(given, "features")]
    targets = [t.tolist() for t in listed(given, "labels")]
    head = _text_head(case, folder, out["log_probs/0"].shape[1], features[0].shape[1]).eval()
    lengths = torch.tensor([len(f) for f in features])
    logits = head(torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths)
    scores = torch.log_softmax(logits, -1)
    for i, length in enumerate(lengths):
        near(scores[i, :length].detach(), out[f"log_probs/{i}"], case)
    loss = fh.ctc_loss(logits, lengths, targets)
    near(loss.detach(), out["loss"], case)
    loss.backward()
    _gradients(head, out, case)
    for i, feature in enumerate(features):
        near(feature.grad, out[f"grad_features/{i}"], case)
    _records(case, logits, lengths, targets)


def _records(case: Case, logits: torch.Tensor, lengths: torch.Tensor, targets: list) -> None:
    """Compare the decoded texts, where the case has some."""
    records = case.get("records", {})
    if "pred_words" in records:
        for i, length in enumerate(lengths):
            symbols = [asr.SYMBOLS[k] for k in fh.decode_greedy(logits[i], int(length), (2,))]
            assert " ".join(symbols) == records["pred_tokens"][i]
            assert words_of(symbols) == records["pred_words"][i]
            said = [asr.SYMBOLS[k] for k in targets[i]]
            assert words_of(said) == records["target_words"][i]
            assert " ".join(units_of(said)) == records["target_tokens"][i]
    if "hypothesis" in records:
        symbols = sf.symbols_of(case["slots_txt"][1:])
        assert len(symbols) == case["n_symbols"]
        for i in range(len(lengths)):
            # s3prl decodes all frames of the batch row; the head gives one value on padding
            path = [symbols[k] for k in fh.decode_greedy(logits[i], logits.shape[1], (1,))]
            assert text_of(path) == records["hypothesis"][i]
            said = text_of([symbols[k] for k in targets[i]], until_end=True)
            assert said == records["groundtruth"][i]


def asr_steps(case: Case, folder: Path) -> None:
    given, out = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    layers = [torch.from_numpy(h) for h in listed(given, "hidden_states")]
    hidden = torch.stack(layers, dim=2)  # [n_clips, n_frames, n_layers, dim]
    head = sh.TextHead(len(layers), hidden.shape[3], 32, case["config"]["RNNs"]["dim"][0])
    head.head = _text_head(case, folder, 32, hidden.shape[3])
    head.eval()  # no dropout, no masks
    optimiser = torch.optim.Adam(head.parameters(), lr=case["learning_rate"])
    n_frames = [round(int(n) / 320) for n in given["wav_samples"]]
    assert n_frames == [int(n) for n in listed(out, "feature_frames")]
    lengths = torch.tensor(n_frames)
    frames = torch.zeros(len(n_frames), max(n_frames), *hidden.shape[2:])
    for i, n in enumerate(n_frames):
        frames[i, :n] = hidden[i, :n]
    for step, expected in enumerate(listed(out, "loss")):
        loss = fh.ctc_loss(
            head(frames, lengths), lengths, [t.tolist() for t in listed(given, "labels")]
        )
        near(loss.detach(), expected, case)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), case["clip"])
        optimiser.step()
        assert step < 3
    near(head.layers.weights.detach(), out["after/featurizer.weights"], case)
    found = dict(head.head.named_parameters())
    for name, value in out.items():
        if name.startswith("after/") and not name.startswith("after/featurizer"):
            own = name.removeprefix("after/").replace("model.", "").replace(".layer.", ".")
            near(found[own].detach(), value, case)


def asr_greedy(case: Case, folder: Path) -> None:
    given = arrays(folder / "inputs.npz")
    rows = zip(given["log_probs"], given["lengths"], case["tokens"], case["words"], strict=True)
    for scores, length, tokens, words in rows:
        path = fh.decode_greedy(torch.from_numpy(scores), int(length), (2,))
        symbols = [asr.SYMBOLS[k] for k in path]
        assert " ".join(symbols) == tokens
        assert words_of(symbols) == words


def asr_batches(case: Case, folder: Path) -> None:
    for one in case["cases"]:
        assert sh.length_batches(one["lengths"], one["bucket"]) == one["batches"]


def specaug(case: Case, folder: Path) -> None:
    given, out = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    clips = [torch.from_numpy(x) for x in listed(given, "x")]
    draws = iter(case["draws"])

    def drawn(low: int, high: int, shape: tuple[int, ...]) -> torch.Tensor:
        draw = next(draws)
        assert [low, high, list(shape)] == [draw["low"], draw["high"], draw["size"]]
        return torch.tensor(draw["values"]).reshape(shape)

    lengths = torch.tensor([len(x) for x in clips])
    found = spec_augment(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True), lengths, drawn)
    assert next(draws, None) is None
    for i, length in enumerate(lengths):
        near(found[i, :length], out[f"y/{i}"], case)


def sf_greedy(case: Case, folder: Path) -> None:
    symbols = sf.symbols_of(case["slots_txt"][1:])
    assert len(symbols) == case["n_symbols"]
    for one in case["cases"]:
        logits = torch.nn.functional.one_hot(torch.tensor(one["path"]), len(symbols)).float()
        path = fh.decode_greedy(logits, len(logits), (1,))
        assert text_of([symbols[k] for k in path]) == one["text"]


def slot_text(case: Case, folder: Path) -> None:
    symbols = sf.symbols_of(case["slots_txt"][1:])
    for one in case["cases"]:
        encoded = sf.encode_line(one["line"], symbols)
        assert [symbols.index(s) for s in encoded] == one["ids"]
        assert text_of(encoded, until_end=True) == one["text"]


def slot_metrics(case: Case, folder: Path) -> None:
    def scores(pairs: list[Case]) -> dict[str, float]:
        references = [p["reference"] for p in pairs]
        hypotheses = [p["hypothesis"] for p in pairs]
        return {
            "slot_type_f1": slot_texts.type_f1(references, hypotheses),
            "slot_value_cer": slot_texts.value_rate(references, hypotheses),
            "slot_value_wer": slot_texts.value_rate(references, hypotheses, words=True),
            "slot_edit_f1_full": slot_texts.edit_f1(references, hypotheses, full=True),
            "slot_edit_f1_part": slot_texts.edit_f1(references, hypotheses, full=False),
            "wer": slot_texts.text_error_rate(references, hypotheses, words=True),
            "cer": slot_texts.text_error_rate(references, hypotheses, words=False),
        }

    for one in case["cases"]:
        for name, value in scores([one]).items():
            expected = one["alone"][name]
            if isinstance(expected, str):  # the original divides by nothing
                assert math.isnan(value), name
            else:
                near(value, expected, case)
        parsed = one["parsed"]
        assert slot_texts.unmarked(one["reference"]) == parsed["reference_text"]
        assert slot_texts.unmarked(one["hypothesis"]) == parsed["hypothesis_text"]
        for side in ("reference", "hypothesis"):
            found = slot_texts.found_slots(one[side], hypothesis=side == "hypothesis")
            assert ";".join(f"{s.value}:{s.kind}" for s in found) == parsed[f"{side}_slots"]
    for name, value in scores(case["cases"]).items():
        near(value, case["pooled"][name], case)
    for one in case["raises"]:  # where the original raises there is a score
        assert slot_texts.type_f1_of(one["reference"], one["hypothesis"]) == 1.0


def sd_prepare(case: Case, folder: Path) -> None:
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(case["metadata_csv"])))
    alignment: dict[str, list[speaker_turns.Turn]] = {}
    for turn in speaker_turns.read_rttm(case["alignment_rttm"]):
        alignment.setdefault(turn.recording, []).append(turn._replace(end_s=round(turn.end_s, 6)))
    mixtures = sd.mixtures_of(rows, alignment, Path("mixtures.csv"))
    paths = {m.name: f"<root>/Libri2Mix/wav16k/max/test/mix_both/{m.name}.wav" for m in mixtures}
    found = sd.kaldi_files(mixtures, paths)
    expected = case["files_written"]
    assert {name: found[name] for name in expected} == expected


def sd_labels(case: Case, folder: Path) -> None:
    out = arrays(folder / "outputs.npz")
    turns: dict[str, list[speaker_turns.Turn]] = {name: [] for name in case["recordings"]}
    for s in case["segments"]:
        turns[s["recording"]].append(
            speaker_turns.Turn(s["recording"], s["start"], s["end"], s["speaker"])
        )
    for setting, expected in case["chunks"].items():
        mode, shift, size = setting.split("/")
        step, chunk = int(shift.removeprefix("shift")), int(size.removeprefix("chunk"))
        pieces = {
            name: speaker_turns.chunks_of(n, step, chunk) for name, n in case["recordings"].items()
        }
        if mode == "test":
            assert {k: [list(p) for p in v] for k, v in pieces.items()} == expected
            flat = [(name, piece) for name in expected for piece in pieces[name]]
        else:
            flat = [(name, piece) for name, own in pieces.items() for piece in own]
            assert [[*piece, name] for name, piece in flat] == expected
        _labels_of(setting, flat, turns, step, out)


def _labels_of(setting: str, flat: list, turns: dict, step: int, out: dict) -> None:
    keys = sorted(k for k in out if k.startswith(f"{setting}/") and k.endswith("/labels"))
    found = {}
    seen: dict[str, int] = {}
    for i, (name, (first, last)) in enumerate(flat):
        speakers = sorted({turn.speaker for turn in turns[name]})
        labels = speaker_turns.frame_labels(turns[name], speakers, first, last, step)
        number = seen.get(name, 0)
        seen[name] = number + 1
        for key in (f"{setting}/{i}", f"{setting}/{name}/{number}"):
            found[f"{key}/labels"] = labels
            found[f"{key}/n_samples"] = (last - first) * step
    for key in keys:
        assert np.array_equal(found[key].astype(np.int8), out[key]), key
        n_samples = key.replace("/labels", "/n_samples")
        if n_samples in out:
            assert found[n_samples] == int(out[n_samples])
    assert keys or setting.startswith("test/")  # there only the pieces are given


def sd_head(case: Case, folder: Path) -> None:
    given, out = arrays(folder / "inputs.npz"), arrays(folder / "outputs.npz")
    features = [torch.from_numpy(f).requires_grad_() for f in listed(given, "features")]
    labels = listed(given, "labels")
    head = sh.DiarizationHead(features[0].shape[1], case["config"]["hidden_size"])
    head.load_state_dict(_named(load_file(folder / "weights.safetensors"), text=False))
    wanted, lengths = sh._padded_labels(labels, "cpu")
    padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
    logits = head(sh.match_length(padded, wanted.shape[1]))
    near(logits.detach(), out["logits"], case)
    loss, ordered = sh.permutation_free_loss(logits, wanted, lengths)
    near(loss.detach(), out["loss"], case)
    for i, order in enumerate(out["permutation"]):
        assert torch.equal(ordered[i], wanted[i][:, order.tolist()])
    counts = sh.frame_counts(logits, ordered, lengths)
    near(counts.values, out["counts"], case)
    assert tuple(case["counts_are"]) == counts.NAMES
    near(counts.accuracy, out["acc"], case)
    near(counts.error_rate, out["frame_der"], case)
    loss.backward()
    _gradients(head, out, case)
    for i, feature in enumerate(features):
        near(feature.grad, out[f"grad_features/{i}"], case)


def sd_post(case: Case, folder: Path) -> None:
    given = arrays(folder / "inputs.npz")
    for setting, expected in case["rttm"].items():
        threshold, median, *shift = setting.split("_")
        step = int(shift[0].removeprefix("shift")) if shift else 320
        text = "".join(
            speaker_turns.rttm_lines(
                speaker_turns.speech_turns(
                    name.removeprefix("T_hat/"),
                    given[name],
                    float(threshold.removeprefix("th")),
                    int(median.removeprefix("med")),
                    step,
                )
            )
            for name in sorted(given)
        )
        assert sorted(text.splitlines()) == sorted(expected.splitlines()), setting


def der(case: Case, folder: Path) -> None:
    if "cases" in case:
        for one in case["cases"]:
            _der_of(case, one["reference"], one["hypothesis"], one)
        return
    for setting, text in case["hypotheses"].items():
        _der_of(case, case["reference"], text, case["scores"][setting])
    lowest = min(case["scores"], key=lambda k: case["scores"][k]["overall"]["der"])
    assert lowest == case["lowest"]


def _der_of(case: Case, reference: str, hypothesis: str, expected: Case) -> None:
    sides = [speaker_turns.read_rttm(text) for text in (reference, hypothesis)]
    counts = {
        name: speaker_turns.count_errors(
            *[[turn for turn in side if turn.recording == name] for side in sides]
        )
        for name in {turn.recording for turn in sides[0]}
    }
    assert set(counts) == set(expected["files"])
    for name, found in counts.items():
        for part in ("scored", "miss", "false_alarm", "error"):
            near(getattr(found, part), expected["files"][name][part], case)
        near(100 * speaker_turns.error_rate([found]), expected["files"][name]["der"], case)
    near(100 * speaker_turns.error_rate(list(counts.values())), expected["overall"]["der"], case)


RUNNERS = {
    "superb.asr_text": asr_text,
    "superb.wer": wer,
    "superb.asr_head": text_head,
    "superb.sf_head": text_head,
    "superb.asr_steps": asr_steps,
    "superb.asr_greedy": asr_greedy,
    "superb.asr_batches": asr_batches,
    "superb.specaug": specaug,
    "superb.sf_greedy": sf_greedy,
    "superb.slot_text": slot_text,
    "superb.slot_metrics": slot_metrics,
    "superb.sd_prepare": sd_prepare,
    "superb.sd_labels": sd_labels,
    "superb.sd_head": sd_head,
    "superb.sd_post": sd_post,
    "superb.der": der,
}
