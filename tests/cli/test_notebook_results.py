"""What verbs return shows itself in a notebook, names of files and encoders escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mambabench
from mambabench.errors import MambabenchError
from mambabench.extract.outcome import Extracted, TaskOutcome
from mambabench.pipeline import PipelineRun
from mambabench.probe.verb import ProbeFailure, ProbeRun
from mambabench.store.estimate import Estimate
from mambabench.verification.verb import Verified


def test_results_are_tables_with_everything_escaped() -> None:
    out = Path("<out>")
    outcome = TaskOutcome("<b>", "task&1", out, "sealed", 20, {"test/a": "gone"})
    extracted = Extracted(out, (outcome,), 10.0, 2.0)
    probed = ProbeRun(out, 3, 4, (ProbeFailure("e", "t", 7, "1 < 2"),), ())
    shown: list[tuple[Any, tuple[str, ...]]] = [
        (extracted, ("&lt;b&gt;", "task&amp;1", "<td>20</td><td>1</td>", "10 s of audio in 2.0 s")),
        (probed, ("3 units trained, 4 there already", "<td>7</td><td>1 &lt; 2</td>")),
        (Verified(out, 2, 5, ()), ("2 stores and 5 records below &lt;out&gt;: no defects",)),
    ]
    for value, said in shown:
        html = value._repr_html_()
        assert html.startswith("<table>")
        assert html.count("<tr>") == 1 + html.count("<tr><td>")
        for text in said:
            assert text in html
        assert "<out>" not in html
    run = PipelineRun(extracted, probed, None, {})
    assert run._repr_html_() == probed._repr_html_()
    row = Estimate("probe", "e", "t", 3, None, 10**9, 2 * 10**9, "not known")
    assert "<td>-</td><td>1</td><td>2</td><td>not known</td>" in (
        PipelineRun(extracted, None, None, {}, estimates=(row,))._repr_html_()
    )


def test_a_string_is_one_name_in_every_verb(tmp_path: Path) -> None:
    rows = mambabench.tasks.list(names="esc50")
    assert [row.name for row in rows] == ["esc50-v2.0.0-full"]
    mambabench.run("logmel_stats", task="demo_vowel", out=str(tmp_path), protocol="linear", jobs=1)
    result = mambabench.report(str(tmp_path), task="demo_vowel", encoder="logmel_stats")
    assert "demo_vowel" in result._repr_html_()
    assert len(mambabench.load_results(str(tmp_path))) == 1
    assert [row.name for row in mambabench.tasks.list(str(tmp_path / "tasks"), "music")] == [
        "demo_percussion-v1-demo",
        "demo_pitch-v1-demo",
    ]
    with pytest.raises(MambabenchError, match="export 'ssamm' is not one of"):
        mambabench.report(str(tmp_path), export="ssamm")
