"""float64, bfloat16 and int8 beside float32, and gradients through every family."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_runners
import pytest
import torch
from golden_runners import RUNNERS, read_case
from torch.nn.functional import cosine_similarity

from mambabench.errors import EncoderError
from mambabench.models.blocks.precision import Bf16Linear, Int8Linear, set_precision
from mambabench.models.precision_names import precision_name
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
            model = build(*args, **kwargs)
            set_precision(model, precision)
            return model

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
    for name, cosine in cosines.items():
        print(f"{path} {name}: {cosine:.6f}")
    assert all(cosine >= 0.9999 for cosine in cosines.values()), cosines


def test_bf16_leaves_products_in_float32_as_the_weights_need() -> None:
    def left(change: Callable[[Any], None]) -> tuple[tuple[str, ...], Any]:
        encoder = load_encoder("ssam_tiny_random", device="cpu").model.encoder
        with torch.no_grad():
            for module in encoder.modules():
                change(module)
        return set_precision(encoder, "bf16"), encoder

    def amplified(factor: float) -> tuple[tuple[str, ...], Any]:
        def amplify(module: Any) -> None:
            if hasattr(module, "x_proj"):  # large steps, inputs and outputs of the recurrence
                module.x_proj.weight *= factor

        return left(amplify)

    kept, tame = left(lambda module: None)
    assert kept == ("dt_proj",)
    assert sum(isinstance(m, Bf16Linear) for m in tame.modules()) > 24
    some = ("dt_proj", "x_proj", "in_proj")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of those that keep all in float32
        tried = (amplified(factor) for factor in range(20, 34))  # where it turns is the machine's
        wild = next(model for kept, model in tried if kept == some)
    lowered = {name for name, m in wild.named_modules() if isinstance(m, Bf16Linear)}
    assert lowered
    assert not any("x_proj" in name or "in_proj" in name for name in lowered)


def test_bf16_is_recorded_and_a_refusal_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("ssam_tiny_random", device="cpu", dtype="bf16")
    assert encoder.configuration["float32_products"] == "dt_proj"
    plain = load_encoder("logmel_stats", device="cpu", dtype="bf16")  # no products, no warning
    assert plain.configuration["float32_products"] == ""
    monkeypatch.setattr("mambabench.models.blocks.precision.BF16_LOSS", 0.0)
    with pytest.warns(UserWarning, match="every product stays in float32"):
        refused = load_encoder("ssam_tiny_random", device="cpu", dtype="bf16")
    assert refused.configuration["float32_products"] == "all"
    assert not any(isinstance(m, Bf16Linear) for m in refused.model.modules())


@pytest.mark.parametrize("name", LEARNED)
def test_int8_is_near_and_replaces_the_products(name: str) -> None:
    full, small = (load_encoder(name, device="cpu", dtype=d) for d in (None, torch.int8))
    audio = tone(0.6)
    expected = full.scene(audio, None)
    with torch.profiler.profile() as profile:
        found = small.scene(audio, None)
    assert float(cosine_similarity(expected, found, dim=-1).min()) > 0.99
    layers = [m for m in small.model.modules() if isinstance(m, Int8Linear)]
    products = {n.rpartition(".")[2] for n, m in full.model.named_modules() if is_product(m)}
    left = {n.rpartition(".")[2] for n, m in small.model.named_modules() if is_product(m)}
    assert left == {n for n in products if n.startswith("dt_proj")}
    # what ran, and not how near it comes, shows that the replaced layers are the ones in use
    ran = Counter(event.name for event in profile.events())
    assert 0 < ran["quantized::linear_dynamic"] <= len(layers) * len(audio)
    for layer in layers:
        assert layer._packed.unpack()[0].dtype == torch.qint8
    assert not any(isinstance(m, Bf16Linear) for m in small.model.modules())


def is_product(module: torch.nn.Module) -> bool:
    return type(module) is torch.nn.Linear


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
