"""Where the recipes and the published rows lie: in the installed package, or in a checkout."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["package_data"]

_IN_CHECKOUT = {"recipes": "recipes", "published": "results/published"}  # as setup.py maps them


def package_data(name: str) -> Path:
    """Return the folder "recipes" or "published"; the files of a checkout come first.

    Whether they are there is for the caller to see: a stripped installation may lack them.
    """
    package = Path(str(files("mambabench")))
    checkout = package.parent / _IN_CHECKOUT[name]
    return checkout if (package.parent / "pyproject.toml").is_file() else package / name
