"""Serve one HEAR module over pipes: the whole program that runs in another interpreter.

It is handed to that interpreter as text, so it imports nothing of this package, needs numpy alone
and keeps to what Python 3.7 understands. Each message is a line of JSON and, where the line says
so, arrays: ``{"arrays": [[dtype, shape], ...]}`` are followed by their bytes in C order.
"""

import hashlib
import importlib.util
import json
import os
import sys
import traceback
from typing import Any

import numpy as np


def read_message(file: Any) -> Any:
    """Return the next message and its arrays; None at the end of the stream."""
    line = file.readline()
    if not line:
        return None
    message = json.loads(line.decode("utf-8"))
    arrays = []
    for dtype, shape in message.pop("arrays", []):
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        data = file.read(size)
        if len(data) < size:
            return None
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return message, arrays


def write_message(file: Any, message: Any, arrays: Any = ()) -> None:
    """Write one message and its arrays."""
    plain = [np.ascontiguousarray(array) for array in arrays]
    described = [[array.dtype.str, list(array.shape)] for array in plain]
    file.write(json.dumps(dict(message, arrays=described)).encode("utf-8") + b"\n")
    for array in plain:
        file.write(array.tobytes())
    file.flush()


def _imported(path: str) -> Any:
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location("_provider", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["_provider"] = module
    spec.loader.exec_module(module)
    return module


def _number(value: Any) -> Any:
    return int(value) if hasattr(value, "__index__") else None  # refused by whoever asked


class _Served:
    """The module, its model, and how arrays are handed to it."""

    def __init__(self, path: str, checkpoint: Any) -> None:
        self.module = _imported(path)
        # a module that works with tensors has imported torch by now; another is given arrays
        self.torch = sys.modules.get("torch")
        if self.torch is not None:
            self.torch.set_num_threads(1)
        load = self.module.load_model
        self.model = load(checkpoint) if checkpoint else load()
        if callable(getattr(self.model, "eval", None)):
            self.model.eval()

    def about(self) -> Any:
        names = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
        numbers = {name: _number(getattr(self.model, name, None)) for name in names}
        files = [os.path.abspath(str(path)) for path in getattr(self.model, "weights_files", ())]
        version = ".".join(map(str, sys.version_info[:3]))
        return {
            "numbers": numbers,
            "weights_files": files,
            "weights_sha256": self._weights(),
            "interpreter": f"{sys.implementation.name} {version}, numpy {np.__version__}",
        }

    def _weights(self) -> str:
        digest = hashlib.sha256()
        state = self.model.state_dict() if callable(getattr(self.model, "state_dict", None)) else {}
        for key in sorted(state):
            value = state[key]
            if hasattr(value, "detach"):
                value = value.detach().cpu().numpy()
            array = np.ascontiguousarray(value)
            digest.update(f"{key}|{array.dtype.str}|{array.shape}|".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    def call(self, function: str, audio: Any) -> Any:
        given = audio.copy()
        if self.torch is not None:
            with self.torch.no_grad():
                found = getattr(self.module, function)(self.torch.from_numpy(given), self.model)
        else:
            found = getattr(self.module, function)(given, self.model)
        parts = found if isinstance(found, (tuple, list)) else [found]
        return [
            part.detach().cpu().numpy() if hasattr(part, "detach") else np.asarray(part)
            for part in parts
        ]


def main() -> None:
    """Load what the first message names, then answer calls until the pipe is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a provider prints must not get between the answers
    calls = sys.stdin.buffer
    served = None
    while True:
        read = read_message(calls)
        if read is None:
            return
        message, arrays = read
        try:
            if served is None:
                sys.argv = [message["path"]]
                served = _Served(message["path"], message["checkpoint"])
                write_message(answers, {"about": served.about()})
            else:
                write_message(answers, {}, served.call(message["function"], arrays[0]))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = " ".join(str(error).split())[:600]
            told = f"{type(error).__name__}: {said} ({last[0]}, line {last[1]})"
            write_message(answers, {"error": told, "traceback": traceback.format_exc()})


if __name__ == "__main__":
    main()
