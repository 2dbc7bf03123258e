"""Write the table of encoders: sizes, parameters, golden cases and speed on this CPU.

    OMP_NUM_THREADS=1 python perf/encoder_table.py [--keep-speed]

Stores results/encoders/table.json and puts the table between the markers of docs/encoders.md;
--keep-speed runs the golden cases only. The golden data are found through MAMBABENCH_GOLDENS. Speed
is measured with random weights, which cost what trained ones do.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "models")]

from golden_runners import run_case  # noqa: E402

from mambabench.files import read_json, write_json  # noqa: E402
from mambabench.models.entry import EncoderEntry, LoadRequest  # noqa: E402
from mambabench.models.registry import encoder_entries  # noqa: E402
from mambabench.models.weights.recognise import expected_shapes  # noqa: E402

GOLDENS = Path(os.environ.get("MAMBABENCH_GOLDENS", ROOT / "../shared/goldens")) / "encoders"
PAGE, STORED = ROOT / "docs" / "encoders.md", ROOT / "results" / "encoders" / "table.json"
BEGIN, END = "<!-- table: perf/encoder_table.py -->", "<!-- end of table -->"
CLIP_S, ROUNDS = 10.0, 3


def golden_results() -> dict[str, dict[str, Any]]:
    """Return per family: cases, cases passed, and the largest error as a share of its bound."""
    found: dict[str, dict[str, Any]] = {}
    for case in json.loads((GOLDENS / "INDEX.json").read_text())["cases"]:
        family = case["kind"].partition(".")[0]
        row = found.setdefault(family, {"cases": 0, "passed": 0, "largest": 0.0, "share": 0.0})
        errors = list(run_case(GOLDENS / case["path"]))
        row["cases"] += 1
        row["passed"] += all(error <= bound for _, _, error, bound in errors)
        for _, _, error, bound in errors:
            share = error / bound if bound else float(error > 0)
            if share > row["share"]:
                row.update(share=share, largest=error, bound=bound, worst=case["path"])
    return found


def speed(entry: EncoderEntry) -> float:
    """Return seconds of audio per second of CPU time, one thread, the median of a few rounds."""
    request = LoadRequest(entry.name, None, "cpu", "fp32", {})
    module, _, function = entry.loader.partition(":")
    encoder = getattr(import_module(module), function)(replace(entry, published=False), request)
    audio = torch.randn(1, int(CLIP_S * entry.sample_rate_hz)) * 0.1
    encoder.scene(audio, None)
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        encoder.scene(audio, None)
        taken.append(time.process_time() - start)
    return CLIP_S / sorted(taken)[ROUNDS // 2]


def rows() -> list[dict[str, Any]]:
    """Return one row per encoder that is not a random twin."""
    measured: dict[tuple[object, ...], float] = {}
    found = []
    for entry in encoder_entries().values():
        if entry.name.endswith("_random"):
            continue
        settings = entry.settings
        key = (entry.family, entry.sample_rate_hz, settings.get("embed_dim"))
        key += (settings.get("n_frames"), settings.get("directions"))
        if key not in measured:
            measured[key] = speed(entry)
        shapes = expected_shapes(entry)
        found.append(
            {
                "encoder": entry.name,
                "family": entry.family,
                "parameters": sum(torch.Size(shape).numel() for shape in shapes.values()),
                "published_parameters": entry.n_parameters,
                "printed": entry.published_parameters,
                "scene": entry.scene_embedding_size,
                "timestamp": entry.timestamp_embedding_size,
                "hop_ms": entry.hop_ms,
                "sample_rate_hz": entry.sample_rate_hz,
                "layers": entry.n_hidden_states,
                "real_time": measured[key],
            }
        )
    return found


def cpu_name() -> str:
    """Return the processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def table(stored: dict[str, Any]) -> str:
    """Return the tables in Markdown."""
    lines = [
        "| encoder | parameters | of the published file | as printed | scene / timestamp size | "
        "hop (ms) | layers | x real time |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in stored["encoders"]:
        count, published = f"{row['parameters']:,}", f"{row['published_parameters']:,}"
        lines.append(
            f"| `{row['encoder']}` | {count} | {published} | {row['printed'] or '-'} | "
            f"{row['scene']} / {row['timestamp']} | {row['hop_ms']:g} | {row['layers']} | "
            f"{row['real_time']:.1f} |"
        )
    lines += [
        "",
        "| golden cases | passed | largest error | its bound | where |",
        "|---|--:|--:|--:|---|",
    ]
    for family, row in stored["golden"].items():
        lines.append(
            f"| {family} | {row['passed']} of {row['cases']} | {row['largest']:.2g} | "
            f"{row['bound']:g} | `{row['worst']}` |"
        )
    how = stored["how"]
    lines += [
        "",
        f"Speed: fp32, one thread, one clip of {CLIP_S:g} s, CPU time, median of {ROUNDS}; "
        f"{how['cpu']}, torch {how['torch']}. "
        "Errors: max|a-b| / max|b|, absolute for log features.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, store and write the page."""
    torch.set_num_threads(1)
    how = {"cpu": cpu_name(), "torch": torch.__version__, "python": platform.python_version()}
    if "--keep-speed" in sys.argv[1:]:
        stored = {**read_json(STORED), "golden": golden_results()}
    else:
        stored = {"encoders": rows(), "golden": golden_results(), "how": how}
    write_json(STORED, stored)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table(stored)}\n\n{END}{after}")
    print(table(stored))


if __name__ == "__main__":
    main()
