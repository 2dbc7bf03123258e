"""Every kind of file below an output folder: healthy, damaged, left over, put right again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

import mambabench
from mambabench.cli.verify import command
from mambabench.errors import StoreError
from mambabench.extract.plan import Budget
from mambabench.extract.verb import BUDGETS, extract
from mambabench.files import canonical_json
from mambabench.probe.verb import probe
from mambabench.verification.finding import KINDS
from mambabench.verification.verb import Verified, verify

Make = Callable[..., Path]
Provide = Callable[..., str]
Bytes = Callable[[Path], dict[str, bytes]]

NOT_HELD = ("seed-000.provenance.json", "work/lock")  # results, or nothing


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tiny tasks into several batches and shards."""
    monkeypatch.setitem(BUDGETS, "cpu", Budget(batch_s=1.0, shard_s=1.0))


class Bench:
    """One provider, a scene and a timestamp task, and the commands that make an output folder."""

    def __init__(self, make_task: Make, name: str, root: Path) -> None:
        self.tasks = [
            make_task(lengths=(8000,) * 4),
            make_task("beeps-v1-test", kind="event", lengths=(8000,) * 3),
        ]
        self.name, self.root = name, root

    def commands(self, out: Path, layout: str = "store") -> Path:
        extract([self.name], self.tasks, out=out, jobs=1, layout=layout)
        probe(1, "linear", jobs=1, out=out, layout=layout)
        return out

    def unfinished(self, out: Path) -> Path:
        extract([self.name], self.tasks, out=out, jobs=1, shard="1/2")
        return out


@pytest.fixture
def bench(make_task: Make, provider: Provide, tmp_path: Path) -> Bench:
    return Bench(make_task, provider(), tmp_path)


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def files_of(out: Path) -> list[Path]:
    return sorted(p for p in out.rglob("*") if p.is_file() and p.stat().st_size)


def results(read: Bytes, out: Path) -> dict[str, bytes]:
    return {
        name: data
        for name, data in read(out).items()
        if not name.startswith(("set-aside", "report")) and not name.endswith(NOT_HELD)
    }


@pytest.mark.parametrize("layout", ["store", "hear-eval-kit"])
def test_a_healthy_folder_has_no_defect_and_a_flipped_bit_anywhere_is_found(
    bench: Bench, tmp_path: Path, layout: str
) -> None:
    out = bench.commands(tmp_path / "out", layout)
    found = verify(out)
    assert found.findings == ()
    assert (found.n_stores, found.n_records, found.failed) == (2, 2, False)
    for path in files_of(out):
        whole = path.read_bytes()
        flip(path)
        findings = verify(out).findings
        path.write_bytes(whole)
        moved = {one for finding in findings for one in finding.move}
        named = {finding.path for finding in findings}
        assert path in named or moved.intersection(path.parents), path
        assert layout == "hear-eval-kit" or path in named, path
        assert {finding.kind for finding in findings} <= set(KINDS)
        assert all(finding.remedy for finding in findings)
    assert verify(out).findings == ()


def test_shards_of_an_unfinished_store_are_checked(bench: Bench, tmp_path: Path) -> None:
    out = bench.unfinished(tmp_path / "out")
    assert verify(out).findings == ()
    files = files_of(out)
    assert {path.suffix for path in files} == {".rows", ".json"}
    for path in files:
        whole = path.read_bytes()
        flip(path)
        (finding,) = verify(out).findings
        path.write_bytes(whole)
        assert path in finding.move


CASES = ["manifest.json", "train.embeddings.npy", "test.json", "audio.json", "audio-seen.json"]
CASES += ["seed-000.json", "seed-000.npz", "provenance.json", "seed-000.provenance.json"]


@pytest.mark.parametrize("cases", [CASES[:5], CASES[5:]])
def test_fix_and_the_same_commands_give_an_undamaged_run(
    bench: Bench, tmp_path: Path, result_bytes: Bytes, cases: list[str]
) -> None:
    whole = results(result_bytes, bench.commands(tmp_path / "whole"))
    out = bench.commands(tmp_path / "out")
    for name in cases:
        path = next(p for p in files_of(out) if p.name == name and "set-aside" not in p.parts)
        flip(path)
        damaged = path.read_bytes()
        found = verify(out, fix=True)
        assert not found.failed
        assert found.moved_to is not None
        assert (found.moved_to / path.relative_to(out)).read_bytes() == damaged
        assert not path.exists()
        bench.commands(out)
        assert verify(out).findings == (), name
        assert results(result_bytes, out) == whole, name


def test_fix_of_shards_and_the_same_commands(
    bench: Bench, tmp_path: Path, result_bytes: Bytes
) -> None:
    whole = results(result_bytes, bench.commands(tmp_path / "whole"))
    out = bench.unfinished(tmp_path / "out")
    rows = [p for p in files_of(out) if p.suffix == ".rows"]
    flip(rows[0])
    flip(rows[1].with_suffix(".json"))
    rows[2].with_suffix(".json").unlink()  # the kill came between the two writes
    found = verify(out, fix=True)
    assert sorted(finding.kind for finding in found.findings) == ["damaged", "damaged", "leftover"]
    assert results(result_bytes, bench.commands(out)) == whole


