"""The fast way through a Mamba block on a CPU without gradients; what it computes is unchanged.

Matrix products run on weights that oneDNN has packed once, convolution, scan, norm and gate in the
scan's compiled kernels; both directions read one projection and write one sum, with no flips and no
copies. `mix` and `add_norm` return None where they do not apply (gradients, tracing, another
device, dtype or backend; sub-modules that were wrapped, hooked, parametrised or replaced), and the
caller goes its plain way.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from mambabench.models.blocks.parts import Convolution, RMSNorm
from mambabench.models.blocks.precision import Bf16Linear, Int8Linear
from mambabench.models.plain import is_eager, is_plain
from mambabench.models.scan.backends import BACKENDS, VARIABLE, Request, choose_backend

__all__ = ["add_norm", "describe_computation", "mix"]

Product = Callable[[Tensor], Tensor]
Mark = tuple[object, ...]


@dataclass(frozen=True)
class _Path:
    """The weights of one direction, laid out for the kernels."""

    taps: Tensor  # [d_conv, d_inner]
    conv_bias: Tensor
    project: Product  # x_proj
    step_weight: Tensor  # dt_proj's, [dt_rank, d_inner]
    step_bias: Tensor
    rates: Tensor  # A transposed, [d_state, d_inner]
    skip: Tensor  # D


@dataclass(frozen=True)
class _KernelWeights:
    """A mixer's weights as the kernels take them, and the mark of the weights they came from."""

    mark: Mark
    project_in: Product
    project_out: Product
    paths: tuple[_Path, ...]  # one, or one per direction


_PREPARED: WeakKeyDictionary[nn.Module, _KernelWeights] = WeakKeyDictionary()


def mix(mixer: Any, x: Tensor) -> Tensor | None:
    """Return what `mixer` makes of `x` [batch, length, d_model], or None where this cannot."""
    if mixer.training or not _applies(x) or x.ndim != 3 or x.numel() == 0:
        return None
    c = mixer.configuration
    if c.d_inner % 16 or x.shape[2] != c.d_model or not _kernels_chosen(c.d_state):
        return None
    mark = _mark(mixer)
    if mark is None or not _is_plain(mixer):
        return None
    prepared = _PREPARED.get(mixer)
    if prepared is None or prepared.mark != mark:
        if not _fits(mixer):
            return None
        prepared = _PREPARED[mixer] = _prepare(mixer, mark, x.shape[0] * x.shape[1])
    both = prepared.project_in(x)
    y = _scanned(mixer, prepared.paths, both[..., : c.d_inner], both[..., c.d_inner :])
    out = prepared.project_out(y)
    return out * mixer.gamma if c.layer_scale else out


def _scanned(mixer: Any, paths: tuple[_Path, ...], u_in: Tensor, z: Tensor) -> Tensor:
    """Convolve, project, scan in the configured directions and gate: [batch, length, d_inner]."""
    compiled = _compiled()
    c = mixer.configuration
    own = c.directions == "v2"  # the second direction has a convolution and projections of its own
    us = [torch.empty(u_in.shape) for _ in range(2 if own else 1)]
    second: tuple[Any, ...] = (paths[1].taps, paths[1].conv_bias, us[1]) if own else ()
    compiled.run_conv(u_in, paths[0].taps, paths[0].conv_bias, us[0], True, False, *second)
    y = torch.empty(u_in.shape)
    scale = 0.5 if own and c.divide_out else 1.0
    projected = None
    for i, path in enumerate(paths):
        if projected is None or own:
            projected = path.project(us[i])
            steps = projected[..., : c.dt_rank]
        B = projected[..., c.dt_rank : c.dt_rank + c.d_state]
        C = projected[..., c.dt_rank + c.d_state :]
        final = i == len(paths) - 1
        compiled.run_scan(
            us[i if own else 0], steps, path.rates, B, C, path.skip, z if final else None,
            path.step_bias, True, i == 1, y, accumulate=i == 1, scale=scale,
            weight=path.step_weight,
        )  # fmt: skip
    return y


