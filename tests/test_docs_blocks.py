"""Every `sh` and `python` block of the documentation runs as printed, or says why not.

A block runs in a folder that its page has to itself, page by page from top to bottom. The comment
above a block may hold code that goes first, or the reason why the block cannot run here:

    <!-- first: x = 1 -->
    <!-- not run: needs a cluster -->

A block of commands is a `sh` block; what a command prints, and its usage, is `text`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.benchmarks import demo

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "recipes" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(
    r"(?:<!-- (?P<kind>first|not run): (?P<note>.*?) -->\n+)?"
    r"^ *```(?P<language>sh|bash|console|python)\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)
VOWEL = "demo_vowel-v1-demo"  # what stands for a user's tasks
ENCODER = """
import torch
from mambabench.hear_api.windows import windowed

def embed(windows):
    return torch.fft.rfft(windows).abs()[:, :64].log1p()

load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(
    embed, 16000, 0.5, 64, hop_ms=50, scene="mean"
)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block, what runs before it, and why it does not run."""

    page: str
    line: int
    language: str
    code: str
    first: str
    not_run: str


@cache
def blocks(page: Path) -> tuple[Block, ...]:
    text = page.read_text(encoding="utf-8")
    name = str(page.relative_to(ROOT))
    return tuple(
        Block(
            name,
            text[: m.start("code")].count("\n"),
            m["language"],
            m["code"],
            m["note"] if m["kind"] == "first" else "",
            m["note"] if m["kind"] == "not run" else "",
        )
        for m in FENCE.finditer(text)
    )


def small_tasks(folder: Path, per_label: int = 2) -> None:
    """Write the demo's tasks with few clips a split and label."""
    folder.mkdir(parents=True)
    for name in demo.DEMO_TASKS:
        whole = demo.describe(name)
        seen: dict[tuple[str, str], int] = {}
        kept = []
        for clip in whole.clips:
            key = clip.split, "" if isinstance(clip.labels[0], dict) else str(clip.labels[0])
            seen[key] = seen.get(key, 0) + 1
            if seen[key] <= per_label:
                kept.append(clip)
        small = demo.DemoTask(whole.metadata, whole.labels, tuple(kept))
        demo._write_task(folder / name, small)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what the pages speak of: an encoder, clips, tasks."""
    folder = tmp_path_factory.mktemp("furnished")
    small_tasks(folder / "tasks")
    (folder / "my_encoder.py").write_text(ENCODER)
    rng = np.random.default_rng(0)
    for name in ("one.wav", "two.flac", "audio/a.wav", "audio/b.wav"):
        (folder / name).parent.mkdir(exist_ok=True)
        soundfile.write(folder / name, rng.normal(0, 0.1, 24000), 16000)
    return folder


def enter(folder: Path, furnished: Path) -> None:
    """Lay the furniture out where the pages expect it."""
    (folder / "mambabench-out").mkdir()
    (folder / "mambabench-out" / "tasks").symlink_to(furnished / "tasks")
    for place in ("path/to/tasks", "path/to/hear/tasks"):
        (folder / place).mkdir(parents=True)
        (folder / place / VOWEL).symlink_to(furnished / "tasks" / VOWEL)
    for path in furnished.iterdir():
        if path.name != "tasks":
            (folder / path.name).symlink_to(path)


def run(block: Block, folder: Path) -> None:
    command = (
        [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*command, f"{block.first}\n{block.code}"],
        cwd=folder,
        env={**os.environ, "PATH": path, "MAMBABENCH_PLUGINS": "0"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, (
        f"{block.page}:{block.line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )


RUN = [page for page in PAGES if any(not block.not_run for block in blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=[str(p.relative_to(ROOT)) for p in RUN])
def test_blocks_run_as_printed(page: Path, tmp_path: Path, furnished: Path) -> None:
    enter(tmp_path, furnished)
    for block in blocks(page):
        if not block.not_run:
            run(block, tmp_path)


def test_an_object_in_memory_takes_ten_lines() -> None:
    section = (ROOT / "docs" / "adding-an-encoder.md").read_text().partition("## An object in ")[2]
    printed = FENCE.search(section)
    assert printed is not None
    assert "evaluate_encoder" in printed["code"]
    assert printed["kind"] is None  # nothing goes first, and it runs
    assert len([line for line in printed["code"].splitlines() if line.strip()]) <= 10


def test_every_block_is_seen() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fences = re.findall(r"^ *```(?:sh|bash|console|python)\b", text, re.MULTILINE)
        assert len(fences) == len(blocks(page)), page


def untagged_commands(text: str) -> list[str]:
    """Return the first commands of those blocks of a page that say nothing of what they are."""
    found = []
    for tag, code in re.findall(r"^ *```(.*)\n((?:.*\n)*?) *```$", text, re.MULTILINE):
        command = re.search(r"^[ $]*((?:python -m )?mambabench .*)$", code, re.MULTILINE)
        if command and not tag.strip():
            found.append(command[1])
    return found


def test_every_command_is_run_or_says_why_not() -> None:
    """No block hides from the tests by having no language."""
    fences = "```\nmambabench info\n```\n\n```text\nmambabench VERB\n```\n\n```\nplain\n```\n"
    assert untagged_commands(fences + "- so:\n\n  ```\n  $ mambabench run\n  ```\n") == [
        "mambabench info",
        "mambabench run",
    ]
    found = {page.name: untagged_commands(page.read_text(encoding="utf-8")) for page in PAGES}
    assert not {page: commands for page, commands in found.items() if commands}


def test_reasons_are_reasons() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert not block.not_run or len(block.not_run) > 8, f"{block.page}:{block.line}"
