"""The page on training: its walk runs as it is printed, and it names every setting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from conftest import write_lists

from mambabench.cli.train import command
from mambabench.train.encoder_settings import AumSettings, SsambaSettings, SsamSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_five_minutes(tmp_path: Path) -> None:
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    write_lists(tmp_path / "audio")
    write_lists(tmp_path / "lists")
    own = f"{sys.executable} -m mambabench"
    script = "set -eu\n" + re.sub(r"^mambabench ", f"{own} ", block, flags=re.MULTILINE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_every_setting_is_on_the_page() -> None:
    for kind in (SsamSettings, SsambaSettings, AumSettings):
        for field in fields(kind):
            assert re.search(rf"\b{field.name}=", PAGE), (kind.__name__, field.name)


def test_no_setting_is_on_the_page_that_is_not_there() -> None:
    known = {f.name for kind in (SsamSettings, SsambaSettings, AumSettings) for f in fields(kind)}
    known |= {"train", "valid", "test", "labels", "audio"}  # keys of --data
    options = {option for parameter in command.params for option in parameter.opts}
    tables = PAGE[PAGE.index("## Their option") :]
    for row in re.findall(r"^\| .* \| (.*) \|$", tables, re.MULTILINE):
        for name in re.findall(r"`(?:--data )?([a-z_]+)=`", row):
            assert name in known, row
        for option in re.findall(r"`(--[a-z-]+)", row):
            assert option in options, row