@functools.cache
def _compiled() -> ModuleType:
    """Return the compiled kernels; importing them takes numba."""
    from mambabench.models.scan import compiled

    return compiled


def add_norm(norm: nn.Module, x: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return (norm(x + residual), x + residual), or None where this cannot.

    `norm` is a LayerNorm or an RMSNorm with `weight` and `eps`.
    """
    if not _applies(x) or x.shape[-1] % 16 or not is_plain(norm, _NORMS):
        return None
    weight, bias = norm.weight, getattr(norm, "bias", None)
    if type(weight) is not nn.Parameter:
        return None
    if not (weight.dtype == torch.float32 and x.is_contiguous() and _kernels_chosen(1)):
        return None
    if residual is not None and not (residual.is_contiguous() and residual.dtype == x.dtype):
        return None
    rms = not isinstance(norm, nn.LayerNorm)
    epsilon = norm.eps
    assert isinstance(epsilon, float)
    found: tuple[Tensor, Tensor] = _compiled().add_norm(x, residual, weight, bias, rms, epsilon)
    return found


def _applies(x: Tensor) -> bool:
    return (
        not torch.is_grad_enabled()
        and type(x) is Tensor
        and x.dtype == torch.float32
        and x.device.type == "cpu"
        and is_eager(x)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._len_torch_dispatch_stack()  # counters of operations see the plain ones
    )


def _kernels_chosen(d_state: int) -> bool:
    return _is_numba(d_state, os.environ.get(VARIABLE))


@functools.cache
def _is_numba(d_state: int, named: str | None) -> bool:
    return choose_backend(Request("cpu", torch.float32, d_state, False), named or None) == "numba"


MIXER = ("mambabench.models.blocks.mixer", "MambaMixer")  # named: it imports this module
_NORMS = (nn.LayerNorm, RMSNorm)
_CALLED = (nn.Linear, Bf16Linear, Int8Linear)
# a mixer's sub-modules by name, and what they may be
_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "in_proj": _CALLED,
    "out_proj": _CALLED,
    "x_proj": _CALLED,
    "x_proj_b": _CALLED,
    "conv1d": (Convolution,),
    "conv1d_b": (Convolution,),
    "dt_proj": (nn.Linear,),  # its weight is read, its bias is the scan's
    "dt_proj_b": (nn.Linear,),
}


def _is_plain(mixer: nn.Module) -> bool:
    """Say whether mixer and sub-modules are what `_prepare` takes them for.

    A subclass may have other steps; extra sub-modules may be used by nobody but a hook.
    """
    if (type(mixer).__module__, type(mixer).__qualname__) != MIXER:
        return False
    return all(
        name in _KINDS and is_plain(module, _KINDS[name]) for name, module in mixer._modules.items()
    )


def _fits(mixer: Any) -> bool:
    """Say whether every weight that the kernels read is there, in the configuration's shape."""
    c = mixer.configuration
    inner, width = c.d_inner, c.dt_rank + 2 * c.d_state
    shapes: dict[str, tuple[int, ...]] = {"out_proj.weight": (c.d_model, inner)}
    shapes["in_proj.weight"] = (2 * inner, c.d_model)
    if c.layer_scale:
        shapes["gamma"] = (c.d_model,)
    for suffix in ("", "_b") if c.directions == "v2" else ("",):
        shapes |= {f"D{suffix}": (inner,), f"conv1d{suffix}.weight": (inner, 1, c.d_conv)}
        shapes |= {f"conv1d{suffix}.bias": (inner,), f"x_proj{suffix}.weight": (width, inner)}
        shapes |= {f"dt_proj{suffix}.weight": (inner, c.dt_rank), f"dt_proj{suffix}.bias": (inner,)}
    for name in ("A_log",) if c.directions == "none" else ("A_log", "A_b_log"):
        shapes[name] = (inner, c.d_state)
    for name, shape in shapes.items():
        owner, _, last = name.rpartition(".")
        module: nn.Module = mixer.get_submodule(owner)
        if type(module) in (Bf16Linear, Int8Linear):  # made from a layer, called as it is
            continue
        weight = module._parameters.get(last)
        if weight is None or weight.shape != shape:
            return False
    return True


def _mark(mixer: nn.Module) -> Mark | None:
    """Return what changes when any layer or weight changes: type, place, version, first element.

    The first element notices writes through `.data`, which keep the version. None where a weight
    is not a plain float32 parameter on the CPU.
    """
    found: list[object] = []
    for module in (mixer, *mixer._modules.values()):
        found.append(type(module))
        for x in () if module is None else module._parameters.values():
            if x is None:
                continue
            if type(x) is not nn.Parameter or x.dtype != torch.float32:
                return None
            if not x.is_cpu or x.is_inference():
                return None
            place = x.data_ptr()
            found += (place, x._version, ctypes.c_float.from_address(place).value)
    return tuple(found)


def _prepare(mixer: Any, mark: Mark, n_rows: int) -> _KernelWeights:
    suffixes = {"none": ("",), "v1": ("", "_b"), "v2": ("", "_b")}[mixer.configuration.directions]
    own = mixer.configuration.directions == "v2"
    paths = tuple(_path(mixer, suffix, own, n_rows) for suffix in suffixes)
    project_in, project_out = (_product(m, n_rows) for m in (mixer.in_proj, mixer.out_proj))
    return _KernelWeights(mark, project_in, project_out, paths)


def _path(mixer: Any, suffix: str, own: bool, n_rows: int) -> _Path:
    """Lay out one direction; a second one without weights of its own has only its own A."""
    of = suffix if own else ""
    get = mixer.get_parameter
    rates = get("A_b_log" if suffix else "A_log")
    return _Path(
        taps=get(f"conv1d{of}.weight").detach().squeeze(1).t().contiguous(),
        conv_bias=get(f"conv1d{of}.bias").detach(),
        project=_product(mixer.get_submodule(f"x_proj{of}"), n_rows),
        step_weight=get(f"dt_proj{of}.weight").detach().t().contiguous(),
        step_bias=get(f"dt_proj{of}.bias").detach(),
        rates=-torch.exp(rates.detach()).t().contiguous(),
        skip=get(f"D{of}").detach(),
    )


def _product(module: nn.Module, n_rows: int) -> Product:
    """Return x -> module(x): on packed weights for a plain linear layer, else the module itself."""
    if type(module) is not nn.Linear or not _can_pack():
        return module
    packed = torch.ops.mkldnn._reorder_linear_weight(module.weight.detach(), n_rows)
    bias = None if module.bias is None else module.bias.detach()
    run = torch.ops.mkldnn._linear_pointwise
    return lambda x: run(x, packed, bias, "none", [], "")


@functools.cache
def _can_pack() -> bool:
    """Say whether this torch's oneDNN operators, which are not public, do what is meant here."""
    if not torch._C._has_mkldnn:
        return False
    g = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(48, 32, generator=g), torch.randn(48, generator=g)
    x = torch.randn(2, 5, 32, generator=g)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 10)
        found = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.allclose(found, nn.functional.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


def describe_computation(device: str, precision: str = "fp32") -> dict[str, str]:
    """Return what computes Mamba blocks on `device` ("cpu", "cuda", "cuda:0"), for run records.

    Keys: ``scan_backend``, ``scan_version``, ``scan_dtype``, ``products`` (precision and library of
    the matrix products).
    """
    kind = device.split(":")[0]
    dtype = torch.float64 if precision == "fp64" else torch.float32
    name = choose_backend(Request(kind, dtype, 16, False))
    packed = kind == "cpu" and name == "numba" and precision != "fp64" and _can_pack()
    if precision in ("bf16", "int8"):
        library = "torch"
    elif packed:
        library = "oneDNN packed"
    else:
        library = "torch, TF32 allowed" if _tf32(kind) else "torch"
    return {
        "scan_backend": name,
        "scan_version": BACKENDS[name].version(),
        "scan_dtype": str(dtype).removeprefix("torch."),
        "products": f"{precision}, {library}",
    }


def _tf32(kind: str) -> bool:
    return kind == "cuda" and torch.get_float32_matmul_precision() != "highest"
