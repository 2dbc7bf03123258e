"""The checks that call a provider's two embedding functions."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch

from mambabench.hear_api.check_subject import Outcome, Subject
from mambabench.hear_api.provider import training_parts

__all__ = ["CHECKS"]

BATCH_TOLERANCE = 1e-5  # max|a-b| / max|b|: alone, in a batch, in any order
REPEAT_TOLERANCE = 1e-6
REGULAR_MS = 1.0  # the published validator's tolerance on the hop
LONG_CLIP_S = 10.0  # above it, embedding the long clip is slow: a shorter one is advised
SHORTEST_LONG_S = 5.0
ADVISED_HOP_MS = 50.0  # HEAR: "we suggest a hop of 50 ms or less"


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return max|a-b| / max|b|; infinite where the shapes differ or a value is not finite."""
    if a.shape != b.shape:
        return float("inf")
    difference = float((a.double() - b.double()).abs().max())
    scale = float(b.double().abs().max())
    value = difference / scale if scale > 0 else difference
    return value if np.isfinite(value) else float("inf")


def _held(value: float, limit: float, good: str, bad: str) -> Outcome:
    ok = value <= limit
    return Outcome("pass" if ok else "fail", good if ok else bad, value, limit)


def _scene_shape(s: Subject) -> Outcome:
    with torch.no_grad():
        shape = list(s.scene(s.noise(4, 2.74)).shape)
    return Outcome("pass", f"4 clips of 2.74 s give {shape}")


def _timestamp_shape(s: Subject) -> Outcome:
    with torch.no_grad():
        counts = [s.timestamps(s.noise(2, d))[0].shape[1] for d in (1.07, 1.98, 4.0)]
    if min(counts) == 0:
        return Outcome("fail", f"frames for 1.07, 1.98 and 4.0 s: {counts}; at least one is needed")
    return Outcome("pass", f"frames for 1.07, 1.98 and 4.0 s: {counts}")


def _dtypes(s: Subject) -> Outcome:
    audio = s.noise(2, 1.5)
    with torch.no_grad():
        scene = s.raw_scene(audio)
        embeddings, times_ms = s.raw_timestamps(audio)
    dtypes = {
        "scene embeddings": scene.dtype,
        "timestamp embeddings": embeddings.dtype,
        "timestamps": times_ms.dtype,
    }
    wrong = [f"{name} are {dtype}" for name, dtype in dtypes.items() if dtype != torch.float32]
    if wrong:
        return Outcome("fail", "; ".join(wrong) + ": HEAR asks for torch.float32")
    return Outcome("pass", "all three outputs are float32")


def _device(s: Subject) -> Outcome:
    audio = s.noise(2, 1.5)
    with torch.no_grad():
        embeddings, times_ms = s.raw_timestamps(audio)
        found = {s.raw_scene(audio).device.type, embeddings.device.type, times_ms.device.type}
    if found != {audio.device.type}:
        return Outcome(
            "fail",
            f"audio lies on {audio.device.type}, outputs on {', '.join(sorted(found))}: "
            "return tensors on the device of the audio",
        )
    return Outcome("pass", f"outputs lie on {audio.device.type} like the audio")


def _gradient_free(s: Subject) -> Outcome:
    audio = s.noise(2, 1.5)
    with torch.enable_grad():
        outputs = {"scene": s.raw_scene(audio), "timestamp": s.raw_timestamps(audio)[0]}
    wrong = [name for name, tensor in outputs.items() if tensor.requires_grad]
    if wrong:
        return Outcome(
            "fail",
            f"{' and '.join(wrong)} embeddings carry gradients, so the memory of every call is "
            "kept: compute them under torch.no_grad()",
        )
    return Outcome("pass", "outputs carry no gradients")


def _stays_eval(s: Subject) -> Outcome:
    with torch.no_grad():
        s.scene(s.noise(2, 1.5))
        s.timestamps(s.noise(2, 1.5))
    parts = training_parts(s.model)
    s.to_evaluation()
    if parts:
        return Outcome("fail", f"an embedding call put {parts} into training mode: remove train()")
    return Outcome("pass", "embedding calls leave evaluation mode alone")


def _finite(s: Subject) -> Outcome:
    loud = s.noise(1, 2.0).sign()
    quiet = s.noise(1, 2.0) * 1e-4
    step = torch.ones_like(loud)
    return _all_finite(s, torch.cat([loud, quiet, step]), "full-scale, faint and constant clips")


