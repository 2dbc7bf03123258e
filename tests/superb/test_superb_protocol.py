"""SUPERB's protocols keep to their text: what is selected by what, which steps, which notes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mambabench.benchmarks.superb.notes import all_notes, notes_of
from mambabench.benchmarks.task import Clip, Task, folds
from mambabench.engine.jobs import Stopped
from mambabench.errors import DataError
from mambabench.probe.families import phones, recipes, speakers, splits, utterances
from mambabench.probe.families.trials import Running, load_trained, save_trained
from mambabench.probe.frame_training import EndlessBatches, FrameSettings, window_batches
from mambabench.probe.protocols import PROTOCOLS, Inapplicable
from mambabench.probe.protocols import superb as superb_protocol
from mambabench.store.embeddings import EmbeddingSet, StoredTask

ROOT = Path(__file__).resolve().parents[2]
BOTH = ("superb", "superb-clean")


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Few steps, many evaluations: a selection on test data would show."""
    torch.set_num_threads(1)
    for name, recipe in superb_protocol.RECIPES.items():
        few = replace(recipe, total_steps=30, evaluations=10, batch_size=8)
        if name == "ASV":
            few = replace(few, total_steps=10, batch_size=4)
        if len(few.learning_rates) == 7:
            few = replace(few, learning_rates=(1e-1, 1e-2, 1e-3, 1e-4))
        monkeypatch.setitem(superb_protocol.RECIPES, name, few)


def stored(monkeypatch, task: Task, sets: dict[str, EmbeddingSet]) -> StoredTask:
    """Return a store in memory."""
    monkeypatch.setattr(splits, "read_embeddings", lambda one, split: sets[split])
    return StoredTask(task.directory, "toy", "0" * 64, task, (0, 1), {})


def noise_task(monkeypatch, names: tuple[str, ...], *, n: int = 24, seed: int = 0) -> StoredTask:
    """Labels that features hardly tell: which head is kept depends on what selects it."""
    rng = np.random.default_rng(seed)
    clips, sets = {}, {}
    for split in names:
        labels = rng.permutation(np.arange(n) % 3)
        rows = rng.normal(size=(n, 2, 6)) + 0.4 * labels[:, None, None]
        files = tuple(f"{split}-{i:02d}.wav" for i in range(n))
        clips[split] = tuple(
            Clip(f, (f"label{k}",), cluster=f"{split}{i % 2}")
            for i, (f, k) in enumerate(zip(files, labels, strict=True))
        )
        sets[split] = EmbeddingSet(split, files, rows.astype(np.float32), np.arange(n + 1), None)
    five = len(names) > 3
    task = Task(
        name="superb_er" if five else "superb_sid",
        directory=Path("toy"),
        embedding_type="scene",
        prediction_type="multiclass",
        split_mode="presplit_kfold" if five else "trainvaltest",
        splits=names,
        sample_duration_s=None,
        evaluation=("top1_acc",),
        labels=("label0", "label1", "label2"),
        clips=clips,
        sample_rates_hz=(),
        pooling="time_mean",
    )
    return stored(monkeypatch, task, sets)


def permuted(one: StoredTask, split: str, seed: int = 1) -> StoredTask:
    """Give the clips of a split each other's labels."""
    clips = one.task.clips[split]
    order = np.random.default_rng(seed).permutation(len(clips))
    swapped = tuple(replace(c, labels=clips[i].labels) for c, i in zip(clips, order, strict=True))
    assert swapped != clips
    return replace(one, task=replace(one.task, clips=one.task.clips | {split: swapped}))


def result_of(module, one: StoredTask, protocol: str, fold: int = 0):
    plan = module.plan_fold(one, PROTOCOLS[protocol], 0, folds(one.task)[fold])
    return plan.finish([trial.run(Running()) for trial in plan.trials], Running()).result


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("protocol", BOTH)
def test_permuted_test_labels_never_change_the_head(monkeypatch, protocol, seed):
    one = noise_task(monkeypatch, ("train", "valid", "test"), seed=seed)
    before = result_of(utterances, one, protocol)
    after = result_of(utterances, permuted(one, "test"), protocol)
    assert (before.head_sha256, before.grid_point, before.best_epoch, before.validation_score) == (
        after.head_sha256,
        after.grid_point,
        after.best_epoch,
        after.validation_score,
    )
    assert before.scores != after.scores
    changed = result_of(utterances, permuted(one, "valid"), protocol)  # the test can fail
    assert changed.validation_score != before.validation_score


