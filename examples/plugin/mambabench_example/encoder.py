"""An encoder: energies in bands of a spectrum. This file is read when names are listed."""

from mambabench.models.entry import EncoderEntry

ENTRY = EncoderEntry(
    name="example_bands",
    family="example_bands",
    loader="mambabench_example.bands:load",
    scene_embedding_size=64,
    timestamp_embedding_size=64,
    hop_ms=50.0,
    published=False,  # nothing to download
    licence="Apache-2.0",
)
