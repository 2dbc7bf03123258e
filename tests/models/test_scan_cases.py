"""Scan and mixer as parts of other people's models: groups, adapters, hooks, traces, transforms."""

from __future__ import annotations

import copy
import os
import runpy
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from mambabench.errors import EncoderError
from mambabench.models.blocks import fused
from mambabench.models.blocks.block import Block
from mambabench.models.blocks.mixer import MambaMixer, MixerConfiguration
from mambabench.models.blocks.precision import Int8Linear
from mambabench.models.scan import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
    selective_scan_fn,
)
from mambabench.models.scan.reference import scan_stepwise

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj", "conv1d_b", "x_proj_b", "dt_proj_b")
LINEAR = tuple(name for name in LAYERS if "conv" not in name)
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")


@pytest.mark.parametrize("name", ["scan-groups", "mixer-adapters-and-hooks", "scan-under-trace"])
def test_prepared_case(name):
    folder = Path(os.environ.get("MAMBABENCH_CASES", ROOT / "../shared/cases")).resolve()
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set MAMBABENCH_CASES to the prepared material")
    runpy.run_path(str(folder / name / "case.py"))


def noise(*shape, seed=0, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def scan_inputs(batch=2, length=9, dim=4, n=3, dtype=torch.float64):
    """u, delta, A, B, C, D, z, bias, channels last."""
    return (
        noise(batch, length, dim, seed=1, dtype=dtype), noise(batch, length, dim, seed=2,
        dtype=dtype), -noise(dim, n, seed=3, dtype=dtype).exp(), noise(batch, length, n, seed=4,
        dtype=dtype), noise(batch, length, n, seed=5, dtype=dtype), noise(dim, seed=6, dtype=dtype),
        noise(batch, length, dim, seed=7, dtype=dtype), noise(dim, seed=8, dtype=dtype),
    )  # fmt: skip


# Groups


def per_channel(x, dim):
    """[batch, groups, n, length] -> [batch, length, dim, n], by counting."""
    x = x if x.ndim == 4 else x[:, None]
    return torch.stack([x[:, d * x.shape[1] // dim] for d in range(dim)], 1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("groups_b", "groups_c"), [(2, 4), (4, 1), (None, 3), (2, 3), (12, 2), (6, 4), (2, 2)]
)
def test_groups_of_any_numbers_that_divide(groups_b, groups_c):
    dim, n, length = 12, 3, 7
    u, delta, z = (noise(2, dim, length, seed=i) for i in range(3))
    A, D, bias = -noise(dim, n, seed=3).exp(), noise(dim, seed=4), noise(dim, seed=5)
    B, C = (
        noise(2, *([] if g is None else [g]), n, length, seed=6 + i).requires_grad_()
        for i, g in enumerate((groups_b, groups_c))
    )
    y, last = selective_scan_fn(u, delta, A, B, C, D, z, bias, True, True)
    wide = [x.double().transpose(1, 2) for x in (u, delta, z)]
    expected, state = scan_stepwise(
        wide[0], wide[1], A.double(), per_channel(B, dim).double(), per_channel(C, dim).double(),
        D.double(), wide[2], bias.double(), True, False,
    )  # fmt: skip
    torch.testing.assert_close(y.double(), expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.double(), state, rtol=1e-4, atol=1e-5)
    found = torch.autograd.grad(y.sum(), (B, C))
    for a, b in zip(found, torch.autograd.grad(expected.sum(), (B, C)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("b_shape", "c_shape", "message"),
    [
        ((2, 4, 3, 7), (2, 5, 3, 7), r"C has 5 groups, .* for the 12 channels .* must be a multi"),
        ((2, 24, 3, 7), (2, 1, 3, 7), r"B has 24 groups"),
        ((2, 0, 3, 7), (2, 3, 7), r"B has 0 groups"),
        ((12, 3), (2, 5, 3, 7), r"C has 5 groups"),
        ((2, 1, 1, 3, 7), (2, 3, 7), r"B has shape \(2, 1, 1, 3, 7\): expected \[batch"),
        ((2, 2, 3, 6), (2, 3, 7), r"B has shape .* expected"),
    ],
)
def test_other_shapes_are_refused_by_name(b_shape, c_shape, message):
    u = noise(2, 12, 7)
    with pytest.raises(EncoderError, match=message):
        selective_scan_fn(u, u, -torch.ones(12, 3), noise(*b_shape), noise(*c_shape))


# Adapters, hooks and replaced layers


def mixer(directions="v2", seed=0, **options):
    made = MambaMixer(MixerConfiguration(16, 4, directions=directions, **options)).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for x in made.parameters():
            x.normal_(0.0, 0.3, generator=g)
    return made


X = noise(2, 11, 16, seed=9)


def both(module, x=X):
    """Return the output with and without gradients; they must agree."""
    with_gradients = module(x)
    with torch.no_grad():
        without = module(x)
    torch.testing.assert_close(with_gradients, without, rtol=1e-4, atol=1e-5)
    return with_gradients


def is_fused(module, x=X):
    with torch.no_grad():
        return fused.mix(module, x) is not None


class LowRank(nn.Module):
    """An adapter as the libraries for fine-tuning make it, with the base's weight in sight."""

    def __init__(self, base, rank=2):
        super().__init__()
        self.base = base
        self.down = nn.Parameter(noise(rank, base.in_features, seed=1))
        self.up = nn.Parameter(noise(base.out_features, rank, seed=2))

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x):
        return self.base(x) + x @ self.down.T @ self.up.T


@pytest.mark.parametrize("name", LINEAR)
def test_an_adapter_works_like_its_merged_weight(name):
    adapted, merged = mixer(), mixer()
    setattr(adapted, name, LowRank(getattr(adapted, name)))
    adapter = getattr(adapted, name)
    with torch.no_grad():
        getattr(merged, name).weight.add_(adapter.up @ adapter.down)
    y = both(adapted)
    torch.testing.assert_close(y, merged(X), rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    assert float(adapter.down.grad.abs().sum()) > 0
    assert float(adapter.up.grad.abs().sum()) > 0
    assert not is_fused(adapted)
    assert is_fused(merged)


class Doubled(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base

    weight = property(lambda self: self.base.weight)
    bias = property(lambda self: self.base.bias)

    def forward(self, x):
        return 2 * self.base(x)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("way", ["wrapper", "hook", "pre-hook", "patched forward"])
def test_what_changes_a_layer_changes_the_mixer(name, way):
    changed, twice = mixer(), mixer()
    layer = getattr(changed, name)
    if way == "wrapper":
        setattr(changed, name, Doubled(layer))
    elif way == "hook":
        layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    elif way == "pre-hook":
        layer.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    else:
        before = layer.forward
        layer.forward = lambda x: 2 * before(x)
    with torch.no_grad():
        getattr(twice, name).weight.mul_(2)
        bias = getattr(twice, name).bias
        if bias is not None and way != "pre-hook":
            bias.mul_(2)
    torch.testing.assert_close(both(changed), twice(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("directions", ["none", "v1", "v2"])
def test_hooks_fire_once_with_and_without_gradients(name, directions):
    module = mixer(directions)
    if not hasattr(module, name):
        assert directions != "v2"
        return
    expected, calls = both(module), []
    handle = getattr(module, name).register_forward_hook(lambda *_: calls.append(name))
    torch.testing.assert_close(both(module), expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 2
    handle.remove()
    assert is_fused(module)  # as fast as before


def test_hooks_of_all_modules_fire_with_and_without_gradients():
    module, calls = mixer(), {}
    for grad in (True, False):
        seen = calls[grad] = []
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, inputs, output, seen=seen: seen.append(type(module).__name__)
        )
        try:
            with torch.set_grad_enabled(grad):
                module(X)
        finally:
            handle.remove()
    assert calls[True] == calls[False]
    assert calls[True].count("Linear") == 6


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("old", [False, True])
def test_weight_norm(name, old):
    module, plain = mixer(), mixer()
    layer = getattr(module, name)
    if old:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            nn.utils.weight_norm(layer)
        magnitude = layer.weight_g
    else:
        parametrizations.weight_norm(layer)
        magnitude = layer.parametrizations.weight.original0
    torch.testing.assert_close(both(module), plain(X), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        magnitude.mul_(2)
        getattr(plain, name).weight.mul_(2)
    y = both(module)
    torch.testing.assert_close(y, plain(X), rtol=1e-4, atol=1e-5)
    y.sum().backward()
    assert float(magnitude.grad.abs().sum()) > 0


class Shifted(nn.Module):
    def forward(self, x):
        return x + 0.5


@pytest.mark.parametrize("name", ["A_log", "A_b_log", "D", "D_b"])
def test_parametrised_weights_of_the_mixer_itself(name):
    module, plain = mixer(), mixer()
    parametrize.register_parametrization(module, name, Shifted())
    with torch.no_grad():
        getattr(plain, name).add_(0.5)
    torch.testing.assert_close(both(module), plain(X), rtol=1e-4, atol=1e-5)


def test_quantised_linear_layers():
    plain = mixer()
    ours = copy.deepcopy(plain)
    for name in LINEAR:
        setattr(ours, name, Int8Linear(getattr(ours, name)))
    with torch.no_grad():
        expected = plain(X).flatten()
        found = [ours(X).flatten()]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated in torch, used by many
            theirs = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
            assert not isinstance(theirs.dt_proj, nn.Linear)
            found.append(theirs(X).flatten())
    for y in found:
        assert float(torch.cosine_similarity(y, expected, dim=0)) > 0.99


def test_layers_of_other_shapes_never_reach_the_kernels():
    """A narrower projection would have them read past its end."""
    module = mixer("none")
    module.x_proj = nn.Linear(32, 3, bias=False)
    with torch.no_grad(), pytest.raises(RuntimeError, match="split_with_sizes"):
        module(X)
    module = mixer("none")
    module.dt_proj = nn.Linear(1, 32, bias=False)
    both(module)
    with torch.no_grad(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        module(X[..., :12])


def test_a_subclass_with_another_step_is_heard():
    class Louder(MambaMixer):
        def _convolve(self, u, suffix, reverse):
            return 2 * super()._convolve(u, suffix, reverse)

    louder = Louder(mixer().configuration).eval()
    louder.load_state_dict(mixer().state_dict())
    assert not torch.allclose(both(louder), mixer()(X))


@pytest.mark.parametrize("directions", ["none", "v1", "v2"])
def test_functional_call_with_other_weights(directions):
    module, other = mixer(directions), mixer(directions, seed=4)
    weights = {n: x.detach() for n, x in other.named_parameters()}
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            y = torch.func.functional_call(module, weights, (X,))
        torch.testing.assert_close(y, other(X), rtol=1e-4, atol=1e-5)


def test_autocast_means_what_it_means_elsewhere():
    module = mixer()
    with torch.autocast("cpu", torch.bfloat16):
        y = module(X)
        with torch.no_grad():
            assert module(X).dtype == y.dtype == torch.bfloat16


@pytest.mark.parametrize("way", ["hook", "patched forward", "weight_norm"])
def test_the_norm_of_a_block_is_called_where_it_is_more_than_its_weights(way):
    block = Block(MixerConfiguration(16, 4), 1e-5, True).eval()
    with torch.no_grad():
        for x in block.parameters():
            x.copy_(noise(*x.shape) * 0.3)
    calls = []
    if way == "hook":
        block.norm.register_forward_hook(lambda *_: calls.append(1))
    elif way == "weight_norm":
        parametrize.register_parametrization(block.norm, "weight", Shifted())
    else:
        before = block.norm.forward
        block.norm.forward = lambda x: calls.append(1) or before(x)
    expected = block(X, X)
    with torch.no_grad():
        found = block(X, X)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(calls) == (0 if way == "weight_norm" else 2)


# Traces


@pytest.mark.parametrize("directions", ["none", "v1", "v2"])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("d_model", [16, 20])
def test_a_traced_mixer_takes_other_lengths(directions, grad, d_model, tmp_path):
    module = MambaMixer(MixerConfiguration(d_model, 4, directions=directions)).eval()
    with torch.no_grad():
        for i, x in enumerate(module.parameters()):
            x.copy_(0.3 * noise(*x.shape, seed=i))
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(module, (noise(2, 5, d_model),))
        torch.jit.save(traced, str(tmp_path / "mixer.pt"))
        loaded = torch.jit.load(str(tmp_path / "mixer.pt"))
    x = noise(3, 9, d_model, seed=2)
    expected = torch.autograd.grad(module(x).square().sum(), list(module.parameters()))
    for made in (traced, loaded):
        y = made(x)
        torch.testing.assert_close(y, module(x), rtol=1e-4, atol=1e-5)
        weights = dict(made.named_parameters())  # gradients, whatever the trace was made with
        found = torch.autograd.grad(
            y.square().sum(), [weights[name] for name, _ in module.named_parameters()]
        )
        for a, b in zip(found, expected, strict=True):
            assert float((a - b).abs().max()) < 1e-4 * float(b.abs().max())


def test_traced_functions():
    x = scan_inputs(dtype=torch.float32)
    pair = Direction(*x[:6], x[7])

    def bidirectional(u, z):
        return selective_scan_bidirectional(pair._replace(u=u), pair, z, True)

    def convolve(u, weight):
        return causal_conv1d(u, weight, None, "silu", reverse=True)

    def grouped(u, delta, A, B, C):
        return selective_scan_fn(u, delta, A, B, C[:, None].expand(-1, 2, -1, -1), x[5])

    turned = [t.transpose(1, 2) if t.ndim == 3 else t for t in x[:5]]
    for function, example in (
        (bidirectional, (x[0] + 1, x[6])), (convolve, (x[0], noise(4, 3))),
        (grouped, tuple(turned)),
    ):  # fmt: skip
        traced = torch.jit.trace(function, example)
        torch.testing.assert_close(traced(*example), function(*example), rtol=1e-5, atol=1e-5)
        other = (example[0] + 1, *example[1:])
        torch.testing.assert_close(traced(*other), function(*other), rtol=1e-5, atol=1e-5)


def test_wrong_shapes_are_refused_under_a_trace_too():
    x = scan_inputs()
    with pytest.raises(EncoderError, match="B has shape"):
        torch.jit.trace(lambda u, B: selective_scan(u, u, x[2], B, x[4]), (x[0], x[3][:, :-1]))


# Transforms and derivatives of other kinds, all against finite differences or loops in float64


SCAN = scan_inputs()


def scan_of(u, B, backend=None):
    x = SCAN
    y, last = selective_scan(u, x[1], x[2], B, *x[4:], True, False, True, backend)
    return y.square().sum() + last.sum()


def conv_of(u, weight, backend=None):
    return causal_conv1d(u, weight, None, "silu", backend=backend).square().sum()


ARGUMENTS = {
    "scan": (scan_of, (scan_inputs()[0], scan_inputs()[3])),
    "convolution": (conv_of, (scan_inputs()[0], noise(4, 3, dtype=torch.float64))),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_gradients_by_torch_func(name):
    function, arguments = ARGUMENTS[name]
    found = torch.func.grad(function, argnums=(0, 1))(*arguments)
    leaves = [x.clone().requires_grad_() for x in arguments]
    expected = torch.autograd.grad(function(*leaves, backend="numba"), leaves)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("way", ["jvp", "dual numbers", "dual numbers, no gradients", "jacfwd"])
def test_forward_mode(name, way):
    function, arguments = ARGUMENTS[name]
    tangents = [noise(*x.shape, seed=20 + i, dtype=torch.float64) for i, x in enumerate(arguments)]
    if way == "jvp":
        _, found = torch.func.jvp(function, arguments, tuple(tangents))
    elif way == "jacfwd":
        parts = torch.func.jacfwd(function, argnums=(0, 1))(*arguments)
        found = sum((a * b).sum() for a, b in zip(parts, tangents, strict=True))
    else:
        forward_ad = torch.autograd.forward_ad
        with forward_ad.dual_level(), torch.set_grad_enabled(way == "dual numbers"):
            pairs = zip(arguments, tangents, strict=True)
            found = forward_ad.unpack_dual(
                function(*(forward_ad.make_dual(*pair) for pair in pairs))
            ).tangent
    step = 1e-6
    ends = [
        function(*(x + s * step * t for x, t in zip(arguments, tangents, strict=True)))
        for s in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("grad", [True, False])
def test_vmap_equals_a_loop(name, grad):
    function, (first, second) = ARGUMENTS[name]
    many = torch.stack([first, 2 * first, first.flip(1)])
    with torch.set_grad_enabled(grad):
        found = torch.func.vmap(function, in_dims=(0, None))(many, second)
    expected = torch.stack([function(x, second, backend="numba") for x in many])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_second_derivatives(name):
    """Through kernels first, then torch's own operations."""
    _, arguments = ARGUMENTS[name]
    leaves = tuple(x[:, :4].clone().requires_grad_() for x in arguments)
    if name == "scan":

        def short(u, B):
            x = [t[:, :4] if t.ndim == 3 else t for t in scan_inputs()]
            return selective_scan(u, x[1], x[2], B, *x[4:], True, True, backend="numba")
    else:
        leaves = tuple(x.clone().requires_grad_() for x in arguments)

        def short(u, weight):
            return causal_conv1d(u, weight, None, "silu", backend="numba")

    torch.autograd.gradgradcheck(short, leaves)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_hessians_agree(name):
    function, (first, second) = ARGUMENTS[name]
    part = first[:1, :3, :2].clone()

    def of_part(x, backend=None):
        whole = first.clone()
        whole = torch.cat([torch.cat([x, whole[:1, :3, 2:]], 2), whole[:1, 3:]], 1)
        return function(torch.cat([whole, first[1:]]), second, backend)

    found = torch.func.hessian(of_part)(part)
    expected = torch.autograd.functional.hessian(lambda x: of_part(x, "numba"), part)
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_several_gradients_at_once(name):
    """torch batches the backward pass with vmap, over results that the kernels made."""
    function, arguments = ARGUMENTS[name]
    leaves = [x.clone().requires_grad_() for x in arguments]
    y = function(*leaves, backend="numba")
    weights = torch.tensor([1.0, -2.0], dtype=torch.float64)
    found = torch.autograd.grad(y, leaves, weights, is_grads_batched=True, retain_graph=True)
    for a, b in zip(found, torch.autograd.grad(y, leaves), strict=True):
        torch.testing.assert_close(a, torch.stack([b, -2 * b]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("directions", ["none", "v2"])
def test_per_example_gradients_of_a_mixer(directions):
    """torch.func's own example: vmap over grad over a functional call."""
    module = mixer(directions)
    weights = {n: x.detach() for n, x in module.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(module, weights, (x[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, X)
    for i, x in enumerate(X):
        module.zero_grad()
        module(x[None]).square().sum().backward()
        for name, parameter in module.named_parameters():
            scale = float(parameter.grad.abs().max())
            assert float((found[name][i] - parameter.grad).abs().max()) < 1e-4 * scale, name


def test_a_named_backend_without_transforms_says_which_has_them(monkeypatch):
    function, arguments = ARGUMENTS["scan"]
    with pytest.raises(EncoderError, match=r"'numba' cannot run: has no rule for torch\.func's"):
        torch.func.grad(lambda *x: function(*x, backend="numba"))(*arguments)
    monkeypatch.setenv("MAMBABENCH_SCAN_BACKEND", "numba")
    with pytest.raises(EncoderError, match="torch and reference have"):
        torch.func.vmap(function, in_dims=(0, None))(arguments[0][None], arguments[1])
    monkeypatch.delenv("MAMBABENCH_SCAN_BACKEND")
    for backend in ("torch", "reference"):
        torch.func.grad(lambda *x, name=backend: function(*x, backend=name))(*arguments)
