"""Reading task directories: what is accepted, and the text of every error."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mambabench.benchmarks import StrayFileWarning, discover
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Event, Fold, clip_path, folds
from mambabench.errors import DataError


def edit(path: Path, **changes: Any) -> None:
    value = json.loads(path.read_text())
    value.update(changes)
    path.write_text(json.dumps(value))


def test_reads_a_scene_task(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(protocol="sound", restricted=True, use_scoring_for_early_stopping=False)
    task = load_task(folder)
    assert task.name == "tiny-v1-test"
    assert task.splits == ("train", "valid", "test")
    assert task.labels == ("cat", "dog")
    assert task.evaluation == ("top1_acc", "mAP")
    assert task.sample_duration_s == 0.1
    assert task.sample_rates_hz == (16000,)
    assert [clip.name for clip in task.clips["test"]] == ["test_cat.wav", "test_dog.wav"]
    assert task.clips["test"][1].labels == ("dog",)
    assert (task.protocol, task.restricted) == ("sound", True)
    assert not task.use_scoring_for_early_stopping
    assert folds(task) == (Fold("test", "valid", ("train",)),)


def test_the_directory_is_the_name_whatever_the_metadata_say(
    scene_task: Callable[..., Path],
) -> None:
    folder = scene_task(task_name="another")
    assert load_task(folder).name == "tiny-v1-test"
    assert load_task(folder, name="copy").name == "copy"


def test_odd_labels_stay_the_text_they_are(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    labels = ["NA", "null", "a, b", "größe", "8", "nan", '"quoted"']
    rows = "".join('{},"{}"\n'.format(i, t.replace('"', '""')) for i, t in enumerate(labels))
    (folder / "labelvocabulary.csv").write_text(f"idx,label\n{rows}", encoding="utf-8")
    values: list[object] = ["NA", "null", "a, b", "größe", 8, "nan", '"quoted"']
    entries = {f"{i}.wav": [value] for i, value in enumerate(values)}
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(json.dumps(entries), encoding="utf-8")
    task = load_task(folder)
    assert list(task.labels) == labels
    assert [clip.labels[0] for clip in task.clips["test"]] == labels


def test_reads_events_and_their_postprocessing(scene_task: Callable[..., Path]) -> None:
    grid = {"median_filter_ms": [150], "min_duration": [50, 100]}
    specific = {"max_epochs": [50]}
    folder = scene_task(
        embedding_type="event",
        prediction_type="multilabel",
        evaluation=["event_onset_50ms_fms"],
        evaluation_params={"event_postprocessing_grid": grid, "task_specific_param_grid": specific},
    )
    events = [{"label": "cat", "start": 10, "end": 20.5}]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.json").write_text(json.dumps({"a.wav": events, "b.wav": []}))
    task = load_task(folder)
    assert task.clips["train"][0].events == (Event("cat", 10.0, 20.5),)
    assert task.clips["train"][1].events == ()
    assert (task.median_filter_ms, task.min_duration_ms) == ((150.0,), (50.0, 100.0))
    assert task.task_specific_param_grid == (("max_epochs", (50,)),)


def test_folds_are_hears(scene_task: Callable[..., Path]) -> None:
    names = ["fold00", "fold01", "fold02", "fold03"]
    task = load_task(scene_task(split_mode="new_split_kfold", splits=names))
    assert folds(task) == (
        Fold("fold00", "fold01", ("fold02", "fold03")),
        Fold("fold01", "fold02", ("fold00", "fold03")),
        Fold("fold02", "fold03", ("fold00", "fold01")),
        Fold("fold03", "fold00", ("fold01", "fold02")),
    )


@pytest.mark.parametrize("as_file", [True, False])
def test_clusters(scene_task: Callable[..., Path], as_file: bool) -> None:
    clusters = {"train/train_cat.wav": "ann", "test_dog.wav": 7}
    folder = scene_task(clusters="speakers.json" if as_file else clusters)
    if as_file:
        (folder / "speakers.json").write_text(json.dumps(clusters))
    task = load_task(folder)
    assert [clip.cluster for clip in task.clips["train"]] == ["ann", None]
    assert [clip.cluster for clip in task.clips["test"]] == [None, "7"]


def test_clip_path_prefers_the_named_file_to_its_flac(scene_task: Callable[..., Path]) -> None:
    task = load_task(scene_task())
    wav = task.directory / "16000" / "test" / "test_cat.wav"
    assert clip_path(task, 16000, "test", "test_cat.wav") == wav
    wav.rename(wav.with_suffix(".flac"))
    assert clip_path(task, 16000, "test", "test_cat.wav") == wav.with_suffix(".flac")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("embedding_type", "scenes", r"embedding_type is 'scenes'; did you mean 'scene'\?"),
        ("prediction_type", None, "prediction_type is None; set it to one of multiclass, multil"),
        ("split_mode", "kfold", "split_mode is 'kfold'; did you mean"),
        ("splits", [], r"splits is \[\]; list the names"),
        ("splits", ["train", "test"], 'trainvaltest has "train", "valid" and "test"'),
        ("splits", ["../train", "valid", "test"], "splits is .*; list the names"),
        ("evaluation", ["top1_ac"], r"no metric named 'top1_ac'; did you mean 'top1_acc'"),
        ("evaluation", ["segment_1s_er"], "'segment_1s_er', for event tasks; use scene metrics"),
        ("evaluation", None, "evaluation is None; list the metrics"),
        ("sample_duration", -1, "sample_duration is -1; give seconds, or null"),
        ("restricted", "yes", "restricted is 'yes'; set it to true or false"),
        ("protocol", 3, "protocol is 3; give the name of a protocol"),
        ("evaluation_params", {"grid": {}}, "evaluation_params has no part named 'grid'"),
        (
            "evaluation_params",
            {"event_postprocessing_grid": {"median_filter": [1]}},
            "no part named 'median_filter'; did you mean 'median_filter_ms'",
        ),
        ("clusters", ["a"], "clusters is list; map clips to clusters"),
        ("clusters", "lost.json", "lost.json: is missing; task_metadata.json names it"),
        ("clusters", {"x.wav": "a"}, "clusters names 'x.wav', in no split"),
    ],
)
def test_wrong_metadata(
    scene_task: Callable[..., Path], field: str, value: object, message: str
) -> None:
    folder = scene_task()
    edit(folder / "task_metadata.json", **{field: value})
    with pytest.raises(DataError, match=message):
        load_task(folder)


def test_two_folds_are_too_few(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(split_mode="presplit_kfold", splits=["fold00", "fold01"])
    with pytest.raises(DataError, match=r"splits has 2 folds; cross-validation takes one fold to"):
        load_task(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idx,label\n0,cat\n2,dog\n", "idx is not 0, 1, ... each once; number the labels"),
        ("0,cat\n1,dog\n", "does not start with idx,label; write that header"),
        ("idx,label\n0,cat, big\n1,dog\n", "row 2 has 3 fields; quote labels that contain commas"),
        ("idx,label\n0,cat\n1,cat\n", "label 'cat' stands twice"),
        ("idx,label\n", "has no labels"),
    ],
)
def test_wrong_vocabulary(scene_task: Callable[..., Path], text: str, message: str) -> None:
    folder = scene_task()
    (folder / "labelvocabulary.csv").write_text(text)
    with pytest.raises(DataError, match=f"labelvocabulary.csv: {message}"):
        load_task(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "names no clip; fill or remove the empty split 'valid'"),
        ("[]", "does not hold a JSON object"),
        ("{", "cannot be read"),
        ('{"a.wav": ["cat"], "a.wav": ["dog"]}', "key 'a.wav' stands twice"),
        ('{"a.wav": ["cow"]}', "label 'cow' of 'a.wav' is not in labelvocabulary.csv"),
        ('{"a.wav": ["cat", "dog"]}', "'a.wav' has 2 labels; multiclass tasks have exactly one"),
        ('{"a.wav": "cat"}', "'a.wav' is labelled 'cat'; give a list of labels"),
        ('{"a.wav": [null]}', r"'a.wav' is labelled \[None\]; give a list of labels"),
        ('{"../a.wav": ["cat"]}', "clip '../a.wav' is not a plain file name"),
    ],
)
def test_wrong_split(scene_task: Callable[..., Path], text: str, message: str) -> None:
    folder = scene_task()
    (folder / "valid.json").write_text(text)
    with pytest.raises(DataError, match=f"valid.json: .*{message}"):
        load_task(folder)


def test_wrong_event(scene_task: Callable[..., Path]) -> None:
    folder = scene_task(embedding_type="event", evaluation=["event_onset_50ms_fms"])
    for split in ("train", "valid", "test"):
        events = [{"label": "cat", "start": 20, "end": 10}]
        (folder / f"{split}.json").write_text(json.dumps({"a.wav": events}))
    with pytest.raises(DataError, match=r"has the event .*; give label, start and end.*2 more"):
        load_task(folder)


def test_missing_files(scene_task: Callable[..., Path], tmp_path: Path) -> None:
    folder = scene_task()
    (folder / "test.json").unlink()
    with pytest.raises(DataError, match=r"test.json: is missing; every split has its labels"):
        load_task(folder)
    with pytest.raises(DataError, match=r"task directory .*lost does not exist; fix the path"):
        load_task(tmp_path / "lost")


def test_discover_takes_directories_and_parents(
    scene_task: Callable[..., Path], demo_folder: Path
) -> None:
    folder = scene_task()
    names = [task.name for task in discover([folder, demo_folder])]
    assert names == sorted(names)
    assert len(names) == 5
    chosen = discover([folder.parent, demo_folder], ["tiny-v1-test"])
    assert [task.name for task in chosen] == ["tiny-v1-test"]
    assert len(discover([folder, folder.parent])) == 1  # the same directory twice is one task


def test_discover_names_the_nearest_task(demo_folder: Path) -> None:
    with pytest.raises(DataError, match=r"no task named 'demo_pitc' .*mean 'demo_pitch-v1-demo'"):
        discover([demo_folder], ["demo_pitc"])


def test_discover_refuses_one_name_for_two_tasks(
    scene_task: Callable[..., Path], tmp_path: Path
) -> None:
    folder = scene_task()
    other = tmp_path / "other" / folder.name
    other.mkdir(parents=True)
    for file in folder.glob("*.*"):
        (other / file.name).write_bytes(file.read_bytes())
    message = f"two tasks are named 'tiny-v1-test': {folder} and {other}"
    with pytest.raises(DataError, match=message):
        discover([folder, other])


def test_discover_says_why_it_finds_nothing(tmp_path: Path, demo_folder: Path) -> None:
    with pytest.raises(DataError, match=r"tasks folder .*lost does not exist"):
        discover([tmp_path / "lost"])
    with pytest.raises(DataError, match=r"no task in .*: neither it nor a folder directly in it"):
        discover([tmp_path])
    with pytest.raises(DataError, match=rf"did you mean {demo_folder}"):
        discover([demo_folder.parent])


def test_stray_files_are_named_once_each(scene_task: Callable[..., Path]) -> None:
    folder = scene_task()
    (folder / "notes.txt").write_text("x")
    (folder / "16000" / "test" / ".DS_Store").write_text("x")
    (folder.parent / "stray.zip").write_text("x")
    (folder.parent / ".tiny.abc.tmp").mkdir()  # another process at work
    with pytest.warns(StrayFileWarning) as caught:
        discover([folder.parent])
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert messages[0].endswith("no tasks: " + str(folder.parent / "stray.zip"))
    assert str(folder / "16000/test/.DS_Store") in messages[1]
    assert str(folder / "notes.txt") in messages[1]


def test_a_clean_folder_warns_of_nothing(demo_folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(discover([demo_folder])) == 4
