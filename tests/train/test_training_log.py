"""What a training says while it runs: to Weights & Biases, to TensorBoard, and in its line."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from small import run

from mambabench.cli.train import _ProgressLine
from mambabench.errors import ProtocolError
from mambabench.train.encoder_settings import SsambaSettings, SsamSettings
from mambabench.train.log import RunLog, read_log
from mambabench.train.loop import Tick
from mambabench.train.systems.ssam import SYSTEM as SSAM
from mambabench.train.systems.ssamba import SYSTEM as SSAMBA

Rows = list[tuple[int, dict[str, float]]]


class Loggers:
    """Stand in for both packages; remember what they were told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun: list[dict[str, Any]] = []
        self.sent: Rows = []
        self.scalars: list[tuple[str, float, int]] = []
        self.folders: list[str] = []
        self.ended: list[str] = []
        run = SimpleNamespace(
            log=lambda row, step: self.sent.append((step, row)),
            finish=lambda: self.ended.append("wandb"),
        )
        board = SimpleNamespace(
            add_scalar=lambda *scalar: self.scalars.append(scalar),
            close=lambda: self.ended.append("tensorboard"),
        )

        def init(**told: Any) -> Any:
            self.begun.append(told)
            return run

        def writer(folder: str) -> Any:
            self.folders.append(folder)
            return board

        for name, member, value in (
            ("wandb", "init", init),
            ("torch.utils.tensorboard", "SummaryWriter", writer),
        ):
            module = ModuleType(name)
            setattr(module, member, value)
            monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def loggers(monkeypatch: pytest.MonkeyPatch) -> Loggers:
    return Loggers(monkeypatch)


def test_ssam_is_logged_under_its_authors_names(
    tars: Path, loggers: Loggers, tmp_path: Path
) -> None:
    done = run("ssam", {"tars": tars}, tmp_path, log=("wandb", "tensorboard"))
    assert done.error is None
    (begun,) = loggers.begun
    assert begun["project"] == "ssast-pytorch-mamba"
    assert begun["group"] == "audioset"
    assert begun["name"] == done.folder.name == "ssam_1x8_fp32_r0"
    assert begun["config"]["lr"] == 0.05
    lines = [row for row in read_log(done.folder / "log.jsonl") if row["kind"] == "step"]
    assert len(lines) == len(loggers.sent) == 6
    for line, (step, row) in zip(lines, loggers.sent, strict=True):
        theirs = ("train_loss", "lr", "step", "steps_per_second", "samples_per_second", "grad_norm")
        assert set(row) == {*theirs, "epoch"}
        assert step == line["step"] == row["step"] + 1
        assert row["train_loss"] == line["loss"]
        assert row["samples_per_second"] == pytest.approx(line["clips_per_s"], abs=1e-3)
        assert row["steps_per_second"] * 8 == pytest.approx(row["samples_per_second"])
    assert loggers.scalars == [(k, v, step) for step, row in loggers.sent for k, v in row.items()]
    assert loggers.folders == [str(done.folder / "tensorboard")]
    assert sorted(loggers.ended) == ["tensorboard", "wandb"]


def test_ssamba_is_logged_under_its_authors_names(
    lists: Path, loggers: Loggers, tmp_path: Path
) -> None:
    done = run("ssamba", {"lists": lists}, tmp_path, {"task": "esc50"}, log=("wandb",))
    assert done.error is None
    (begun,) = loggers.begun
    assert begun["project"] == "amba_esc"
    assert begun["name"] == "ssamba/seed-000"
    first, *rest = loggers.sent  # the next step that is sent would be the 101st
    theirs = {"Train Loss", "Train Accuracy", "Learning Rate", "Epoch", "Step"}
    assert theirs <= set(first[1])
    assert (first[0], first[1]["Epoch"], first[1]["Step"]) == (1, 1, 0)
    found = [row for row in read_log(done.folder / "log.jsonl") if row["kind"] == "evaluation"]
    assert [step for step, _ in rest] == [row["step"] for row in found] == [2, 4]
    for (_, row), line in zip(rest, found, strict=True):
        assert row["Validation Accuracy"] == line["eval_accuracy"]
        assert row["Validation Loss"] == line["eval_mse"]
    assert not loggers.folders


