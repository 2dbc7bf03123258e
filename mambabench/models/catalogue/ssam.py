"""SSAM (Mamba) and the transformer twin that its authors trained beside it."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

_SOURCE = "https://github.com/SarthakYadav/audio-mamba-official"
_PAPER = (
    "Yadav and Tan, Audio Mamba: Selective State Spaces for Self-Supervised Audio "
    "Representations, Interspeech 2024"
)
_BIBTEX = """@inproceedings{yadav2024audiomamba,
  title = {Audio {M}amba: Selective State Spaces for Self-Supervised Audio Representations},
  author = {Yadav, Sarthak and Tan, Zheng-Hua},
  booktitle = {Proc. Interspeech},
  year = {2024}
}"""
_WEIGHTS = (
    "the authors share them through Google Drive, linked from " + _SOURCE + "; put the folder "
    "{run}/checkpoints below the folder that PT_MAMBA_MODEL_DIR names, or give the file as "
    "{name}@PATH"
)
# size -> (width, heads of the twin, elements of the Mamba file, of the twin's)
_SIZES = {
    "tiny": (192, 3, 4_808_704, 5_449_216),
    "small": (384, 6, 17_985_472, 21_588_928),
    "base": (768, 12, 69_443_392, 85_940_032),
}


def _entry(family: str, size: str, random: bool) -> EncoderEntry:
    width, heads, n_mamba, n_twin = _SIZES[size]
    name = f"{family}_{size}"
    mamba = family == "ssam"
    return EncoderEntry(
        name=name + ("_random" if random else ""),
        family=family,
        loader="mambabench.models.encoders.ssam_runtime:load",
        builder="mambabench.models.encoders.ssam_runtime:build",
        scene_embedding_size=5 * width,
        timestamp_embedding_size=5 * width,
        settings={"embed_dim": width} | ({} if mamba else {"num_heads": heads}),
        n_hidden_states=13,
        hop_ms=40.0,
        published=not random,
        n_parameters=n_mamba if mamba else n_twin,
        aliases=() if random else (f"{name}_200_16x4", f"{name}_200_16x4_4x256_fp16_r1"),
        weights="" if random else _WEIGHTS.format(run=f"{name}_200_16x4_4x256_fp16_r1", name=name),
        weight_files=() if random else (f"{name}_200_16x4_4x256_fp16_r1",),
        licence="see the repository",
        source=_SOURCE,
        paper=_PAPER,
        bibtex=_BIBTEX,
    )


ENTRIES = tuple(
    _entry(family, size, random)
    for family in ("ssam", "ssast")
    for size in _SIZES
    for random in (False, True)
)
