"""A probe's record follows from the embeddings' content, and damaged ones are made again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.errors import StoreError
from mambabench.extract.verb import extract
from mambabench.files import canonical_json
from mambabench.probe.data import task_fingerprint
from mambabench.probe.verb import probe
from mambabench.store.open import list_stored_tasks
from mambabench.store.records import read_predictions, read_record, record_paths

Make = Callable[..., Path]
Provide = Callable[..., str]


def make_all(name: str, directory: Path, out: Path, layout: str = "store") -> int:
    """Extract and probe; return how many units were trained."""
    extract([name], [directory], out=out, jobs=1, layout=layout)
    run = probe(1, "knn", jobs=1, out=out, layout=layout)
    assert not run.failures
    return run.n_trained


@pytest.mark.parametrize("layout", ["store", "hear-eval-kit"])
@pytest.mark.parametrize("remove", [True, False])
def test_other_audio_of_equal_size_is_probed_anew(
    make_task: Make, provider: Provide, tmp_path: Path, layout: str, remove: bool
) -> None:
    directory, name, out = make_task(lengths=(8000,) * 12), provider(), tmp_path / "out"
    assert make_all(name, directory, out, layout) == 1
    assert make_all(name, directory, out, layout) == 0
    (path,) = record_paths(out)
    before = path.read_bytes(), path.with_suffix(".npz").read_bytes()
    rng = np.random.default_rng(9)
    for clip in (directory / "16000").rglob("*.wav"):
        soundfile.write(clip, 0.1 * rng.standard_normal(8000), 16000)
    if remove:
        shutil.rmtree(out / "embeddings")
    assert make_all(name, directory, out, layout) == 1
    fresh = tmp_path / "fresh"
    assert make_all(name, directory, fresh, layout) == 1
    (other,) = record_paths(fresh)
    assert path.with_suffix(".npz").read_bytes() == other.with_suffix(".npz").read_bytes()
    assert path.read_bytes() == other.read_bytes()
    assert (path.read_bytes(), path.with_suffix(".npz").read_bytes()) != before


def test_the_fingerprint_follows_from_one_bit_of_any_array(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    extract([provider()], [make_task(kind="event")], out=out, jobs=1)
    (stored,) = list_stored_tasks(out)
    prints = {task_fingerprint(stored)}
    path = stored.directory / "manifest.json"
    body = json.loads(path.read_bytes())
    del body["own_sha256"]
    body["schema"] = "mambabench.store/1"  # which has no hash of its own
    for split in body["splits"]:
        for name in ("embeddings", "offsets", "timestamps"):
            changed = json.loads(json.dumps(body))
            changed["splits"][split]["arrays"][name]["sha256"] = "0" * 64
            path.write_bytes(canonical_json(changed))
            prints.add(task_fingerprint(stored))
    assert len(prints) == 10


def test_a_damaged_array_fails_its_unit_by_name_and_others_go_on(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    out, name = tmp_path / "out", provider()
    extract([name], [make_task(), make_task("whole-v1-test")], out=out, jobs=1)
    path = next(p for p in out.rglob("train.embeddings.npy") if "noise" in str(p))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    run = probe(1, "knn", jobs=1, out=out)
    (failure,) = run.failures
    assert f"{path} is damaged: its bytes have not the hash" in failure.reason
    assert "mambabench verify --fix" in failure.reason
    assert run.n_trained == 1
    path.write_bytes(data)
    assert probe(1, "knn", jobs=1, out=out).n_trained == 1


def test_damaged_records_are_trained_again_and_foreign_ones_are_kept(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    make_all(name, directory, out)
    (path,) = record_paths(out)
    whole = path.read_bytes()
    path.write_bytes(canonical_json({**json.loads(whole), "score": 0.99}))
    with pytest.raises(StoreError, match=r"seed-000\.json was edited or damaged.*probe again"):
        read_record(path)
    with pytest.warns(UserWarning, match=r"was edited or damaged"):
        assert make_all(name, directory, out) == 1
    assert path.read_bytes() == whole
    arrays = read_predictions(path)
    arrays["test/probability"] = arrays["test/probability"][::-1]
    np.savez_compressed(path.with_suffix(".npz"), **arrays)
    with pytest.warns(UserWarning, match=r"seed-000\.npz is not what seed-000\.json was"):
        assert make_all(name, directory, out) == 1
    path.write_bytes(whole.replace(b"record/2", b"record/99"))
    with pytest.raises(StoreError, match=r"schema is 'mambabench\.record/99'"):
        make_all(name, directory, out)


def test_records_of_the_version_before_are_trained_anew(
    make_task: Make, provider: Provide, tmp_path: Path
) -> None:
    directory, name, out = make_task(), provider(), tmp_path / "out"
    make_all(name, directory, out)
    (path,) = record_paths(out)
    whole = path.read_bytes()
    body = json.loads(whole)
    del body["own_sha256"]
    older = {**body, "schema": "mambabench.record/1", "inputs_sha256": "1" * 64}
    path.write_bytes(canonical_json(older))
    assert read_record(path).score == body["score"]
    assert make_all(name, directory, out) == 1
    assert path.read_bytes() == whole
