"""Check a HEAR provider strictly: what the published validator checks, and what breaks scores.

Source of the API rules: HEAR 2021, "Common API"; of the lengths 1.07, 1.98, 4.0 and 2.74 s: the
published hear-validator, whose every error is an error here too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mambabench.errors import EncoderError
from mambabench.hear_api.check_calls import CHECKS
from mambabench.hear_api.check_subject import Outcome, Subject, Verdict
from mambabench.hear_api.factory import HearModel, provider
from mambabench.hear_api.fence import fenced
from mambabench.hear_api.graph_sizes import GRAPHS, n_weights
from mambabench.hear_api.other_python import remote_provider
from mambabench.hear_api.provider import (
    FUNCTIONS,
    Provider,
    ProviderNotFound,
    check_attributes,
    foreign_code,
    import_provider,
    in_evaluation,
    lacking,
    load_as_it_is,
    missing_function,
    on_device,
    read_number,
    training_parts,
)
from mambabench.models.registry import (
    find_entry,
    in_python,
    is_registered,
    load_encoder,
    resolve_device,
    split_name,
)

__all__ = ["Check", "CheckReport", "check"]

SCHEMA = "mambabench.check/1"
# checks that call one of the two embedding functions only
_ONE_FUNCTION = {
    "scene shape": ("get_scene_embeddings",),
    "timestamp shape": ("get_timestamp_embeddings",),
    "timestamps": ("get_timestamp_embeddings",),
}


class _NotRun(Exception):  # noqa: N818 - it names what happened
    """A check has nothing to look at."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Verdict
    value: float | None  # what was measured, where it is a number
    limit: float | None  # what it may be at most
    message: str  # what was found, and for a failure how to fix it