def test_fine_tuning_and_aum_send_their_evaluations(
    lists: Path, loggers: Loggers, tmp_path: Path
) -> None:
    run("ssamba-classify", {"lists": lists}, tmp_path, {"epochs": 1}, log=("wandb",))
    assert loggers.begun[0]["project"] == "amba_final"
    names = {"Validation Loss", "Validation mAP", "Validation Accuracy", "Validation AUC"}
    assert names <= set(loggers.sent[-1][1])
    run("aum", {"lists": lists}, tmp_path, {"epochs": 1}, log=("tensorboard",))
    assert {"loss", "lr", "eval/acc", "eval/mAP"} <= {name for name, _, _ in loggers.scalars}


@pytest.mark.parametrize(
    ("task", "project"),
    [("esc50", "amba_esc"), ("as20k", "amba_as"), ("audioset", "amba_as"),
     ("audioset-librispeech", "amba_final"), ("urbansound8k", "amba_final")],
)  # fmt: skip
def test_ssamba_s_projects_are_by_task(task: str, project: str) -> None:
    assert SSAMBA.sent is not None
    assert SSAMBA.sent(SsambaSettings(task=task)).project == project


def test_the_loss_of_an_evaluation_is_the_objective_s() -> None:
    assert SSAMBA.sent is not None
    for target, name in (("mpc", "eval_nce"), ("mpg", "eval_mse"), ("joint", "eval_mse")):
        names = SSAMBA.sent(SsambaSettings(target=target)).names  # type: ignore[arg-type]
        assert names[name] == "Validation Loss"


def _tick(step: int, n_steps: int = 20, left_s: float = 3725.0) -> Tick:
    shown = {"loss": 0.512345, "accuracy": 0.25}
    return Tick(step, n_steps, 1, 3e-4, shown, clips_per_s=12.34, left_s=left_s, clip_s=10.24)


def test_ssamba_sends_every_hundredth_step_and_keeps_all(loggers: Loggers, tmp_path: Path) -> None:
    assert SSAMBA.sent is not None
    settings = SsambaSettings()
    config = {"batch_size": 64, "task": settings.task}
    with RunLog(tmp_path, ("wandb",), SSAMBA.sent(settings), "x", config) as log:
        for step in range(1, 302):
            log.step(_tick(step, 301))
    assert [row["Step"] for _, row in loggers.sent] == [0, 100, 200, 300]
    assert len(read_log(tmp_path / "log.jsonl")) == 301


def test_a_rank_that_is_not_the_first_says_nothing(loggers: Loggers, tmp_path: Path) -> None:
    assert SSAM.sent is not None
    config = {"batch_size": 8, "task": "x"}
    sent = SSAM.sent(SsamSettings())
    with RunLog(tmp_path, ("wandb", "tensorboard"), sent, "x", config, write=False) as log:
        log.step(_tick(1))
    assert loggers.begun == loggers.folders == list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "module"), [("wandb", "wandb"), ("tensorboard", "torch.utils.tensorboard")]
)
def test_a_logger_that_is_not_installed_is_named_before_anything_is_read(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = rf'needs the package {name}: pip install "mambabench\[{name}\]"'
    with pytest.raises(ProtocolError, match=message):
        run("ssam", {"tars": tmp_path / "nothing"}, tmp_path / "out", log=(name,))
    assert not list(tmp_path.iterdir())


LINE = (
    "aum step {}/20 epoch 2  loss 0.5123  accuracy 0.25  rate 0.0003  12.3 clips/s "
    "(126 x real time)  {} left"
)


class Clock:
    """A clock that the test sets, and a standard error that is a terminal or not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
        self.now = 1000.0
        monkeypatch.setattr("mambabench.cli.train.time.monotonic", lambda: self.now)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)


def test_the_progress_line_of_a_file_comes_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, terminal=False)
    line = _ProgressLine()
    line("aum", _tick(5))
    clock.now += 29
    line("aum", _tick(6))
    clock.now += 1
    line("aum", _tick(7, left_s=6 * 86400))  # hours, as trainings take days
    clock.now += 1
    line("aum", _tick(20, left_s=0))  # the last step is always shown
    said = capsys.readouterr()
    times = ((5, "1:02:05"), (7, "144:00:00"), (20, "0:00:00"))
    assert said.err.splitlines() == [LINE.format(step, left) for step, left in times]
    assert said.out == ""


def test_the_progress_line_of_a_terminal_is_written_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock(monkeypatch, terminal=True)
    line = _ProgressLine()
    line("aum", _tick(5))
    clock.now += 0.1
    line("aum", _tick(6))
    clock.now += 0.2
    line("aum", _tick(20, left_s=0))
    over = "\r\x1b[K"
    first, last = LINE.format(5, "1:02:05"), LINE.format(20, "0:00:00")
    assert capsys.readouterr().err == f"{over}{first}{over}{last}\n"
