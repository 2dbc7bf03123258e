"""Write torch's own files."""

from __future__ import annotations

from typing import BinaryIO

import torch

__all__ = ["save_torch"]


def save_torch(content: object, file: BinaryIO) -> None:
    """Write `content` as torch.save does.

    An interrupt that comes in the middle is raised as such: torch's writer, which cannot close a
    half-written archive, would raise a RuntimeError in its place.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
