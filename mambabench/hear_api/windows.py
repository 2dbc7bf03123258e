"""Windows for encoders that hear a fixed length: cut, pad, batch, average, and say when.

Most trained networks embed windows of one length. `windowed` makes a HEAR module of one function
from a batch of windows to their embeddings:

    load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(embed, 16000, 1.5, 512)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch.nn import functional as F

from mambabench.errors import EncoderError, nearest_names

__all__ = ["POOLS", "Embed", "Windowed", "WindowedModel", "Windows", "functions", "windowed"]

# windows [n, n_samples] float32 -> [n, size], or [n, frames, size] with several frames a window
Embed = Callable[[torch.Tensor], torch.Tensor]
POOLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # [n, n_windows, size] -> [n, size]
    "mean": lambda rows: rows.mean(1),
    "std": lambda rows: rows.std(1, correction=0),
    "max": lambda rows: rows.amax(1),
}


@dataclass(frozen=True)
class Windows:
    """How clips are cut into windows and what becomes of the windows' embeddings."""

    sample_rate: int
    window_samples: int
    size: int  # of one embedding
    hop_ms: float = 50.0  # between timestamps
    scene_hop_samples: int = 0  # at most this far apart in a scene; 0: half a window
    scene_centred: bool = False  # a scene's windows lie around the clip's points, as timestamps' do
    scene: tuple[str, ...] = ("mean",)  # statistics over a scene's windows, side by side
    batch: int = 16  # windows of one call
    frame_samples: int = 0  # several frames a window: their distance; 0: one embedding a window
    edge_frames: int = 0  # several frames a window: dropped at both of its ends

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window_samples", "size", "hop_ms", "batch"):
            if not getattr(self, name) > 0:
                raise EncoderError(f"windows with {name} = {getattr(self, name)}: give more than 0")
        for name in self.scene:
            if name not in POOLS:
                raise EncoderError(
                    f"scene statistic {name!r} is not one of {', '.join(POOLS)}"
                    f"{nearest_names(name, POOLS)}"
                )
        if not self.scene:
            raise EncoderError(f"no scene statistic: name some of {', '.join(POOLS)}")

    @property
    def scene_size(self) -> int:
        """The length of a scene embedding."""
        return self.size * len(self.scene)


