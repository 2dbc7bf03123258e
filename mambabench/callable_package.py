"""Let a package be called like the verb that it is named after: ``mambabench.extract(...)``.

The folders of the pipeline carry the names of its verbs, and so do their Python twins. A package
calls `make_callable(__name__, "module:function")` at its end; importing stays cheap, because the
function is imported at the first call.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["make_callable"]


class _Verb(ModuleType):
    """A package that forwards calls to its verb function."""

    _verb: str

    def _function(self) -> Any:
        module, _, name = self._verb.partition(":")
        return getattr(import_module(module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function()(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function())


def make_callable(package: str, function: str) -> None:
    """Make the imported module `package` callable; `function` is "module:name"."""
    module = sys.modules[package]
    module.__class__ = _Verb
    module._verb = function  # type: ignore[attr-defined]
