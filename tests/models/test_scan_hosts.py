"""The CPU kernels where users run them: other processors, read-only installs, forks, threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

import mambabench
from mambabench.models.scan import causal_conv1d, selective_scan

PACKAGE = Path(mambabench.__file__).parent
CHECK = """
import torch
from mambabench.models.scan import selective_scan, causal_conv1d
torch.set_num_threads(1)
g = torch.Generator().manual_seed(0)
shapes = ((1, 40, 48), (1, 40, 48), (48, 6), (1, 40, 6), (1, 40, 6))
x = [torch.randn(*s, generator=g) for s in shapes]
x[2] = -x[2].exp()
for dtype, bound in ((torch.float32, 2e-6), (torch.float64, 1e-13)):
    t = [v.to(dtype).requires_grad_() for v in x]
    y = selective_scan(*t, delta_softplus=True, backend="numba")
    r = selective_scan(*t, delta_softplus=True, backend="reference")
    assert (y - r).abs().max() < bound * r.abs().max(), dtype
    found, expected = (torch.autograd.grad(v.square().sum(), t) for v in (y, r))
    for a, b in zip(found, expected):
        assert (a - b).abs().max() < 2 * bound * b.abs().max(), dtype
w = torch.randn(48, 4, generator=g)
y, r = (causal_conv1d(x[0], w, None, "silu", backend=n) for n in ("numba", "reference"))
assert (y - r).abs().max() < 1e-5
"""


def run(code, **environment):
    """Run Python code in a process of its own; return what it printed."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    keep |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE.parent), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=keep, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["haswell", "nehalem"])
