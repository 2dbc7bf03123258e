"""How many weights an ONNX or TFLite file holds: torch does not see them, so `check` asks here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

__all__ = ["n_weights"]

# numbers of fields in onnx.proto
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_ATTRIBUTE = 5
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 5, 6, 11
_TENSOR_DIMS = 1


def n_weights(file: Path) -> int | None:
    """Return the number of elements of all constant tensors of a graph file; None if none is found.

    Constants are initialisers and the tensors of nodes, those of inner graphs (branches, loops)
    too. TFLite files need ai-edge-litert.
    """
    if file.suffix == ".onnx":
        return _of_onnx(file)
    return _of_tflite(file) if file.suffix == ".tflite" else None


def _of_onnx(file: Path) -> int | None:
    """Read the file's messages: the runtime does not tell, and the package onnx may be absent."""
    try:
        fields = list(_fields(memoryview(file.read_bytes())))
        return sum(_of_graph(graph) for number, graph in fields if number == _MODEL_GRAPH) or None
    except (OSError, IndexError, ValueError):
        return None  # no ONNX file, whatever its name says


def _of_graph(graph: memoryview) -> int:
    n = 0
    for number, value in _fields(graph):
        if number == _GRAPH_INITIALIZER:
            n += _elements(value)
        elif number == _GRAPH_NODE:
            n += sum(_of_attribute(a) for k, a in _fields(value) if k == _NODE_ATTRIBUTE)
    return n


def _of_attribute(attribute: memoryview) -> int:
    n = 0
    for number, value in _fields(attribute):
        if number == _ATTRIBUTE_TENSOR:
            n += _elements(value)
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            n += _of_graph(value)
    return n


def _elements(tensor: memoryview) -> int:
    """Return the number of elements of a tensor; its dimensions may be packed in one field."""
    dims: list[int] = []
    for number, value in _fields(tensor):
        if number == _TENSOR_DIMS:
            dims += _numbers(value)
    return math.prod(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of the fields of a protocol buffer."""
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            size = _number(message, place)[1] - place
        elif kind == 2:
            size, place = _number(message, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no kind of field: {kind}")
        if place + size > len(message):
            raise ValueError("a field ends behind its message")
        yield number, message[place : place + size]
        place += size


def _numbers(packed: memoryview) -> Iterator[int]:
    place = 0
    while place < len(packed):
        value, place = _number(packed, place)
        yield value


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """Return the number of seven bits a byte, lowest first, that starts at `place`, and its end."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


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
