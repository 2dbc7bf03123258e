"""The sources of a report: every built-in task, protocol and encoder has one, or is listed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from synthetic_results import write_scene
from test_docs_blocks import small_tasks

import mambabench
from mambabench.benchmarks.affect_tasks import FAMILY as AFFECT
from mambabench.benchmarks.known import known_rows
from mambabench.models.registry import encoder_entries
from mambabench.probe.protocols import PROTOCOLS
from mambabench.report.exchange.citations import entries, protocol_keys, task_keys

# without a source, and why
UNCITED_TASKS = {
    "demo_events-v1-demo": "generated here",
    "demo_percussion-v1-demo": "generated here",
    "demo_pitch-v1-demo": "generated here",
    "demo_vowel-v1-demo": "generated here",
    "generated": "a stand-in for corpora of sentiment, made here",
}
UNCITED_PROTOCOLS = {
    "linear": "of this package: cited as mambabench",
    "knn": "of this package: cited as mambabench",
    "sound": "of this package: cited as mambabench",
}
UNCITED_ENCODERS = {"logmel_stats": "of this package, and no network"}
TASKS = sorted({row.name for row in known_rows()} | {*AFFECT.prepares})
REAL = [  # the tasks that results/leaderboard is on
    *("emodb-v1-full", "emodb_speaker-v1-full", "esc10_mix-v1-full", "esc50-v2.0.0-esc10"),
    *("fsdd_digit-v1.0.9-full", "fsdd_digit_loso-v1.0.9-full", "fsdd_speaker-v1.0.9-full"),
    *("instr_pitch-v1-full", "wakeword6-v1-full"),
]


def cited(out: Path) -> set[str]:
    """Report; return the keys of the .bib but for that of this package."""
    mambabench.report(out, plot="none")
    text = (out / "report" / "references.bib").read_text("ascii")
    keys = re.findall(r"^@\w+\{([^,]+),$", text, flags=re.MULTILINE)
    assert len(keys) == len(set(keys))
    return {*keys} - {"mambabench"}


def without(keys: Sequence[str]) -> set[str]:
    return {key for key in keys if key not in entries()}


@pytest.mark.parametrize("task", [*TASKS, *REAL])
def test_every_task_has_a_source_or_a_reason(task: str) -> None:
    keys = task_keys([task])
    assert bool(keys) != (task in UNCITED_TASKS)
    assert not without(sorted(keys))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_has_a_source_or_a_reason(protocol: str) -> None:
    keys = protocol_keys([protocol])
    assert bool(keys) != (protocol in UNCITED_PROTOCOLS)
    assert not without(sorted(keys))
    assert protocol_keys([f"{protocol}/fast", f"{protocol}+exact", f"{protocol} (limit 9)"]) == keys


@pytest.mark.parametrize("encoder", encoder_entries())
def test_every_encoder_has_a_source_or_a_reason(encoder: str) -> None:
    assert bool(encoder_entries()[encoder].bibtex) != (encoder in UNCITED_ENCODERS)


def test_every_entry_says_what_it_is_and_is_used() -> None:
    used = task_keys([*TASKS, *REAL, "spoken_digit-1.0.9-small"]) | protocol_keys(PROTOCOLS)
    own = {
        key
        for key, text in entries().items()
        for e in encoder_entries().values()
        if e.bibtex.strip() == text.strip()
    }
    assert set(entries()) == used | own
    for key, text in entries().items():
        assert re.search(r"^  title = \{.+\},?$", text, flags=re.MULTILINE), key
        assert text.count("{") == text.count("}"), key


def test_variants_of_a_task_have_its_sources_and_a_users_own_has_none() -> None:
    for variant in ("mosi_frames", "superb_ks", "tfds_crema_d-1.0.0-small"):
        assert task_keys([variant])
    assert task_keys(["beehive_states_mean_of_folds-v2-full"]) == task_keys(
        ["beehive_states_fold0-v2-full"]
    )
    assert not task_keys(["emodb_mine-v1-full", "my_birds", "esc5000"])


def test_a_report_cites_its_corpus_and_its_protocol(tmp_path: Path) -> None:
    write_scene(tmp_path, "mine", "emodb_speaker-v1-full", skill=1.0, seeds=2)
    assert cited(tmp_path) == {"burkhardt2005emodb", "turian2022hear", "yadav2024audiomamba"}
    write_scene(tmp_path / "own", "mine", "my_birds", skill=1.0, seeds=2, protocol="sound")
    assert not cited(tmp_path / "own")
    slots = tmp_path / "slots"
    write_scene(slots, "mine", "superb_sf", skill=1.0, seeds=2, protocol="superb-clean")
    assert cited(slots) == {"coucke2018snips", "lai2021semi", "yang2021superb"}


def test_a_page_has_the_same_bytes_whatever_the_order_of_sets(tmp_path: Path) -> None:
    for task in ("emodb_speaker-v1-full", "wakeword6-v1-full", "instr_pitch-v1-full", "mine"):
        write_scene(tmp_path / "out", "mine", task, skill=1.0, seeds=1)
    for seed in ("1", "2"):
        line = [sys.executable, "-m", "mambabench", "report", "--out", str(tmp_path / "out")]
        line += ["--to", str(tmp_path / seed), "--format", "csv"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL)
    for name in ("report.html", "report.json", "references.bib", "scores.csv"):
        assert len({(tmp_path / seed / name).read_bytes() for seed in "12"}) == 1, name


@pytest.mark.parametrize(
    ("label", "configuration", "key"),
    [
        ("voice", {"kind": "hear_module", "package": "resemblyzer"}, "wan2018ge2e"),
        ("silero_vad", {"kind": "hear_module"}, None),  # another's file under a known name
        ("silero_vad", None, "silerovad"),  # no store beside the records
        ("ssamba_tiny:pooling=mean", None, "shams2024ssamba"),
    ],
)
def test_an_encoder_is_cited_whatever_it_is_called(
    tmp_path: Path, label: str, configuration: dict[str, object] | None, key: str | None
) -> None:
    (record, _) = write_scene(tmp_path, label, "own", skill=1.0, seeds=2, protocol="sound")
    if configuration is not None:
        store = tmp_path / "embeddings" / record.parents[2].name / "own"
        store.mkdir(parents=True)
        body = {"encoder_configuration": configuration}
        (store / "manifest.json").write_text(json.dumps(body))
    for _ in range(2):  # made, and recalled
        assert cited(tmp_path) == ({key} if key else set())
        (tmp_path / "report" / "references.bib").unlink()


def test_a_named_encoder_keeps_its_source_and_its_parameters(tmp_path: Path) -> None:
    """From the command's own store: the run's label says nothing of the encoder."""
    small_tasks(tmp_path / "tasks")
    mambabench.run(
        encoder="voice=ssamba_tiny_random",
        tasks=tmp_path / "tasks",
        task="demo_vowel-v1-demo",
        out=tmp_path / "out",
        protocol="linear",
    )
    assert cited(tmp_path / "out") == {"shams2024ssamba"}
    (cost,) = mambabench.report(tmp_path / "out", plot="none").summary.costs
    assert (cost.encoder, cost.parameters) == ("voice", 7_288_298)
