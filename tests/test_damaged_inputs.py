"""Every reader answers damaged files with named errors only: a part of what perf/fuzz.py does."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "audio", "task", "store", "kit", "record", "report", "checkpoint", "array", "archive", "recipe",
    "tar", "lists",
)  # fmt: skip
EACH = 25


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "perf"))
    try:
        import fuzz

        yield fuzz
    finally:
        sys.path.remove(str(ROOT / "perf"))


@pytest.fixture(scope="module")
def made(fuzz: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    at = tmp_path_factory.mktemp("fuzz")
    return fuzz.make_kinds(at / "whole", at / "ran"), at / "ran"


def test_every_kind_is_tried(made: tuple[dict[str, Any], Path]) -> None:
    assert tuple(made[0]) == NAMES


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # a fork beside decoders' threads
@pytest.mark.parametrize("name", NAMES)
def test_damaged_inputs_are_refused_by_name(
    fuzz: Any, made: tuple[dict[str, Any], Path], name: str
) -> None:
    kinds, mark = made
    found = fuzz.fuzz(kinds[name], name, seed=77, n=EACH, mark=mark)
    assert found.inputs == EACH
    assert found.wrong == []
    assert found.named > 0


@pytest.mark.parametrize("name", NAMES)
def test_whole_files_are_accepted_and_evil_ones_are_not_run(
    fuzz: Any, made: tuple[dict[str, Any], Path], name: str, tmp_path: Path
) -> None:
    kinds, mark = made
    kind = kinds[name]
    shutil.copytree(kind.folder, tmp_path / "whole")
    evil = [path for path in (tmp_path / "whole").rglob("evil*") if path.is_file()]
    if evil:
        shutil.copytree(tmp_path / "whole", tmp_path / "evil")
        assert fuzz.read_one(kind, tmp_path / "evil", mark)[0] == "named"
        for path in evil:
            path.unlink()
    if name == "audio":
        assert len(list((tmp_path / "whole").iterdir())) == 8
    assert fuzz.read_one(kind, tmp_path / "whole", mark) == ("accepted", "")


def test_a_pickle_that_is_run_a_hang_and_a_death_are_seen(fuzz: Any, tmp_path: Path) -> None:
    """The tool itself: what it looks for is found where it is."""
    (tmp_path / "whole").mkdir()
    (tmp_path / "whole" / "a.bin").write_bytes(b"x")
    mark = tmp_path / "ran"

    def runs(at: Path) -> None:
        import pickle

        pickle.loads(pickle.dumps(fuzz.Runs(mark)))

    def hangs(at: Path) -> None:
        import time

        time.sleep(60)

    def dies(at: Path) -> None:
        import os

        os._exit(3)

    for read, said, limit_s in (
        (runs, "PICKLE", 9),
        (hangs, "HANGS", 0.3),
        (dies, "ended with 3", 9),
    ):
        kind = fuzz.Kind(tmp_path / "whole", ("a.bin",), read)
        found = fuzz.fuzz(kind, "tool", seed=0, n=2, mark=mark, limit_s=limit_s)
        assert [said in text for text in found.wrong] == [True, True]
        assert (found.inputs, found.accepted, found.named) == (2, 0, 0)