def test_processors_without_avx512_or_fma(processor, tmp_path):
    import platform

    if platform.machine() != "x86_64":
        pytest.skip("the simulated processors are x86-64")
    code = (
        CHECK
        + """
from mambabench.models.scan import kernels
(assembly,) = {a for s, a in kernels.scan_forward.inspect_asm().items() if "float32" in str(s[0])}
print("fma:", "vfmadd" in assembly, "call:", "fmaf" in assembly, "zmm:", "zmm" in assembly)
"""
    )
    out = run(code, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
    assert out.split("\n")[0] == f"fma: {processor == 'haswell'} call: False zmm: False"


@pytest.mark.slow
def test_the_kernels_compile_for_aarch64(tmp_path):
    """Compiled only: no such processor is at hand."""
    code = """
import platform
import sys
import llvmlite.binding as llvm
import torch
platform.machine = lambda: "aarch64"  # or there would be instructions for x86's control register
from mambabench.models.scan import kernels, selective_scan
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
try:
    target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
except RuntimeError:
    sys.exit(print("absent"))
u = torch.zeros(1, 1, 16, requires_grad=True)
selective_scan(u, u, -torch.ones(16, 1), u[..., :1], u[..., :1], backend="numba").sum().backward()
machine = target.create_target_machine(cpu="neoverse-n1", opt=3)
for kernel in (kernels.scan_forward, kernels.scan_backward):
    (text,) = kernel.inspect_llvm().values()
    drop = ("target triple", "target datalayout", "attributes #")
    lines = (x for x in text.splitlines() if not x.startswith(drop))
    module = llvm.parse_assembly("\\n".join(lines))
    module.triple, module.data_layout = machine.triple, str(machine.target_data)
    assembly = machine.emit_assembly(module)
    print(assembly.count("fmla") > 20, "fmaf" in assembly)
"""
    # no features: the host's may bring instructions that the other processor lacks
    out = run(code, NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path))
    if out.startswith("absent"):
        pytest.skip("this llvmlite was built without aarch64")
    assert out.split() == ["True", "False"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("home", [True, False])
def test_a_read_only_install_runs(tmp_path, home):
    """Without a folder for machine code, it is compiled in memory, every time."""
    install = tmp_path / "site"
    shutil.copytree(PACKAGE, install / "mambabench", ignore=shutil.ignore_patterns("__pycache__"))
    # not by file modes, which do not bind root: a file stands where the folder would be made
    (install / "mambabench/models/scan/__pycache__").write_text("")
    (tmp_path / "home").mkdir()
    place = tmp_path / "home" if home else "/proc/none"
    code = """
import torch
from mambabench.models.scan import kernels, selective_scan
u = torch.ones(1, 2, 16)
print(selective_scan(u, u, -torch.ones(16, 1), u[..., :1], u[..., :1], backend="numba")[0, 0, 0])
print(kernels.__file__)
"""
    out = run(
        code, PYTHONPATH=str(install), HOME=str(place), XDG_CACHE_HOME=str(place),
        PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    assert out.split() == ["tensor(1.)", str(install / "mambabench/models/scan/kernels.py")]
    assert any((tmp_path / "home").rglob("*.nbi")) == home


@pytest.mark.slow
def test_a_second_process_compiles_nothing(tmp_path):
    """The kernels come from the cache; perf/scan.py says how long either call takes."""
    code = """
import torch
u = torch.zeros(1, 251, 576); s = u[..., :24]
from mambabench.models.scan import selective_scan
selective_scan(u, u, -torch.ones(576, 24), s, s, delta_softplus=True, backend="numba")
"""
    kept = []
    for _ in range(2):
        run(code, NUMBA_CACHE_DIR=str(tmp_path))
        kept.append({p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.nbc")})
    assert kept[0]
    assert kept[0] == kept[1]


def _inputs(length=300, dim=64, d_state=16, batch=4):
    g = torch.Generator().manual_seed(0)
    u = torch.randn(batch, length, dim, generator=g)
    return u, u, -torch.ones(dim, d_state), u[..., :d_state], u[..., d_state : 2 * d_state]


def test_the_number_of_threads_does_not_change_a_bit():
    inputs = _inputs(dim=256, batch=2)
    leaves = [x.clone().requires_grad_() for x in inputs]
    before = torch.get_num_threads()
    results = []
    try:
        for n_threads in (1, 2, 3):
            torch.set_num_threads(n_threads)
            y = selective_scan(*inputs, delta_softplus=True, backend="numba")
            z = selective_scan(*leaves, delta_softplus=True, backend="numba")
            results.append((y, *torch.autograd.grad(z.square().sum(), leaves)))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_calls_from_several_threads():
    inputs = _inputs()
    expected = selective_scan(*inputs, delta_softplus=True, backend="numba")
    found = [None] * 8

    def call(i):
        found[i] = selective_scan(*inputs, delta_softplus=True, backend="numba")

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, expected) for y in found)


def test_fork_after_use():
    code = """
import os, torch
from mambabench.models.scan import selective_scan
torch.set_num_threads(2)
u = torch.randn(4, 400, 128); s = u[..., :16]
def call():
    return selective_scan(u, u, -torch.ones(128, 16), s, s, delta_softplus=True, backend="numba")
first = call()
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(call(), first) else 3)
print(os.waitpid(child, 0)[1])
"""
    assert run(code).strip() == "0"


@pytest.mark.slow
def test_a_hundred_thousand_steps_in_linear_memory():
    code = """
import resource, torch
from mambabench.models.scan import selective_scan
torch.set_num_threads(1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def call(length):
    g = torch.Generator().manual_seed(0)
    u = torch.randn(1, length, 32, generator=g); s = torch.randn(1, length, 16, generator=g)
    return selective_scan(u, u, -torch.ones(32, 16), s, s, delta_softplus=True, backend="numba")
call(100)
start = peak()
y = call(100_000)
print(peak() - start, bool(y.isfinite().all()))
"""
    megabytes, finite = run(code).split()
    assert finite == "True"
    assert float(megabytes) < 4 * 100_000 * (32 + 16 + 32) / 2**20 + 30  # inputs, output, slack


def test_a_long_scan_stays_as_accurate_as_torch():
    """The exponential has no bias of its own that builds up: 4000 steps of slow decay."""
    g = torch.Generator().manual_seed(0)
    u, s = torch.randn(1, 4000, 16, generator=g), torch.randn(1, 4000, 4, generator=g)
    delta = 1e-3 * torch.rand(1, 4000, 16, generator=g)
    inputs = (u, delta, -torch.ones(16, 4), s, s)
    expected = selective_scan(*(x.double() for x in inputs), backend="torch")
    ours, theirs = (
        float((selective_scan(*inputs, backend=name) - expected).abs().max())
        for name in ("numba", "torch")
    )
    assert ours < 2 * theirs


def test_subclasses_and_parameters_are_accepted():
    u, delta, A, B, C = _inputs(length=5, dim=16, d_state=2)
    parameter = torch.nn.Parameter(A)
    y = selective_scan(u, delta, parameter, B, C, backend="numba")
    assert y.requires_grad
    weight = torch.nn.Parameter(torch.ones(16, 4))
    with torch.inference_mode():
        y = causal_conv1d(u, weight, backend="numba")
    torch.testing.assert_close(y, causal_conv1d(u, weight, backend="reference").detach())
