"""Every published recipe, number by number, against the tables of the originals' settings."""

from __future__ import annotations

from typing import Any

import pytest

from mambabench.train.recipes import find_recipe, read_recipe, recipe_names
from mambabench.train.verb import plan_encoder

SSAM = {
    "batch_size": 1024, "ranks": 4, "readers": 16, "epochs": 100, "warmup_epochs": 10.0,
    "min_lr": 0.0, "lr": 1.5e-4, "weight_decay": 0.05, "mask_ratio": 0.5, "precision": "fp16",
    "n_frames": 200, "samples": 18_988 + 1_766_912 + 265_408, "buffer": 10_000,
    "masking": "unstructured", "norm_pixels": False, "bias_decay": False, "cls_token": True,
    "d_state": 24, "expand": 3, "clip_norm": None, "objective": "pretrain",
}  # fmt: skip
PRETRAIN = {
    "batch_size": 64, "epochs": 10, "lr": 1e-4, "weight_decay": 5e-8, "warmup": True,
    "evaluate_every": 4000, "patience": 2, "drop_path": 0.1, "n_frames": 1024, "stride": 16,
    "target": "joint", "precision": "fp32", "normalisation": "audioset", "freqm": 0, "timem": 0,
    "objective": "pretrain",
}  # fmt: skip
COLUMNS = (
    "n_frames", "stride", "lr", "head_lr", "batch_size", "epochs", "warmup", "decay_start",
    "decay_step", "decay", "freqm", "timem", "mixup", "noise", "loss", "metric", "balanced",
    "normalisation", "precision",
)  # fmt: skip
# columns as above
TABLE: dict[str, tuple[Any, ...]] = {
    "ssamba-as20k": (1024, 10, 1e-4, 3.0, 24, 50, False, 15, 10, 0.75, 48, 192, 0.5, False, "BCE",
                     "mAP", False, "audioset", "fp32"),
    "ssamba-as-full": (1024, 10, 1e-5, 3.0, 24, 5, False, 15, 10, 0.75, 48, 192, 0.5, False, "BCE",
                       "mAP", True, "audioset", "fp32"),
    "ssamba-esc50": (512, 10, 1e-4, 1.0, 48, 50, False, 6, 1, 0.85, 24, 96, 0.0, True, "CE", "acc",
                     False, "esc50", "fp32"),
    "ssamba-sc-v1": (128, 10, 2.5e-4, 1.0, 128, 30, True, 5, 1, 0.85, 48, 48, 0.6, True, "BCE",
                     "acc", False, "speechcommands", "fp32"),
    "ssamba-sc-v2": (128, 10, 2.5e-4, 1.0, 128, 30, True, 5, 1, 0.85, 48, 48, 0.6, True, "BCE",
                     "acc", False, "speechcommands", "fp32"),
    "ssamba-urban8k": (6144, 16, 1e-4, 1.0, 5, 50, False, 20, 10, 0.85, 48, 192, 0.0, False, "CE",
                       "acc", False, "urbansound8k", "fp32"),
}  # fmt: skip
AUM: dict[str, tuple[Any, ...]] = {
    "audioset": (1024, 16, 1e-5, 1.0, 12, 5, True, 2, 1, 0.5, 48, 192, 0.5, False, "BCE", "mAP",
                 True, "audioset", "fp16"),
    "as20k": (1024, 16, 5e-5, 1.0, 12, 25, True, 10, 5, 0.5, 48, 192, 0.5, False, "BCE", "mAP",
              False, "audioset", "fp16"),
    "vggsound": (1024, 16, 1e-5, 1.0, 12, 20, True, 5, 2, 0.75, 48, 192, 0.0, False, "BCE", "acc",
                 False, "vggsound", "fp16"),
    "voxceleb": (1024, 16, 1e-5, 1.0, 12, 20, True, 5, 2, 0.75, 48, 192, 0.0, False, "CE", "acc",
                 False, "voxceleb", "fp16"),
    "speechcommands": (128, 16, 2.5e-4, 1.0, 128, 30, False, 5, 1, 0.85, 48, 48, 0.6, True, "BCE",
                       "acc", False, "speechcommands", "fp16"),
}  # fmt: skip
EPIC = {
    "n_frames": 1024, "lr": 1e-5, "batch_size": 12, "epochs": 30, "warmup": True, "loss": "CE",
    "metric": "acc", "freqm": 48, "timem": 192, "mixup": 0.0, "dataset": "epic_sounds",
    "warp": "published", "precision": "fp16",
}  # fmt: skip
S3PRL = {
    "lr": 1e-4, "weight_decay": 0.0, "clip_norm": 1.0, "loss": "CE", "metric": "acc",
    "pooling": "s3prl", "n_frames": 1000, "stride": 10, "batch_size": 32,
}  # fmt: skip


