"""Check a HEAR provider strictly: what the published validator checks, and what breaks scores.

Source of the API rules: HEAR 2021, "Common API"; of the lengths 1.07, 1.98, 4.0 and 2.74 s: the
published hear-validator, whose every error is an error here too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.errors import EncoderError
from mambabench.hear_api.check_calls import Outcome, Status
from mambabench.hear_api.provider import (
    Provider,
    ProviderNotFound,
    check_attributes,
    import_provider,
    protected,
)

if TYPE_CHECKING:
    import torch

    from mambabench.hear_api.check_calls import Subject

__all__ = ["Check", "CheckReport", "check"]

SCHEMA = "mambabench.check/1"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
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
    progress: Callable[[str], None] | None = None,
) -> CheckReport:
    """Check the provider `encoder` (registered name, dotted module or ``.py`` file, ``@PATH`` for
    a checkpoint) and return what was found; `long_s` is the length of the long clip in seconds.

    Raises EncoderError where there is no such provider; every other fault is in the report.
    """
    from mambabench.hear_api.check_calls import CHECKS, Subject
    from mambabench.models.registry import resolve_device

    device = resolve_device(device)
    checks: list[Check] = []

    def run(title: str, step: Callable[[], Outcome]) -> bool:
        if progress is not None:
            progress(title)
        try:
            outcome = step()
        except ProviderNotFound:
            raise
        except EncoderError as error:
            outcome = Outcome("fail", str(error))
        checks.append(Check(title, outcome.status, outcome.value, outcome.limit, outcome.message))
        return outcome.status != "fail"

    opened = _Opening(encoder, device)
    subject: Subject | None = None
    # a model in training mode is put into evaluation mode, and the later checks can run
    if all(run(title, step) or title == "eval mode" for title, step in opened.steps().items()):
        subject = Subject(opened.provider, opened.model, device, long_s)
    for title, step in CHECKS.items():
        if subject is None:
            checks.append(Check(title, "not run", None, None, "the model could not be loaded"))
        else:
            run(title, lambda step=step, subject=subject: step(subject))  # type: ignore[misc]
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
    """The checks up to a loaded model, which the later ones need."""

    provider: Provider
    model: torch.nn.Module

    def __init__(self, encoder: str, device: str) -> None:
        self._encoder, self._device = encoder, device

    def steps(self) -> dict[str, Callable[[], Outcome]]:
        return {
            "import": self._import,
            "load_model": self._load,
            "attributes": self._attributes,
            "eval mode": self._eval_mode,
        }

    def _import(self) -> Outcome:
        self.provider, self._checkpoint = _provider_of(self._encoder, self._device)
        return Outcome("pass", "the module has the three functions")

    def _load(self) -> Outcome:
        import torch

        provider = self.provider
        arguments = (self._checkpoint,) if self._checkpoint else ()
        with protected(provider.name, "loading its model", provider.folder):
            model = provider.load_model(*arguments)
        if not isinstance(model, torch.nn.Module):
            return Outcome(
                "fail", f"load_model returned {type(model).__name__}, not a torch.nn.Module"
            )
        self.model = model.to(self._device)
        return Outcome("pass", _weights(model))

    def _attributes(self) -> Outcome:
        check_attributes(self.provider.name, self.model)
        m = self.model
        return Outcome(
            "pass",
            f"{m.sample_rate} Hz, scene {m.scene_embedding_size}, "
            f"timestamp {m.timestamp_embedding_size}",
        )

    def _eval_mode(self) -> Outcome:
        from mambabench.hear_api.check_calls import training_parts

        parts = training_parts(self.model)
        self.model.eval()  # the later checks look for other faults
        if parts:
            return Outcome(
                "fail",
                f"load_model returned {parts} in training mode, and the published kit never calls "
                "eval(): call model.eval() before returning the model",
            )
        return Outcome("pass", "every module is in evaluation mode")


def _weights(model: torch.nn.Module) -> str:
    """Say how many parameters the model has, and how large the files that hold others are."""
    shown = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    model = getattr(getattr(model, "encoder", None), "model", model)  # one of ours: what is inside
    files = [Path(path) for path in getattr(model, "weights_files", ())]
    size = sum(path.stat().st_size for path in files if path.is_file())
    return f"{shown}; {size / 1e6:.1f} MB of weights files" if files else shown


def _provider_of(encoder: str, device: str) -> tuple[Provider, str]:
    """Return the provider module `encoder` and its checkpoint; for a registered encoder the HEAR
    functions that its own provider module has."""
    from mambabench.models.registry import find_entry, is_registered, load_encoder, split_name

    name, options, path = split_name(encoder)
    checkpoint = str(path) if path else ""
    if not is_registered(name):
        if options:
            raise ProviderNotFound(f"no encoder named {name!r} to take the options {options}")
        return import_provider(name), checkpoint
    from mambabench.hear_api.factory import HearModel, provider

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
