"""The torch backend: the chunked recurrence and torch's own depthwise convolution."""

from __future__ import annotations

from mambabench.models.scan.reference import causal_conv as conv
from mambabench.models.scan.reference import scan_chunked as scan

__all__ = ["conv", "scan"]
