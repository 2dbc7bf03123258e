"""Runners of the encoders' golden cases: a case directory in, (name, ours, theirs) out.

Everything comes from the case itself; a kind without a runner here fails the test.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

Compared = Iterator[tuple[str, torch.Tensor, torch.Tensor]]  # output's name, ours, theirs


@dataclass(frozen=True)
class Case:
    """One golden case, read."""

    directory: Path
    settings: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]

    @property
    def constructor(self) -> dict[str, Any]:
        return dict(self.settings.get("constructor", {}))

    def tolerance(self, output: str) -> tuple[str, float]:
        """Return ("relative" or "absolute", bound) for one output."""
        stated = self.settings["recommended_tolerance"]
        if output == "pos_embed_init":
            return "relative", stated["pos_embed_init"]
        if not self.outputs[output].is_floating_point():
            return "absolute", 0.0
        if "raw_log_features" in stated:
            return "absolute", stated["raw_log_features"]
        return "relative", stated["value"]

    def weights(self, like: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
        """Return the case's weights: its file, or the recipe applied to `like`'s keys."""
        file = self.directory / "weights.safetensors"
        if file.exists():
            return load_file(file)
        assert like is not None
        return recipe_weights({k: tuple(v.shape) for k, v in like.state_dict().items()})


def read_case(directory: Path) -> Case:
    """Read a case directory."""

    def arrays(name: str) -> dict[str, torch.Tensor]:
        with np.load(directory / name, allow_pickle=False) as file:
            return {key: torch.from_numpy(file[key]) for key in file.files}

    settings = json.loads((directory / "case.json").read_text())
    return Case(directory, settings, arrays("inputs.npz"), arrays("outputs.npz"))


def recipe_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Fill tensors by the rule that the cases with weights="recipe" state."""
    return {key: torch.from_numpy(np.asarray(_recipe(key, shape))) for key, shape in shapes.items()}


def _recipe(key: str, shape: tuple[int, ...]) -> np.ndarray:
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0x7FFFFFFF)
    z = random.standard_normal(shape).astype(np.float32)
    last = key.split(".")[-1]
    f = np.float32
    if "norm" in key or "mlp_head.0" in key:
        return f(1) + f(0.2) * z if last == "weight" else f(0.2) * z
    if last in ("D", "D_b"):
        return f(1) + f(0.3) * z
    if last in ("A_log", "A_b_log"):
        return np.log(np.arange(1, shape[1] + 1, dtype=np.float32))[None] + f(0.2) * z
    if key.endswith(("dt_proj.bias", "dt_proj_b.bias")):
        return f(-4) + f(0.7) * z
    if last.startswith("cls_token") or last in ("mask_token", "mask_embed"):
        return f(0.5) * z
    if "pos_embed" in key:
        return f(0.2) * z
    if last == "bias":
        return f(0.1) * z
    if key.endswith(("conv1d.weight", "conv1d_b.weight")):
        return f(0.4) * z
    return z / np.sqrt(f(np.prod(shape[1:])))


def audio(samples: torch.Tensor) -> torch.Tensor:
    """Return int16 samples as float32 [n_clips, n_samples]."""
    waveform = samples.float() / 32768
    return waveform if waveform.ndim == 2 else waveform[None]


def without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict without DataParallel's prefix."""
    return {key.removeprefix("module."): value for key, value in state.items()}


# ----------------------------------------------------------------------------- front-ends


