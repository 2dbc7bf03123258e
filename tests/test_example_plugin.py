"""The packages in examples/ are what they say: one works in every verb, its twin only warns."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
FILES = sorted((EXAMPLES / "plugin" / "mambabench_example").glob("*.py"))
PAGES = {
    "encoder.py": "adding-an-encoder.md",
    "bands.py": "adding-an-encoder.md",
    "tasks.py": "adding-a-task.md",
    "protocol.py": "adding-a-protocol.md",
    "nearest_mean.py": "adding-a-protocol.md",
    "metric.py": "adding-a-metric.md",
    "tsv.py": "adding-a-format.md",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install both packages as pip does, into a folder of their own."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("plugin", "plugin_broken"):
        source = shutil.copytree(EXAMPLES / name, folder / "source" / name)
        options = ("--no-deps", "--no-build-isolation", "--quiet", "--no-warn-conflicts")
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options]
        done = subprocess.run(
            [*command, "--target", str(folder / "installed"), str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder / "installed"


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty beeps of a second's fifth, of three labels."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    for low, label in ((300, "low"), (380, "middle"), (480, "high")):
        (folder / label).mkdir()
        for i in range(40):
            seconds = np.arange(3200) / 16000
            samples = np.sin(2 * np.pi * rng.uniform(low, 1.5 * low) * seconds)
            samples += 2.0 * rng.normal(size=len(seconds))
            with wave.open(str(folder / label / f"{i:02d}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", "NONE"))
                file.writeframes((samples * 4000).clip(-32000, 32000).astype("<i2").tobytes())
    return folder


def run(site: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "MAMBABENCH_PLUGINS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "mambabench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=environment,
    )


def test_every_verb_takes_what_the_package_adds(site: Path, sounds: Path, tmp_path: Path) -> None:
    def verb(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = run(site, tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done

    prepared = verb("tasks", "prepare", "folders", "--data", str(sounds))
    assert "train 72, valid 24, test 24" in prepared.stdout
    extracted = verb("extract", "--encoder", "example_bands", "--tasks", "tasks", "--out", "out")
    assert "broken_encoder = mambabench_broken:ENTRY" in extracted.stderr
    assert "the name is taken" in extracted.stderr
    probed = verb("probe", "--protocol", "nearest-mean", "--out", "out")
    assert "broken-protocol" in probed.stderr
    reported = verb("report", "--out", "out", "--format", "tsv")
    assert "broken-format" in reported.stderr
    heading, line = reported.stdout.splitlines()[:2]
    row = dict(zip(heading.split("\t"), line.split("\t"), strict=True))
    assert (row["encoder"], row["task"]) == ("example_bands", "folders")
    assert row["metric"] == "reciprocal_rank"
    assert 0.4 < float(row["low"]) <= float(row["mean"]) <= float(row["high"]) <= 1
    refused = run(site, tmp_path, "probe", "--protocol", "broken-protocol", "--out", "out")
    assert refused.returncode != 0
    assert "a_package_that_is_not_installed" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_stays_light(site: Path, tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['mambabench', 'probe', '--help']\n"
    code += "from mambabench.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += "assert 'torch' not in sys.modules, 'torch'\n"
    environment = os.environ | {"PYTHONPATH": str(site), "MAMBABENCH_PLUGINS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_each_is_short(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 40, f"{file.name} has {len(lines)} lines"


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_quote_the_files(name: str) -> None:
    text = (ROOT / "docs" / PAGES[name]).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    own = (EXAMPLES / "plugin" / "mambabench_example" / name).read_text(encoding="utf-8")
    assert own in blocks, f"docs/{PAGES[name]} does not quote {name} as it is"


def test_every_file_is_quoted() -> None:
    assert {file.name for file in FILES} - {"__init__.py"} == set(PAGES)
