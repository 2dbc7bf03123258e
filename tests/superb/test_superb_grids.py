"""The recipes of SUPERB's presets: what changes in them raises the version that records carry."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import pytest

from mambabench.benchmarks.superb import TASKS
from mambabench.probe.families.recipes import recipe_of, steps_of, width_of
from mambabench.probe.protocols import resolve_protocol

# (preset, grid) -> its version and the hash of all its recipes, steps and widths
GRIDS = {
    ("superb", "default"): (2, "22419b9e41d2"),
    ("superb", "fast"): (3, "9ba29f06357c"),
    ("superb", "faster"): (3, "3c340e385f99"),
}


@pytest.mark.parametrize(("preset", "grid"), GRIDS)
def test_another_recipe_has_another_version(preset, grid):
    protocol = resolve_protocol(preset, grid)
    found = {}
    for known in TASKS.values():
        if known.superb_name != "QbE":
            task = SimpleNamespace(name=known.name, prediction_type="")
            recipe = recipe_of(task, protocol)
            width = width_of(recipe, protocol) if recipe.width else None
            found[known.superb_name] = [repr(recipe), steps_of(recipe, protocol), width]
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]
    assert (protocol.version, digest) == GRIDS[preset, grid], (
        "raise the version (of the protocol, or `grid_version` of a shortened grid) where a recipe "
        "changes: records of the old one must not stand beside the new"
    )
