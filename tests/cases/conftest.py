"""Run the command line in this process, as a user does, and keep what it says."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it on one line, without a traceback of ours."""
        text = " ".join((self.out + self.err).split())
        assert "Traceback" not in text, text
        assert "interrupted" not in text, text
        return text


Run = Callable[..., Said]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``mambabench`` with arguments."""
    from mambabench.cli import main, show_whole

    def call(*arguments: str | Path) -> Said:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["mambabench", *map(str, arguments)])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
            warnings.simplefilter("default")
            main()
        show_whole(False)
        said = capfd.readouterr()
        code = ended.value.code
        return Said(0 if code is None else int(code), said.out, said.err)

    return call
