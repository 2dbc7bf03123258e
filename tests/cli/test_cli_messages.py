"""What the command line says to wrong arguments: one line, exit code 2, no traceback."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import pytest

from mambabench import cli

WRONG = {
    "chekc": "no verb named 'chekc'; did you mean 'check'? see `mambabench --help`",
    "embed": "Missing argument 'FILE...'; see `mambabench embed --help`",
    "extract --precision fp8": "'fp8' is not one of fp32, bf16, int8; did you mean 'fp32'?",
    "extract --tasks nowhere": "tasks folder nowhere does not exist; give a task directory",
    "extract --shard 3/2": "--shard '3/2' is not i/n with 1 <= i <= n, such as 1/4 ... 4/4",
    "probe": "mambabench-out/embeddings: no finished embeddings; run `mambabench extract`",
    "probe --protocol hear2020": "'hear2020' is not one of hear2021, ssam2024",
    "report": "mambabench-out: no such output folder; give the --out that probe wrote to",
    "classify clip.wav": "Missing option '--encoder'; see `mambabench classify --help`",
    "weights show nothing": "there is no checkpoint nothing: give the path of a file",
    "data get unknown": "no published archive named 'unknown'",
    "data verify": "no task directory below tasks: name one",
    "train nothing": "'nothing' is not one of ssam, ssast, ssamba, aum, depmamba, mmml",
    "train depmamba --recipe nothing": "give a name in recipes/ or the path of a .toml file",
    "train depmamba --set d_stat=1 --dry-run": "no setting 'd_stat'; did you mean 'd_state'",
    "evaluate --run nowhere": "nowhere is neither a folder of `mambabench train`",
    "tasks show nothing": "no such directory; `tasks list` names all",
    "tasks prepare mosii --data .": "as task 'mosii'; did you mean 'mosi' or 'mosei'? known:",
    "models show ssam_tny": "no encoder named 'ssam_tny'; did you mean 'ssam_tiny'",
}


@pytest.mark.parametrize("arguments", WRONG)
def test_wrong_arguments_are_answered_in_one_line(
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mambabench", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert said.err.startswith("mambabench: ")
    assert said.err.count("\n") == 1
    assert WRONG[arguments] in said.err


def test_a_group_alone_answers_with_its_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mambabench", "tasks"])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr()
    assert "Commands:" in said.out
    assert said.err == ""


def test_warnings_are_one_line_without_source(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        monkeypatch.setattr(sys, "argv", ["mambabench", "--version"])
        with pytest.raises(SystemExit):
            cli.main()
        text = io.StringIO()
        warnings.showwarning(UserWarning("ignored:\n  a file"), UserWarning, "file.py", 7, text)
        assert text.getvalue() == "warning: ignored: a file\n"
        warnings.simplefilter("always")
        warnings.warn("odd", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: odd\n"
