"""A kit tree of which a file is missing, empty or cut: the split says so by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mambabench.errors import StoreError
from mambabench.extract.verb import extract
from mambabench.store.open import list_stored_tasks, read_embeddings

Make = Callable[..., Path]
Provide = Callable[..., str]

DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("filename-timestamps.json", lambda p: p.unlink(), "is missing; remove"),
    ("filename-timestamps.json", lambda p: p.write_bytes(b""), "is empty, cut off or damaged"),
    (
        "filename-timestamps.json",
        lambda p: p.write_bytes(p.read_bytes()[:-40]),
        "is empty, cut off or damaged",
    ),
    ("filename-timestamps.json", lambda p: p.write_text("[1, 2]"), "is empty, cut off or damaged"),
    ("filename-timestamps.json", lambda p: p.write_text("[]"), "does not list the clips"),
    ("embedding-dimensions.json", lambda p: p.write_bytes(b""), "split 'test' is incomplete"),
    ("embedding-dimensions.json", lambda p: p.write_text("[3]"), "split 'test' is incomplete"),
    ("embeddings.npy", lambda p: p.unlink(), "split 'test' is incomplete"),
    ("embeddings.npy", lambda p: p.write_bytes(b""), "has 0 bytes, its dimensions"),
]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A place for a finished tree that the tests of this module copy."""
    return {"made": tmp_path_factory.mktemp("kit")}


@pytest.mark.parametrize(("name", "spoil", "message"), DAMAGE)
def test_a_damaged_file_is_named(
    make_task: Make,
    provider: Provide,
    tmp_path: Path,
    trees: dict[str, Path],
    name: str,
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    whole = trees["made"] / "out"
    if not whole.is_dir():
        extract([provider()], [make_task(kind="event")], out=whole, layout="hear-eval-kit", jobs=1)
    shutil.copytree(whole, tmp_path / "out")
    spoil(next((tmp_path / "out").rglob(f"test.{name}")))
    (stored,) = list_stored_tasks(tmp_path / "out", "hear-eval-kit")
    read_embeddings(stored, "train")
    with pytest.raises(StoreError, match=message):
        read_embeddings(stored, "test")


def test_a_sidecar_that_was_cut_off(
    make_task: Make, provider: Provide, tmp_path: Path, trees: dict[str, Path]
) -> None:
    out = tmp_path / "out"
    extract([provider()], [make_task()], out=out, layout="hear-eval-kit", jobs=1)
    (path,) = out.rglob(".mambabench.json")
    for text, message in (("{", "cannot be read"), ("{}", "cannot be read"), ("[]", "no object")):
        path.write_text(text)
        with pytest.raises(StoreError, match=rf"\.mambabench\.json {message}|holds {message}"):
            list_stored_tasks(out, "hear-eval-kit")