class WindowedModel(torch.nn.Module):
    """A network that embeds windows, with the attributes that HEAR asks of a model."""

    def __init__(
        self, embed: Embed, windows: Windows, weights_files: Sequence[Path | str] = ()
    ) -> None:
        super().__init__()
        if isinstance(embed, torch.nn.Module):
            self.network = embed  # its weights move and count
        self._call = embed
        self.windows = windows
        self.weights_files = tuple(Path(path) for path in weights_files)
        self.sample_rate = windows.sample_rate
        self.scene_embedding_size = windows.scene_size
        self.timestamp_embedding_size = windows.size
        self.eval()

    def scene(self, audio: torch.Tensor) -> torch.Tensor:
        """Return float32 [n_clips, scene_embedding_size] of clips [n_clips, n_samples]."""
        if self.windows.frame_samples:
            rows = self._frames(audio)
        else:
            rows = self._cut(audio, *_scene_starts(audio.shape[1], self.windows))
        return torch.cat([POOLS[name](rows) for name in self.windows.scene], 1)

    def timestamps(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return float32 [n_clips, n_frames, size] and the windows' centres in milliseconds."""
        w = self.windows
        if w.frame_samples:
            frame_ms = 1000.0 * w.frame_samples / w.sample_rate
            step = max(1, round(w.hop_ms / frame_ms))
            rows, hop_ms = self._frames(audio)[:, ::step].contiguous(), step * frame_ms
        else:
            hop = w.hop_ms * w.sample_rate / 1000
            n = max(1, round(audio.shape[1] / hop))
            before = w.window_samples // 2
            rows = self._cut(audio, [round(i * hop) for i in range(n)], before)
            hop_ms = w.hop_ms
        times = torch.arange(rows.shape[1], dtype=torch.float64) * hop_ms
        return rows, times.float().to(rows.device).expand(len(audio), -1).contiguous()

    def _cut(self, audio: torch.Tensor, starts: Sequence[int], before: int) -> torch.Tensor:
        """Embed the windows at `starts` of clips with `before` zeros in front: [n, n_starts, ...].

        Windows of all clips go together in batches.
        """
        size = self.windows.window_samples
        after = max(0, max(starts) + size - before - audio.shape[1])
        padded = F.pad(audio, (before, after))
        n_windows = len(audio) * len(starts)
        found = []
        for first in range(0, n_windows, self.windows.batch):
            chosen = range(first, min(first + self.windows.batch, n_windows))
            places = [divmod(i, len(starts)) for i in chosen]
            cut = torch.stack([padded[c, starts[k] : starts[k] + size] for c, k in places])
            found.append(self._embed(cut))
        rows = torch.cat(found)
        return rows.view(len(audio), len(starts), *rows.shape[1:])

    def _embed(self, windows: torch.Tensor) -> torch.Tensor:
        """Call the network on [n, window_samples] and check the shape of what it returns."""
        with torch.no_grad():
            rows = self._call(windows)
        size = self.windows.size
        framed = bool(self.windows.frame_samples)
        shape = list(rows.shape)
        if len(shape) != 2 + framed or shape[0] != len(windows) or shape[-1] != size:
            wanted = f"[{len(windows)}, {'n_frames, ' if framed else ''}{size}]"
            raise EncoderError(
                f"embed returned shape {shape} for windows {list(windows.shape)}, expected {wanted}"
            )
        return rows.float()

    def _frames(self, audio: torch.Tensor) -> torch.Tensor:
        """Lay windows of several frames side by side, without their edges: [n, n_frames, size]."""
        w = self.windows
        edge = w.edge_frames * w.frame_samples
        keep = w.window_samples // w.frame_samples - 2 * w.edge_frames
        if keep < 1:
            raise EncoderError(
                f"a window of {w.window_samples} samples has no frame of {w.frame_samples} samples "
                f"left without {w.edge_frames} at each end"
            )
        need = max(1, round(audio.shape[1] / w.frame_samples))
        starts = [i * keep * w.frame_samples for i in range(math.ceil(need / keep))]
        rows = self._cut(audio, starts, edge)[:, :, w.edge_frames : w.edge_frames + keep]
        return rows.flatten(1, 2)[:, :need]


def _scene_starts(n_samples: int, windows: Windows) -> tuple[list[int], int]:
    """Return the windows' starts, evenly spread from end to end, and the zeros put in front.

    A clip that is shorter than the window stands in its middle. Centred ones are a hop apart, the
    first around the clip's first sample.
    """
    if windows.scene_centred:
        step = windows.scene_hop_samples or max(1, windows.window_samples // 2)
        n_centres = max(1, round(n_samples / step))
        return [i * step for i in range(n_centres)], windows.window_samples // 2
    spare = n_samples - windows.window_samples
    if spare <= 0:
        return [0], -spare // 2
    hop = windows.scene_hop_samples or max(1, windows.window_samples // 2)
    n = math.ceil(spare / hop)
    return [round(i * spare / n) for i in range(n + 1)], 0


class _Load(Protocol):
    def __call__(self, model_file_path: str = "", hop_ms: float | None = None) -> WindowedModel: ...


class Windowed(NamedTuple):
    """What a HEAR module binds to its three names."""

    load_model: _Load
    get_scene_embeddings: Callable[[torch.Tensor, WindowedModel], torch.Tensor]
    get_timestamp_embeddings: Callable[
        [torch.Tensor, WindowedModel], tuple[torch.Tensor, torch.Tensor]
    ]


def windowed(
    embed: Embed | None,
    sample_rate: int,
    window_s: float,
    size: int,
    *,
    hop_ms: float = 50.0,
    scene_hop_s: float | None = None,
    scene_centred: bool = False,
    scene: str | Sequence[str] = "mean",
    batch: int = 16,
    frame_s: float | None = None,
    edge_frames: int = 0,
    weights_files: Sequence[Path | str] = (),
    load: Callable[[str], Embed] | None = None,
) -> Windowed:
    """Return the three HEAR functions of a network that embeds windows of `window_s` seconds.

    `embed` takes float32 [n_windows, n_samples] and returns [n_windows, size]; it may be a torch
    module. Or `load` returns such a function when the model is loaded, from the checkpoint that the
    user gives. With `frame_s`, it returns [n_windows, n_frames, size], frames of that distance, of
    which `edge_frames` are dropped at both ends. Timestamps are the centres of windows `hop_ms`
    apart; scenes are `scene` statistics (mean, std, max) over windows at most `scene_hop_s` (half a
    window) apart, inside the clip, or with `scene_centred` around its points from the first on, for
    networks that want a sound at their window's end. `weights_files` are files that decide what it
    computes: part of the identity.
    """
    if (embed is None) == (load is None):
        raise EncoderError("windowed takes either embed or load: give one of them")
    windows = Windows(
        sample_rate=sample_rate,
        window_samples=round(window_s * sample_rate),
        size=size,
        hop_ms=hop_ms,
        scene_hop_samples=round((scene_hop_s or 0) * sample_rate),
        scene_centred=scene_centred,
        scene=(scene,) if isinstance(scene, str) else tuple(scene),
        batch=batch,
        frame_samples=round((frame_s or 0) * sample_rate),
        edge_frames=edge_frames,
    )
    return functions(load or (lambda _: embed), windows, weights_files)  # type: ignore[arg-type,return-value]


def functions(
    load: Callable[[str], Embed], windows: Windows, weights_files: Sequence[Path | str] = ()
) -> Windowed:
    """Return the HEAR functions around `load`, which returns the network of a checkpoint."""
    make: Any = partial(_load_model, load, windows, tuple(weights_files))
    make.options = ("hop_ms",)
    return Windowed(
        make,
        lambda audio, model: model.scene(audio),
        lambda audio, model: model.timestamps(audio),
    )


def _load_model(
    load: Callable[[str], Embed],
    windows: Windows,
    weights_files: tuple[Path | str, ...],
    model_file_path: str = "",
    hop_ms: float | None = None,
) -> WindowedModel:
    chosen = windows if hop_ms is None else replace(windows, hop_ms=float(hop_ms))
    return WindowedModel(load(model_file_path), chosen, weights_files)
