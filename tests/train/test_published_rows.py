"""Which published rows a scored encoder stands beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small import run

from mambabench.cli.evaluate import command
from mambabench.train.encoder_settings import AumSettings, SsambaSettings
from mambabench.train.published_rows import published_values
from mambabench.train.recipes import find_recipe, read_recipe

RELEASED = ("scratch", "", 42.97), ("imagenet", "imagenet", 49.61), ("audioset", "x.pth", 46.78)


def _settings(recipe: str) -> Any:
    return read_recipe(find_recipe(recipe), {}).rows[0].settings


@pytest.mark.parametrize(("kind", "start", "value"), RELEASED)
def test_aum_stands_beside_its_own_released_checkpoint(kind: str, start: str, value: float) -> None:
    size = "small" if kind == "imagenet" else "base"
    found = published_values("aum", _settings(f"aum-{size}-{kind}-vggsound"), start)
    assert [row[1:] for row in found.values] == [("acc", value)]
    assert found.note == ""


def test_a_file_that_cannot_tell_its_start_stands_beside_all_of_its_kind() -> None:
    base = published_values("aum", _settings("aum-base-scratch-vggsound"), None).values
    assert [value for _, _, value in base] == [42.97, 46.78]
    small = published_values("aum", _settings("aum-small-imagenet-vggsound"), None).values
    assert [value for _, _, value in small] == [49.61]


@pytest.mark.parametrize(
    "settings",
    [{"size": "tiny"}, {"size": "base", "depth": 12}, {"size": "base", "variant": "Bi-Bi"}],
)
def test_where_none_is_of_its_kind_all_released_ones_are_shown(settings: dict[str, Any]) -> None:
    found = published_values("aum", AumSettings(task="vggsound", **settings), "")
    assert len(found.values) == 3
    assert all("released checkpoint" in model for model, _, _ in found.values)


def test_ssamba_s_table_is_not_held_and_ssast_s_is_shown_as_such() -> None:
    found = published_values("ssamba", _settings("ssamba-esc50"), "x.pth")
    assert set(found.values) == {
        ("SSAST Base Patch 400", "acc", 88.8),
        ("SSAST Base Patch 250", "acc", 86.7),
    }
    assert "SSAMBA's own table is not held here" in found.note
    assert "SSAST, fine-tuned, has" in found.note
    bare = published_values("ssamba", _settings("ssamba-urban8k"), None)
    assert bare.values == ()
    assert bare.note.endswith("could not be read at its source")


def test_a_task_of_one_s_own_has_no_published_rows() -> None:
    for system, settings in (("aum", AumSettings()), ("ssamba", SsambaSettings())):
        assert published_values(system, settings, "") == ((), "")


def test_every_fine_tuned_task_of_ssamba_says_what_is_held() -> None:
    for name in ("as20k", "esc50", "sc-v1", "sc-v2", "voxceleb1", "iemocap"):
        found = published_values("ssamba", _settings(f"ssamba-{name}"), None)
        assert found.values, name
        assert found.note


def test_evaluate_prints_the_row_and_the_note(lists: Path, tmp_path: Path) -> None:
    settings = {"task": "esc50", "epochs": 1}
    done = run("ssamba-classify", {"lists": lists}, tmp_path, settings)
    said = CliRunner().invoke(command, [str(done.folder), "--data", str(lists)])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    at = next(i for i, line in enumerate(lines) if "own table is not held here" in line)
    assert all(line.startswith("  published: SSAST Base Patch ") for line in lines[at + 1 :])
    assert len(lines) == at + 3
