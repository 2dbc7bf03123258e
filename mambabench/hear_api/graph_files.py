"""Encoders given as an ONNX or TFLite file with a TOML beside it: what both bridges share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from mambabench.errors import EncoderError, nearest_names
from mambabench.hear_api.graph_settings import GraphSettings, read_settings
from mambabench.hear_api.windows import POOLS, Windowed, WindowedModel

__all__ = ["Graph", "check_names", "graph_functions"]

Array = npt.NDArray[Any]


class Graph(Protocol):
    """A loaded graph."""

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Return the outputs, in the order that `GraphSettings` names them, states after them."""
        ...

    @property
    def first_input(self) -> str:
        """The name of the first input."""
        ...


class RecurrentModel(WindowedModel):
    """A network that hears a clip step by step and hands on a state."""

    def __init__(self, graph: Graph, settings: GraphSettings) -> None:
        super().__init__(lambda x: x, settings.windows, (settings.file,))
        self._graph, self._settings = graph, settings

    def _frames(self, audio: torch.Tensor) -> torch.Tensor:
        s, step = self._settings, self.windows.window_samples
        n = max(1, round(audio.shape[1] / step))
        lack = n * step - audio.shape[1]
        x = F.pad(audio * s.gain, (s.context_samples, max(0, lack))).cpu().numpy()
        states: dict[str, Array] = {
            name: np.zeros([len(x) if d == "n" else int(d) for d in state.shape], np.float32)
            for name, state in s.state.items()
        }
        rows = []
        for i in range(n):
            chunk = np.ascontiguousarray(x[:, i * step : (i + 1) * step + s.context_samples])
            found = self._graph(
                {s.input or self._graph.first_input: chunk, **states, **_constants(s)}
            )
            kept, new = found[: len(found) - len(states)], found[len(found) - len(states) :]
            states = dict(zip(states, new, strict=True))
            embedded = [
                states[k].reshape(-1, *states[k].shape[-2:])[0]
                for k, v in s.state.items()
                if v.embed
            ]
            rows.append(np.concatenate([*embedded, *kept], 1))
        return torch.from_numpy(np.stack(rows, 1)).to(audio.device)

    def scene(self, audio: torch.Tensor) -> torch.Tensor:
        """Return statistics over the steps."""
        rows = self._frames(audio)
        return torch.cat([POOLS[name](rows) for name in self.windows.scene], 1)

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the steps and their centres."""
        rows, w = self._frames(audio), self.windows
        step_ms = 1000.0 * w.window_samples / w.sample_rate
        times = (torch.arange(rows.shape[1], dtype=torch.float64) + 0.5) * step_ms
        times = times.clamp(max=1000.0 * audio.shape[1] / w.sample_rate)
        return rows, times.float().to(rows.device).expand(len(audio), -1).contiguous()


def _constants(settings: GraphSettings) -> dict[str, Array]:
    return {
        name: np.array(value, np.float32 if isinstance(value, float) else np.int64)
        for name, value in settings.constants.items()
    }


def graph_functions(suffix: str, opener: Callable[[GraphSettings], Graph]) -> Windowed:
    """Return the HEAR functions of a bridge; the checkpoint is the file or its TOML."""

    def load_model(model_file_path: str = "", hop_ms: float | None = None) -> WindowedModel:
        kind = suffix.removeprefix(".")
        if not model_file_path:
            raise EncoderError(f"name the file: {kind}@model{suffix}")
        settings = read_settings(Path(model_file_path), suffix)
        windows = settings.windows
        if hop_ms is not None:
            from dataclasses import replace

            windows = replace(windows, hop_ms=float(hop_ms))
            settings = replace(settings, windows=windows)
        graph = opener(settings)
        if settings.state:
            return RecurrentModel(graph, settings)
        return WindowedModel(partial(_embed, graph, settings), windows, (settings.file,))

    load_model.options = ("hop_ms",)  # type: ignore[attr-defined]
    return Windowed(
        load_model,
        lambda audio, model: model.scene(audio),
        lambda audio, model: model.timestamps(audio),
    )


def _embed(graph: Graph, settings: GraphSettings, windows: torch.Tensor) -> torch.Tensor:
    """Run the graph on [n, n_samples]; several outputs go side by side on the last axis."""
    device, n = windows.device, len(windows)
    if settings.fixed_batch and n < settings.windows.batch:
        windows = F.pad(windows, (0, 0, 0, settings.windows.batch - n))
    outputs = graph(
        {settings.input or graph.first_input: _laid_out(windows, settings), **_constants(settings)}
    )
    framed = bool(settings.windows.frame_samples)
    shaped = [
        o.reshape(len(windows), -1, o.shape[-1]) if framed else o.reshape(len(windows), -1)
        for o in outputs
    ]
    return torch.from_numpy(np.concatenate(shaped, -1)[:n].astype(np.float32)).to(device)


def _laid_out(windows: torch.Tensor, settings: GraphSettings) -> Array:
    """Return the features in the graph's layout, float32."""
    x = windows.cpu()
    if settings.dither:
        noise = np.random.default_rng(0).standard_normal(x.shape[1])
        x = x + torch.from_numpy(noise).float() * settings.dither
    x = x * settings.gain
    sizes: dict[int | str, int] = {"n": len(x), "samples": x.shape[1]}
    axes = ("n", "samples")
    if settings.logmel is not None:
        x = settings.logmel(x, settings.windows.sample_rate)
        axes, sizes = ("n", "frames", "bands"), dict(zip(("n", "frames", "bands"), x.shape))  # type: ignore[assignment]  # noqa: B905
    named = [axis for axis in settings.layout if axis != 1]
    if sorted(map(str, named)) != sorted(axes):
        raise EncoderError(
            f"layout {list(settings.layout)} of {settings.file}: it has to name "
            f"{', '.join(axes)} once each, and ones"
        )
    ordered = x.permute([axes.index(str(axis)) for axis in named])
    shape = [1 if axis == 1 else sizes[axis] for axis in settings.layout]
    return np.ascontiguousarray(ordered.reshape(shape).numpy(), dtype=np.float32)


def check_names(file: Path, what: str, wanted: tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise EncoderError for a name of an input or output that the graph has not."""
    for name in wanted:
        if name not in known:
            shown = ", ".join(known[:12])
            raise EncoderError(
                f"{file} has no {what} {name!r}{nearest_names(name, known)} (there are {shown})"
            )
