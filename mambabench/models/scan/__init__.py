"""The selective scan: one function, several backends (reference, torch, numba, triton, mamba_ssm)
and one rule that chooses among them."""

from __future__ import annotations

from mambabench.models.scan.backends import (
    BACKENDS,
    BackendStatus,
    Request,
    choose_backend,
    describe_backends,
)
from mambabench.models.scan.functions import (
    Direction,
    causal_conv1d,
    selective_scan,
    selective_scan_bidirectional,
)
from mambabench.models.scan.twins import (
    bimamba_inner_fn,
    causal_conv1d_fn,
    mamba_inner_fn,
    mamba_inner_fn_no_out_proj,
    selective_scan_fn,
)

__all__ = [
    "BACKENDS",
    "BackendStatus",
    "Direction",
    "Request",
    "bimamba_inner_fn",
    "causal_conv1d",
    "causal_conv1d_fn",
    "choose_backend",
    "describe_backends",
    "mamba_inner_fn",
    "mamba_inner_fn_no_out_proj",
    "selective_scan",
    "selective_scan_bidirectional",
    "selective_scan_fn",
]
