"""Which head trains where."""

from __future__ import annotations

from mambabench.probe.heads.compiled import CompiledHead
from mambabench.probe.heads.exact import ExactHead, exact_head
from mambabench.probe.heads.parameters import HeadParameters
from mambabench.probe.heads.plain import TorchHead
from mambabench.probe.heads.streams import TrialStreams
from mambabench.probe.heads.with_numba import numba_available
from mambabench.probe.protocols import HeadConfig

__all__ = ["make_head"]


def make_head(
    config: HeadConfig, start: HeadParameters, streams: TrialStreams, compiled: bool | None = None
) -> CompiledHead | ExactHead | TorchHead:
    """Return the fastest head that can run here on a CPU (`compiled` forces one kind).

    The exact stream is for comparing with the kit fit by fit and takes a head that rounds as it.
    """
    if streams.exact and compiled is None:
        return exact_head(config, start, streams)
    if numba_available() if compiled is None else compiled:
        return CompiledHead(config, start, streams)
    return TorchHead(config, start, streams)
