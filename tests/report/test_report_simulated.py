"""The simulation behind the table of coverage and error rates still gets its numbers."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "perf"))
    return importlib.import_module("report_statistics")


def test_every_written_set_has_its_p_value_and_its_interval(simulation: Any) -> None:
    null = simulation.Null("few", "top1_acc", simulation.classes(20, (0.5, 0.5)))
    rejected = simulation.rejections(null, 2)
    assert rejected["sets"] == 2
    assert 0 <= rejected["at_01"] <= rejected["at_05"] <= rejected["at_50"] <= 1
    case = simulation.Coverage("few", "top1_acc", simulation.accuracy(20, 0.5), truth=0.5)
    row = simulation.covered(case, 2)
    assert row["given"] == row["sets"] == 2
    assert row["width"] > 0
    facts = {"nulls": [rejected | {"commit": "abc"}], "coverages": [row], "command": "x"}
    lines = simulation.table(facts).splitlines()
    assert [line for line in lines if line.startswith("| few | 2 | ") and "| abc |" in line]
    assert row["note"]
    assert [line for line in lines if line.endswith(f"| earlier | {row['note']} |")]
    wrong = simulation.Coverage("few", "top1_acc", simulation.accuracy(20, 0.5), truth=2.0)
    assert simulation.covered(wrong, 2)["below"] == 2


def test_sets_without_a_p_value_or_an_interval_end_the_simulation(
    simulation: Any, tmp_path: Path
) -> None:
    null = simulation.Null("one clip", "top1_acc", simulation.classes(1, (0.5, 0.5)))
    with pytest.raises(ValueError, match="one clip: no p-value"):
        simulation.rejections(null, 2)
    case = simulation.Coverage("one clip", "top1_acc", simulation.accuracy(1, 0.5), truth=0.5)
    with pytest.raises(ValueError, match="one clip: no interval"):
        simulation.covered(case, 2)
    simulation.write(tmp_path, "a", "set", "top1_acc", [simulation.answers(np.ones(3, bool))])
    record = next(tmp_path.rglob("seed-000.json"))
    record.write_text(record.read_text().replace('"own_sha256"', '"other"'))
    with pytest.raises(ValueError, match=r"refuses what was written: .*seed-000\.json"):
        simulation.reported(tmp_path)
