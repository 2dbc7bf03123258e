"""SSAM and its twin on audio: chunks of two seconds, batched across clips, pooled as asked.

Two token orders. "upstream" is what the published scores were made with: the authors read the
time-major tokens of a chunk as if they were frequency-major, so the five parts of their embedding
are five consecutive spans of 0.4 s and its rows are not aligned to time. "time" reads them as they
are. Scene embeddings default to "upstream" (scores stay comparable), timestamps to "time".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from mambabench.models.encoder import LoadedEncoder
from mambabench.models.encoders.frontends import SsamLogMel, fit_frames
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder
from mambabench.models.entry import EncoderEntry, LoadRequest, Setting
from mambabench.models.loading import build_encoder, known_options, one_of, serve

__all__ = ["SsamOptions", "SsamRuntime", "build", "load", "upstream_features"]

ORDERS = ("upstream", "time")
CHUNKS_AT_ONCE = 64  # chunks per forward: bounds memory on long audio, enough to fill a GPU


@dataclass(frozen=True)
class SsamOptions:
    """How tokens become embeddings."""

    scene_token_order: str = "upstream"
    timestamp_token_order: str = "time"


def upstream_features(tokens: torch.Tensor, n_bands: int) -> torch.Tensor:
    """Read tokens [..., n_tokens, dim] as the authors do: [..., n_tokens / n_bands, n_bands * dim].

    Row k holds token time 10 g + k // 5 of band k % 5 in its part g (for 50 steps and 5 bands).
    """
    *lead, n_tokens, dim = tokens.shape
    grid = tokens.reshape(*lead, n_bands, n_tokens // n_bands, dim).transpose(-3, -2)
    return grid.reshape(*lead, n_tokens // n_bands, n_bands * dim)


class SsamRuntime(torch.nn.Module):
    """Audio [n_clips, n_samples] at 16 kHz -> embeddings; holds the encoder and its front-end."""

    def __init__(self, encoder: SsamEncoder, options: SsamOptions | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.frontend = SsamLogMel()
        self.options = options or SsamOptions()

    def _chunk_rows(
        self, audio: torch.Tensor, layers: tuple[int, ...] | None, order: str
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (first chunk, rows [n_chunks, n_layers, steps, bands * dim]) a few at a time.

        Chunks are numbered through the clips: chunk c of clip i is i * chunks per clip + c.
        """
        features = self.frontend(audio)
        length = self.encoder.configuration.img_size[0]
        n_chunks = -(-features.shape[1] // length)
        chunks = fit_frames(features, n_chunks * length).reshape(-1, 1, length, features.shape[2])
        dtype, (steps, bands) = self.encoder.pos_embed.dtype, self.encoder.configuration.grid
        for first in range(0, chunks.shape[0], CHUNKS_AT_ONCE):
            part = chunks[first : first + CHUNKS_AT_ONCE].to(dtype)
            states = torch.stack(self.encoder.hidden_states(part, layers), dim=1).float()
            if order == "upstream":
                yield first, upstream_features(states, bands)
            else:
                yield first, states.reshape(*states.shape[:2], steps, bands * states.shape[3])

    def _n_rows(self, n_samples: int, order: str) -> tuple[int, int]:
        """Return (chunks, rows that count) of a clip.

        "upstream" cuts padding as the authors do. "time" keeps the tokens whose centre lies within
        the clip, and at least one.
        """
        configuration = self.encoder.configuration
        length, steps = configuration.img_size[0], configuration.grid[0]
        n_frames = self.frontend.n_frames(n_samples)
        n_chunks = -(-n_frames // length)
        if order == "time":
            return n_chunks, n_centred(n_samples, self.frontend.sample_rate_hz)
        # the authors pad an exact multiple by a whole chunk and cut all of it again
        padding = n_chunks * length - n_frames
        return n_chunks, n_chunks * steps - int(steps * padding / length)

    def scene(self, audio: torch.Tensor, layers: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the mean over time, [n_clips, n_layers, bands * dim] float32."""
        order = self.options.scene_token_order
        n_chunks, n_rows = self._n_rows(audio.shape[1], order)
        total: torch.Tensor | None = None
        for first, rows in self._chunk_rows(audio, layers, order):
            index = torch.arange(first, first + rows.shape[0], device=rows.device)
            row = (index % n_chunks)[:, None] * rows.shape[2] + torch.arange(
                rows.shape[2], device=rows.device
            )
            counted = (row < n_rows)[:, None, :, None]
            if total is None:
                total = rows.new_zeros(audio.shape[0], rows.shape[1], rows.shape[3])
            total = total.index_add(0, index // n_chunks, (rows * counted).sum(dim=2))
        assert total is not None
        return total / n_rows

    def timestamps(
        self, audio: torch.Tensor, layers: tuple[int, ...] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows [n_clips, n_frames, n_layers, bands * dim] and their times in ms.

        Order "time": the centre of the four 10 ms frames that the row sees, every 40 ms exactly.
        Order "upstream": the authors' times, which start at 0 and divide the clip evenly.
        """
        order = self.options.timestamp_token_order
        n_chunks, n_rows = self._n_rows(audio.shape[1], order)
        parts = torch.cat([rows for _, rows in self._chunk_rows(audio, layers, order)])
        grid = torch.unflatten(parts, 0, (audio.shape[0], n_chunks)).transpose(2, 3)
        rows = grid.flatten(1, 2)[:, :n_rows]
        index = torch.arange(rows.shape[1], dtype=torch.float64)
        if order == "upstream":
            duration_s = audio.shape[1] / self.frontend.sample_rate_hz
            times = index * (duration_s / rows.shape[1] * 1000)
        else:
            times = index * 40 + 15
        return rows, times.float().to(rows.device).expand(rows.shape[0], -1)


def n_centred(n_samples: int, sample_rate_hz: int) -> int:
    """Return how many 40 ms tokens, centred at 15 ms, 55 ms..., have their centre in the clip."""
    n_before = (1000 * n_samples - 15 * sample_rate_hz) // (40 * sample_rate_hz) + 1
    return max(1, n_before)


def build(entry: EncoderEntry) -> SsamEncoder:
    """Return an empty encoder with the authors' keys."""
    width, heads = entry.settings["embed_dim"], entry.settings.get("num_heads", 0)
    assert isinstance(width, int)
    assert isinstance(heads, int)
    return SsamEncoder(SsamConfiguration(embed_dim=width, num_heads=heads))


def load(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Build SSAM or its twin as the registry asks for it.

    Options: `token_order` for both kinds of embedding, `scene_token_order`,
    `timestamp_token_order` ("upstream" or "time"), and `seed` for the random variants.
    """
    options = known_options(
        request, ("token_order", "scene_token_order", "timestamp_token_order"), entry
    )
    both = options.get("token_order")
    orders: dict[str, str] = {}
    for name, default in (("scene_token_order", "upstream"), ("timestamp_token_order", "time")):
        orders[name] = one_of(name, options.get(name, both or default), ORDERS)
    encoder = build_encoder(entry, request, lambda: build(entry))
    record: dict[str, Setting] = {**orders, "hop_ms": 40.0}
    return serve(entry, request, encoder, lambda e: SsamRuntime(e, SsamOptions(**orders)), record)
