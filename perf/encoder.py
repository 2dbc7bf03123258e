"""Measure whole encoders on one CPU thread against their matrix products alone.

    python perf/encoder.py [--only NAME]     # CPU
    python perf/encoder.py --gpu             # one GPU: SSAMBA-base, 16 clips, eager and CUDA graph

Random weights, published architectures, from spectrogram to final tokens. "products, torch" are
the blocks' linear layers as torch.nn.functional.linear computes them on inputs of their own;
"products, ours" the same on weights packed by oneDNN, as our blocks use them. "published path" is
the same model on the published code's operations (see peers.py). Writes
results/performance/encoder.{json,md}.
"""

from __future__ import annotations

import argparse
import copy
import functools
from typing import Any
from unittest import mock

import torch
from common import Timing, rounds, write
from models import MODELS, Model, linear_layers
from peers import PLAIN, Operations, cuda_operations, slow_block
from torch import Tensor

from mambabench.models.blocks import fused
from mambabench.models.blocks.block import Block
from mambabench.models.blocks.precision import set_precision

GOALS = {"tiny": (1.5, 1.35, 13, 18), "base": (1.25, 1.15, 5, 6)}


def products(model: Model, packed: bool) -> Any:
    """Return a function that runs every linear layer of the blocks once."""
    batch, length, _ = model.tokens().shape
    calls = []
    for layer in linear_layers(model.encoder):
        x = torch.randn(batch, length, layer.in_features)
        weight = layer.weight.detach()
        if packed and fused._can_pack() and layer.in_features >= 64:
            run = fused._product(layer, batch * length)
            calls.append(lambda run=run, x=x: run(x))
        else:  # the time step's narrow product is a plain one in our blocks too
            calls.append(lambda x=x, w=weight: torch.nn.functional.linear(x, w))

    def run_all() -> None:
        for call in calls:
            call()

    return run_all


def published(model: Model, operations: Operations = PLAIN) -> Tensor:
    """Run the model on the published operations."""
    block = functools.partialmethod(slow_block, operations=operations)
    with mock.patch.object(Block, "forward", block):
        return model()


def measure(name: str, n_rounds: int) -> dict[str, Any]:
    """Time one model and say what its precisions cost."""
    model = MODELS[name]()
    with torch.inference_mode(False), torch.no_grad():
        ours, theirs = model(), published(model)
        error = float((ours - theirs).abs().max() / theirs.abs().max())
        assert error < 1e-4, (name, error)
        calls = {
            "ours": model,
            "torch": products(model, packed=False),
            "packed": products(model, packed=True),
            "published": lambda: published(model),
        }
        for precision in ("bf16", "int8"):
            lowered = copy.deepcopy(model.encoder)
            left = set_precision(lowered, precision)
            if precision == "bf16":
                kept = ", ".join(left)
            calls[precision] = Model(lowered, model.spectrogram, model.audio_s)
        outputs = {p: calls[p]() for p in ("bf16", "int8")}
        found = rounds(calls, n_rounds, budget_s=30)
    size = "tiny" if "tiny" in name else "base"
    total = found["ours"].median_ms
    row: dict[str, Any] = {
        "model": name, "ours, ms": total, "spread": found["ours"].spread,
        "x real time": 1e3 * model.audio_s / total,
        "over products, torch": total / found["torch"].median_ms,
        "over products, ours": total / found["packed"].median_ms,
        "goal": GOALS[size][0],
        "published path, x": found["published"].median_ms / total, "goal ": GOALS[size][2],
        "error against it": error,
    }  # fmt: skip
    for precision, output in outputs.items():
        row[f"{precision}, x"] = total / found[precision].median_ms
        row[f"{precision}, worst token cosine"] = float(
            torch.nn.functional.cosine_similarity(output, ours, dim=-1).min()
        )
        row[f"{precision}, error / spread"] = float((output - ours).std() / ours.std())
    row["bf16, in float32"] = kept
    return row


def gpu(n_rounds: int) -> list[dict[str, Any]]:
    """Time SSAMBA-base on 16 clips and on one, eager and as a CUDA graph.

    The published path is the same block on mamba_ssm's scan and causal-conv1d's convolution, both
    directions one after the other on flipped input; add and norm are torch's.
    """
    rows = []
    for batch in (16, 1):
        model = MODELS["SSAMBA-base, 10.24 s"]()
        encoder = model.encoder.cuda()
        model = Model(encoder, model.spectrogram.repeat(batch, 1, 1).cuda(), 10.24 * batch)
        with torch.no_grad():
            row: dict[str, Any] = {"clips": batch, "ours, ms": _wall(model, n_rounds)}
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                model()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model()
            row["CUDA graph, ms"] = _wall(graph.replay, n_rounds)
            try:
                operations = cuda_operations()
                row["published path, ms"] = _wall(
                    functools.partial(published, model, operations), n_rounds
                )
                row["published path, x"] = row["published path, ms"] / row["ours, ms"]
                row["goal"] = 1.5
            except ImportError as error:
                row["published path, ms"] = f"not measured: {error}"
        rows.append(row)
    return rows


def _wall(call: Any, n_rounds: int) -> float:
    times = []
    for _ in range(n_rounds + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(1e-3 * start.elapsed_time(end))
    return Timing.of(times[3:]).median_ms


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="models whose name contains this")
    parser.add_argument("--gpu", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.gpu:
        write("encoder_gpu", "python perf/encoder.py --gpu", {"GPU": gpu(options.rounds)})
        return
    rows = [measure(name, options.rounds) for name in MODELS if options.only in name]
    absent = [{"SSAMBA-base, 16 clips": "not measured: no GPU", "goal": "1.5 over mamba_ssm"}]
    write("encoder", "python perf/encoder.py", {"Whole encoders": rows, "GPU": absent})


if __name__ == "__main__":
    main()
