"""Which backend is chosen, what refuses to run, and what the user is told."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.models.scan import (
    BACKENDS,
    Request,
    backends,
    choose_backend,
    describe_backends,
    selective_scan,
)

CPU = Request("cpu", torch.float32, 16, False)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No choice is remembered from other tests or set by the environment."""
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    caches = (backends._choose, backends._failure, backends._warn_slow)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def _without(monkeypatch, name, reason):
    backend = BACKENDS[name]
    changed = type(backend)(
        name, backend.module, backend.package, lambda: reason, backend.unsupported
    )
    monkeypatch.setitem(BACKENDS, name, changed)


def test_the_cpu_uses_numba():
    assert choose_backend(CPU) == "numba"
    assert choose_backend(Request("cpu", torch.float64, 5, True)) == "numba"


def test_the_argument_wins_over_the_variable(monkeypatch):
    monkeypatch.setenv(backends.VARIABLE, "reference")
    assert choose_backend(CPU) == "reference"
    assert choose_backend(CPU, "torch") == "torch"
    monkeypatch.setenv(backends.VARIABLE, "")
    assert choose_backend(CPU) == "numba"


def test_unknown_names_are_answered_with_the_nearest(monkeypatch):
    with pytest.raises(EncoderError, match=r"backend='nunba' is no scan backend; did you mean"):
        choose_backend(CPU, "nunba")
    monkeypatch.setenv(backends.VARIABLE, "tritn")
    with pytest.raises(EncoderError, match=r"MAMBABENCH_SCAN_BACKEND='tritn'.*'triton'"):
        choose_backend(CPU)


def test_a_named_backend_that_cannot_run_raises_with_the_reason(monkeypatch):
    with pytest.raises(EncoderError, match=r"'mamba_ssm' cannot run: mamba_ssm's extension"):
        choose_backend(CPU, "mamba_ssm")
    _without(monkeypatch, "numba", "numba is not installed: pip install numba")
    monkeypatch.setenv(backends.VARIABLE, "numba")
    with pytest.raises(EncoderError, match="cannot run: numba is not installed: pip install"):
        selective_scan(*[torch.zeros(1, 2, 16)] * 2, -torch.ones(16, 1), *[torch.ones(1, 2, 1)] * 2)


def test_the_fall_to_torch_warns_once(monkeypatch):
    _without(monkeypatch, "numba", "numba is not installed: pip install numba")
    inputs = (*[torch.zeros(1, 2, 16)] * 2, -torch.ones(16, 1), *[torch.ones(1, 2, 1)] * 2)
    with pytest.warns(RuntimeWarning, match="falls back to plain torch.*numba is not installed"):
        selective_scan(*inputs)
    selective_scan(*inputs)  # a second warning would be an error here
    assert choose_backend(Request("cpu", torch.float64, 3, True)) == "torch"


def test_a_backend_that_computes_wrongly_is_not_chosen(monkeypatch):
    from mambabench.models.scan import operators

    def wrong(*arguments):
        y, last = BACKENDS["reference"].load().scan(*arguments)
        return y + 0.01, last

    monkeypatch.setattr(operators, "scan", wrong)
    with pytest.warns(RuntimeWarning, match="self-check against the reference is off by 1.0e-02"):
        assert choose_backend(CPU) == "torch"
    with pytest.raises(EncoderError, match="'numba' cannot run: its self-check"):
        choose_backend(CPU, "numba")


def test_other_devices_get_torch():
    assert choose_backend(Request("xpu", torch.float32, 16, False)) == "torch"


def test_describe_says_what_runs_and_why(monkeypatch):
    found = {status.name: status for status in describe_backends("cpu")}
    assert [n for n, s in found.items() if s.chosen] == ["numba"]
    assert found["numba"].reason == "fastest that runs here"
    assert found["numba"].version
    assert found["torch"].version == torch.__version__
    monkeypatch.setenv(backends.VARIABLE, "torch")
    found = {status.name: status for status in describe_backends("cpu")}
    assert found["torch"].chosen
    assert found["torch"].reason == "named by MAMBABENCH_SCAN_BACKEND"


def test_importing_the_scan_imports_no_kernels():
    code = (
        "import sys, mambabench.models.scan; "
        "print([m for m in ('numba', 'triton', 'mamba_ssm') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
