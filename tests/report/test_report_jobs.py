"""Digits depend neither on the number of processes nor on how the arithmetic is arranged."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from mambabench.engine.choice import Elsewhere, WantedEngine
from mambabench.engine.units import Lost
from mambabench.errors import MambabenchError
from mambabench.report.formats.json_text import as_json
from mambabench.report.summary import summarise
from mambabench.report.workers import n_jobs_for, verify_records
from mambabench.store.records import record_paths
from tests.engine.alone import Alone
from tests.report.synthetic_results import write_events, write_scene

# what the same records gave when every pair was swept entry by entry: made by `python -m
# tests.report.test_report_jobs`
EXPECTED = Path(__file__).with_name("expected_digits.json")


def write(out):
    for name, skill in (("a", 1.0), ("b", 1.15), ("c", 1.6)):
        write_scene(out, name, "acc", skill=skill, seeds=5, n_labels=7, clusters=30)
        write_scene(out, name, "uar", skill=skill, seeds=3, metric="uar", folds={"test": 90})
        write_scene(out, name, "macro", skill=skill, seeds=3, metric="macro_f1")
        for metric in ("mAP", "aucroc", "d_prime"):
            folds = {"fold00": 90, "fold01": 70}
            scene = {"skill": skill, "metric": metric, "folds": folds}
            write_scene(out, name, metric, multilabel=True, seeds=3, **scene)
            write_scene(out, name, f"{metric}_1", seeds=2, n_labels=12, clusters=20, **scene)
        write_events(out, name, "events", skill=skill / 2, seeds=3)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    write(folder)
    return folder


def note(seen, *what):
    seen.append(what)


def digits(text):
    body = json.loads(text)
    found = {
        f"{row['task']} {row['encoder']}": [row["mean"], row["boot_low"], row["boot_high"]]
        for row in body["rows"]
    }
    for one in body["comparisons"]:
        values = [one[name] for name in ("boot_low", "boot_high", "p", "p_holm", "n_permutations")]
        found[f"{one['task']} {one['encoder']} {one['other']}"] = values
    return found


def test_digits_are_those_of_before(out):
    """To 1e-9: logarithms and products are rounded as the processor has it."""
    found = digits(as_json(summarise([out])))
    expected = json.loads(EXPECTED.read_text())
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-9, abs=1e-12), name


def test_one_process_and_two_give_the_same_bytes(out, tmp_path):
    texts, calls = [], []
    for jobs in (1, 2):
        cache = tmp_path / str(jobs)
        cache.mkdir()
        shutil.rmtree(out / "report", ignore_errors=True)
        calls.append(seen := [])
        summary = summarise([out], cache=cache, jobs=jobs, progress=partial(note, seen))
        texts.append(as_json(summary))
    assert texts[0] == texts[1]
    names = {path.name: path.read_bytes() for path in (tmp_path / "1").glob("*.json")}
    assert names
    assert {path.name: path.read_bytes() for path in (tmp_path / "2").glob("*.json")} == names
    n_tasks, n_groups = 10, 30
    assert ("comparing", n_tasks, n_tasks) in calls[1]
    assert ("resampling", n_groups, n_groups) in calls[1]


def test_another_engine_gives_the_same_bytes_without_the_folder(out, tmp_path, monkeypatch):
    monkeypatch.setattr("mambabench.engine.choice.make_engine", lambda *a, **k: Alone())
    texts, caches = [], []
    for name, where in (("here", None), ("there", Elsewhere(WantedEngine("ray", ""), out, 1))):
        cache = tmp_path / name
        cache.mkdir()
        seen = []
        summary = summarise([out], cache=cache, elsewhere=where, progress=partial(note, seen))
        texts.append(as_json(summary))
        caches.append({path.name: path.read_bytes() for path in cache.glob("*.json")})
    assert texts[0] == texts[1]
    assert caches[0] == caches[1]
    assert ("resampling", 30, 30) in seen
    assert len(list((tmp_path / "there").glob("*.npz"))) == 30


def test_a_lost_unit_of_a_report_is_named(out, tmp_path, monkeypatch):
    class Deadly(Alone):
        def run(self, function, units, **_):
            yield 0, Lost("a worker on a node of Ray ended: gone")

    monkeypatch.setattr("mambabench.engine.choice.make_engine", lambda *a, **k: Deadly())
    with pytest.raises(MambabenchError, match=r"ended: gone; the same command continues"):
        summarise([out], cache=tmp_path, elsewhere=Elsewhere(WantedEngine("ray", ""), out, 1))


def test_records_are_verified_by_processes(out):
    paths = record_paths(out)
    assert len(paths) > 80
    broken = paths[50].with_suffix(".npz")
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-1] + b"x")
    try:
        held = verify_records(paths, 2, None)
    finally:
        broken.write_bytes(whole)
    assert set(paths) - held == {paths[50]}
    assert verify_records(paths, 1, None) == frozenset()


def test_little_work_takes_one_process(out):
    files = [path.with_suffix(".npz") for path in record_paths(out)]
    assert n_jobs_for(files, None) == 1
    assert n_jobs_for(files, 3) == 3


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        found = digits(as_json(summarise([Path(folder)])))
    EXPECTED.write_text(json.dumps(found, indent=1) + "\n")


def test_records_that_hold_are_told_from_others_in_processes_too(tmp_path, monkeypatch):
    from mambabench.report import workers

    paths = write_scene(tmp_path, "one", "task", skill=1.0, seeds=3)
    edited = paths[1]
    edited.write_text(edited.read_text().replace('"top1_acc": 0.', '"top1_acc": 0.9', 1))
    given = {"paths": [str(path) for path in (*paths, tmp_path / "none.json")]}
    assert workers.verify_unit(given, lambda report: None) == [True, False, True, False]
    monkeypatch.setattr(workers, "_PART", 1)
    monkeypatch.setattr(workers, "n_jobs_for", lambda files, jobs: jobs)
    assert workers.verify_records(paths, 2, None) == {paths[0], paths[2]}
    assert workers.verify_records(paths, 1, None) == set(), "nothing is said: one by one"
