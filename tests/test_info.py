"""``mambabench info`` and its twin."""

from __future__ import annotations

import json
import subprocess
import sys

from click.testing import CliRunner

import mambabench
from mambabench.cli.info import command
from mambabench.provenance import info

KEYS = {
    "schema",
    "git_commit",
    "python",
    "platform",
    "cpu",
    "cpu_flags",
    "cores",
    "memory_gib",
    "versions",
    "devices",
    "scan",
    "precision",
    "jobs",
    "engines",
    "environment",
}


def test_keys_are_documented_and_json():
    found = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
    assert set(found) == KEYS
    assert found["schema"] == "mambabench.info/1"
    assert all(key in mambabench.info.__doc__ or key in "python cpu cores" for key in KEYS)
    chosen = [name for name, status in found["scan"].items() if status["chosen"]]
    assert sum(name.startswith("cpu") for name in chosen) == 1
    assert all(status["reason"] for status in found["scan"].values())


def test_the_page_for_people_names_backends_and_reasons():
    text = CliRunner().invoke(command, []).stdout
    assert "selective scan, by device and backend:" in text
    assert "True" not in text, "sentences for people"
    assert "None" not in text
    assert "cpu: numba" in text
    assert "fp32" in text


def test_engines_that_are_installed_are_told(monkeypatch):
    assert info()["engines"].keys() == {"local", "ray", "slurm"}
    monkeypatch.setattr("mambabench.engine.choice.find_spec", lambda name: None)
    assert info()["engines"] == {"local": True, "ray": False, "slurm": False}


def test_importing_and_helping_stay_light():
    code = (
        "import sys, mambabench, mambabench.cli, click\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(mambabench.cli._cli, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'scipy', 'pandas', 'matplotlib', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists():
    for name in mambabench.__all__:
        assert getattr(mambabench, name) is not None
    assert callable(mambabench.extract)
    assert "layers" in str(__import__("inspect").signature(mambabench.extract))


def test_an_unknown_verb_is_answered_with_the_nearest():
    done = subprocess.run(
        [sys.executable, "-m", "mambabench", "extrakt"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no verb named 'extrakt'; did you mean 'extract'" in done.stderr
