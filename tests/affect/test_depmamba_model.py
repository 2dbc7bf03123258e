"""DepMamba beyond the golden cases: masked mode, strict files, single streams, long inputs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mambabench.errors import EncoderError, ProtocolError
from mambabench.models.affect.depmamba import DepMamba, DepMambaConfig, TMeanNet, _BatchNorm
from mambabench.models.weights.strict import load_strict
from mambabench.train.sequences import FeatureSequence, batches, collate

SMALL = DepMambaConfig(
    audio_input_size=5, video_input_size=7, mm_input_size=8, mm_output_sizes=(8,), d_state=4
)


def _model(config: DepMambaConfig = SMALL) -> DepMamba:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DepMamba(config)
        for name, buffer in model.named_buffers():  # as after training: padding becomes non-zero
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn_like(buffer))
        return model.eval()


def _items(lengths: tuple[int, ...] = (9, 4, 14, 1), size: int = 12) -> list[FeatureSequence]:
    generator = torch.Generator().manual_seed(1)
    return [
        FeatureSequence(str(i), torch.randn(n, size, generator=generator).numpy(), i % 2)
        for i, n in enumerate(lengths)
    ]


def _logits(model: DepMamba, items: list[FeatureSequence], *, parity: bool = False) -> torch.Tensor:
    batch = collate(items, parity=parity)
    with torch.no_grad():
        return model(batch.inputs, batch.draws["mask"])[:, 0]


def test_masked_logits_are_the_same_alone_padded_and_in_any_order() -> None:
    model, items = _model(), _items()
    alone = torch.cat([_logits(model, [item]) for item in items])
    together = _logits(model, items)
    reversed_order = _logits(model, items[::-1]).flip(0)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    torch.testing.assert_close(reversed_order, alone, rtol=0, atol=1e-6)


def test_parity_mode_lets_padding_leak_as_published() -> None:
    model, items = _model(replace(SMALL, mode="parity")), _items()
    alone = torch.cat([_logits(model, [item], parity=True) for item in items])
    together = _logits(model, items, parity=True)
    assert (together - alone).abs().max() > 1e-3


def test_masked_training_does_not_see_padding_either() -> None:
    config = replace(SMALL, dropout=0.0)
    gradients = []
    for extra in (0, 11):
        model = _model(config).train()
        batch = collate(_items(), parity=False)
        x = torch.nn.functional.pad(batch.inputs, (0, 0, 0, extra))
        mask = torch.nn.functional.pad(batch.draws["mask"], (0, extra))
        logit = model(x, mask)
        torch.nn.functional.binary_cross_entropy_with_logits(
            logit[:, 0], batch.targets.float()
        ).backward()
        gradients.append(model.conv_audio.weight.grad.clone())
        statistics = model.cossm_encoder.cnn_layers[0].a_bn.running_var
        gradients.append(statistics.clone())
    torch.testing.assert_close(gradients[0], gradients[2], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[3], rtol=1e-5, atol=1e-7)


def test_masked_batch_norm_equals_batch_norm_on_the_valid_frames() -> None:
    x = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(2))
    lengths = (10, 3, 6)
    mask = (torch.arange(10) < torch.tensor(lengths)[:, None]).float()[:, None]
    ours, plain = _BatchNorm(4), torch.nn.BatchNorm1d(4)
    got = ours(x, mask)
    flat = torch.cat([x[i, :, :n] for i, n in enumerate(lengths)], dim=1)[None]
    want = plain(flat)
    torch.testing.assert_close(
        torch.cat([got[i, :, :n] for i, n in enumerate(lengths)], dim=1)[None], want
    )
    torch.testing.assert_close(ours.running_var, plain.running_var)
    torch.testing.assert_close(ours.running_mean, plain.running_mean)


@pytest.mark.parametrize("name", ["depmamba_dvlog", "depmamba_lmvd"])
def test_state_dict_is_the_published_one(goldens_dir: Path, name: str) -> None:
    manifest = json.loads((goldens_dir / "affect/manifests/depmamba.json").read_text())[name]
    given = manifest["config"]
    with torch.device("meta"):
        model = DepMamba(
            DepMambaConfig(
                audio_input_size=given["audio_input_size"],
                d_state=given["mamba_config"]["d_state"],
            )
        )
    ours = {k: [list(v.shape), str(v.dtype)[6:]] for k, v in model.state_dict().items()}
    aliases = set(manifest["aliases"])
    assert {k: v for k, v in ours.items() if k not in aliases} == {
        k: v for k, v in manifest["state_dict"].items() if k not in aliases
    }
    assert set(ours) == set(manifest["state_dict"]) | aliases
    assert len(ours) == manifest["n_keys"]
    assert sum(p.numel() for p in model.parameters()) == manifest["param_count"]


def test_a_file_with_one_copy_of_each_alias_loads() -> None:
    model = _model()
    state = {k: v for k, v in model.state_dict().items() if "_net." not in k and ".net." not in k}
    assert len(state) < len(model.state_dict())
    other = DepMamba(SMALL)
    load_strict(other, state, "file")
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_wrong_file_is_described_key_by_key() -> None:
    state = dict(_model().state_dict())
    state["cossm_encoder.cnn_layers.0.a_net.0.weight"] = torch.zeros(8, 8, 3)
    state["conv_audio.weight"] = torch.zeros(8, 6, 1)
    del state["output.bias"]
    state["output.bais"] = torch.zeros(1)
    with pytest.raises(EncoderError) as caught:
        load_strict(DepMamba(SMALL), state, "dep.pt")
    text = str(caught.value)
    assert "dep.pt: 4 tensors do not fit" in text
    assert "missing: output.bias [1]" in text
    assert "shape [8, 6, 1] instead of [8, 5, 1]: conv_audio.weight" in text
    assert "unexpected: output.bais; did you mean 'output.bias'" in text
    assert "differs from its copy" in text


def test_audio_only_and_other_orders() -> None:
    audio = _model(replace(SMALL, video_input_size=0))
    assert not any("cossm" in key or "video" in key for key in audio.state_dict())
    assert _logits(audio, _items(size=5)).shape == (4,)
    first = _model()
    swapped = DepMamba(replace(SMALL, order=("audio", "video"))).eval()
    swapped.load_state_dict(first.state_dict())
    items = _items()
    turned = [replace(i, features=i.features[:, [*range(7, 12), *range(7)]]) for i in items]
    torch.testing.assert_close(_logits(swapped, turned), _logits(first, items))


def test_wrong_inputs_are_explained() -> None:
    with pytest.raises(ProtocolError, match="features are 11 wide, but the model was built for 12"):
        _model()(torch.zeros(1, 3, 11))
    with pytest.raises(ProtocolError, match="both 0: no input"):
        DepMambaConfig(audio_input_size=0, video_input_size=0)
    with pytest.raises(ProtocolError, match="order must name"):
        DepMambaConfig(order=("audio", "text"))
    with pytest.raises(ProtocolError, match="at least one width"):
        DepMambaConfig(mm_output_sizes=())
    with pytest.raises(ProtocolError, match="'parity' or 'masked'"):
        DepMambaConfig(mode="maskd")  # type: ignore[arg-type]


def test_without_a_mask_parity_pools_the_maximum_and_masked_mode_the_mean() -> None:
    items = _items((6,))
    parity, masked = _model(replace(SMALL, mode="parity")), _model()
    x = collate(items, parity=True).inputs
    captured = []
    for model in (parity, masked):
        model.output.register_forward_pre_hook(lambda _m, i: captured.append(i[0].detach()))
        model.enssm_encoder.register_forward_hook(lambda _m, _i, o: captured.append(o[0].detach()))
        model(x)
    torch.testing.assert_close(captured[1], captured[0].amax(1))
    torch.testing.assert_close(captured[3], captured[2].mean(1))


def test_the_simple_baseline_can_leave_padding_out() -> None:
    items = _items((3, 9))
    masked = TMeanNet(12, (6,), 0.0, masked=True).eval()
    batch, alone = collate(items, parity=False), collate(items[:1], parity=False)
    with torch.no_grad():
        torch.testing.assert_close(
            masked(batch.inputs, batch.draws["mask"])[:1], masked(alone.inputs, alone.draws["mask"])
        )
        parity = TMeanNet(12, (6,), 0.0).eval()
        assert not torch.allclose(
            parity(batch.inputs, batch.draws["mask"])[:1], parity(alone.inputs, alone.draws["mask"])
        )


def test_collate_masks() -> None:
    items = _items((3, 5))
    items[1].features[2] = 0  # a real frame of zeros
    inside, parity = (
        collate(items, parity=False).draws["mask"],
        collate(items, parity=True).draws["mask"],
    )
    assert inside.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert parity.tolist() == [[1, 1, 1, 0, 0], [1, 1, 0, 1, 1]]
    order = torch.Generator().manual_seed(0)
    found = [tuple(b.targets.shape) for b in batches(items * 3, 4, parity=False, order=order)]
    assert found == [(4,), (2,)]


@pytest.mark.slow
def test_memory_grows_linearly_to_24000_frames() -> None:
    """Peak allocation of a forward pass, from torch's own profiler, per frame."""
    from torch.profiler import ProfilerActivity, profile

    model = _model(replace(SMALL, mm_input_size=16, mm_output_sizes=(16,)))
    peaks = []
    for n in (6000, 24000):
        x = torch.randn(1, n, 12)
        with (
            torch.no_grad(),
            profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found,
        ):
            model(x, torch.ones(1, n))
        peaks.append(sum(max(e.self_cpu_memory_usage, 0) for e in found.key_averages()))
    assert peaks[1] / peaks[0] == pytest.approx(4, rel=0.1)
