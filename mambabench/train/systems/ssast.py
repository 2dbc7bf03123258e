"""SSAST as SSAM's authors train it: the same everything around transformer blocks."""

from __future__ import annotations

from mambabench.train.systems.ssam import make_system

__all__ = ["SYSTEM"]

SYSTEM = make_system("ssast", twin=True)