@pytest.mark.parametrize("fold", range(5))
def test_permuting_a_folds_labels_never_changes_the_head_tested_on_it(monkeypatch, fold):
    names = tuple(f"Session{i}" for i in range(1, 6))
    one = noise_task(monkeypatch, names)
    before = result_of(utterances, one, "superb-clean", fold)
    after = result_of(utterances, permuted(one, names[fold]), "superb-clean", fold)
    assert (before.head_sha256, before.grid_point, before.best_epoch) == (
        after.head_sha256,
        after.grid_point,
        after.best_epoch,
    )
    assert before.fold == names[fold]


def test_the_clean_rule_develops_on_speakers_that_are_not_trained_on(monkeypatch):
    names = tuple(f"Session{i}" for i in range(1, 6))
    one = noise_task(monkeypatch, names)
    for fold in folds(one.task):
        clips = [(s, c) for s in names if s != fold.test for c in one.task.clips[s]]
        origins = [split for split, _ in clips]
        train, valid = utterances.pool_rows(origins, clean=True)
        speakers = [{clips[i][1].cluster for i in rows} for rows in (train, valid)]
        assert not speakers[0] & speakers[1]
        train, valid = utterances.pool_rows(origins, clean=False)
        assert len(train) == int(0.8 * len(clips))


def speaker_task(monkeypatch, tmp_path, seed: int = 0) -> StoredTask:
    """Twelve training speakers, three test speakers, all pairs of test clips as trials."""
    rng = np.random.default_rng(seed)
    clips, sets = {}, {}
    voices = rng.normal(size=(15, 6))
    for split, ids in (("train", range(12)), ("test", range(12, 15))):
        rows, named = [], []
        for speaker in ids:
            for take in range(3):
                rows.append(0.3 * voices[speaker] + rng.normal(size=(18, 6)))
                label = (f"s{speaker}",) if split == "train" else ()
                named.append(Clip(f"{split}-{speaker}-{take}", label, cluster=f"s{speaker}"))
        clips[split] = tuple(named)
        frames = np.concatenate(rows)[:, None].astype(np.float32)
        sets[split] = EmbeddingSet(
            split,
            tuple(c.name for c in named),
            frames,
            np.arange(len(named) + 1) * 18,
            np.tile(np.arange(18, dtype=np.float32) * 10, len(named)),
        )
    write_trials(tmp_path / "trials.csv", clips["test"])
    task = Task(
        name="superb_asv",
        directory=tmp_path,
        embedding_type="scene",
        prediction_type="trials",
        split_mode="trainvaltest",
        splits=("train", "test"),
        sample_duration_s=None,
        evaluation=("eer",),
        labels=tuple(f"s{i}" for i in range(12)),
        clips=clips,
        sample_rates_hz=(),
        pooling="frames",
    )
    return stored(monkeypatch, task, sets)


def write_trials(path: Path, clips: tuple[Clip, ...], seed: int | None = None) -> None:
    pairs = [(a, b) for i, a in enumerate(clips) for b in clips[i + 1 :]]
    same = np.array([a.cluster == b.cluster for a, b in pairs])
    if seed is not None:
        same = np.random.default_rng(seed).permutation(same)
    lines = [f"{int(s)},{a.name},{b.name}" for s, (a, b) in zip(same, pairs, strict=True)]
    path.write_text("same,first,second\n" + "\n".join(lines) + "\n")


def test_the_clean_checkpoint_of_verification_never_sees_a_trial(monkeypatch, tmp_path):
    one = speaker_task(monkeypatch, tmp_path)
    fold = folds(one.task)[0]
    (tmp_path / "trials.csv").rename(tmp_path / "hidden.csv")  # training cannot read it
    plans = {protocol: speakers.plan_fold(one, PROTOCOLS[protocol], 0, fold) for protocol in BOTH}
    trained = {p: [t.run(Running()) for t in plan.trials] for p, plan in plans.items()}
    chosen: dict[str, set[tuple[str, int]]] = {protocol: set() for protocol in BOTH}
    for seed in range(4):  # other trials
        write_trials(tmp_path / "trials.csv", one.task.clips["test"], seed)
        for protocol, plan in plans.items():
            result = plan.finish(trained[protocol], Running()).result
            chosen[protocol].add((result.head_sha256, result.best_epoch))
            by = "test" if protocol == "superb" else "held-out training speakers"
            assert result.grid_point["selected_on"] == by
    assert len(chosen["superb-clean"]) == 1
    assert len(chosen["superb"]) > 1  # s3prl's rule does take the checkpoint by the trials


