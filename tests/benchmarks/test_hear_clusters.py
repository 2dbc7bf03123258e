"""Clusters of HEAR's tasks from file names: every task has a rule or a reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mambabench.benchmarks.hear import DIRECTORIES, HEAR_TASKS
from mambabench.benchmarks.hear.clusters import HEAR_CLUSTERS, cluster_names

DOCS = Path(__file__).resolve().parents[2] / "docs" / "tasks.md"


def test_every_task_has_a_rule_or_a_reason() -> None:
    assert sorted(one.title for one in HEAR_CLUSTERS) == sorted(task.title for task in HEAR_TASKS)
    for one in HEAR_CLUSTERS:
        assert bool(one.pattern) == bool(one.what)
        assert one.why
    for directory, task in DIRECTORIES.items():
        first = next(one for one in HEAR_CLUSTERS if directory.startswith(one.prefix))
        assert first.title == task.title, directory


@pytest.mark.parametrize(
    ("directory", "clips", "n_clusters"),
    [
        (
            "tfds_crema_d-1.0.0-full",
            ("1001_DFA_ANG_XX.wav", "1001_IEO_SAD_HI.wav", "1002_TIE_NEU_XX.wav"),
            2,
        ),
        ("esc50-v2.0.0-full", ("3-117504-B-16.wav", "3-117504-A-16.wav", "1-67230-A-29.wav"), 2),
        (
            "gunshot_triangulation-v1.0-full",
            ("mic1_shot0_fid1.wav", "mic4_shot0_fid1.wav", "mic1_shot10_fid4.wav"),
            2,
        ),
        (
            "nsynth_pitch-v2.2.3-5h",
            (
                "guitar_acoustic_010-060-075.wav",
                "guitar_acoustic_010-061-100.wav",
                "bass_synthetic_033-022-050.wav",
            ),
            2,
        ),
        (
            "speech_commands-v0.0.2-full",
            (
                "no_c7dc7278_nohash_1.wav",
                "_unknown__one_c7dc7278_nohash_3.wav.wav",
                "_silence__167.wav",
                "_silence__816.wav",
            ),
            3,
        ),
        (
            "speech_commands-v0.0.2-5h",
            (
                "_silence__running_tap-0.wav",
                "_silence__running_tap-8000.wav",
                "_silence__dude_miaowing-0.wav",
            ),
            2,
        ),
        (
            "vox_lingua_top10-hear2021-full",
            (
                "-5bh2VYJdYw__U__S15---0304.450-0311.290.wav",
                "-5bh2VYJdYw__U__S2---0004.450-0011.290.wav",
            ),
            1,
        ),
    ],
)
def test_names_give_clusters(directory: str, clips: tuple[str, ...], n_clusters: int) -> None:
    names = cluster_names(directory, clips)
    assert names is not None
    assert len(names) == len(clips)
    assert len(set(names)) == n_clusters


def test_one_strange_name_gives_none_and_so_does_another_task() -> None:
    assert cluster_names("esc50-v2.0.0-full", ("3-117504-B-16.wav", "x.wav")) is None
    assert cluster_names("tfds_crema_d-1.0.0-full", ("tfds_id_crema-d-train-00000-7.wav",)) is None
    assert cluster_names("fsd50k-v1.0-full", ("37199.wav",)) is None
    assert cluster_names("mine-v1-full", ("3-117504-B-16.wav",)) is None


def test_the_page_lists_every_rule() -> None:
    text = " ".join(DOCS.read_text(encoding="utf-8").split())
    for one in HEAR_CLUSTERS:
        cell = re.escape(one.title) + r" \| " + re.escape(one.what or "–") + r" \| "
        assert re.search(cell + re.escape(one.why), text), one.title
