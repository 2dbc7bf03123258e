"""MMML end to end: a fusion network on top of its own text and audio backbones."""

from __future__ import annotations

import torch

from mambabench.models.affect.mmml import Fusion, FusionConfig, FusionOutput, Modality
from mambabench.models.affect.mmml_backbones import AudioBackbone, BackboneSettings, TextBackbone

__all__ = ["EndToEnd", "Tokens"]

Tensor = torch.Tensor
Tokens = tuple[Tensor, Tensor, Tensor, Tensor]  # ids, their mask, samples, their mask


class EndToEnd(Fusion):
    """A fusion network with backbones, under the published keys.

    The convolutions of the audio backbone are frozen, everything else learns.
    """

    def __init__(
        self, config: FusionConfig, text: BackboneSettings, audio: BackboneSettings
    ) -> None:
        super().__init__(config)
        self.roberta_model = TextBackbone(text)
        self._audio_name = "hubert_model" if config.language == "ch" else "data2vec_model"
        backbone = AudioBackbone(audio)
        self.add_module(self._audio_name, backbone)
        for parameter in backbone.feature_extractor.parameters():
            parameter.requires_grad_(False)

    @property
    def audio_model(self) -> AudioBackbone:
        """The audio backbone."""
        module = self.get_submodule(self._audio_name)
        assert isinstance(module, AudioBackbone)
        return module

    def hear(self, tokens: Tokens) -> Modality:
        """Run both backbones: ids and mask [batch, tokens], samples and mask [batch, samples]."""
        ids, mask, audio, audio_mask = tokens
        hidden, pooled = self.roberta_model(ids, mask)
        frames, n_frames = self.audio_model(audio, audio_mask)
        return Modality(hidden, pooled, mask, frames, n_frames)

    def forward_tokens(self, now: Tokens, context: Tokens | None = None) -> FusionOutput:
        """Return the three predictions of token ids and samples."""
        out: FusionOutput = self(self.hear(now), None if context is None else self.hear(context))
        return out
