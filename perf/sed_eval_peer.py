"""Score events with sed_eval, in an environment of its own: ``python perf/sed_eval_peer.py FILE``.

FILE is JSON: n_clips, reference and predicted (clip, label, start_ms, end_ms as parallel lists).
Prints JSON: scores and CPU seconds by metric. Needs ``pip install sed_eval==0.2.1
"setuptools<81"``; nothing of mambabench is imported.
"""

import json
import sys
import time
import warnings

warnings.filterwarnings("ignore")


def event_list(rows, clip):
    import dcase_util

    events = [
        {
            "event_label": str(label),
            "onset": start / 1000.0,
            "offset": end / 1000.0,
            "filename": str(c),
        }
        for c, label, start, end in zip(
            rows["clip"], rows["label"], rows["start_ms"], rows["end_ms"], strict=True
        )
        if c == clip
    ]
    return dcase_util.containers.MetaDataContainer(events)


def main(path):
    import sed_eval

    with open(path) as file:
        request = json.load(file)
    labels = sorted({str(k) for side in ("reference", "predicted") for k in request[side]["label"]})
    onset = {"evaluate_onset": True, "event_matching_type": "optimal"}
    makers = {
        "event_onset_200ms_fms": lambda: sed_eval.sound_event.EventBasedMetrics(
            labels, evaluate_offset=False, t_collar=0.2, **onset
        ),
        "event_onset_50ms_fms": lambda: sed_eval.sound_event.EventBasedMetrics(
            labels, evaluate_offset=False, t_collar=0.05, **onset
        ),
        "event_onset_offset_50ms_20perc_fms": lambda: sed_eval.sound_event.EventBasedMetrics(
            labels, evaluate_offset=True, t_collar=0.05, percentage_of_length=0.2, **onset
        ),
        "segment_1s_er": lambda: sed_eval.sound_event.SegmentBasedMetrics(
            labels, time_resolution=1.0
        ),
    }
    clips = range(request["n_clips"])
    lists = [[event_list(request[s], clip) for s in ("reference", "predicted")] for clip in clips]
    scores, seconds = {}, {}
    for name in request.get("metrics", makers):
        began = time.process_time()
        metric = makers[name]()
        for reference, predicted in lists:
            metric.evaluate(reference, predicted)
        overall = metric.results_overall_metrics()
        seconds[name] = time.process_time() - began
        scores[name] = dict(overall["f_measure"])
        if name == "segment_1s_er":
            scores[name]["error_rate"] = overall["error_rate"]["error_rate"]
    print(json.dumps({"scores": scores, "cpu_s": seconds, "version": sed_eval.__version__}))


if __name__ == "__main__":
    main(sys.argv[1])
