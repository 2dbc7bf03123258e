"""HEAR provider of any TFLite file with a TOML beside it: ``tflite@FILE``.

It needs ai-edge-litert, which is in the extra ``zoo``; it runs on the CPU with one thread. An
output may be any tensor of the graph, by name or by "-1": the one before the first output.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from mambabench.errors import EncoderError
from mambabench.hear_api.graph_files import check_names, graph_functions
from mambabench.hear_api.graph_settings import GraphSettings

__all__ = ["TfliteGraph", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


class TfliteGraph:
    """A TFLite file, open."""

    def __init__(self, settings: GraphSettings) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise EncoderError(
                f"ai-edge-litert cannot be imported ({error}): pip install 'mambabench[zoo]'"
            ) from error
        if settings.state:
            raise EncoderError(f"{settings.file}: states are for ONNX files")
        hidden = bool(settings.output)  # inner tensors are kept on request only, and cost memory
        try:
            with warnings.catch_warnings():  # it warns that inner tensors cost memory
                warnings.simplefilter("ignore", UserWarning)
                self._net = Interpreter(
                    str(settings.file), num_threads=1, experimental_preserve_all_tensors=hidden
                )
        except ValueError as error:
            raise EncoderError(f"{settings.file} cannot be opened as TFLite: {error}") from error
        self._inputs = {d["name"]: d["index"] for d in self._net.get_input_details()}
        self.first_input: str = next(iter(self._inputs))
        wanted = (settings.input or self.first_input, *settings.constants)
        check_names(settings.file, "input", wanted, tuple(self._inputs))
        self._outputs = self._indices(settings)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def _indices(self, settings: GraphSettings) -> list[int]:
        first = int(self._net.get_output_details()[0]["index"])
        if not settings.output:
            return [first]
        known = {d["name"]: int(d["index"]) for d in self._net.get_tensor_details()}
        named = tuple(o for o in settings.output if not o.lstrip("-").isdigit())
        check_names(settings.file, "tensor", named, tuple(known))
        return [known[o] if o in named else first + int(o) for o in settings.output]

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Return the outputs that the settings name."""
        shapes = {name: tuple(x.shape) for name, x in inputs.items()}
        if shapes != self._shapes:
            for name, shape in shapes.items():
                self._net.resize_tensor_input(self._inputs[name], shape)
            self._net.allocate_tensors()
            self._shapes = shapes
        for name, x in inputs.items():
            self._net.set_tensor(self._inputs[name], x)
        self._net.invoke()
        return [self._net.get_tensor(i).copy() for i in self._outputs]


load_model, get_scene_embeddings, get_timestamp_embeddings = graph_functions(".tflite", TfliteGraph)
