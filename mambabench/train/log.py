"""Training logs: JSON lines always, Weights & Biases and TensorBoard where asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambabench.errors import ProtocolError, nearest_names
from mambabench.files import write_bytes

__all__ = [
    "LOGGERS",
    "EpochRows",
    "JsonLog",
    "RunLog",
    "SentNames",
    "WandbLog",
    "check_loggers",
    "read_log",
]

LOGGERS = ("jsonl", "wandb", "tensorboard")
LogRow = dict[str, Any]


def check_loggers(names: tuple[str, ...], known: tuple[str, ...] = LOGGERS) -> None:
    """Raise ProtocolError for a logger that is not `known` or not installed."""
    for name in names:
        if name not in known:
            near = nearest_names(name, known) or f"; there are {', '.join(known)}"
            raise ProtocolError(f"no logger {name!r}{near}")
        if name == "wandb":
            _wandb()
        if name == "tensorboard":
            _tensorboard()


def _tensorboard() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ProtocolError(
            '--log tensorboard needs the package tensorboard: pip install "mambabench[tensorboard]"'
        ) from error
    return SummaryWriter


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ProtocolError(
            '--log wandb needs the package wandb: pip install "mambabench[wandb]"'
        ) from error
    return wandb


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class JsonLog:
    """One line per epoch. The file is rewritten whole, so a reader never sees half a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def __call__(self, row: LogRow) -> None:
        """Add a row; NaN becomes null."""
        self._lines.append(json.dumps(_plain(row), sort_keys=True, allow_nan=False))
        write_bytes(self._path, ("\n".join(self._lines) + "\n").encode())


class EpochRows:
    """Hands the rows of a training that is told epoch by epoch to a log, each once it is saved.

    Call it with every saved `mambabench.train.loop.Progress`; after a restart the old rows come
    first, so that a log that is written whole is whole again.
    """

    def __init__(self, log: Callable[[LogRow], None] | None) -> None:
        self._log, self._n = log, 0

    def __call__(self, progress: Any) -> None:
        """Log the rows that were not yet."""
        rows = self.of(progress)
        while self._n < len(rows):
            self._n += 1
            if self._log is not None:
                self._log(rows[self._n - 1])

    @staticmethod
    def of(progress: Any) -> list[LogRow]:
        """Return the history without what the loop adds."""
        return [
            {key: value for key, value in row.items() if key not in ("step", "lr")}
            for row in progress.history
        ]


class WandbLog:
    """Sends rows to Weights & Biases under the published names, e.g. ``loss/train``, ``f1/val``."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        options = {"project": project, "name": name, "config": dict(config), "reinit": True}
        self._run: Any = _wandb().init(**options)

    def __call__(self, row: LogRow) -> None:
        """Log one epoch."""
        flat = {
            f"{key}/{part}": value
            for part in ("train", "val")
            for key, value in row.get(part, {}).items()
        }
        self._run.log(flat, step=row["epoch"])

    def close(self, summary: Mapping[str, Any]) -> None:
        """Store the summary and finish the run."""
        for key, value in summary.items():
            self._run.summary[key] = value
        self._run.finish()


def read_log(path: Path) -> list[LogRow]:
    """Return the rows of a log; a last line that was cut off is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


@dataclass(frozen=True)
class SentNames:
    """What a run is called at other loggers: as the authors call it, where they log at all."""

    project: str
    names: Mapping[str, str] = field(default_factory=dict)  # our name of a number -> theirs
    every: int = 1  # steps from one that is sent to the next; log.jsonl has all


class RunLog:
    """What a training of an encoder says of itself: log.jsonl always, other loggers where asked.

    Lines are appended; when a run continues, those of steps that its state does not know are taken
    back first. `config` holds the settings. `write` False (a rank that is not the first) says
    nothing.
    """

    def __init__(
        self,
        folder: Path,
        loggers: Sequence[str],
        sent: SentNames,
        name: str,
        config: Mapping[str, Any],
        *,
        write: bool = True,
    ) -> None:
        self._path, self._write, self._sent = folder / "log.jsonl", write, sent
        self._batch_size = int(config["batch_size"])
        self._wandb: Any = None
        self._board: Any = None
        self._file: Any = None
        self._begun = False
        if write and "wandb" in loggers:
            self._wandb = _wandb().init(
                project=sent.project,
                group=config["task"],
                name=name,
                config=dict(config),
                reinit=True,
            )
        if write and "tensorboard" in loggers:
            self._board = _tensorboard()(str(folder / "tensorboard"))

    def __enter__(self) -> RunLog:
        """Open nothing yet: the first line says from which step on."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close every logger."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _open(self, step: int) -> None:
        """Keep the lines up to `step` and append from there."""
        self._begun = True
        old = read_log(self._path) if self._path.is_file() else []
        kept = [row for row in old if row["step"] <= step]
        lines = [json.dumps(row, sort_keys=True) + "\n" for row in kept]
        write_bytes(self._path, "".join(lines).encode())
        self._file = self._path.open("a", encoding="utf-8", buffering=1)

    def _line(self, row: LogRow, flat: Mapping[str, float]) -> None:
        if not self._write:
            return
        if not self._begun:
            self._open(row["step"] - 1 if row["kind"] == "step" else row["step"])
        self._file.write(json.dumps(_plain(row), sort_keys=True, allow_nan=False) + "\n")
        if self._wandb is not None and flat:
            self._wandb.log(dict(flat), step=row["step"])
        if self._board is not None:
            for key, value in flat.items():
                self._board.add_scalar(key, value, row["step"])

    def step(self, said: Any) -> None:
        """Log one step (a `mambabench.train.loop.Tick`)."""
        row = {
            "kind": "step",
            "step": said.step,
            "epoch": said.epoch,
            "lr": said.rate,
            "clips_per_s": round(said.clips_per_s, 3),
            "x_real_time": round(said.clips_per_s * said.clip_s, 2),
            **said.shown,
        }
        ours = {
            **said.shown,
            "lr": said.rate,
            "epoch": said.epoch + 1,
            "step": said.step - 1,  # theirs count from 0
            "steps_per_s": said.clips_per_s / self._batch_size,
            "clips_per_s": said.clips_per_s,
        }
        due = ours["step"] % self._sent.every == 0
        self._line(row, {self._sent.names.get(k, k): v for k, v in ours.items()} if due else {})

    def evaluation(self, progress: Any) -> None:
        """Log the last evaluation of a `mambabench.train.loop.Progress`."""
        found = progress.history[-1]
        row = {"kind": "evaluation", "epoch": progress.epoch, **found}
        numbers = {k: v for k, v in found.items() if isinstance(v, float) and k != "lr"}
        self._line(row, {self._sent.names.get(k, f"eval/{k}"): v for k, v in numbers.items()})

    def probe(self, progress: Any, found: Mapping[str, float]) -> None:
        """Log the probes of an epoch."""
        row = {"kind": "probe", "step": progress.step, "epoch": progress.epoch, **found}
        self._line(row, {f"probe/{k}": v for k, v in found.items()})
