"""How many weights an ONNX or TFLite file holds: torch does not see them, so `check` asks here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

__all__ = ["GRAPHS", "n_weights"]

GRAPHS = (".onnx", ".tflite")


def n_weights(file: Path) -> int | None:
    """Return the number of elements of all constant tensors of a graph file; None if none is found.

    Constants are initialisers and the tensors of nodes, those of inner graphs (branches, loops)
    too. ONNX files need the package onnx, TFLite files ai-edge-litert.
    """
    if file.suffix == ".onnx":
        return _of_onnx(file)
    return _of_tflite(file) if file.suffix == ".tflite" else None


def _of_onnx(file: Path) -> int | None:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        return None
    try:
        return _of_graph(onnx.load(file, load_external_data=False).graph) or None
    except (OSError, DecodeError):
        return None  # no ONNX file, whatever its name says


def _of_graph(graph: Any) -> int:
    attributes = [attribute for node in graph.node for attribute in node.attribute]
    tensors = [*graph.initializer, *(a.t for a in attributes if a.HasField("t"))]
    inner = [g for a in attributes for g in (*([a.g] if a.HasField("g") else []), *a.graphs)]
    return sum(int(math.prod(one.dims)) for one in tensors) + sum(map(_of_graph, inner))


def _of_tflite(file: Path) -> int | None:
    try:
        from ai_edge_litert.interpreter import Interpreter

        net = Interpreter(str(file), num_threads=1)
    except (ImportError, ValueError):
        return None
    n = 0
    for tensor in net.get_tensor_details():
        try:
            n += net.get_tensor(tensor["index"]).size
        except ValueError:
            continue  # before memory is given out, only constants can be read
    return n
