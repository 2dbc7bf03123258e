"""HEAR provider of any ONNX file with a TOML beside it: ``onnx@FILE`` (docs/adding-an-encoder.md).

It needs onnxruntime, which is in the extra ``zoo``; it runs on the CPU with one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mambabench.errors import EncoderError
from mambabench.hear_api.graph_files import check_names, graph_functions
from mambabench.hear_api.graph_settings import GraphSettings

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


class OnnxGraph:
    """An ONNX file, open."""

    def __init__(self, settings: GraphSettings) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise EncoderError(
                f"onnxruntime cannot be imported ({error}): pip install 'mambabench[zoo]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings of the runtime would tear the progress line
        try:
            self._session = onnxruntime.InferenceSession(
                str(settings.file), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime has an error class for each of its states
            raise EncoderError(f"{settings.file} cannot be opened as ONNX: {error}") from error
        inputs = tuple(i.name for i in self._session.get_inputs())
        outputs = tuple(o.name for o in self._session.get_outputs())
        self.first_input: str = inputs[0]
        self._outputs = list(settings.output or outputs[:1])
        self._outputs += [state.output for state in settings.state.values()]
        wanted = (settings.input or inputs[0], *settings.constants, *settings.state)
        check_names(settings.file, "input", wanted, inputs)
        check_names(settings.file, "output", tuple(self._outputs), outputs)

    def __call__(self, inputs: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Return the outputs that the settings name, then the states."""
        return [np.asarray(o) for o in self._session.run(self._outputs, dict(inputs))]


load_model, get_scene_embeddings, get_timestamp_embeddings = graph_functions(".onnx", OnnxGraph)