def _expected() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return recipe -> (system, settings) for all of them."""
    out: dict[str, tuple[str, dict[str, Any]]] = {}
    for size in ("tiny", "small", "base"):
        for system in ("ssam", "ssast"):
            out[f"{system}_{size}_200_16x4"] = (system, {**SSAM, "size": size})
        for masks in (250, 300, 400):
            out[f"ssamba-{size}-{masks}"] = ("ssamba", {**PRETRAIN, "size": size, "masks": masks})
    common = {"objective": "classify", "weight_decay": 5e-7}
    for name, values in TABLE.items():
        row = dict(zip(COLUMNS, values, strict=True))
        row |= {"drop_path": 0.1, "average": (12, 40) if name == "ssamba-as20k" else ()}
        out[name] = ("ssamba", {**common, **row})
    out["ssamba-urban8k"][1].update(pooling="ft_avgtok_1sec", seconds=60)
    out["ssamba-voxceleb1"] = (
        "ssamba",
        {**S3PRL, "accumulate": 4, "steps": 200_000, "evaluate_every": 5000, "crop_s": 8.0},
    )
    out["ssamba-iemocap"] = (
        "ssamba",
        {**S3PRL, "accumulate": 8, "steps": 30_000, "evaluate_every": 1000, "held_out": 0.2},
    )
    for start in ("base-scratch", "small-imagenet", "base-audioset"):
        variant = "Bi-Bi" if start.startswith("small") else "Fo-Bi"
        own = {**common, "size": start.partition("-")[0], "variant": variant, "drop_path": 0.0}
        for corpus, values in AUM.items():
            if start != "base-audioset" or corpus not in ("audioset", "as20k"):
                row = dict(zip(COLUMNS, values, strict=True))
                out[f"aum-{start}-{corpus}"] = ("aum", {**own, **row})
        out[f"aum-{start}-epic"] = ("aum", {**own, **EPIC})
    return out


EXPECTED = _expected()


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("mode", ["sound", "published"])
def test_a_recipe_says_what_was_published(name: str, mode: str) -> None:
    system, wanted = EXPECTED[name]
    planned = plan_encoder(system, recipe=name, mode=mode)
    (row,) = planned.rows
    assert row.settings.mode == mode  # type: ignore[union-attr]
    assert {key: getattr(row.settings, key) for key in wanted} == wanted
    assert planned.source


def test_every_recipe_of_an_encoder_is_compared() -> None:
    systems = ("ssam", "ssast", "ssamba", "aum")
    found = {n for n in recipe_names() if read_recipe(find_recipe(n), {}).system in systems}
    assert found - set(EXPECTED) == {"ssam-tiny-demo"}


def test_peak_rate_and_folder_of_ssam() -> None:
    from mambabench.train.systems.ssam import SYSTEM

    (row,) = plan_encoder("ssam", recipe="ssam_tiny_200_16x4").rows
    settings: Any = row.settings
    assert settings.lr * settings.batch_size / 256 == pytest.approx(6e-4)
    (seed,) = settings.seeds
    assert SYSTEM.run_name(settings, row.name, seed) == "ssam_tiny_200_16x4_4x256_fp16_r1"


def test_a_recipe_of_another_system_and_a_wrong_name_are_refused() -> None:
    from mambabench.errors import ProtocolError

    with pytest.raises(ProtocolError, match="is of system aum, not ssamba"):
        plan_encoder("ssamba", recipe="aum-base-scratch-as20k")
    with pytest.raises(ProtocolError, match="did you mean 'ssamba-esc50'"):
        plan_encoder("ssamba", recipe="ssamba-esc5")
    with pytest.raises(ProtocolError, match="no setting 'batchsize'; did you mean 'batch_size'"):
        plan_encoder("aum", settings={"batchsize": 3})