def _silence(s: Subject) -> Outcome:
    return _all_finite(s, torch.zeros_like(s.noise(2, 1.5)), "silent clips")


def _all_finite(s: Subject, audio: torch.Tensor, what: str) -> Outcome:
    with torch.no_grad():
        outputs = (s.scene(audio), *s.timestamps(audio))
    n_bad = sum(int((~torch.isfinite(o)).sum()) for o in outputs)
    return _held(
        float(n_bad),
        0.0,
        f"no NaN and no infinity on {what}",
        f"{n_bad} NaN or infinite values on {what}: guard logarithms and divisions by a deviation",
    )


def _short(s: Subject) -> Outcome:
    audio = s.noise(2, 0.05)
    outcome = _all_finite(s, audio, "clips of 50 ms")
    with torch.no_grad():
        times_ms = s.timestamps(audio)[1]
    if times_ms.shape[1] == 0:
        return Outcome("fail", "a clip of 50 ms gives no frame: pad short clips")
    if float(times_ms.max()) > s.duration_ms(audio):
        return Outcome("fail", f"a clip of 50 ms has a timestamp at {float(times_ms.max()):.1f} ms")
    return outcome


def _deterministic(s: Subject) -> Outcome:
    first, other = s.clips(3, 1.5), s.clips(3, 1.5)
    with torch.no_grad():
        before = (s.scene(first), s.timestamps(first)[0])
        s.scene(other)  # something in between: a provider must not remember
        s.timestamps(other)
        after = (s.scene(first), s.timestamps(first)[0])
    value = max(relative_difference(a, b) for a, b in zip(before, after, strict=True))
    return _held(
        value,
        REPEAT_TOLERANCE,
        "the same clips give the same embeddings again",
        "the same clips give other embeddings the second time: look for dropout, dither, random "
        "crops or state kept between calls",
    )


def _input_unchanged(s: Subject) -> Outcome:
    audio = s.clips(3, 1.5)
    kept = audio.clone()
    with torch.no_grad():
        s.scene(audio)
        s.timestamps(audio)
    if not torch.equal(audio, kept):
        return Outcome("fail", "the audio tensor was changed in place: work on a copy")
    return Outcome("pass", "the audio tensor is left as it was")


def _alone(s: Subject) -> Outcome:
    audio = s.clips(5, 1.3)
    with torch.no_grad():
        scene, (frames, _) = s.scene(audio), s.timestamps(audio)
        singles = [(s.scene(c[None]), s.timestamps(c[None])[0]) for c in audio]
    differences = [
        max(relative_difference(a, scene[i : i + 1]), relative_difference(b, frames[i : i + 1]))
        for i, (a, b) in enumerate(singles)
    ]
    return _held(
        max(differences),
        BATCH_TOLERANCE,
        "a clip has the same embedding alone and in a batch",
        f"clip {int(np.argmax(differences))} has another embedding alone than in a batch: look for "
        "statistics over the batch or for padding to the longest",
    )


def _order(s: Subject) -> Outcome:
    audio = s.clips(5, 1.3)
    order = torch.tensor([3, 0, 4, 2, 1])
    with torch.no_grad():
        scene, (frames, _) = s.scene(audio), s.timestamps(audio)
        scene_moved, (frames_moved, _) = (
            s.scene(audio[order.to(s.device)]),
            s.timestamps(audio[order.to(s.device)]),
        )
    value = max(
        relative_difference(scene_moved, scene[order]),
        relative_difference(frames_moved, frames[order]),
    )
    return _held(
        value,
        BATCH_TOLERANCE,
        "the order of clips in a batch does not matter",
        "the order of clips in a batch changes their embeddings: a clip must not depend on its "
        "neighbours",
    )


def _regular(s: Subject) -> Outcome:
    audio = s.noise(2, 4.0)
    with torch.no_grad():
        times_ms = s.timestamps(audio)[1].double()
    fault = _fault_of_times(times_ms, s.duration_ms(audio))
    if fault is not None:
        return fault
    hop_ms = _hop(times_ms)
    s.hop_ms = hop_ms
    if hop_ms is not None and hop_ms > ADVISED_HOP_MS:
        return Outcome(
            "warn",
            f"hop {hop_ms:.1f} ms; HEAR suggests {ADVISED_HOP_MS:.0f} ms or less",
            hop_ms,
            ADVISED_HOP_MS,
        )
    return Outcome("pass", "one frame" if hop_ms is None else f"hop {hop_ms:.2f} ms", hop_ms)


