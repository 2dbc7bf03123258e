"""Run a HEAR module in another interpreter, for packages that cannot live beside ours.

The interpreter needs numpy and what the module imports, nothing of this package. Arrays go over
pipes, float32 as they are, so that its embeddings are those of the module in this process wherever
it works in both. An interpreter that dies is started again, and the call that it died on is given
once more.
"""

from __future__ import annotations

import json
import os
import subprocess
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import EncoderError
from mambabench.hear_api import serve_provider
from mambabench.hear_api.provider import Provider
from mambabench.hear_api.serve_provider import read_message, write_message

if TYPE_CHECKING:
    import torch

__all__ = ["RemoteModel", "remote_provider"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_OURS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")  # they would lead it to our packages
_ATTEMPTS = 2  # of a call whose interpreter dies


class RemoteModel:
    """A model in another interpreter, with the attributes that HEAR asks of a model.

    Raises EncoderError where the interpreter cannot be started or the module cannot be loaded.
    """

    def __init__(self, python: Path, file: Path, checkpoint: str) -> None:
        self._command = [str(python), "-c", _program()]
        self._python, self._file, self._checkpoint = python, file, checkpoint
        self._start()
        self.sample_rate = self.about["numbers"]["sample_rate"]
        self.scene_embedding_size = self.about["numbers"]["scene_embedding_size"]
        self.timestamp_embedding_size = self.about["numbers"]["timestamp_embedding_size"]
        self.weights_files = tuple(map(Path, self.about["weights_files"]))

    @property
    def pid(self) -> int:
        """The process that embeds now."""
        return self._process.pid

    def call(self, function: str, audio: torch.Tensor) -> list[torch.Tensor]:
        """Return what the module's `function` makes of float32 [n_clips, n_samples], as tensors.

        Raises EncoderError with the module's own fault, or where the interpreter dies twice.
        """
        import torch

        samples = audio.detach().cpu().numpy()
        for attempt in range(_ATTEMPTS):
            answer = self._ask({"function": function}, [samples])
            if answer is not None:
                return [torch.from_numpy(array.copy()) for array in answer[1]]
            code = self._process.wait()
            if attempt + 1 < _ATTEMPTS:
                self._start()
        raise EncoderError(
            f"the interpreter of --python {self._python} ended with {_ending(code)} on each of "
            f"{_ATTEMPTS} calls of {function}"
        )

    def _start(self) -> None:
        kept = {k: v for k, v in os.environ.items() if k not in _OURS}
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**kept, **dict.fromkeys(_THREADS, "1")},
            )
        except OSError as error:
            raise EncoderError(
                f"--python {self._python} cannot be started: {error.strerror or error}; give the "
                "path of a Python interpreter"
            ) from error
        self._end = weakref.finalize(self, _close, self._process)
        asked = {"path": str(self._file), "checkpoint": self._checkpoint}
        answer = self._ask(asked, [])
        if answer is None:
            raise EncoderError(
                f"--python {self._python} ended with {_ending(self._process.wait())} before it "
                f"had loaded {self._file}: it must be Python 3.7 or later with numpy"
            )
        about = answer[0]["about"]
        if getattr(self, "about", about) != about:
            raise EncoderError(
                f"{self._file} is not what it was when --python {self._python} was started first: "
                "its weights or packages changed meanwhile"
            )
        self.about: dict[str, Any] = about

    def _ask(self, message: dict[str, Any], arrays: list[Any]) -> Any:
        """Return the answer with its arrays, None where the interpreter has ended."""
        pipes = self._process.stdin, self._process.stdout
        try:
            write_message(pipes[0], message, arrays)
            answer = read_message(pipes[1])
        except (BrokenPipeError, ConnectionResetError):
            return None
        if answer is not None and "error" in answer[0]:
            raised = EncoderError(f"provider {str(self._file)!r} raised {answer[0]['error']}")
            raised.traceback = answer[0]["traceback"]
            raise raised
        return answer


def remote_provider(
    name: str, python: str | Path, checkpoint: str | Path | None
) -> tuple[Provider, dict[str, str]]:
    """Return the HEAR module in the file `name` as a provider that runs in `python`, loaded, and
    what is recorded of that interpreter.

    Raises EncoderError where `name` is no file, or `python` cannot load it.
    """
    file = Path(name)
    if not (name.endswith(".py") and file.is_file()):
        raise EncoderError(f"--python runs a provider's .py file, and {name!r} is none")
    model = RemoteModel(Path(python), file.absolute(), str(checkpoint or ""))
    provider = Provider(
        name,
        file.absolute(),
        lambda *_: model,
        lambda audio, m: m.call("get_scene_embeddings", audio)[0],
        lambda audio, m: tuple(m.call("get_timestamp_embeddings", audio)),
    )
    about = model.about
    return provider, {"python": about["interpreter"], "python_weights": about["weights_sha256"]}


def _program() -> str:
    text = Path(serve_provider.__file__).read_text(encoding="utf-8")
    # the folder that it is called in is no place of packages
    return f"import sys; sys.path[:] = [p for p in sys.path if p]\nexec({json.dumps(text)})"


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, which ends the interpreter, and do not wait long for it."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        process.wait(timeout=2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
