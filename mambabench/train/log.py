"""Training logs: JSON lines always, Weights & Biases where asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambabench.errors import ProtocolError, nearest_names
from mambabench.files import write_bytes

__all__ = ["LOGGERS", "JsonLog", "WandbLog", "check_loggers"]

LOGGERS = ("wandb",)
Row = dict[str, Any]


def check_loggers(names: tuple[str, ...]) -> None:
    """Raise ProtocolError for a logger that does not exist or is not installed."""
    for name in names:
        if name not in LOGGERS:
            raise ProtocolError(f"no logger {name!r}{nearest_names(name, LOGGERS)}")
        _wandb()


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ProtocolError("--log wandb needs the package wandb: pip install wandb") from error
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

    def __call__(self, row: Row) -> None:
        """Add a row; NaN becomes null."""
        self._lines.append(json.dumps(_plain(row), sort_keys=True, allow_nan=False))
        write_bytes(self._path, ("\n".join(self._lines) + "\n").encode())


class WandbLog:
    """Sends rows to Weights & Biases under the published names, e.g. ``loss/train``, ``f1/val``."""

    def __init__(self, project: str, name: str, config: Mapping[str, Any]) -> None:
        options = {"project": project, "name": name, "config": dict(config), "reinit": True}
        self._run: Any = _wandb().init(**options)

    def __call__(self, row: Row) -> None:
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