def test_a_killed_write_leaves_the_old_file_and_a_leftover_that_is_named(
    bench: Bench, tmp_path: Path
) -> None:
    out = bench.commands(tmp_path / "out")
    record = next(out.rglob("seed-000.json"))
    manifest = next(out.rglob("manifest.json"))
    code = (
        "import os, sys; from pathlib import Path; from mambabench.files import atomic_write\n"
        "def write(file):\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
        "atomic_write(Path(sys.argv[1]), write)"
    )
    root = str(Path(mambabench.__file__).parent.parent)
    for path in (record, manifest, out / "new.json"):
        before = path.read_bytes() if path.exists() else None
        done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=root, check=False)
        assert done.returncode == -9
        assert (path.read_bytes() if path.exists() else None) == before
    findings = verify(out).findings
    assert [finding.kind for finding in findings] == ["leftover"] * 3
    assert {finding.path.parent for finding in findings} == {record.parent, manifest.parent, out}
    assert not verify(out, fix=True).failed
    assert verify(out).findings == ()


def test_a_record_that_its_predictions_contradict(bench: Bench, tmp_path: Path) -> None:
    from dataclasses import replace

    from mambabench.files import sha256_file
    from mambabench.store.records import read_record, record_bytes

    out = bench.commands(tmp_path / "out")
    path = next(p for p in out.rglob("seed-000.json") if "noise" in str(p))
    record = read_record(path)
    forged = replace(
        record, score=0.99, folds=(replace(record.folds[0], scores={"top1_acc": 0.99}),)
    )
    path.write_bytes(record_bytes(forged, sha256_file(path.with_suffix(".npz"))))
    (finding,) = verify(out).findings
    assert finding.problem.startswith("top1_acc of fold test is 0.99 in the record")
    assert len(finding.move) == 3


def test_a_record_of_other_embeddings_is_stale(bench: Bench, tmp_path: Path) -> None:
    out = bench.commands(tmp_path / "out")
    rng = np.random.default_rng(7)
    for path in (bench.tasks[0] / "16000").rglob("*.wav"):
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000)
    extract([bench.name], bench.tasks, out=out, jobs=1)
    (finding,) = verify(out).findings
    assert finding.kind == "stale"
    assert "noise-v1-test" in str(finding.path)
    probe(1, "linear", jobs=1, out=out)
    assert verify(out).findings == ()


def test_strays_and_files_without_their_partner(bench: Bench, tmp_path: Path) -> None:
    out = bench.commands(tmp_path / "out")
    store = next(out.rglob("manifest.json")).parent
    folders = sorted({path.parent for path in out.rglob("seed-000.json")})
    (store / "notes.txt").write_text("mine")
    (out / "probes" / "list.txt").write_text("mine")
    (folders[0] / "seed-000.json").unlink()
    (folders[1] / "seed-000.npz").unlink()
    shutil.copytree(folders[1], folders[1].parent / "knn")
    kinds = {str(f.path.relative_to(out)): f.kind for f in verify(out).findings}
    assert kinds.pop(str((store / "notes.txt").relative_to(out))) == "stray"
    assert kinds.pop("probes/list.txt") == "stray"
    assert kinds.pop(str((folders[0] / "seed-000.npz").relative_to(out))) == "leftover"
    assert kinds.pop(str((folders[1] / "seed-000.json").relative_to(out))) == "damaged"
    assert kinds == {str((folders[1].parent / "knn" / "seed-000.json").relative_to(out)): "stray"}


def test_the_tasks_of_the_same_folder_are_held_against_its_stores(
    bench: Bench, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for task in bench.tasks:
        shutil.copytree(task, out / "tasks" / task.name)
    bench.commands(out)
    assert verify(out).findings == ()
    path = out / "tasks" / "noise-v1-test" / "16000" / "test" / "test001.wav"
    flip(path)
    found = verify(out, fix=True)
    (finding,) = found.findings
    assert (finding.path, finding.kind, finding.move) == (path, "stale", ())
    assert found.failed  # nobody's audio is moved


def test_what_older_versions_wrote_is_no_defect(bench: Bench, tmp_path: Path) -> None:
    out = bench.commands(tmp_path / "out")
    for path in out.rglob("manifest.json"):
        body = json.loads(path.read_bytes())
        for field in ("own_sha256", "files", "audio"):
            del body[field]
        path.write_bytes(canonical_json({**body, "schema": "mambabench.store/1"}))
        for name in ("audio.json", "audio-seen.json"):
            (path.parent / name).unlink()
    assert verify(out).findings == ()


def test_the_command_and_its_json(bench: Bench, tmp_path: Path) -> None:
    out = bench.commands(tmp_path / "out")

    def run(*options: str) -> Any:
        arguments = ["--out", str(out), *options]
        return CliRunner().invoke(command, arguments, standalone_mode=False)

    done = run()
    assert done.return_value == 0
    assert done.stdout == f"2 stores and 2 records below {out}: no defects\n"
    path = next(out.rglob("seed-000.json"))
    flip(path)
    done = run()
    assert done.return_value == 1
    assert f"damaged: {path}: is damaged" in done.stdout
    assert "delete the files of this seed and probe again" in done.stdout
    assert "2 records" in done.stdout
    done = run("--json", "--fix")
    body = json.loads(done.stdout)
    assert done.return_value == 0
    assert list(body) == [
        *("schema", "out", "ok", "n_stores", "n_records", "findings", "moved", "moved_to")
    ]
    assert body["ok"]
    assert len(body["moved"]) == 3
    assert Path(body["moved_to"]).parent == out / "set-aside"
    assert run().return_value == 0
    with pytest.raises(StoreError, match="no such output folder"):
        verify(tmp_path / "nowhere")
    assert mambabench.verify is verify
    assert isinstance(verify(out), Verified)
