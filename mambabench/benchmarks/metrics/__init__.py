"""Metrics by name: this package's own, one file each or one a formula, and those of other packages.

`metric` says what a metric is. Other packages add theirs as entry points of the group
``mambabench.metrics``.
"""

from __future__ import annotations

from mambabench.benchmarks.metrics.metric import Metric, Untested
from mambabench.errors import MambabenchError
from mambabench.plugins import Registry

__all__ = ["METRICS", "Metric", "metric_of"]

_OBJECTS = {
    "top1_acc": "accuracy:METRIC",
    "pitch_acc": "accuracy:PITCH",
    "chroma_acc": "chroma_accuracy:METRIC",
    "mAP": "mean_average_precision:METRIC",
    "d_prime": "d_prime:METRIC",
    "aucroc": "area_under_roc:METRIC",
    "macro_f1": "macro_f1:METRIC",
    "uar": "uar:METRIC",
    "event_onset_200ms_fms": "event_onset:ONSET_200MS",
    "event_onset_50ms_fms": "event_onset:ONSET_50MS",
    "event_onset_offset_50ms_20perc_fms": "event_onset:ONSET_OFFSET_50MS",
    "segment_1s_er": "segment_error:METRIC",
    "joint_acc": "ratios:JOINT_ACCURACY",
    "per": "ratios:PHONE_ERRORS",
    "wer": "ratios:WORD_ERRORS",
    "wer_lm": "ratios:WORD_ERRORS_LM",
    "uer": "ratios:LETTER_ERRORS",
    "slot_type_f1": "ratios:SLOT_TYPES",
    "slot_value_cer": "ratios:SLOT_VALUE_ERRORS",
    "der": "ratios:DIARIZATION_ERRORS",
    "eer": "eer:METRIC",
    "mtwv": "mtwv:METRIC",
}
METRICS: Registry[Metric] = Registry(
    "metrics", Metric, {name: f"{__name__}.{place}" for name, place in _OBJECTS.items()}
)


def metric_of(name: str) -> Metric:
    """Return the metric of a stored score; one that is not known is a share, without a test.

    Records and published rows outlive the package that computed them.
    """
    try:
        return METRICS[name]
    except (KeyError, MambabenchError):
        return Metric(name, name, statistic=Untested(f"nothing known of {name!r}"))