@dataclass(frozen=True)
class CheckReport:
    """What `check` found about one provider."""

    encoder: str
    device: str
    sample_rate_hz: int | None  # None where the model could not be loaded, as the next three
    scene_embedding_size: int | None
    timestamp_embedding_size: int | None
    hop_ms: float | None
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Say whether nothing failed and everything ran; warnings do not count."""
        return all(c.status in ("pass", "warn") for c in self.checks)

    def to_json(self) -> dict[str, Any]:
        """Return the report under the documented keys of ``check --json``."""
        return {"schema": SCHEMA, "passed": self.passed, **asdict(self)}


def check(
    encoder: str,
    *,
    device: str = "auto",
    long_s: float = 60.0,
    python: Path | str | None = None,
    progress: Callable[[str], None] | None = None,
    on_error: Callable[[EncoderError], None] | None = None,
) -> CheckReport:
    """Check the provider `encoder` (registered name, dotted module or ``.py`` file, ``@PATH`` for
    a checkpoint) and return what was found; `long_s` is the length of the long clip in seconds,
    `python` the interpreter in which a ``.py`` file runs.

    Every check that still can run does, whatever failed before it; `on_error` is called with each
    error of the provider. Raises EncoderError where there is no such provider; every other fault is
    in the report.
    """

    encoder = encoder if python is None else in_python([encoder], Path(python))[0]
    device = resolve_device(device)
    checks: list[Check] = []

    def run(title: str, step: Callable[[], Outcome]) -> None:
        if progress is not None:
            progress(title)
        try:
            outcome = step()
        except ProviderNotFound:
            raise
        except _NotRun as reason:
            outcome = Outcome("not run", str(reason))
        except EncoderError as error:
            outcome = Outcome("fail", str(error))
            if on_error is not None:
                on_error(error)
        checks.append(Check(title, outcome.status, outcome.value, outcome.limit, outcome.message))

    with fenced():
        opened = _Opening(encoder, device)
        for title, step in opened.steps().items():
            run(title, step)
        subject = opened.subject(long_s)
        for title, call in CHECKS.items():
            missing = opened.lacks(title) if subject else opened.missing
            if subject is None or missing:
                checks.append(Check(title, "not run", None, None, missing))
            else:
                run(title, lambda call=call, subject=subject: call(subject))  # type: ignore[misc]
    return CheckReport(
        encoder=encoder,
        device=device,
        sample_rate_hz=subject.sample_rate_hz if subject else None,
        scene_embedding_size=subject.scene_size if subject else None,
        timestamp_embedding_size=subject.timestamp_size if subject else None,
        hop_ms=subject.hop_ms if subject else None,
        checks=tuple(checks),
    )


class _Opening:
    """The checks up to a loaded model, and what the later ones need of it."""

    def __init__(self, encoder: str, device: str) -> None:
        self._encoder, self._device = encoder, device
        self._provider: Provider | None = None
        self._model: Any = None
        self._functions: set[str] = set(FUNCTIONS)
        self.missing = "the model could not be loaded"  # why there is no subject

    def steps(self) -> dict[str, Callable[[], Outcome]]:
        return {
            "import": self._import,
            "load_model": self._load,
            "attributes": self._attributes,
            "eval mode": self._eval_mode,
        }

    def subject(self, long_s: float) -> Subject | None:
        """Return what the calls are made with; None without a model or its sample rate."""

        if self._provider is None or self._model is None:
            return None
        sizes = [self._number(f"{what}_embedding_size") for what in ("scene", "timestamp")]
        rate = self._number("sample_rate")
        if rate is None:
            self.missing = "model.sample_rate is no positive int, so no audio can be made for it"
            return None
        return Subject(
            self._provider,
            self._model,
            self._device,
            long_s,
            sample_rate_hz=rate,
            scene_size=sizes[0],
            timestamp_size=sizes[1],
        )

    def lacks(self, title: str) -> str:
        """Return why a check cannot run though there is a model, or ``""``."""
        needed = _ONE_FUNCTION.get(title, FUNCTIONS[1:])
        absent = [name for name in needed if name not in self._functions]
        return f"the module has no {absent[0]}" if absent else ""

    def _number(self, attribute: str) -> int | None:
        assert self._provider is not None
        with contextlib.suppress(EncoderError):
            return read_number(self._provider.name, self._model, attribute)
        return None

    def _import(self) -> Outcome:
        self._provider, self._checkpoint = _provider_of(self._encoder, self._device)
        absent = [name for name in FUNCTIONS if getattr(self._provider, name) is missing_function]
        self._functions -= set(absent)
        if absent:
            return Outcome("fail", str(lacking(self._provider.name, absent, self._provider.near)))
        return Outcome("pass", "the module has the three functions")

    def _load(self) -> Outcome:
        provider = self._loaded("the module could not be imported")
        if "load_model" not in self._functions:
            return Outcome("not run", "the module has no load_model")
        self._model = on_device(
            provider, load_as_it_is(provider, self._checkpoint or None), self._device
        )
        import torch
        from torch.nn.parameter import is_lazy

        if not isinstance(self._model, torch.nn.Module):
            return Outcome("pass", f"a {type(self._model).__name__}, no torch.nn.Module")
        with foreign_code(provider.name, "its model's parameters were counted", provider.folder):
            n = sum(p.numel() for p in self._model.parameters() if not is_lazy(p))
        return Outcome("pass", _size(self._model, n))

    def _loaded(self, otherwise: str) -> Provider:
        if self._provider is None:
            raise _NotRun(otherwise)
        return self._provider

    def _attributes(self) -> Outcome:
        provider = self._loaded(self.missing)
        if self._model is None:
            raise _NotRun(self.missing)
        check_attributes(provider.name, self._model)
        m = self._model
        return Outcome(
            "pass",
            f"{m.sample_rate} Hz, scene {m.scene_embedding_size}, "
            f"timestamp {m.timestamp_embedding_size}",
        )

    def _eval_mode(self) -> Outcome:
        provider = self._loaded(self.missing)
        if self._model is None:
            raise _NotRun(self.missing)
        with foreign_code(provider.name, "its model's modules were listed", provider.folder):
            parts = training_parts(self._model)
        self._model = in_evaluation(provider, self._model)  # later checks look for other faults
        if parts:
            return Outcome(
                "fail",
                f"load_model returned {parts} in training mode, and the published kit never calls "
                "eval(): call model.eval() before returning the model",
            )
        return Outcome("pass", "every module is in evaluation mode")


def _size(model: Any, n_in_torch: int) -> str:
    """Say how many parameters there are, and how large the files that hold some outside torch."""
    model = getattr(getattr(model, "encoder", None), "model", model)  # one of ours: what is inside
    files = [Path(path) for path in getattr(model, "weights_files", ())]
    if not files:
        return f"{n_in_torch:,} parameters"
    files = [path for path in files if path.is_file()]
    own = [n_weights(path) for path in files if path.suffix in GRAPHS]
    known = n_in_torch + sum(n or 0 for n in own)
    shown = f"{known:,} parameters" if known and None not in own else "number of parameters unknown"
    size = sum(path.stat().st_size for path in files)
    return f"{shown}; {size / 1e6:.1f} MB of weights files"


def _provider_of(encoder: str, device: str) -> tuple[Provider, str]:
    """Return the provider module `encoder` and its checkpoint; for a registered encoder the HEAR
    functions that its own provider module has."""

    name, options, path = split_name(encoder)
    checkpoint = str(path) if path else ""
    if not is_registered(name):
        if set(options) == {"python"}:
            return remote_provider(name, str(options["python"]), path)[0], checkpoint
        if options:
            raise ProviderNotFound(f"no encoder named {name!r} to take the options {options}")
        return import_provider(name, whole=False), checkpoint

    functions = provider(find_entry(name).name)

    def load_model(model_file_path: str = "") -> HearModel:
        return HearModel(load_encoder(name, model_file_path or None, device, None, **options))

    return Provider(
        name,
        None,
        load_model,
        functions.get_scene_embeddings,
        functions.get_timestamp_embeddings,
    ), checkpoint
