"""The Mamba mixer under the name by which other people's models import it."""

from mambabench.models.blocks.mixer import MambaMixer, MixerConfiguration

__all__ = ["MambaMixer", "MixerConfiguration"]
