"""SSAMBA and AuM on audio: windows of patch columns, batched across clips, pooled as asked.

A clip is seen in windows of at most the length that the weights were trained on. A window is cut
to the clip's own columns of patches, so that no padding is scanned and none is averaged; a column
counts if its centre lies in the clip. The last window of a long clip reaches back over the one
before, to have full context, and gives its new columns only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from mambabench.models.encoders.frontends import EpicLogMel, KaldiFbank, fit_frames, normalise_fbank

__all__ = ["POOLINGS", "WINDOWS", "FbankOptions", "FbankRuntime", "Normalisation"]

POOLINGS = ("mean", "class", "columns")
WINDOWS = ("clip", "published")
WINDOWS_AT_ONCE = 16  # per forward: bounds memory on long audio
Pair = tuple[int, int]
Layers = tuple[int, ...] | None


@dataclass(frozen=True)
class Normalisation:
    """A dataset's statistics of log energies; None leaves them as they are."""

    mean: float
    std: float


@dataclass(frozen=True)
class FbankOptions:
    """How tokens become embeddings."""

    pooling: str = "mean"  # of scene embeddings: mean of patches, class token, or mean of columns
    hop_ms: float = 0.0  # of timestamp embeddings; 0: the patches' own
    window: str = "clip"  # "published": shorter clips are zero-padded to the trained length
    stride: int = 16  # of the patches, both axes
    crop_positions: bool = True  # AuM: shorter windows take the first positions, else resampled


