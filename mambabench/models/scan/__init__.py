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

__all__ = [
    "BACKENDS",
    "BackendStatus",
    "Direction",
    "Request",
    "causal_conv1d",
    "choose_backend",
    "describe_backends",
    "selective_scan",
    "selective_scan_bidirectional",
]
