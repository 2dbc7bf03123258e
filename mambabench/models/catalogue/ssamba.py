"""SSAMBA in its three sizes; the number of masked patches belongs to the checkpoint."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

_SOURCE = "https://github.com/SiavashShams/ssamba"
_PAPER = (
    "Shams et al., SSAMBA: Self-Supervised Audio Representation Learning with Mamba State Space "
    "Model, SLT 2024"
)
_BIBTEX = """@inproceedings{shams2024ssamba,
  title = {{SSAMBA}: Self-Supervised Audio Representation Learning with {M}amba State Space Model},
  author = {Shams, Siavash and Dindar, Sukru Samet and Jiang, Xilin and Mesgarani, Nima},
  booktitle = {IEEE Spoken Language Technology Workshop},
  year = {2024}
}"""
_SIZES = {"tiny": (192, 7_288_298), "small": (384, 26_224_106), "base": (768, 99_042_794)}
_MASKS = (400, 300, 250)  # the first one that is at hand is taken


def _entry(size: str, random: bool) -> EncoderEntry:
    width, n_parameters = _SIZES[size]
    name = f"ssamba_{size}"
    files = tuple(f"{stem}_{size}_{mask}.pth" for stem in ("ssamba", "amba") for mask in _MASKS)
    return EncoderEntry(
        name=name + ("_random" if random else ""),
        family="ssamba",
        loader="mambabench.models.encoders.fbank_loading:load_ssamba",
        builder="mambabench.models.encoders.fbank_loading:build_ssamba",
        scene_embedding_size=width,
        timestamp_embedding_size=width,
        settings={"embed_dim": width, "normalisation": "audioset"},
        n_hidden_states=13,
        hop_ms=160.0,
        published=not random,
        n_parameters=n_parameters,
        aliases=() if random else tuple(f"{name}_{mask}" for mask in _MASKS),
        weights=""
        if random
        else f"the authors link them from {_SOURCE} as {name}_400.pth, {name}_300.pth and "
        f"{name}_250.pth (masked patches); put one into either folder or give it as {name}@PATH",
        weight_files=() if random else files,
        licence="see the repository",
        source=_SOURCE,
        paper=_PAPER,
        bibtex=_BIBTEX,
    )


ENTRIES = (*(_entry(size, False) for size in _SIZES), _entry("tiny", True))
