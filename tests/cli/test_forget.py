"""What is forgotten leaves no row, and the same commands make it again with equal bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import mambabench
from mambabench.cli.forget import command
from mambabench.errors import MambabenchError, StoreError

TASKS = ("demo_percussion-v1-demo", "demo_vowel-v1-demo")


def _files(out: Path, folder: str) -> dict[Path, bytes]:
    found = (out / folder).rglob("*")
    return {p: p.read_bytes() for p in found if p.is_file() and "provenance" not in p.name}


def test_wrong_results_are_taken_away(tmp_path: Path) -> None:
    out = tmp_path / "out"
    common: dict[str, Any] = {"encoder": "logmel_stats", "task": TASKS, "out": out, "jobs": 1}
    mambabench.run(**common, protocol="linear")
    records, stores = _files(out, "probes"), _files(out, "embeddings")
    wrong = mambabench.probe(protocol="superb", out=out, jobs=1)
    assert wrong.failed, "nothing could be done"
    assert not wrong.failures
    assert len(mambabench.report(out).summary.rows) == 4
    with pytest.raises(
        StoreError, match=r"has nothing of protocol 'superp' .*did you mean 'superb'"
    ):
        mambabench.forget(protocol="superp", out=out)
    done = mambabench.forget(protocol="superb", out=out)
    assert (len(done.probes), done.stores) == (2, ())
    assert done.moved_to is not None
    assert len(list(done.moved_to.rglob("seed-000.json"))) == 2
    assert [row.protocol for row in mambabench.report(out).summary.rows] == ["linear"] * 2
    assert _files(out, "probes") == records
    asked = CliRunner().invoke(command, ["--task", "demo_vowel", "--out", str(out)])
    assert asked.exit_code == 2, "there is nobody to answer"
    told = CliRunner().invoke(
        command, ["--task", "demo_vowel", "--out", str(out), "--yes", "--delete", "--json"]
    )
    body = json.loads(told.stdout)
    assert (body["n_records"], len(body["stores"]), body["moved_to"]) == (1, 1, None)
    assert not list(out.glob("*/*/demo_vowel-v1-demo"))
    assert len(mambabench.report(out).summary.rows) == 1
    mambabench.run(**common, protocol="linear")
    assert _files(out, "probes") == records
    again = _files(out, "embeddings")
    arrays = [path for path in stores if path.suffix == ".npy"]
    assert [again[path] for path in arrays] == [stores[path] for path in arrays]
    assert not mambabench.verify(out).failed


def test_nothing_is_forgotten_by_mistake(tmp_path: Path) -> None:
    with pytest.raises(MambabenchError, match="nothing is named"):
        mambabench.forget(out=tmp_path)
    with pytest.raises(StoreError, match="no such output folder"):
        mambabench.forget("a", out=tmp_path / "none")
    with pytest.raises(StoreError, match="has nothing of encoder 'a'"):
        mambabench.forget("a", out=tmp_path)