def frontend_logmel_ssam(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import SsamLogMel

    frontend = SsamLogMel()
    for name in case.outputs:
        clip, _, kind = name.rpartition("/")
        compute = frontend.raw if kind == "raw" else frontend
        yield name, compute(audio(case.inputs[clip]))[:, None], case.outputs[name]


def frontend_kaldi_fbank(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import KaldiFbank

    kwargs = case.settings["kwargs"]
    for name in case.outputs:
        rate = case.settings["sample_rates"][name]
        frontend = KaldiFbank(rate, kwargs["num_mel_bins"], kwargs["frame_shift"])
        yield name, frontend(audio(case.inputs[name]))[0], case.outputs[name]


def frontend_filterbanks(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import KaldiFbank, SsamLogMel

    kaldi, ssam = KaldiFbank(), SsamLogMel()
    ours = {
        "kaldi_128x256_16k": kaldi.filters.T,
        "kaldi_window_400": kaldi.window,
        "melscale_201x80": ssam.filters,
        "stft_window_400": ssam.window,
    }
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def frontend_normalisation(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import KaldiFbank, fit_frames, normalise_fbank

    clip, frontend = audio(case.inputs["waveform_int16"]), KaldiFbank()
    for name, expected in case.outputs.items():
        if name.startswith("s3prl"):
            stats = case.settings["stats"]["audioset"]
            features = frontend(clip, subtract_mean=False)
            features = normalise_fbank(features, stats["mean"], stats["std"])
            features = fit_frames(features, int(name.rpartition("_")[2]))
        else:
            stats = case.settings["stats"][name.removesuffix("_normalised")]
            features = fit_frames(frontend(clip), stats["target_length"])
            features = normalise_fbank(features, stats["mean"], stats["std"])
        yield name, features[0, : expected.shape[0]], expected


# ----------------------------------------------------------------------------- SSAM and its twin


def ssam_encoder(case: Case) -> Any:
    from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder

    given = case.constructor
    arch = case.settings.get("arch_factory", "")
    sizes = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12)}
    for size, (width, heads) in sizes.items():
        if arch.endswith(size):
            given = {"embed_dim": width, "num_heads": heads, **given}
    if case.settings["kind"].startswith("ssam."):
        given.pop("num_heads", None)
    given |= given.pop("ssm_cfg", {})
    for same in ("fused_add_norm", "residual_in_fp32"):  # compute the same here
        given.pop(same, None)
    for pair in ("img_size", "patch_size"):
        given[pair] = tuple(given[pair])
    encoder = SsamEncoder(SsamConfiguration(**given)).eval()
    encoder.load_state_dict(case.weights(encoder))
    n_parameters = sum(p.numel() for p in encoder.parameters())
    assert n_parameters == case.settings["num_params"]
    return encoder


def ssam_tokens(case: Case) -> Compared:
    from mambabench.models.blocks.patch import sinusoidal_positions
    from mambabench.models.encoders.ssam_runtime import upstream_features

    encoder = ssam_encoder(case)
    image, noise, c = case.inputs["spectrogram"], case.inputs["mask_noise"], encoder.configuration
    tokens = encoder.tokens_in(image)
    hidden, residual = next(encoder.block_states(tokens))
    final = encoder.encode(tokens)
    pretrain = encoder.pretrain(image, noise)
    bands = c.grid[0] if c.frequency_first else c.grid[1]
    ours = {
        "patch_tokens": encoder.patch_tokens(image),
        "tokens_in": tokens,
        "block0_hidden": hidden,
        "block0_residual": residual,
        "block0_out": hidden,
        "final_tokens": final,
        "features": upstream_features(final[:, int(c.use_cls_token) :], bands),
        "pt_mask": pretrain.mask,
        "pt_ids_restore": pretrain.ids_restore,
        "pt_pred": pretrain.prediction,
        "pt_target": pretrain.target,
        "pt_loss": pretrain.loss[None],
        "pt_loss_norm_pix": encoder.pretrain(image, noise, norm_pixels=True).loss[None],
        "pos_embed_init": sinusoidal_positions(c.embed_dim, c.grid, c.use_cls_token),
    }
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def ssam_runtime(case: Case) -> Compared:
    from mambabench.models.encoders.ssam_runtime import SsamOptions, SsamRuntime

    options = SsamOptions(scene_token_order="upstream", timestamp_token_order="upstream")
    runtime = SsamRuntime(ssam_encoder(case), options).eval()
    for name, expected in case.outputs.items():
        length, _, kind = name.rpartition("/")
        n_samples = case.settings["lengths_samples"][length]
        clip = audio(case.inputs["waveform_int16"])[:, :n_samples]
        if kind == "logmel":
            yield name, runtime.frontend(clip)[:, None], expected
        elif kind == "scene_embedding":
            yield name, runtime.scene(clip)[:, 0], expected
        else:
            rows, times = runtime.timestamps(clip)
            yield name, times if kind == "timestamps_ms" else rows[:, :, 0], expected


# ----------------------------------------------------------------------------- AuM


def aum_configuration(case: Case) -> Any:
    from mambabench.models.encoders.aum import AumConfiguration

    given = case.constructor
    kind = "middle" if given.pop("use_middle_cls_token", True) else "head"
    if given.pop("use_end_cls_token", False):
        kind = "end"
    if given.pop("use_double_cls_token", False):
        kind = "double"
    if not given.pop("if_cls_token", True):
        kind = "none"
    renamed = {
        "bimamba_type": "directions",
        "transpose_token_sequence": "transposed",
        "if_devide_out": "divide_out",
        "if_bidirectional": "paired",
        "init_layer_scale": "layer_scale",
    }
    for same in ("fused_add_norm", "residual_in_fp32", "final_pool_type", "drop_path_rate"):
        given.pop(same, None)
    given |= given.pop("ssm_cfg", None) or {}
    given = {renamed.get(key, key): value for key, value in given.items()}
    given["layer_scale"] = bool(given.get("layer_scale"))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return AumConfiguration(class_token=kind, **given)


def aum_encoder(case: Case, state: dict[str, torch.Tensor] | None = None) -> Any:
    from mambabench.models.encoders.aum import AumEncoder

    encoder = AumEncoder(aum_configuration(case)).eval()
    encoder.load_state_dict(state or without_prefix(case.weights(encoder)))
    assert sum(p.numel() for p in encoder.parameters()) == case.settings["num_params"]
    return encoder


def aum_outputs(encoder: Any, fbank: torch.Tensor, **flexible: Any) -> dict[str, torch.Tensor]:
    patches = encoder.patch_grid(fbank, **flexible)
    positions = encoder.positions((patches.shape[2], patches.shape[3]))
    tokens = encoder.arrange(patches, positions)
    states = list(encoder.layer_states(tokens))
    final = encoder.encode(tokens)
    pooled = encoder.class_vector(final)
    named = {
        "patch_tokens": patches.flatten(2).transpose(1, 2),
        "tokens_in": tokens,
        "final_tokens": final,
        "pooled": pooled,
        "logits": encoder.head(pooled),
        "pos_embed_adapted": positions,
        "patch_embed_weight_adapted": encoder.patch_embed.proj.weight,
        "head.weight": encoder.head.weight,
        "head.bias": encoder.head.bias,
    }
    for index, (hidden, residual) in enumerate(states):
        named |= {f"layer{index}_hidden": hidden, f"layer{index}_residual": residual}
    return named


def aum_forward(case: Case) -> Compared:
    flexible = {k: tuple(v) for k, v in (case.settings.get("forward_kwargs") or {}).items()}
    ours = aum_outputs(aum_encoder(case), case.inputs["fbank"], **flexible)
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def aum_load(case: Case) -> Compared:
    from mambabench.models.encoders.aum import adapt_state

    state = adapt_state(case.weights(), aum_configuration(case))
    state |= {k: v for k, v in case.outputs.items() if k.startswith("head.")}
    ours = aum_outputs(aum_encoder(case, state), case.inputs["fbank"])
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def aum_published(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import KaldiFbank, fit_frames, normalise_fbank

    encoder = aum_encoder(case)
    mean, std = case.settings["dataset_stats"]
    features = KaldiFbank()(audio(case.inputs["waveform_int16"]))
    features = fit_frames(features, encoder.configuration.spectrogram_size[1])
    features = normalise_fbank(features, mean, std)
    ours = aum_outputs(encoder, features)
    for name, expected in case.outputs.items():
        if name == "fbank_rowmean":
            yield name, features.mean(dim=2), expected
        elif name.startswith("final_tokens_first"):
            yield name, ours["final_tokens"][:, : expected.shape[1]], expected
        elif name.startswith("final_tokens_last"):
            yield name, ours["final_tokens"][:, -expected.shape[1] :], expected
        else:
            yield name, ours[name], expected


def aum_resample_functions(case: Case) -> Compared:
    from mambabench.models.blocks.patch import resample_kernel, resample_positions

    (positions_name,) = (name for name in case.inputs if name.startswith("pos_embed"))
    (kernel_name,) = (name for name in case.inputs if name.startswith("patch_weight"))
    old = two_numbers(positions_name.split("_")[2])
    for name, expected in case.outputs.items():
        new = two_numbers(name.rpartition("_")[2].removeprefix("to"))
        if name.startswith("abs_pos"):
            yield name, resample_positions(case.inputs[positions_name], old, new), expected
        else:
            yield name, resample_kernel(case.inputs[kernel_name], new), expected


def two_numbers(text: str) -> tuple[int, int]:
    first, _, second = text.partition("x")
    return int(first), int(second)


# ----------------------------------------------------------------------------- SSAMBA


def ssamba_configuration(case: Case, n_frames: int, **changes: Any) -> Any:
    from mambabench.models.encoders.ssamba import SsambaConfiguration

    vision = {**case.constructor.get("vision_mamba_config", {}), **changes}
    patch = vision.get("patch_size", 16)
    return SsambaConfiguration(
        embed_dim=vision["embed_dim"],
        depth=vision["depth"],
        spectrogram_size=(case.constructor.get("input_fdim", 128), n_frames),
        patch_size=(patch, patch),
        num_classes=vision.get("num_classes", 1000),
        directions=vision.get("bimamba_type", "v2"),
        paired=vision.get("if_bidirectional", True),
        rms_norm=vision.get("rms_norm", False),
        norm_epsilon=vision.get("norm_epsilon", 1e-5),
        divide_out=vision.get("if_devide_out", True),
    )


def ssamba_model(case: Case, n_frames: int, **changes: Any) -> Any:
    from mambabench.models.encoders.ssamba import SsambaPretraining

    model = SsambaPretraining(ssamba_configuration(case, n_frames, **changes)).eval()
    sizes = {"p_input_fdim": model.p_input_fdim, "p_input_tdim": model.p_input_tdim}
    state = {**without_prefix(case.weights(model)), **{k: v.data for k, v in sizes.items()}}
    if changes.get("rms_norm"):  # the wrapper's strict=False drops the norms' biases
        state = {k: v for k, v in state.items() if k in model.state_dict()}
    model.load_state_dict(state)
    return model


def ssamba_backbone(case: Case, n_frames: int, **changes: Any) -> Any:
    return ssamba_model(case, n_frames, **changes).v


def ssamba_pretrain(case: Case) -> Compared:
    from mambabench.models.encoders.ssamba import cluster_mask, joint_loss

    fbank, mask_ids = case.inputs["fbank"], case.inputs["mask_ids"]
    model = ssamba_model(case, case.constructor["input_tdim"])
    assert sum(p.numel() for p in model.parameters()) == case.settings["num_params"]
    rows, columns = model.v.configuration.grid
    for ids, seed in zip(mask_ids, case.settings["mask_ids_from_python_random_seed"], strict=True):
        drawn = cluster_mask(
            rows * columns, case.settings["mask_patch"], columns, random.Random(seed)
        )
        assert drawn == ids.tolist(), f"mask of seed {seed} differs"
    tokens = model.masked_tokens(fbank, mask_ids)
    final = model.v.encode(tokens)
    contrastive = model.contrastive(fbank, mask_ids)
    generative = model.generative(fbank, mask_ids)
    ours = {
        "mpc_tokens_in": tokens,
        "mpc_final_tokens": final,
        "mpg_final_tokens": final,
        "mpc_acc": contrastive.accuracy[None],
        "mpc_nce": contrastive.nce[None],
        "mpg_mse": generative.mse[None],
        "joint_loss": joint_loss(contrastive, generative)[None],
        **ssamba_layers(model.v, tokens, "mpc_"),
    }
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def ssamba_layers(backbone: Any, tokens: torch.Tensor, prefix: str) -> dict[str, torch.Tensor]:
    """Return the first two layers' own outputs, and the stream after the first final norm."""
    layers = backbone.layers
    first = layers[0](tokens, None)
    second = layers[1](tokens.flip(1), None) if backbone.configuration.paired else layers[1](*first)
    *_, (hidden, residual) = backbone.layer_states(tokens)
    return {
        f"{prefix}layer0_hidden": first[0],
        f"{prefix}layer0_residual": first[1],
        f"{prefix}layer1_hidden": second[0],
        f"{prefix}layer1_residual": second[1],
        f"{prefix}norm_f_first": backbone.norm_f(hidden + residual),
    }


def ssamba_finetune(case: Case) -> Compared:
    from mambabench.models.encoders.ssamba import SsambaClassifier

    given = case.constructor
    strides = (given["fstride"], given["tstride"])
    backbone = ssamba_backbone(case, case.settings["pretrain_input_tdim"])
    heads = {k.removeprefix("mlp_head."): v for k, v in case.inputs.items() if "mlp_head" in k}
    n_classes = heads["1.weight"].shape[0]
    model = SsambaClassifier(backbone, n_classes, strides, case.settings["task"]).eval()
    model.mlp_head.load_state_dict(heads)
    fbank = case.inputs["fbank"]
    tokens = model.tokens_in(fbank)
    final = backbone.encode(tokens)
    grid = backbone.patch_grid(fbank, strides).shape[2:]
    ours = {
        "pos_embed_adapted": backbone.positions((grid[0], grid[1])),
        "tokens_in": tokens,
        "final_tokens": final,
        "pooled": model.pool(final),
        "logits": model(fbank),
        **ssamba_layers(backbone, tokens, ""),
    }
    for name, expected in case.outputs.items():
        yield name, ours[name], expected


def ssamba_published(case: Case) -> Compared:
    from mambabench.models.encoders.frontends import KaldiFbank, fit_frames, normalise_fbank
    from mambabench.models.encoders.ssamba import SsambaClassifier

    whole = ssamba_model(case, 1024)
    assert sum(p.numel() for p in whole.parameters()) == case.settings["num_params"]
    backbone = ssamba_backbone(case, 1024)
    features = KaldiFbank()(audio(case.inputs["waveform_int16"]))
    for setting in dict.fromkeys(name.partition("/")[0] for name in case.outputs):
        target, _, stride = setting.partition("_s")
        fbank = normalise_fbank(fit_frames(features, int(target)), -4.2677393, 4.5689974)
        classifier = SsambaClassifier(backbone, 2, (int(stride), int(stride))).eval()
        final = backbone.encode(classifier.tokens_in(fbank))
        for name, expected in case.outputs.items():
            if not name.startswith(setting + "/"):
                continue
            kind = name.rpartition("/")[2]
            n = expected.shape[1]
            ours = {
                "pooled": classifier.pool(final),
                "fbank_rowmean": fbank.mean(dim=2),
                f"final_tokens_first{n}": final[:, :n],
                f"final_tokens_last{n}": final[:, -n:],
            }
            yield name, ours[kind], expected


def ssamba_s3prl_expert(case: Case) -> Compared:
    from mambabench.models.encoders.ssamba_expert import SsambaExpert

    settings = case.settings
    size = {"embed_dim": settings["embed_dim"], "depth": settings["depth"]}
    backbone = ssamba_backbone(case, 1024, rms_norm=True, **size)
    expert = SsambaExpert(
        backbone,
        window_s=settings["window_secs"],
        n_frames=settings["target_length"],
        strides=(settings["fstride"], settings["tstride"]),
    )
    assert expert.downsample_rate == settings["get_downsample_rates"]
    clips = [audio(case.inputs[name])[0] for name in sorted(case.inputs)]
    (name,) = case.outputs
    yield name, expert(clips), case.outputs[name]


RUNNERS: dict[str, Callable[[Case], Compared]] = {
    "aum.forward": aum_forward,
    "aum.load": aum_load,
    "aum.published": aum_published,
    "aum.resample_functions": aum_resample_functions,
    "frontend.filterbanks": frontend_filterbanks,
    "frontend.kaldi_fbank": frontend_kaldi_fbank,
    "frontend.logmel_ssam": frontend_logmel_ssam,
    "frontend.normalisation": frontend_normalisation,
    "ssam.runtime": ssam_runtime,
    "ssam.tokens": ssam_tokens,
    "ssamba.finetune": ssamba_finetune,
    "ssamba.pretrain": ssamba_pretrain,
    "ssamba.published": ssamba_published,
    "ssamba.s3prl_expert": ssamba_s3prl_expert,
    "ssast.runtime": ssam_runtime,
    "ssast.tokens": ssam_tokens,
}


@torch.no_grad()
def run_case(directory: Path) -> Iterator[tuple[str, str, float, float]]:
    """Yield (output, kind of error, error, bound) for every output of one case."""
    case = read_case(directory)
    kind = case.settings["kind"]
    if kind not in RUNNERS:
        raise AssertionError(f"{directory}: no runner for golden cases of kind {kind!r}")
    seen = set()
    for name, ours, theirs in RUNNERS[kind](case):
        seen.add(name)
        assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)} {tuple(theirs.shape)}"
        measure, bound = case.tolerance(name)
        difference = float((ours.double() - theirs.double()).abs().max())
        scale = float(theirs.double().abs().max()) or 1.0
        yield name, measure, difference / scale if measure == "relative" else difference, bound
    assert seen == set(case.outputs), f"not compared: {sorted(set(case.outputs) - seen)}"
