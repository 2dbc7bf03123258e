"""AuM: every published checkpoint, by the name of its layout, and the unpublished tiny size."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

_SOURCE = "https://github.com/kaistmm/Audio-Mamba-AuM"
_PAPER = (
    "Erol et al., Audio Mamba: Bidirectional State Space Model for Audio Representation Learning, "
    "IEEE Signal Processing Letters 2024"
)
_BIBTEX = """@article{erol2024audiomamba,
  title = {Audio {M}amba: Bidirectional State Space Model for Audio Representation Learning},
  author = {Erol, Mehmet Hamza and Senocak, Arda and Feng, Jiu and Chung, Joon Son},
  journal = {IEEE Signal Processing Letters},
  year = {2024}
}"""
# dataset -> (classes, frames, statistics, sample rate, loss of the head)
_DATASETS = {
    "audioset": (527, 1024, "audioset", 16000, "bce"),
    "as20k": (527, 1024, "audioset", 16000, "bce"),
    "vggsound": (309, 1024, "vggsound", 16000, "bce"),
    "voxceleb": (1251, 1024, "voxceleb", 16000, "ce"),
    "speechcommands_v2": (35, 128, "speechcommands", 16000, "bce"),
    "epic_sounds": (44, 1024, "audioset", 24000, "ce"),
}
# (width, bands of the scan) -> elements without the head at 1024 frames
_BACKBONES = {768: 91_702_272, 384: 25_336_320, 192: 6_336_768}
_PRINTED = {
    (768, "audioset"): "92.1 M",
    (768, "as20k"): "92.1 M",
    (768, "vggsound"): "91.9 M",
    (768, "voxceleb"): "92.7 M",
    (768, "speechcommands_v2"): "91.4 M",
    (768, "epic_sounds"): "91.7 M",
    (384, "audioset"): "25.5 M",
    (384, "as20k"): "25.5 M",
    (384, "vggsound"): "25.5 M",
    (384, "voxceleb"): "25.8 M",
    (384, "speechcommands_v2"): "25.2 M",
    (384, "epic_sounds"): "25.4 M",
}


def _entry(size: str, init: str, dataset: str) -> EncoderEntry:
    width = {"base": 768, "small": 384, "tiny": 192}[size]
    classes, frames, statistics, rate, loss = _DATASETS[dataset]
    random = init == "random"
    name = f"aum_{size}_{'random' if random else f'{init}_{dataset}'}"
    shorter = (1024 - frames) // 16 * 8 * width  # rows of the position table
    published = init not in ("random",)
    return EncoderEntry(
        name=name,
        family="aum",
        loader="mambabench.models.encoders.fbank_loading:load_aum",
        builder="mambabench.models.encoders.fbank_loading:build_aum",
        scene_embedding_size=width,
        timestamp_embedding_size=width,
        settings={
            "embed_dim": width,
            "directions": "v2" if size == "small" else "v1",
            "num_classes": classes,
            "n_frames": frames,
            "normalisation": statistics,
            "loss": loss,
        },
        sample_rate_hz=rate,
        n_hidden_states=25,
        hop_ms=160.0 if rate == 16000 else 80.0,
        published=published,
        n_parameters=_BACKBONES[width] - shorter + classes * (width + 1),
        published_parameters=_PRINTED.get((width, dataset), ""),
        weights=_weights(name, init),
        weight_files=() if random else (name,),
        licence="none stated in the repository",
        source=_SOURCE,
        paper=_PAPER,
        bibtex=_BIBTEX,
        hear=rate == 16000,
    )


def _weights(name: str, init: str) -> str:
    if init == "unpublished":
        return f"the authors published no weights of this size; give your own as {name}@PATH"
    return (
        f"the authors share them through Google Drive, linked from {_SOURCE}; put the file as "
        f"{name}.pth into either folder or give it as {name}@PATH"
    )


ENTRIES = (
    *(_entry("base", "scratch", dataset) for dataset in _DATASETS),
    *(
        _entry("base", "audioset", dataset)
        for dataset in _DATASETS
        if dataset not in ("audioset", "as20k")
    ),
    *(_entry("small", "imagenet", dataset) for dataset in _DATASETS),
    _entry("tiny", "unpublished", "audioset"),
    _entry("tiny", "random", "audioset"),
)