def test_ten_checkpoints_of_verification_are_tried(monkeypatch):
    monkeypatch.undo()
    recipe = superb_protocol.RECIPES["ASV"]
    steps = speakers.checkpoints_of(recipe.total_steps, recipe.evaluations)
    assert steps == [20_000 * i for i in range(1, 11)]
    total, _ = recipes.steps_of(
        recipe, replace(PROTOCOLS["superb"], settings=PROTOCOLS["superb"].grids["fast"])
    )
    assert speakers.checkpoints_of(total, recipe.evaluations) == [2_000 * i for i in range(1, 11)]


def test_every_checkpoint_is_tried(monkeypatch, tmp_path):
    one = speaker_task(monkeypatch, tmp_path)
    plan = speakers.plan_fold(one, PROTOCOLS["superb"], 0, folds(one.task)[0])
    (trained,) = [trial.run(Running()) for trial in plan.trials]
    steps = {int(name.partition("/")[0]) for name in trained.arrays if "/" in name}
    assert steps == set(range(1, 11))
    tried = []
    scores = speakers._scores

    def seen(network, split, pairs):
        tried.append(speakers.tensors_sha256(list(network.parameters())))
        return scores(network, split, pairs)

    monkeypatch.setattr(speakers, "_scores", seen)
    plan.finish([trained], Running())
    assert len(set(tried)) == 10


def test_published_recipes():
    """s3prl's configurations: batch times accumulation, steps, evaluations."""
    text = (ROOT / "mambabench/probe/protocols/superb.py").read_text()
    assert "RECIPES" in text
    for name, total in (("KS", 200_000), ("ER", 30_000), ("PR", 100_000), ("ASV", 200_000)):
        assert f'"{name}": HeadRecipe(' in text
        assert f"{total:_}" in text


def test_windows_of_neighbours_and_the_halved_one():
    sizes = [3, 9, 5, 7, 1]  # longest first: clips 1, 3, 2, 0, 4
    windows = window_batches(sizes, [0] * 5, 2)
    assert windows == [[1, 3], [3, 2], [2, 0], [0, 4], [0, 4]]
    long_first = window_batches(sizes, [0, 300_001, 0, 300_000, 0], 2)
    assert long_first[0] == [1]  # over 300,000 samples: half of the window
    assert long_first[1] == [3, 2]
    assert window_batches([4, 4, 4], [0] * 3, 16) == [[0, 1, 2]] * 3  # equals keep their order


def test_epochs_go_on_where_they_stood():
    def draw(generator):
        return [[int(i)] for i in generator.permutation(5)]

    whole = EndlessBatches(draw, (0, 1))
    expected = [whole()[0] for _ in range(17)]
    cut = EndlessBatches(draw, (0, 1))
    assert [cut()[0] for _ in range(8)] == expected[:8]
    later = EndlessBatches(draw, (9, 9))
    later.restore(cut.state())
    assert [later()[0] for _ in range(9)] == expected[8:]


def phone_task(monkeypatch, tmp_path, labels=("<pad>", "<eos>", "<unk>", "A", "B")) -> StoredTask:
    rng = np.random.default_rng(0)
    clips, sets = {}, {}
    codes = 2 * rng.normal(size=(len(labels), 8))
    for split in ("train", "valid", "test"):
        rows, named, offsets, times = [], [], [0], []
        for i in range(12):
            said = [labels[3 + int(k)] for k in rng.integers(0, len(labels) - 3, 3)]
            frames = np.concatenate([np.tile(codes[labels.index(s)], (4, 1)) for s in said])
            rows.append(frames + 0.3 * rng.normal(size=frames.shape))
            named.append(Clip(f"{split}{i}", (*said, "<eos>")))
            offsets.append(offsets[-1] + len(frames))
            times.append(np.arange(len(frames), dtype=np.float32) * 20)
        clips[split] = tuple(named)
        sets[split] = EmbeddingSet(
            split,
            tuple(c.name for c in named),
            np.concatenate(rows)[:, None].astype(np.float16),
            np.array(offsets),
            np.concatenate(times),
        )
    task = Task(
        name="spelling",
        directory=tmp_path,
        embedding_type="scene",
        prediction_type="sequence",
        split_mode="trainvaltest",
        splits=("train", "valid", "test"),
        sample_duration_s=None,
        evaluation=("per",),
        labels=labels,
        clips=clips,
        sample_rates_hz=(),
        pooling="frames",
    )
    return stored(monkeypatch, task, sets)


