"""The fast way through a Mamba block gives what the plain way gives, and notices new weights."""

from __future__ import annotations

import copy

import pytest
import torch

from mambabench.models.blocks import fused
from mambabench.models.blocks.block import Block, make_norm, run_pairs, run_sequence
from mambabench.models.blocks.mixer import MambaMixer, MixerConfiguration


def fill(module, seed=0):
    """Give every weight a plain random value."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, x in module.named_parameters():
            x.normal_(0.0, 0.3 if x.ndim > 1 else 0.1, generator=g)
            if "norm" in name:
                x.add_(1.0)
    return module.eval()


def mixer(directions="none", d_model=32, **options):
    return fill(MambaMixer(MixerConfiguration(d_model, 6, directions=directions, **options)))


def noise(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def plainly(monkeypatch):
    """Run something the plain way."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr("mambabench.models.blocks.mixer.mix", lambda *_: None)
            patch.setattr("mambabench.models.blocks.block.add_norm", lambda *_: None)
            with torch.no_grad():
                return function(*arguments)

    return call


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"directions": "v1"}, {"directions": "v2"}, {"directions": "v2", "divide_out": False},
        {"layer_scale": True}, {"d_conv": 3}, {"expand": 3, "d_model": 48}, {"directions": "v1",
        "layer_scale": True},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("shape", [(1, 1), (2, 33)])
def test_mix_equals_the_plain_mixer(settings, shape, plainly):
    module = mixer(**settings)
    x = noise(*shape, module.configuration.d_model)
    with torch.no_grad():
        found = fused.mix(module, x)
    expected = plainly(module.double(), x.double())
    assert found is not None
    assert float((found - expected).abs().max() / expected.abs().max()) < 3e-6


def test_a_view_as_input(plainly):
    module = mixer()
    x = noise(2, 9, 64)[:, 1:, 7:39]
    expected = plainly(module, x)
    with torch.no_grad():
        torch.testing.assert_close(fused.mix(module, x), expected, rtol=1e-4, atol=1e-5)


def test_where_it_does_not_apply_the_caller_goes_on(monkeypatch):
    module, x = mixer(), noise(1, 5, 32)
    assert fused.mix(module, x) is None  # gradients are on
    with torch.no_grad():
        assert fused.mix(module.train(), x) is None
        module.eval()
        assert fused.mix(module, x) is not None
        assert fused.mix(module, x.double()) is None
        assert fused.mix(module, x[:, :0]) is None
        assert fused.mix(copy.deepcopy(module).double(), x) is None
        monkeypatch.setenv("MAMBABENCH_SCAN_BACKEND", "reference")
        assert fused.mix(module, x) is None
        assert fused.add_norm(make_norm(32, 1e-5, False), x, None) is None
        assert module(x).shape == x.shape


@pytest.mark.parametrize("way", ["in place", "data", "assign", "load", "replace a layer"])
def test_new_weights_are_noticed(way, plainly):
    module, x = mixer(), noise(1, 5, 32)
    with torch.no_grad():
        before = module(x)
    other = fill(MambaMixer(module.configuration), seed=9)
    with torch.no_grad():
        if way == "in place":
            module.A_log.add_(1.0)
        elif way == "data":
            module.x_proj.weight.data.mul_(1.5)
        elif way == "assign":
            module.D = torch.nn.Parameter(other.D.detach().clone())
        elif way == "load":
            module.load_state_dict(other.state_dict())
        else:
            module.out_proj = other.out_proj
        after = module(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, plainly(module, x), rtol=1e-4, atol=1e-5)


def test_copies_and_state_dicts_know_nothing_of_it():
    module, x = mixer(), noise(1, 5, 32)
    keys = list(module.state_dict())
    with torch.no_grad():
        y = module(x)
        assert torch.equal(copy.deepcopy(module)(x), y)
    assert list(module.state_dict()) == keys


def test_other_linear_layers_are_called_as_they_are():
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    module, x = mixer(), noise(1, 5, 32)
    with torch.no_grad():
        y = module(x)
        doubled = Doubled(64, 32, bias=False)
        doubled.weight = module.out_proj.weight
        module.out_proj = doubled
        torch.testing.assert_close(module(x), 2 * y, rtol=1e-4, atol=1e-5)


