"""float64, bfloat16 and int8 beside float32, and gradients through every family."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_runners
import pytest
import torch
from golden_runners import RUNNERS, read_case
from torch.nn.functional import cosine_similarity

from mambabench.errors import EncoderError
from mambabench.models.linear import Bf16Linear, Int8Linear, precision_name, set_precision
from mambabench.models.registry import encoder_entries, load_encoder

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("MAMBABENCH_GOLDENS", ROOT / "../shared/goldens")) / "encoders"
INDEX = FOLDER / "INDEX.json"
CASES = [c["path"] for c in json.loads(INDEX.read_text())["cases"]] if INDEX.exists() else []
TOKENS = ("final_tokens", "features", "timestamp_embeddings", "scene_embedding", "hidden_state")
LEARNED = tuple(
    e.name for e in encoder_entries().values() if not e.published and e.name.endswith("tiny_random")
)


def tone(duration_s: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, int(16000 * duration_s), generator=generator)
    return noise * torch.linspace(0.01, 0.3, noise.shape[1])


@pytest.mark.parametrize("name", LEARNED)
def test_float64_agrees_with_float32(name: str) -> None:
    single, double = (load_encoder(name, device="cpu", dtype=d) for d in ("fp32", "fp64"))
    audio = tone(0.6)
    for ours, truth in (
        (single.scene(audio, None), double.scene(audio, None)),
        (single.timestamps(audio, None)[0], double.timestamps(audio, None)[0]),
    ):
        assert float((ours - truth).abs().max() / truth.abs().max()) <= 1e-5


def worst_cosines(path: str, precision: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the cosine of the worst token per output of a golden case."""

    def lowered(build: Callable[..., Any]) -> Callable[..., Any]:
        def built(*args: Any, **kwargs: Any) -> Any:
            return set_precision(build(*args, **kwargs), precision)

        return built

    for builder in ("ssam_encoder", "aum_encoder", "ssamba_backbone"):
        monkeypatch.setattr(golden_runners, builder, lowered(getattr(golden_runners, builder)))
    case = read_case(FOLDER / path)
    with torch.no_grad():
        return {
            name: float(cosine_similarity(ours.double(), theirs.double(), dim=-1).min())
            for name, ours, theirs in RUNNERS[case.settings["kind"]](case)
            if any(part in name for part in TOKENS) or name.endswith("pooled")
        }


@pytest.mark.parametrize("path", CASES or ["none"])
def test_bf16_keeps_the_direction_of_tokens(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if not CASES:
        pytest.skip(f"{INDEX} is absent: set MAMBABENCH_GOLDENS to the golden data")
    cosines = worst_cosines(path, "bf16", monkeypatch)
    settings = json.loads((FOLDER / path / "case.json").read_text())
    for name, cosine in cosines.items():
        print(f"{path} {name}: {cosine:.6f}")
    if "stress" in settings.get("note", ""):
        return  # these weights multiply any rounding by hundreds: printed, not bounded
    # 24 random layers of full size lose a little more than trained or small ones
    bound = 0.9999 if settings.get("weights") != "recipe" else 0.9997
    assert all(cosine >= bound for cosine in cosines.values()), cosines


@pytest.mark.parametrize("name", LEARNED)
def test_int8_is_near_and_replaces_the_products(name: str) -> None:
    full, small = (load_encoder(name, device="cpu", dtype=d) for d in (None, torch.int8))
    audio = tone(0.6)
    cosine = cosine_similarity(full.scene(audio, None), small.scene(audio, None), dim=-1)
    assert 0.99 < float(cosine.min()) < 1
    kinds = {type(module) for module in small.model.modules()}
    assert Int8Linear in kinds
    assert Bf16Linear not in kinds


def test_int8_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(EncoderError, match="precision int8 runs on the CPU only"):
        load_encoder("ssam_tiny_random", device="cuda", dtype="int8")


def test_precisions_have_one_name_each() -> None:
    names = {None: "fp32", torch.float32: "fp32", torch.bfloat16: "bf16", torch.float64: "fp64"}
    assert all(precision_name(given) == name for given, name in names.items())
    assert precision_name("int8") == "int8"


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_flow_to_every_used_parameter(name: str) -> None:
    model = load_encoder(name, device="cpu").model
    scene = model.scene(tone(0.3)[:1])
    scene.square().sum().backward()
    unused = ("pred", "mask_", "head.", "cpredlayer", "gpredlayer", "p_input", "pos_embed")
    without = [
        key
        for key, parameter in model.named_parameters()
        if not any(part in key for part in unused)
        and (parameter.grad is None or not bool(parameter.grad.abs().sum() > 0))
    ]
    # a class token that is pooled away at the end feels nothing if the scan never passes it on
    assert [key for key in without if "cls_token" not in key] == []
    for parameter in model.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
