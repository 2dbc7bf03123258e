"""Run mambabench and count the fits and epochs that it trains.

python probe_counted.py COUNTS.json ARGUMENTS OF MAMBABENCH ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mambabench.cli import main
from mambabench.probe.families import mlp


def counted(target: Path) -> None:
    """Let every fit of this process add its epochs to what `target` holds at the end."""
    epochs: list[int] = []
    original = mlp.train

    def train(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        epochs.append(result.n_epochs)
        return result

    mlp.train = train
    try:
        main()
    finally:
        target.write_text(json.dumps({"n_fits": len(epochs), "n_epochs": sum(epochs)}))


if __name__ == "__main__":
    counts = Path(sys.argv.pop(1))
    counted(counts)
