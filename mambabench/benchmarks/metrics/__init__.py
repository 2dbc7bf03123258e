"""Metrics by name: of scene tasks from probabilities, of timestamp tasks from per-clip counts.

A scene metric is a function of all clips' targets and probabilities. An event metric is computed
from float64 counts [n_clips, k] that add up over clips, so that the metric of any resample of clips
is a function of one matrix product: ``metric.score(weights @ metric.counts(reference, predicted))``
with weights [n_resamples, n_clips].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as _np

from mambabench.benchmarks.metrics import events as _events
from mambabench.benchmarks.metrics import scenes as _scenes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mambabench.benchmarks.metrics.events import Events

__all__ = ["METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """One metric: its name in a task's `evaluation`, its direction and how it is computed."""

    name: str
    higher_is_better: bool
    kind: Literal[
        "scene",
        "event",
        "slots",
        "sequence",
        "text",
        "slot_text",
        "trials",
        "queries",
        "diarization",
    ]
    title: str  # for tables
    scene: Callable[[npt.NDArray[Any], npt.NDArray[Any]], float] | None = None
    counts_function: Callable[[Events, Events], npt.NDArray[np.float64]] | None = None
    parts_function: (
        Callable[[npt.NDArray[np.float64]], dict[str, npt.NDArray[np.float64]]] | None
    ) = None
    primary_part: str = ""

    def __call__(self, target: npt.NDArray[Any], probability: npt.NDArray[Any]) -> float:
        """Score a scene task; NaN where undefined or where a probability is NaN.

        `target` is [n] int (label index) or [n, n_labels] of 0 and 1; `probability` is
        [n, n_labels] float32 or float64.
        """
        assert self.scene is not None, f"{self.name} scores events: use counts and score"
        return self.scene(target, probability)

    def counts(self, reference: Events, predicted: Events) -> npt.NDArray[np.float64]:
        """Return the sufficient statistics of every clip, float64 [n_clips, k]."""
        assert self.counts_function is not None, f"{self.name} scores scenes: call it"
        return self.counts_function(reference, predicted)

    def score(self, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the metric, [...], of summed counts [..., k]; NaN where undefined."""
        return self.parts(counts)[self.primary_part]

    def parts(self, counts: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the metric's sub-results, such as precision, of summed counts [..., k]."""
        assert self.parts_function is not None
        return self.parts_function(counts)


def _scene_metric(name: str, title: str, function: Callable[..., float]) -> Metric:
    return Metric(name, True, "scene", title, scene=function)


def _onset_metric(name: str, title: str, collar_s: float, offset: bool) -> Metric:
    def counts(reference: Events, predicted: Events) -> npt.NDArray[np.float64]:
        return _events.match_counts(reference, predicted, collar_s, offset)

    return Metric(
        name,
        True,
        "event",
        title,
        counts_function=counts,
        parts_function=_events.match_parts,
        primary_part="f_measure",
    )


def _ratio(name: str) -> Callable[..., dict[str, npt.NDArray[np.float64]]]:
    """Return the parts of counts [..., 2]: the first over the second, NaN where that is 0."""

    def parts(counts: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        whole = counts[..., 1]
        return {name: counts[..., 0] / _np.where(whole > 0, whole, _np.nan)}

    return parts


# metrics whose per-clip counts are what was found and what it is a share of
_RATIOS: tuple[tuple[str, bool, Literal["text", "slot_text", "diarization"], str], ...] = (
    ("wer", False, "text", "word error rate"),
    ("uer", False, "text", "letter error rate"),
    ("slot_type_f1", True, "slot_text", "slot-type F1"),
    ("slot_value_cer", False, "slot_text", "slot-value letter error rate"),
    ("der", False, "diarization", "diarization error rate"),
)

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _scene_metric("top1_acc", "accuracy", _scenes.top1_accuracy),
        _scene_metric("pitch_acc", "pitch accuracy", _scenes.top1_accuracy),
        _scene_metric("chroma_acc", "chroma accuracy", _scenes.chroma_accuracy),
        _scene_metric("mAP", "mAP", _scenes.mean_average_precision),
        _scene_metric("d_prime", "d'", _scenes.d_prime),
        _scene_metric("aucroc", "AUC", _scenes.area_under_roc),
        _scene_metric("macro_f1", "macro F1", _scenes.macro_f1),
        _scene_metric("uar", "UAR", _scenes.unweighted_average_recall),
        _onset_metric("event_onset_200ms_fms", "onset F, 200 ms", 0.2, False),
        _onset_metric("event_onset_50ms_fms", "onset F, 50 ms", 0.05, False),
        _onset_metric(
            "event_onset_offset_50ms_20perc_fms", "onset and offset F, 50 ms", 0.05, True
        ),
        Metric(
            "segment_1s_er",
            False,
            "event",
            "segment error rate, 1 s",
            counts_function=_events.segment_counts,
            parts_function=_events.segment_parts,
            primary_part="error_rate",
        ),
        Metric(
            "joint_acc",
            True,
            "slots",
            "accuracy, all slots right",
            parts_function=_ratio("accuracy"),
            primary_part="accuracy",
        ),
        Metric(
            "per",
            False,
            "sequence",
            "phone error rate",
            parts_function=_ratio("error_rate"),
            primary_part="error_rate",
        ),
        *(
            Metric(
                name,
                higher,
                kind,
                title,
                parts_function=_ratio("ratio"),
                primary_part="ratio",
            )
            for name, higher, kind, title in _RATIOS
        ),
        Metric("eer", False, "trials", "equal error rate"),
        Metric("mtwv", True, "queries", "maximum term-weighted value"),
    )
}
