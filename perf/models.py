"""The published architectures on random weights, from spectrogram to last tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder

__all__ = ["MODELS", "Model", "linear_layers", "plain_weights"]

WIDTH = {"tiny": 192, "base": 768}


@dataclass(frozen=True)
class Model:
    """A model, its tokens and the audio that they stand for."""

    encoder: nn.Module
    spectrogram: Tensor
    audio_s: float

    def __call__(self) -> Tensor:
        """Encode the spectrogram to final tokens."""
        tokens = self.tokens()
        encoded: Tensor = self.encoder.encode(tokens)
        return encoded

    def tokens(self) -> Tensor:
        """Return the first block's input."""
        if isinstance(self.encoder, SsamEncoder):
            return self.encoder.tokens_in(self.spectrogram)
        assert isinstance(self.encoder, AumEncoder)
        patches = self.encoder.patch_grid(self.spectrogram)
        grid = (patches.shape[2], patches.shape[3])
        return self.encoder.arrange(patches, self.encoder.positions(grid))


def plain_weights(module: nn.Module) -> nn.Module:
    """Give `module` random weights of the usual sizes, and evaluation mode."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, x in module.named_parameters():
            if "A_" in name:
                x.copy_(torch.arange(1, x.shape[1] + 1).log().expand_as(x))
            elif x.ndim > 1:
                x.normal_(0.0, x.shape[-1] ** -0.5 if x.ndim == 2 else 0.1, generator=g)
            elif name.endswith("dt_proj.bias") or name.endswith("dt_proj_b.bias"):
                x.uniform_(-7.0, -2.0, generator=g)
            else:
                x.fill_(1.0 if ("norm" in name and "weight" in name) or name.endswith("D") else 0.0)
    return module.eval()


def _ssam(size: str, batch: int = 1, heads: int = 0) -> Model:
    g = torch.Generator().manual_seed(1)
    encoder = plain_weights(SsamEncoder(SsamConfiguration(WIDTH[size], num_heads=heads)))
    return Model(encoder, torch.randn(batch, 1, 200, 80, generator=g), 2.0 * batch)


def _aum(size: str, directions: str, paired: bool = False) -> Model:
    g = torch.Generator().manual_seed(1)
    configuration = AumConfiguration(
        WIDTH[size], directions=directions, rms_norm=not paired, paired=paired
    )
    encoder = plain_weights(AumEncoder(configuration))
    return Model(encoder, torch.randn(1, 1024, 128, generator=g), 10.24)


MODELS: dict[str, Callable[[], Model]] = {
    "SSAM-tiny, 1 x 2 s": lambda: _ssam("tiny"),
    "SSAM-tiny, 8 x 2 s": lambda: _ssam("tiny", 8),
    "AuM-tiny, 10.24 s": lambda: _aum("tiny", "v1"),
    "SSAMBA-tiny, 10.24 s": lambda: _aum("tiny", "v2", paired=True),
    "SSAM-base, 1 x 2 s": lambda: _ssam("base"),
    "AuM-base, 10.24 s": lambda: _aum("base", "v1"),
    "SSAMBA-base, 10.24 s": lambda: _aum("base", "v2", paired=True),
}


def linear_layers(module: nn.Module) -> Iterator[nn.Linear]:
    """Yield the linear layers of the blocks: the matrix products of a forward."""
    for name, child in module.named_modules():
        if isinstance(child, nn.Linear) and ".mixer." in name:
            yield child