class FbankRuntime(torch.nn.Module):
    """Audio [n_clips, n_samples] -> embeddings; holds the backbone and its front-end."""

    def __init__(
        self,
        backbone: Any,  # SsambaBackbone or AumEncoder: they answer to the same calls
        frontend: KaldiFbank | EpicLogMel,
        normalisation: Normalisation | None,
        options: FbankOptions,
        sigmoid: bool = True,  # of a head with independent classes, else softmax
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.frontend = frontend
        self.normalisation, self.options, self.sigmoid = normalisation, options, sigmoid
        self.n_bands, self.n_frames = backbone.configuration.spectrogram_size
        self.patch_bands, self.patch_frames = backbone.configuration.patch_size

    @property
    def frame_ms(self) -> float:
        """Hop of the front-end's frames."""
        return 1000.0 * self.frontend.hop / self.frontend.sample_rate_hz

    @property
    def hop_ms(self) -> float:
        """Hop of the timestamp embeddings."""
        return self.options.hop_ms or self.options.stride * self.frame_ms

    @property
    def bands(self) -> int:
        """Patches along frequency."""
        return int((self.n_bands - self.patch_bands) // self.options.stride + 1)

    def _first_centre_ms(self) -> float:
        """Return the centre of the first column of patches."""
        half_patch: float = (self.patch_frames - 1) / 2 * self.frame_ms
        return half_patch + (0.0 if isinstance(self.frontend, EpicLogMel) else 12.5)

    def _n_columns(self, n_samples: int, first_ms: float, hop_ms: float) -> int:
        duration_ms = 1000.0 * n_samples / self.frontend.sample_rate_hz
        return int((duration_ms - first_ms) // hop_ms) + 1

    @property
    def _padded(self) -> bool:
        return self.options.window == "published"

    def _fit(self, features: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Cut or pad [n, t, bands] to `n_frames`, as the authors' loaders do, and normalise."""
        if self.normalisation is None:  # EPIC-SOUNDS repeats the edge
            missing = max(0, n_frames - features.shape[1])
            features = F.pad(features.transpose(1, 2), (0, missing), mode="replicate")
            return features.transpose(1, 2)[:, :n_frames]
        fitted = fit_frames(features, n_frames)
        return normalise_fbank(fitted, self.normalisation.mean, self.normalisation.std)

    def _windows(
        self, features: torch.Tensor, n_columns: int, padded: bool
    ) -> tuple[torch.Tensor, list[int]]:
        """Return windows [n_clips, n_windows, frames, bands] and the new columns of each.

        `padded`: a clip shorter than a window is extended to the trained length.
        """
        stride, patch = self.options.stride, self.patch_frames
        trained = (self.n_frames - patch) // stride + 1
        if n_columns <= trained:
            n_frames = self.n_frames if padded else (n_columns - 1) * stride + patch
            return self._fit(features, n_frames)[:, None], [n_columns]
        features = self._fit(features, (n_columns - 1) * stride + patch)
        n_windows = -(-n_columns // trained)
        starts = [min(i * trained, n_columns - trained) for i in range(n_windows)]
        length = (trained - 1) * stride + patch
        cut = [features[:, s * stride : s * stride + length] for s in starts]
        new = [trained] * (n_windows - 1) + [n_columns - (n_windows - 1) * trained]
        return torch.stack(cut, dim=1), new

    def _states(
        self, windows: torch.Tensor, layers: Layers
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (class vector [n, dim], patches [n, bands, columns, dim]) per chosen layer."""
        backbone, last = self.backbone, self.backbone.n_states - 1
        patches = backbone.patch_grid(windows, strides=(self.options.stride, self.options.stride))
        grid = (patches.shape[2], patches.shape[3])
        positions = backbone.positions(grid, crop=self.options.crop_positions)
        tokens = backbone.arrange(patches, positions)
        chosen = (last,) if layers is None else layers
        kept = {0: tokens} if 0 in chosen else {}
        for index, (hidden, residual) in enumerate(backbone.layer_states(tokens), start=1):
            if index in chosen:
                stream = hidden + residual
                kept[index] = backbone.finish(stream) if index == last else stream
        for index in chosen:
            rest = backbone.without_class(kept[index])
            if getattr(backbone.configuration, "transposed", False):
                rest = rest.unflatten(1, (grid[1], grid[0])).transpose(1, 2)
            else:
                rest = rest.unflatten(1, grid)
            yield backbone.class_vector(kept[index]), rest

    def _parts(
        self, features: torch.Tensor, n_columns: int, layers: Layers, padded: bool
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield, a few windows at a time: the clip of each window [n]; which columns are new
        [n, columns] (1 or 0); class vectors [n, n_layers, dim]; patches
        [n, n_layers, columns, bands, dim]."""
        windows, new = self._windows(features, n_columns, padded)
        n_clips, n_windows = windows.shape[:2]
        dtype = self.backbone.patch_embed.proj.weight.dtype
        flat = windows.flatten(0, 1)
        for first in range(0, n_clips * n_windows, WINDOWS_AT_ONCE):
            part = flat[first : first + WINDOWS_AT_ONCE]
            states = list(self._states(part.to(dtype), layers))
            vectors = torch.stack([vector for vector, _ in states], dim=1).float()
            columns = torch.stack([grid.transpose(1, 2) for _, grid in states], dim=1).float()
            index = torch.arange(first, first + part.shape[0], device=part.device)
            counted = columns.new_zeros(n_windows, columns.shape[2])
            for window, n in enumerate(new):
                # one window starts with its columns (padding follows), later ones end with them
                counted[window, (slice(0, n) if n_windows == 1 else slice(-n, None))] = 1
            yield index // n_windows, counted[index % n_windows], vectors, columns

    def _class_vectors(self, audio: torch.Tensor, layers: Layers, padded: bool) -> torch.Tensor:
        """Return class vectors [n_clips, n_layers, dim], the mean of a clip's windows weighted by
        their new columns."""
        n_columns, total = self._scene_columns(audio), None
        for clip, counted, vectors, _ in self._parts(
            self.frontend(audio), n_columns, layers, padded
        ):
            weighted = vectors * (counted.sum(dim=1) / n_columns)[:, None, None]
            if total is None:
                total = weighted.new_zeros(audio.shape[0], *weighted.shape[1:])
            total = total.index_add(0, clip, weighted)
        assert total is not None
        return total

    def _scene_columns(self, audio: torch.Tensor) -> int:
        hop = self.options.stride * self.frame_ms
        return max(1, self._n_columns(audio.shape[1], self._first_centre_ms(), hop))

    def scene(self, audio: torch.Tensor, layers: Layers = None) -> torch.Tensor:
        """Return [n_clips, n_layers, size] float32; size is bands * dim for "columns"."""
        if self.options.pooling == "class":
            return self._class_vectors(audio, layers, self._padded)
        n_columns, total = self._scene_columns(audio), None
        for clip, counted, _, columns in self._parts(
            self.frontend(audio), n_columns, layers, self._padded
        ):
            summed = (columns * counted[:, None, :, None, None]).sum(dim=2)
            if total is None:
                total = summed.new_zeros(audio.shape[0], *summed.shape[1:])
            total = total.index_add(0, clip, summed)
        assert total is not None
        mean = total / n_columns  # [n_clips, n_layers, bands, dim]
        return mean.flatten(2) if self.options.pooling == "columns" else mean.mean(dim=2)

    def _rows(self, features: torch.Tensor, n_columns: int, layers: Layers) -> torch.Tensor:
        """Return the columns of whole clips in order [n_clips, n_layers, n_columns, size]."""
        concatenated = self.options.pooling == "columns"
        kept: list[torch.Tensor] = []
        for _, counted, _, columns in self._parts(features, n_columns, layers, self._padded):
            rows = columns.flatten(3) if concatenated else columns.mean(dim=3)
            # [all new columns of the part, n_layers, size]
            kept.append(rows.transpose(1, 2)[counted.bool()])
        return torch.unflatten(torch.cat(kept), 0, (-1, n_columns)).transpose(1, 2)

    def timestamps(
        self, audio: torch.Tensor, layers: Layers = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows [n_clips, n_frames, n_layers, size] and the columns' centres in ms.

        A hop below the patches' own is reached by shifting the clip and interleaving the rows.
        """
        features, first = self.frontend(audio), self._first_centre_ms()
        native = self.options.stride * self.frame_ms
        n_shifts = round(native / self.hop_ms)
        shift = round(self.hop_ms / self.frame_ms)  # frames
        total = max(1, self._n_columns(audio.shape[1], first, self.hop_ms))
        rows: torch.Tensor | None = None
        for k in range(min(n_shifts, total)):
            n_columns = -(-(total - k) // n_shifts)
            row = self._rows(features[:, k * shift :], n_columns, layers)
            if rows is None:
                shape = (row.shape[0], row.shape[1], total, row.shape[3])
                rows = row.new_empty(shape)
            rows[:, :, k::n_shifts] = row
        assert rows is not None
        times = torch.arange(total, dtype=torch.float64) * self.hop_ms + first
        # the one frame of a clip shorter than half a patch
        times = times.clamp(max=1000.0 * audio.shape[1] / self.frontend.sample_rate_hz)
        centres = times.float().to(rows.device).expand(rows.shape[0], -1)
        return rows.transpose(1, 2), centres

    def probabilities(self, audio: torch.Tensor) -> torch.Tensor:
        """Return the class probabilities of the checkpoint's own head, [n_clips, n_classes].

        Shorter clips are zero-padded to the trained length, as in the authors' evaluation; of a
        longer clip the class vectors of all windows are averaged first.
        """
        vector = self._class_vectors(audio, None, padded=True)[:, 0]
        head = self.backbone.head
        dtype = self.backbone.patch_embed.proj.weight.dtype
        logits: torch.Tensor = head(vector.to(dtype))
        return (logits.sigmoid() if self.sigmoid else logits.softmax(dim=1)).float()
