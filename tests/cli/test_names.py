"""Tasks and encoders are called as people call them; what means nothing is answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mambabench.benchmarks import demo, discover, tasks
from mambabench.benchmarks.names import groups, named_tasks
from mambabench.cli.models import command as models
from mambabench.cli.tables import table_lines
from mambabench.cli.tasks import command as tasks_command
from mambabench.errors import DataError, EncoderError
from mambabench.models.registry import encoder_list, encoder_names

KNOWN = [row.name for row in tasks.list()]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("esc50", ["esc50-v2.0.0-full"]),
        ("ESC-50", ["esc50-v2.0.0-full"]),
        ("crema_d", ["tfds_crema_d-1.0.0-full"]),
        ("gtzan", ["tfds_gtzan-1.0.0-full"]),
        ("demo_pitch", ["demo_pitch-v1-demo"]),
        ("demo_p*", ["demo_percussion-v1-demo", "demo_pitch-v1-demo"]),
        ("speech_commands", ["speech_commands-v0.0.2-5h", "speech_commands-v0.0.2-full"]),
        ("Speech commands 5h", ["speech_commands-v0.0.2-5h"]),
        ("superb_ks", ["superb_ks"]),
        ("esc51", []),
        ("", []),
        ("*.nothing", []),
    ],
)
def test_what_a_name_means(name: str, meant: list[str]) -> None:
    assert list(named_tasks(name, KNOWN)) == meant


def test_a_limited_task_is_not_meant_by_its_short_name() -> None:
    known = ["esc50-v2.0.0-full", "esc50-v2.0.0-full.limit-20"]
    assert named_tasks("esc50", known) == ("esc50-v2.0.0-full",)
    assert named_tasks("hear", known) == ("esc50-v2.0.0-full",)
    assert named_tasks("esc50*", known) == tuple(known)


def test_groups_come_from_the_table() -> None:
    by_group = {group: set(named_tasks(group, KNOWN)) for group in groups()}
    assert all(by_group.values())
    assert len(by_group["hear"]) == 20
    domains = [by_group[name] for name in ("speech", "music", "sound")]
    assert set.union(*domains) == set(KNOWN)
    assert sum(map(len, domains)) == len(KNOWN)
    assert "esc50-v2.0.0-full" in by_group["small"]
    assert "nsynth_pitch-v2.2.3-50h" not in by_group["small"]


def test_tasks_of_a_folder_are_chosen_likewise(tmp_path: Path) -> None:
    demo.generate(tmp_path)
    assert [t.name for t in discover([tmp_path], ["music"])] == [
        "demo_percussion-v1-demo",
        "demo_pitch-v1-demo",
    ]
    with pytest.raises(DataError, match="no task of the group 'hear' in"):
        discover([tmp_path], ["hear"])
    with pytest.raises(DataError, match="no task named 'demo_pich' in .*; did you mean 'demo_pi"):
        discover([tmp_path], ["demo_pich"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "esc50"], "esc50-v2.0.0-full"),
        (["list", "small"], "esc50-v2.0.0-full"),
        (["list", "demo"], "demo: generated here"),
    ],
)
def test_verbs_take_short_names(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(tasks_command, arguments)
    assert done.exit_code == 0, done.output
    assert said in done.stdout


def test_a_name_of_several_is_no_one_task() -> None:
    with pytest.raises(DataError, match="means 2 tasks: name one of speech_commands-v0.0.2-5h, "):
        tasks.show("speech_commands")
    with pytest.raises(DataError, match="did you mean 'esc50'"):
        tasks.show("esc51")


def test_encoders_are_chosen_by_globs() -> None:
    random = encoder_list(["ssam_*_random"])
    assert "ssam_tiny_random" in random
    assert set(random) <= set(encoder_names())
    with pytest.raises(EncoderError, match=r"no encoder is called 'sam_tini\*'; did you mean"):
        encoder_list(["sam_tini*"])
    listed = CliRunner().invoke(models, ["list", "ssam_*", "--at-hand"])
    assert "ssam_tiny_random" in listed.stdout
    assert "aum" not in listed.stdout
    wrong = CliRunner().invoke(models, ["list", "samba"])
    assert isinstance(wrong.exception, EncoderError)


def test_tables_break_no_word_and_no_number() -> None:
    rows = [("family of its own",), ("a_long_name_of_it", "69,443,392", "see the repository of it")]
    heads = ("name", "parameters", "licence")
    for width in (80, 60, 45, 30, 20):
        lines = table_lines(heads, rows, width, ("parameters",), ("parameters",))
        words = set(" ".join(lines).split())
        assert {"a_long_name_of_it", "repository", "see", "family"} <= words
        assert ("69,443,392" in words) == (width >= 60), width
        if width >= 30:
            assert max(map(len, lines)) <= width
    wide = table_lines(heads, rows, None)
    assert wide[-1].endswith("see the repository of it")
