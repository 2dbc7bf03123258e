"""Checkpoints as training scripts save them: compiled, parallel, numbers beside weights."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mambabench.errors import EncoderError
from mambabench.models.weights.checkpoint import read_checkpoint
from mambabench.models.weights.torch_files import save_torch

STATE = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2), "head.weight": torch.eye(2)}
PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "_orig_mod._orig_mod.",
]


def saved(folder: Path, content: Any) -> Path:
    path = folder / "x.pth"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off(tmp_path: Path, prefix: str, wrapper: str | None) -> None:
    state = OrderedDict((prefix + key, value) for key, value in STATE.items())
    found = read_checkpoint(saved(tmp_path, {wrapper: state, "epoch": 3} if wrapper else state))
    assert list(found.state) == list(STATE)
    assert found.prefix == prefix


def test_prefixes_of_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"_orig_mod." + key: v for key, v in STATE.items()}, tmp_path / "x.safetensors")
    assert set(read_checkpoint(tmp_path / "x.safetensors").state) == set(STATE)


@pytest.mark.parametrize("outer", ["", "module."])
def test_models_of_which_parts_were_compiled(tmp_path: Path, outer: str) -> None:
    state = {
        outer + key.replace("a.", "a._orig_mod."): value
        for key, value in STATE.items()
    }  # fmt: skip
    assert set(read_checkpoint(saved(tmp_path, state)).state) == set(STATE)
    with pytest.raises(EncoderError, match="holds weights twice, compiled and not"):
        read_checkpoint(saved(tmp_path, {**state, outer + "a.weight": torch.zeros(2, 3)}))


NUMBERS = [np.float64(0.5), np.float32(0.5), np.float16(0.5), np.int64(3), np.int32(3), np.bool_(1)]


@pytest.mark.parametrize("number", NUMBERS, ids=[type(n).__name__ for n in NUMBERS])
def test_numpy_numbers_beside_the_weights(tmp_path: Path, number: Any) -> None:
    found = read_checkpoint(saved(tmp_path, {"model": STATE, "best": number}))
    assert (list(found.state), found.extra) == (list(STATE), ("best",))


class Anything:
    """An object of code that is not ours."""


@pytest.mark.parametrize("value", [Anything(), np.zeros(3), np.array([None])])
def test_other_objects_are_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(EncoderError, match="only tensors and plain settings are read"):
        read_checkpoint(saved(tmp_path, {"model": STATE, "best": value}))


@pytest.mark.parametrize("at", range(1, 6))
def test_an_interrupt_while_torch_writes_stays_an_interrupt(at: int) -> None:
    class Interrupted(io.BytesIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == at:
                raise KeyboardInterrupt
            return super().write(data)

    with pytest.raises(KeyboardInterrupt):
        save_torch({"a": torch.ones(300)}, Interrupted())


def test_other_errors_while_torch_writes_are_as_they_were() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises((OSError, RuntimeError)):
        save_torch({"a": torch.ones(300)}, Full())