def test_a_foreign_sequence_task_is_probed_and_its_end_symbol_not_scored(monkeypatch, tmp_path):
    one = phone_task(monkeypatch, tmp_path)
    plan = phones.plan_fold(one, PROTOCOLS["superb"], 0, folds(one.task)[0])
    outcome = plan.finish([trial.run(Running()) for trial in plan.trials], Running())
    assert (outcome.predictions["counts:per"][:, 1] == 3).all()  # three symbols, <eos> is none
    with pytest.raises(DataError, match="label 0 is 'A'; a sequence task's vocabulary starts"):
        wrong = replace(one, task=replace(one.task, labels=("A", "B", "<pad>")))
        phones.plan_fold(wrong, PROTOCOLS["superb"], 0, folds(one.task)[0])


def test_frames_are_cut_to_the_samples_over_the_stride(monkeypatch, tmp_path):
    one = phone_task(monkeypatch, tmp_path)  # twelve frames every 320 samples
    part = splits.Split(one, "train")
    assert part.samples()[0] == 12 * 320
    assert [len(f) for f in part.frames()[:2]] == [12, 12]
    names = [c.name for c in one.task.clips["train"]]
    known = {f"train/{name}": 3_360 if i else 3_200 for i, name in enumerate(names)}
    (tmp_path / "lengths.json").write_text(__import__("json").dumps(known))
    part = splits.Split(one, "train")
    assert [len(f) for f in part.frames()[:2]] == [10, 10]  # 10.5 rounds to even
    with pytest.raises(DataError, match=r"lengths.json: has no length of 'valid/valid0'"):
        splits.Split(one, "valid").frames()


def test_a_cut_off_trial_goes_on_to_the_same_bytes(monkeypatch, tmp_path):
    import threading

    one = phone_task(monkeypatch, tmp_path)
    plan = phones.plan_fold(one, PROTOCOLS["superb"], 0, folds(one.task)[0])
    whole = plan.trials[0].run(Running())
    stop, snapshot = threading.Event(), tmp_path / "trial.pt"
    from mambabench.probe.heads import frame_heads

    calls, rate = [], frame_heads.error_rate

    def counted(*args):
        calls.append(1)
        if len(calls) == 4:
            stop.set()
        return rate(*args)

    monkeypatch.setattr(frame_heads, "error_rate", counted)
    with pytest.raises(Stopped):
        plan.trials[0].run(Running("cpu", stop, snapshot))
    assert snapshot.is_file()
    again = plan.trials[0].run(Running("cpu", None, snapshot))
    assert (again.value, again.step) == (whole.value, whole.step)
    assert all(np.array_equal(again.arrays[k], whole.arrays[k]) for k in whole.arrays)
    assert len(calls) == 4 + 6  # it went on, and did not begin again
    save_trained(tmp_path / "done.npz", again)
    kept = load_trained(tmp_path / "done.npz")
    assert kept is not None
    assert (kept.value, kept.step, set(kept.arrays)) == (again.value, again.step, set(again.arrays))
    (tmp_path / "done.npz").write_bytes(b"no zip")
    assert load_trained(tmp_path / "done.npz") is None


def test_scene_embeddings_are_no_time_means(monkeypatch):
    one = noise_task(monkeypatch, ("train", "valid", "test"))
    scene = replace(one, task=replace(one.task, pooling="scene"))
    with pytest.raises(Inapplicable, match="its store keeps scene embeddings"):
        utterances.plan_fold(scene, PROTOCOLS["superb"], 0, folds(one.task)[0])


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("`", ""))


def test_the_page_lists_every_difference_and_no_other():
    page = (ROOT / "docs/superb.md").read_text()
    section = page.split("## Differences from s3prl")[1].split("\n## ")[0]
    listed = {_plain(item).strip() for item in re.split(r"^- ", section, flags=re.M)[1:]}
    assert listed == {_plain(note) for note in all_notes()}


def test_every_task_has_notes(monkeypatch):
    one = noise_task(monkeypatch, ("train", "valid", "test")).task
    from mambabench.benchmarks.superb import TASKS

    for row in TASKS.values():
        task = replace(one, name=row.name, prediction_type=row.prediction_type)
        assert len(notes_of(task, clean=False)) >= 3, row.name
    er = replace(one, name="superb_er")
    assert set(notes_of(er, clean=True)) - set(notes_of(er, clean=False))
    assert FrameSettings().accumulation == 2