def test_without_onednn_the_layers_themselves_are_called(monkeypatch, plainly):
    module, x = mixer(), noise(1, 5, 32)
    monkeypatch.setattr(fused, "_can_pack", lambda: False)
    assert fused.describe_computation("cpu")["products"] == "fp32, torch"
    with torch.no_grad():
        torch.testing.assert_close(module(x), plainly(module, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("dim", [16, 48, 192])
@pytest.mark.parametrize("first", [False, True])
def test_add_norm(rms, dim, first):
    norm = fill(make_norm(dim, 1e-5, rms))
    x, residual = noise(2, 7, dim) + 3, None if first else noise(2, 7, dim, seed=4)
    with torch.no_grad():
        found, total = fused.add_norm(norm, x, residual)
        expected = x if first else x + residual
        assert torch.equal(total, expected)
        truth = norm.double()(expected.double())
    assert float((found - truth).abs().max() / truth.abs().max()) < 1e-6
    assert not first or total is x


def test_norms_that_are_not_for_it():
    norm, x = make_norm(20, 1e-5, False), noise(2, 3, 20)
    with torch.no_grad():
        assert fused.add_norm(norm, x, None) is None  # 20 is no multiple of 16
        norm = make_norm(16, 1e-5, False)
        assert fused.add_norm(norm, noise(3, 16, 2).transpose(1, 2), None) is None
        assert (
            fused.add_norm(torch.nn.LayerNorm(16, elementwise_affine=False), noise(2, 16), None)
            is None
        )


@pytest.mark.parametrize("run", [run_sequence, run_pairs])
@pytest.mark.parametrize("rms", [False, True])
def test_blocks(run, rms, plainly):
    blocks = torch.nn.ModuleList(
        fill(Block(MixerConfiguration(32, 6, directions="v2"), 1e-5, rms), seed=i) for i in range(4)
    ).eval()
    x = noise(2, 21, 32)

    def last(tokens):
        *_, (hidden, residual) = run(blocks, tokens)
        return hidden + residual

    with torch.no_grad():
        found = last(x)
    expected = plainly(last, x)
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_any_number_of_threads():
    module, x = mixer("v2", 64), noise(4, 301, 64)
    before = torch.get_num_threads()
    found = []
    try:
        with torch.no_grad():
            for n_threads in (1, 2):
                torch.set_num_threads(n_threads)

                found.append(module(x))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("directions", ["none", "v1", "v2"])
def test_blocks_compile_without_a_graph_break_and_export(directions):
    torch._dynamo.reset()
    block = fill(Block(MixerConfiguration(32, 6, directions=directions), 1e-5, True))
    x, residual = noise(2, 21, 32), noise(2, 21, 32, seed=5)
    with torch.no_grad():
        expected = block(x, residual)
        compiled = torch.compile(block, backend="aot_eager", fullgraph=True)(x, residual)
        exported = torch.export.export(block, (x, residual)).module()(x, residual)
    for found in (compiled, exported):
        for a, b in zip(found, expected, strict=True):
            assert float((a - b).abs().max() / b.abs().max()) < 1e-6


def test_the_computation_is_described_for_records(monkeypatch):
    import numba

    assert fused.describe_computation("cpu") == {
        "scan_backend": "numba", "scan_version": numba.__version__, "scan_dtype": "float32",
        "products": "fp32, oneDNN packed",
    }  # fmt: skip
    assert fused.describe_computation("cpu", "bf16")["products"] == "bf16, torch"
    monkeypatch.setenv("MAMBABENCH_SCAN_BACKEND", "torch")
    found = fused.describe_computation("cpu", "fp64")
    assert found["scan_backend"] == "torch"
    assert (found["scan_dtype"], found["products"]) == ("float64", "fp64, torch")


@pytest.mark.parametrize("directions", ["none", "v1", "v2"])
def test_the_measured_peer_computes_the_same_block(directions):
    """perf/peers.py runs the published operations; a comparison with anything else is none."""
    import importlib.util
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "perf/peers.py"
    spec = importlib.util.spec_from_file_location("peers", path)
    peers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peers)
    block = fill(Block(MixerConfiguration(32, 6, directions=directions), 1e-5, False))
    x = noise(2, 21, 32)
    with torch.no_grad():
        found, expected = peers.slow_block(block, x, None)[0], block(x, None)[0]
    assert float((found - expected).abs().max() / expected.abs().max()) < 1e-5
