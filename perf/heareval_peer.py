"""Run hear-eval-kit's own trainer, unmodified, on one embeddings directory and record every fit.

Runs in that kit's environment (see perf/probe.py), not in mambabench's:

    python heareval_peer.py EMBEDDINGS_DIR RECORD.json
"""

from __future__ import annotations

import base64
import csv
import importlib.machinery
import json
import os
import resource
import sys
import time
import types
from pathlib import Path


def _stub_tensorflow() -> None:
    """Stand in for TensorFlow, which the kit imports and does not use for torch models."""
    module = types.ModuleType("tensorflow")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorflow", None)
    module.Module = type("Module", (), {})
    module.config = types.SimpleNamespace(list_physical_devices=lambda kind=None: [])
    sys.modules["tensorflow"] = module


def main() -> None:
    """Train as the kit's runner does, and write what each fit came to."""
    directory, record = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work = record.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    os.chdir(work)  # the kit writes its logs and checkpoints into the current folder
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    _stub_tensorflow()
    import logging
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from heareval.predictions import task_predictions as kit

    imported = time.process_time()
    metadata = json.loads((directory / "task_metadata.json").read_text())
    fits = []
    original = kit.task_predictions_train

    def recording(**kwargs: object) -> object:
        state = torch.get_rng_state().numpy().tobytes()
        cpu, wall = time.process_time(), time.monotonic()
        result = original(**kwargs)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        curve = Path(result.trainer.logger.log_dir) / "metrics.csv"
        result.trainer.logger.save()
        scored = metadata.get("use_scoring_for_early_stopping", True)
        key = "val_" + (metadata["evaluation"][0] if scored else "loss")
        with curve.open() as file:
            rows = [(int(r["epoch"]), float(r[key])) for r in csv.DictReader(file) if r.get(key)]
        conf = kwargs["conf"]
        fits.append(
            {
                "splits": kwargs["data_splits"],
                "conf": {
                    name: value if isinstance(value, int | float | bool) else str(value)
                    for name, value in conf.items()
                },
                "score": result.validation_score,
                "best_epoch": result.epoch,
                "n_epochs": int(result.trainer.current_epoch),
                "curve": rows,
                "cpu_s": cpu,
                "wall_s": wall,
                "rng_state": base64.b64encode(state).decode(),
            }
        )
        return result

    kit.task_predictions_train = recording
    shape = next(iter(sorted(directory.glob("*.embedding-dimensions.json"))))
    size = json.loads(shape.read_text())[1]
    started = time.monotonic()
    kit.task_predictions(
        embedding_path=directory,
        embedding_size=size,
        grid_points=8,
        gpus=None,
        in_memory=True,
        deterministic=True,
        grid="default",
        logger=logging.getLogger("kit"),
    )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    scores = json.loads((directory / "test.predicted-scores.json").read_text())
    record.write_text(
        json.dumps(
            {
                "fits": fits,
                "scores": scores,
                "import_cpu_s": imported,
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "wall_s": time.monotonic() - started,
                "peak_bytes": usage.ru_maxrss * 1024,
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
