"""Evaluate an encoder that is an object in memory, as inside a training loop."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from mambabench.benchmarks import find_directories
from mambabench.benchmarks.demo import generate
from mambabench.benchmarks.subset import subset_task
from mambabench.errors import DataError, EncoderError
from mambabench.extract.verb import extract
from mambabench.hear_api.adapters import check_scene, check_timestamps, only_output
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import EncoderEntry
from mambabench.models.registry import encoder_entries, is_registered
from mambabench.models.weights.identity import fixed_signal, identity, weights_hash
from mambabench.probe.verb import probe
from mambabench.report.results import load_results

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from mambabench.models.encoder import LoadedEncoder
    from mambabench.models.entry import EncoderEntry, LoadRequest

__all__ = ["evaluate_encoder"]

SceneOfObject = Callable[["torch.Tensor"], "torch.Tensor"]
TimestampsOfObject = Callable[["torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
_ATTRIBUTES = ("sample_rate", "scene_embedding_size", "timestamp_embedding_size")
_METHODS = ("get_scene_embeddings", "get_timestamp_embeddings")
_loaded: dict[str, LoadedEncoder] = {}  # while they are evaluated


class _Parts(NamedTuple):
    """What is called, and the network behind it."""

    network: torch.nn.Module
    scene: SceneOfObject
    timestamps: TimestampsOfObject | None
    sizes: Mapping[str, int | None]  # HEAR's three attributes; None: to be measured


def evaluate_encoder(
    model: Any,
    tasks: str | Path | Sequence[str | Path] = "demo",
    *,
    scene: SceneOfObject | None = None,
    timestamps: TimestampsOfObject | None = None,
    sample_rate: int | None = None,
    scene_embedding_size: int | None = None,
    timestamp_embedding_size: int | None = None,
    protocol: str | None = "sound",
    seeds: int = 3,
    max_clips: int | None = None,
    name: str = "in-memory",
    out: Path | str | None = None,
) -> pd.DataFrame:
    """Embed `tasks` with `model`, probe, and return one row per task, seed and fold.

    `model` is a HEAR module; or an object with HEAR's three attributes and its two functions as
    methods of the audio; or a torch module, with `scene` (float32 [n, n_samples] to [n, size]) and
    `timestamps` (to [n, n_frames, size] and milliseconds [n, n_frames]; tasks of events need it).
    Sizes that are not given are measured. It runs on its own device, in evaluation mode, and is
    left as it was: mode, gradients, and the random state of torch, numpy and Python. That holds for
    the networks that are attributes of the object, or stand there in a list, tuple or dict; what
    only a closure or a deeper container holds is not seen, nor part of the identity.

    `tasks` is "demo", or folders as of ``--tasks``. `max_clips` a split make limited tasks,
    ``TASK.max<N>``, which reports keep apart. The encoder is called `name` and eight digits of its
    identity, which is of its weights and behaviour: the next checkpoint is another encoder, and the
    same one is not embedded twice below `out` (without it, a folder that lasts as long as the
    process). The columns are those of `load_results`. Raises EncoderError, DataError or
    ProtocolError.
    """
    with ExitStack() as stack:
        parts = _parts(model, scene, timestamps)
        given = (sample_rate, scene_embedding_size, timestamp_embedding_size)
        sizes = {k: parts.sizes[k] if v is None else v for k, v in zip(_ATTRIBUTES, given)}  # noqa: B905
        stack.enter_context(_left_as_it_was(parts.network))
        encoder = _encoder(parts._replace(sizes=sizes), name)
        stack.enter_context(_registered(encoder))
        return _run(encoder, tasks, protocol, seeds, max_clips, Path(out or _own_folder()))


def _run(
    encoder: LoadedEncoder,
    tasks: str | Path | Sequence[str | Path],
    protocol: str | None,
    seeds: int,
    max_clips: int | None,
    out: Path,
) -> pd.DataFrame:

    folders = _folders(tasks, max_clips, out)
    kind = encoder.device.partition(":")[0]
    done = extract([encoder.name], folders, out=out, device=kind, jobs=1)
    incomplete = [outcome for outcome in done.outcomes if outcome.state == "incomplete"]
    if incomplete:
        first = incomplete[0]
        clip, reason = next(iter(first.missing.items()))
        raise EncoderError(
            f"{len(first.missing)} clips of {first.task} could not be embedded; {clip}: {reason}"
        )
    names = [outcome.task for outcome in done.outcomes]
    probed = probe(seeds, protocol, out=out, task=names, encoder=[encoder.label], device="cpu")
    if probed.failures:
        raise EncoderError(f"{probed.failures[0].task}: {probed.failures[0].reason}")
    frame = load_results(out)
    mine = (frame["encoder"] == encoder.label) & frame["task"].isin(names)
    if protocol is not None:
        mine &= frame["protocol"] == protocol
    return frame[mine & (frame["seed"] < seeds)].reset_index(drop=True)


def _folders(
    tasks: str | Path | Sequence[str | Path], max_clips: int | None, out: Path
) -> list[Path]:

    if isinstance(tasks, str) and tasks == "demo":
        folders = list(generate(out / "tasks"))
    else:
        listed = [tasks] if isinstance(tasks, str | Path) else list(tasks)
        if not listed:
            raise DataError("no tasks: give 'demo' or folders of tasks")
        folders = list(find_directories([Path(one) for one in listed]))
    if max_clips is None:
        return folders
    return [subset_task(folder, out / "tasks-in-part", max_clips) for folder in folders]


@lru_cache(maxsize=1)
def _folder_object() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="mambabench-in-memory-")


def _own_folder() -> str:
    """Return a folder that is removed when the process ends."""
    return _folder_object().name


def _parts(
    model: Any, scene: SceneOfObject | None, timestamps: TimestampsOfObject | None
) -> _Parts:
    """Return what to call, whatever kind of object `model` is; EncoderError for another."""
    import torch

    if isinstance(model, ModuleType):
        network = _of_module(model)
        held = _network_of(network)
        one, two = (getattr(model, method) for method in _METHODS)
        return _Parts(held, lambda a: one(a, network), lambda a: two(a, network), _sizes(network))
    if scene is None and all(callable(getattr(model, method, None)) for method in _METHODS):
        one, two = model.get_scene_embeddings, model.get_timestamp_embeddings
        return _Parts(_network_of(model), one, two, _sizes(model))
    if isinstance(model, torch.nn.Module) and scene is not None:
        return _Parts(_network_of(model), scene, timestamps, _sizes(model))
    raise EncoderError(
        f"cannot evaluate {type(model).__name__}: give a HEAR module, an object with "
        f"{', '.join((*_ATTRIBUTES, *_METHODS))}, or a torch.nn.Module with scene="
    )


def _of_module(module: ModuleType) -> torch.nn.Module:
    import torch

    missing = [f for f in ("load_model", *_METHODS) if not callable(getattr(module, f, None))]
    if missing:
        raise EncoderError(f"the module {module.__name__} lacks {', '.join(missing)}")
    network = module.load_model()
    if not isinstance(network, torch.nn.Module):
        raise EncoderError(f"load_model of {module.__name__} returned {type(network).__name__}")
    return network


def _network_of(model: Any) -> torch.nn.Module:
    """Gather the torch modules that an object is or holds: their weights count, modes are kept."""
    import torch

    known = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    held = known[:1]
    for value in vars(model).values():
        inside = value.values() if isinstance(value, dict) else value
        ones = inside if isinstance(value, dict | list | tuple) else [value]
        held += [x for x in ones if isinstance(x, torch.nn.Module) and x not in known]
    return held[0] if known and len(held) == 1 else torch.nn.ModuleList(held)


def _sizes(model: Any) -> dict[str, int | None]:
    return {name: getattr(model, name, None) for name in _ATTRIBUTES}


def _encoder(parts: _Parts, name: str) -> LoadedEncoder:
    """Return the object as an encoder with its identity; sizes not given are measured."""

    if is_registered(name):
        raise EncoderError(f"{name!r} is the name of a registered encoder: choose another name=")
    rate = parts.sizes["sample_rate"]
    if not rate:
        raise EncoderError("the model has no sample_rate: give sample_rate=, in Hz")
    device = _device(parts.network)
    signal = fixed_signal(rate).to(device)
    width = parts.sizes["scene_embedding_size"] or int(parts.scene(signal).shape[-1])
    frame_width = parts.sizes["timestamp_embedding_size"] or (
        int(parts.timestamps(signal)[0].shape[-1]) if parts.timestamps else width
    )

    def scene(audio: torch.Tensor, layers: tuple[int, ...] | None) -> torch.Tensor:
        only_output(name, layers)
        result = parts.scene(audio)
        check_scene(name, result, len(audio), width)
        return result.float()[:, None]

    def frames(
        audio: torch.Tensor, layers: tuple[int, ...] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        only_output(name, layers)
        if parts.timestamps is None:
            raise EncoderError(f"{name} has no timestamps= function, which tasks of events need")
        result = parts.timestamps(audio)
        check_timestamps(name, result, len(audio), frame_width)
        return result[0].float()[:, :, None], result[1].float()

    state = parts.network.state_dict()
    found = identity(
        weights_hash(state), {"kind": "in memory"}, lambda a: scene(a, None), rate, device
    )
    return LoadedEncoder(
        name=name,
        label=f"{name}-{found[:8]}",
        identity=found,
        model=parts.network,
        device=device,
        sample_rate_hz=rate,
        scene_embedding_size=width,
        timestamp_embedding_size=frame_width,
        n_hidden_states=1,
        scene=scene,
        timestamps=frames,
        configuration={"kind": "in memory", "sample_rate_hz": rate},
    )


def _device(network: torch.nn.Module) -> str:
    for tensor in (*network.parameters(), *network.buffers()):
        return str(tensor.device)
    return "cpu"


@contextmanager
def _registered(encoder: LoadedEncoder) -> Iterator[None]:
    """Let `load_encoder` find the object by its name meanwhile."""

    entries: Any = encoder_entries()
    _loaded[encoder.name] = encoder
    entries[encoder.name] = EncoderEntry(
        name=encoder.name,
        family="in memory",
        loader="mambabench.in_memory:load",
        scene_embedding_size=encoder.scene_embedding_size,
        timestamp_embedding_size=encoder.timestamp_embedding_size,
        published=False,
    )
    try:
        yield
    finally:
        del entries[encoder.name]
        del _loaded[encoder.name]


def load(entry: EncoderEntry, request: LoadRequest) -> LoadedEncoder:
    """Return the object that is being evaluated under the entry's name."""
    return replace(_loaded[entry.name], name=request.name)


@contextmanager
def _left_as_it_was(network: torch.nn.Module) -> Iterator[None]:
    """Run in evaluation mode without gradients; give mode and random states back afterwards."""
    import numpy as np
    import torch

    modes = [(module, module.training) for module in network.modules()]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    with (
        torch.random.fork_rng(devices=_cuda_devices(network)),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        network.eval()
        try:
            with _no_gradients(network):
                yield
        finally:
            for module, training in modes:
                module.training = training
            np.random.set_state(numpy_state)
            random.setstate(python_state)


def _cuda_devices(network: torch.nn.Module) -> list[int]:
    """Return the devices whose random states may change: the current one, and all of the model."""
    import torch

    current = {torch.cuda.current_device()} if torch.cuda.is_initialized() else set()  # type: ignore[no-untyped-call]
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    return sorted(current | {d.index for d in devices if d.type == "cuda"})


@contextmanager
def _no_gradients(network: torch.nn.Module) -> Iterator[None]:
    """Keep the network's parameters out of graphs; the probe's heads have theirs."""
    wanted = [p for p in network.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