def _hop(times_ms: torch.Tensor) -> float | None:
    return float(times_ms[0].diff().mean()) if times_ms.shape[1] > 1 else None


def _fault_of_times(times_ms: torch.Tensor, duration_ms: float) -> Outcome | None:
    """Return the failure where frames are not regular, centred in the clip and up to its end."""
    if times_ms.shape[1] == 0:
        return Outcome("fail", "there is no frame")
    if not bool(torch.isfinite(times_ms).all()):
        return Outcome("fail", "a timestamp is NaN or infinite")
    if times_ms.shape[0] > 1 and not torch.equal(times_ms[0], times_ms[1]):
        return Outcome("fail", "clips of one length have different timestamps")
    first, last = float(times_ms.min()), float(times_ms.max())
    if first < 0 or last > duration_ms:
        return Outcome(
            "fail",
            f"timestamps run from {first:.1f} to {last:.1f} in a clip of {duration_ms:.1f} ms: "
            "they are milliseconds, the centres of the frames",
        )
    hop_ms = _hop(times_ms)
    if hop_ms is None:
        return None
    steps = times_ms.diff(dim=1)
    uneven = float((steps - steps.mean()).abs().max())
    if uneven > REGULAR_MS:
        return Outcome("fail", "the hop is not regular", uneven, REGULAR_MS)
    if hop_ms <= 0:
        return Outcome("fail", f"the mean hop is {hop_ms:.2f} ms: timestamps must ascend")
    gap = max(first, duration_ms - last)
    if gap > 1.5 * hop_ms + REGULAR_MS and gap > ADVISED_HOP_MS:
        return Outcome(
            "fail",
            f"frames cover {first:.1f} to {last:.1f} ms of {duration_ms:.1f} ms: the first or the "
            "last frame is more than 1.5 hops from the clip's border",
            gap,
            1.5 * hop_ms,
        )
    return None


def _drift(s: Subject) -> Outcome:
    began = perf_counter()
    outcome = _drift_of_long_clip(s)
    advice = _shorter_clip(s.long_s, perf_counter() - began)
    return outcome._replace(message=outcome.message + advice)


def _shorter_clip(long_s: float, took_s: float) -> str:
    """Return which ``--long-s`` would be quick enough, ``""`` where this one is or none is."""
    shorter = max(SHORTEST_LONG_S, long_s * LONG_CLIP_S // took_s) if took_s else long_s
    if took_s <= LONG_CLIP_S or shorter >= long_s:
        return ""
    return f"; this took {took_s:.0f} s: --long-s {shorter:.0f} is quicker"


def _drift_of_long_clip(s: Subject) -> Outcome:
    audio = s.noise(1, s.long_s)
    with torch.no_grad():
        scene, (frames, times) = s.scene(audio), s.timestamps(audio)
    if not bool(torch.isfinite(scene).all() and torch.isfinite(frames).all()):
        return Outcome("fail", f"NaN or infinite values on {s.long_s:g} s of audio")
    times_ms = times.double()
    fault = _fault_of_times(times_ms, s.duration_ms(audio))
    if fault is not None:
        return fault._replace(message=f"on {s.long_s:g} s: {fault.message}")
    hop_ms = _hop(times_ms)
    if hop_ms is None or s.hop_ms is None:
        return Outcome("fail", f"{s.long_s:g} s of audio give a single frame")
    drift_ms = abs(hop_ms - s.hop_ms) * (times_ms.shape[1] - 1)
    return _held(
        drift_ms,
        max(s.hop_ms, REGULAR_MS),
        f"{times_ms.shape[1]} frames in {s.long_s:g} s, drift {drift_ms:.2f} ms",
        f"the hop is {s.hop_ms:.3f} ms on 4 s and {hop_ms:.3f} ms on {s.long_s:g} s, which adds up "
        f"to {drift_ms:.0f} ms: compute timestamps from the frame's position in samples",
    )


CHECKS: dict[str, Callable[[Subject], Outcome]] = {
    "scene shape": _scene_shape,
    "timestamp shape": _timestamp_shape,
    "dtypes": _dtypes,
    "device": _device,
    "gradient-free": _gradient_free,
    "stays in eval mode": _stays_eval,
    "finite": _finite,
    "silent clip": _silence,
    "50 ms clip": _short,
    "deterministic": _deterministic,
    "input unchanged": _input_unchanged,
    "batch: alone": _alone,
    "batch: order": _order,
    "timestamps": _regular,
    "timestamp drift": _drift,
}
