"""Recipes against the published tables of settings, and the page that maps every option."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mambabench.cli.train import command
from mambabench.errors import ProtocolError
from mambabench.train.recipes import find_recipe, parse_override, read_recipe, recipe_names
from mambabench.train.settings import SYSTEMS
from mambabench.train.verb import plan

ROOT = Path(__file__).resolve().parents[2]

# the published settings: DepMamba's configuration and commands, MMML's scripts
DEPMAMBA = {
    "mode": "parity",
    "mm_input_size": 256,
    "mm_output_sizes": (256,),
    "dropout": 0.1,
    "expand": 4,
    "d_conv": 4,
    "batch_size": 16,
    "epochs": 120,
    "select": "published",
    "threshold": "zero",
    "augment": True,
    "crop_tries": 5,
    "train_gender": "both",
    "test_gender": "both",
    "make_split": None,
    "modalities": "both",
}
MMML = {
    "tasks": "MTA",
    "loss": "L1",
    "weight_decay": 0.01,
    "batch_size": 8,
    "early_stop": 8,
    "max_epochs": None,
    "one_optimiser": False,
    "n_layers": 5,
    "heads": 12,
    "ffn": 3072,
    "dropout": 0.3,
    "text_context": 2,
    "audio_context": 1,
    "max_samples": 96000,
    "seeds": (1, 11, 111),
    "input": "tokens",
}
AUDIO_ONLY = {"tasks": "A", "loss": "MSE", "lr": 1e-4, "batch_size": 16, "early_stop": 8}
CONTEXT = {"fusion": "cme", "context": True, "heads": 16, "ffn": 4096}


def _mmml(task: str, **changes: Any) -> dict[str, Any]:
    lr, tokens = (1e-5, 64) if task == "sims" else (5e-6, 96)
    return {**MMML, "task": task, "lr": lr, "max_tokens": tokens, **changes}


PUBLISHED: dict[str, dict[str, dict[str, Any]]] = {
    "depmamba2024-dvlog": {"": {**DEPMAMBA, "task": "dvlog", "d_state": 12, "lr": 1e-4}},
    "depmamba2024-dvlog-config": {"": {**DEPMAMBA, "task": "dvlog", "d_state": 12, "lr": 8e-5}},
    "depmamba2024-lmvd": {"": {**DEPMAMBA, "task": "lmvd", "d_state": 16, "lr": 1e-4}},
    "depmamba2024-lmvd-config": {"": {**DEPMAMBA, "task": "lmvd", "d_state": 16, "lr": 8e-5}},
    "mmml-table1-sims": {"": _mmml("sims", fusion="cme", version="v1", context=False)},
    "mmml-table8-mosi": {
        "-full": _mmml("mosi", self_attention=True, feed_forward=True),
        "-no-self-attention": _mmml("mosi", self_attention=False, feed_forward=True),
        "-no-self-attention-no-ffn": _mmml("mosi", self_attention=False, feed_forward=False),
    },
    "mmml-table7-joined": {
        f"-window-{k}": _mmml("mosi", tasks="T", joined_context=True, text_context=k)
        for k in range(4)
    },
    "mmml-table7-separate": {
        f"-window-{k}": _mmml("mosi", tasks="T", context=k > 0, text_context=k) for k in range(4)
    },
}
for _task in ("mosi", "mosei"):
    PUBLISHED[f"mmml-table1-{_task}"] = {
        "-cme": _mmml(_task, fusion="cme", context=False),
        "-cme-context": _mmml(_task, **CONTEXT),
    }
    PUBLISHED[f"mmml-readme-{_task}"] = {"": _mmml(_task, **CONTEXT)}
for _task in ("mosi", "mosei", "sims"):
    PUBLISHED[f"mmml-table3-{_task}"] = {
        "-text": _mmml(_task, tasks="T"),
        "-concatenation": _mmml(_task, fusion="cc"),
        "-fusion": _mmml(_task, fusion="cme"),
    }
for _task in ("mosi", "sims"):
    PUBLISHED[f"mmml-table2-{_task}"] = {
        f"-{name}": _mmml(_task, **AUDIO_ONLY, input=kind)
        for name, kind in (("opensmile", "smile"), ("mel", "spec"), ("raw", "raw"))
    }
for _task in ("mosei", "sims"):
    PUBLISHED[f"mmml-table4-{_task}"] = {
        "-single": _mmml(_task, fusion="cc", tasks="M"),
        "-multi": _mmml(_task, fusion="cc"),
    }
    PUBLISHED[f"mmml-table5-{_task}"] = {
        "-text-loss": _mmml(_task, tasks="T"),
        "-multi-loss": _mmml(_task, tasks="TMA"),
    }
    PUBLISHED[f"mmml-table6-{_task}"] = {
        f"-{v}": _mmml(_task, fusion="cme", version=v) for v in ("v1", "v2", "v3")
    }


def test_every_recipe_is_published_or_documented() -> None:
    assert set(PUBLISHED) <= set(recipe_names())
    read = {name: read_recipe(find_recipe(name), {}) for name in recipe_names()}
    affect = {name for name, recipe in read.items() if recipe.system in ("depmamba", "mmml")}
    ours = affect - set(PUBLISHED)
    documented = {f"generated-{name}" for name in ("depmamba", "cc", "v1", "v2", "v3")}
    assert ours == documented | {"depmamba-dvlog", "depmamba-lmvd"}
    for recipe in read.values():
        assert recipe.description
        assert recipe.source


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_resolved_settings_are_the_published_ones(name: str) -> None:
    system = "depmamba" if name.startswith("depmamba") else "mmml"
    printed = CliRunner().invoke(command, [system, "--recipe", name, "--dry-run"])
    assert printed.exit_code == 0, printed.output
    rows = json.loads(printed.output)["rows"]
    assert {row.removeprefix(name) for row in rows} == set(PUBLISHED[name])
    for suffix, wanted in PUBLISHED[name].items():
        for key, value in wanted.items():
            found = rows[f"{name}{suffix}"][key]
            assert (tuple(found) if isinstance(found, list) else found) == value, (suffix, key)


def test_sound_presets_are_masked_with_five_seeds() -> None:
    for row in read_recipe(find_recipe("depmamba-dvlog"), {}).rows:
        assert (row.settings.mode, len(row.settings.seeds)) == ("masked", 5)


def test_seeds_rows_and_overrides() -> None:
    recipe = plan("mmml", recipe="mmml-table6-sims", rows=("v2",), seeds=5, settings={"lr": 1})
    (row,) = recipe.rows
    assert (row.name, row.settings.lr) == ("mmml-table6-sims-v2", 1.0)
    assert row.settings.seeds == (1, 11, 111, 0, 2)
    assert plan("mmml", seeds=2).rows[0].settings.seeds == (1, 11)
    assert plan("depmamba", task="lmvd").rows[0].settings.task == "lmvd"
    assert parse_override("lr=1e-3") == ("lr", 0.001)
    assert parse_override("mode=parity") == ("mode", "parity")
    assert parse_override("mm_output_sizes=[8, 16]") == ("mm_output_sizes", [8, 16])
    with pytest.raises(ProtocolError, match="write KEY=VALUE"):
        parse_override("lr")


def test_wrong_recipes_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="no recipe named 'mmml-table6'; did you mean"):
        find_recipe("mmml-table6")
    with pytest.raises(ProtocolError, match="of system mmml, not depmamba"):
        plan("depmamba", recipe="mmml-table1-sims")
    with pytest.raises(ProtocolError, match="no row 'v4'; did you mean"):
        plan("mmml", recipe="mmml-table6-sims", rows=("v4",))
    path = tmp_path / "x.toml"
    path.write_text('system = "mmml"\n[setting]\nlr = 1\n')
    with pytest.raises(ProtocolError, match="no key 'setting'; did you mean 'settings'"):
        read_recipe(path, {})
    path.write_text('system = "mmml"\n[settings]\ntasks = "MX"\n')
    with pytest.raises(ProtocolError, match="tasks must be letters of M, T, A, not 'MX'"):
        read_recipe(path, {})
    path.write_text('system = "mmml"\n[settings]\nseeds = []\n')
    with pytest.raises(ProtocolError, match="seeds is empty"):
        read_recipe(path, {})
    with pytest.raises(ProtocolError, match="--seeds 0: at least one"):
        plan("mmml", seeds=0)


def _page() -> list[dict[str, str]]:
    """Rows of the tables of docs/their-option-ours.md, with the section's system."""
    rows, system = [], ""
    for line in (ROOT / "docs/their-option-ours.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            system = line.removeprefix("## ").split()[0].lower()
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 4:
            keys = ("theirs", "default", "ours", "ours_default")
            rows.append({"system": system, **dict(zip(keys, cells, strict=True))})
    return rows


def test_every_option_of_the_page_exists_with_its_default() -> None:
    rows = _page()
    assert {row["system"] for row in rows} == {"depmamba", "mmml"}
    assert len(rows) > 45
    options = {option for param in command.params for option in param.opts}
    for row in rows:
        kind = SYSTEMS[row["system"]]
        defaults = {field.name: field.default for field in fields(kind)}
        for name in re.findall(r"`([a-z_]+)=", row["ours"]):
            assert name in defaults, row
        for option in re.findall(r"`(--[a-z-]+)", row["ours"]):
            assert option in options | {"--text-encoder", "--run"}, row
        named = re.fullmatch(r"`([a-z_]+)=`", row["ours"])
        if named and row["ours_default"].startswith("`"):
            shown = json.dumps(defaults[named.group(1)])
            assert row["ours_default"] == f"`{shown}`", row
        assert row["ours"] not in ("", "?")


def test_every_setting_of_ours_is_on_the_page() -> None:
    text = (ROOT / "docs/their-option-ours.md").read_text(encoding="utf-8")
    for system in ("depmamba", "mmml"):
        for field in fields(SYSTEMS[system]):
            assert f"`{field.name}=" in text, (system, field.name)
