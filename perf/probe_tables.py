"""Tables of perf/probe.py from its stored measurements; what was not run says so."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

from mambabench.files import write_json
from mambabench.provenance import provenance

GOALS = {"a": 2.8, "b": 4.0, "a-exact": 2.5, "b-exact": 3.0, "a-one": 5.0}
NOT_RUN = "not run"
REPLAYED = ("a", "b", "m", "u", "l", "real-ssam_tiny_random", "real-logmel_stats")
METRICS = {"m": "mAP", "u": "AUC", "l": "stopped on the loss"}


def write_tables(work: Path, target: Path) -> None:
    """Write probe.json and probe.md below `target`."""
    found: dict[str, Any] = {}
    for path in sorted(work.glob("*.json")):
        found[path.stem] = json.loads(path.read_text())
    summary = {
        "provenance": provenance(),
        "whole_runs": [_whole(found, case, exact) for case in "ab" for exact in (False, True)],
        "one_layer": [_one_layer(found, case) for case in "ab"],
        "gemm": [_gemm(found, case, layers) for case in "ab" for layers in (1, 2)],
        "replay": [
            _replay(found, name, kind) for kind in ("replay", "compiled") for name in REPLAYED
        ],
        "ten_seeds": _ten(found),
        "pairs": _pairs(found.get("pairs")),
    }
    _keep(summary, target / "probe.json")
    write_json(target / "probe.json", summary)
    (target / "probe.md").write_text(_markdown(summary))


_MEASURED = {"whole_runs": "kit_cpu_s", "one_layer": "kit_ms_1", "gemm": "products_ms"}


def _keep(summary: dict[str, Any], path: Path) -> None:
    """Put rows of an earlier table in the place of those that were not measured now.

    Every row names the processor that it was measured on.
    """
    if not path.exists():
        return
    earlier = json.loads(path.read_text())
    machine = summary["provenance"]["cpu"]
    for section, value in {**_MEASURED, "replay": "fits"}.items():
        known = {_named(row): row for row in earlier.get(section, [])}
        for i, row in enumerate(summary[section]):
            old = known.get(_named(row))
            if row[value] is not None:
                row["cpu"] = machine
            elif old is not None and old[value] is not None:
                summary[section][i] = {"cpu": earlier["provenance"]["cpu"], **old}
    for section, value in (("ten_seeds", "our_cpu_s"), ("pairs", "n_pairs")):
        if (summary[section] or {}).get(value) is None and earlier.get(section):
            summary[section] = {"cpu": earlier["provenance"]["cpu"], **earlier[section]}


def _named(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("case", "stream", "layers", "engine"))


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def _whole(found: dict[str, Any], case: str, exact: bool) -> dict[str, Any]:
    kit = found.get(f"kit-{case}")
    ours = found.get(f"ours-{case}-{'exact' if exact else 'default'}")
    kit_cpu, our_cpu = (None if r is None else r["cpu_s"] for r in (kit, ours))
    kit_epochs = None if kit is None else sum(fit["n_epochs"] for fit in kit["fits"])
    our_epochs = None if ours is None else ours["n_epochs"]
    return {
        "case": case,
        "stream": "exact" if exact else "default",
        "kit_cpu_s": kit_cpu,
        "our_cpu_s": our_cpu,
        "ratio": _ratio(kit_cpu, our_cpu),
        "goal": GOALS[f"{case}-exact" if exact else case],
        "kit_epochs": kit_epochs,
        "our_epochs": our_epochs,
        "ratio_per_epoch": _ratio(_ratio(kit_cpu, kit_epochs), _ratio(our_cpu, our_epochs)),
        "kit_peak_bytes": None if kit is None else kit["peak_bytes"],
    }


def _one_layer(found: dict[str, Any], case: str) -> dict[str, Any]:
    """Return CPU ms per epoch of the one-layer fits: the kit's own and our replay of them."""
    kit, replay = found.get(f"kit-{case}"), found.get(f"compiled-{case}")
    result: dict[str, Any] = {"case": case, "goal": GOALS.get(f"{case}-one")}
    for layers in (1, 2):
        theirs = _per_epoch(
            [
                (f["cpu_s"], f["n_epochs"])
                for f in (kit or {"fits": []})["fits"]
                if f["conf"]["hidden_layers"] == layers
            ]
        )
        ours = _per_epoch(
            [
                (f["our_cpu_s"], f["our_epochs"])
                for f in replay or []
                if f["hidden_layers"] == layers
            ]
        )
        result[f"kit_ms_{layers}"] = theirs
        result[f"our_ms_{layers}"] = ours
        result[f"ratio_{layers}"] = _ratio(theirs, ours)
    return result


def _per_epoch(fits: list[tuple[float, int]]) -> float | None:
    epochs = sum(n for _, n in fits)
    return 1000 * sum(cpu for cpu, _ in fits) / epochs if epochs else None


def _gemm(found: dict[str, Any], case: str, layers: int) -> dict[str, Any]:
    products = found.get(f"gemm-{case}", {})
    bound = products.get(str(layers))
    ours = _one_layer(found, case)[f"our_ms_{layers}"]
    return {
        "case": case,
        "layers": layers,
        "products_ms": bound,
        "our_ms": ours,
        "fraction": _ratio(bound, ours),
    }


def _replay(found: dict[str, Any], name: str, kind: str) -> dict[str, Any]:
    fits = found.get(f"{kind}-{name}")
    engine = "exact stream" if kind == "replay" else "default (compiled)"
    if fits is None:
        return {"case": name, "engine": engine, "fits": None}
    return {
        "case": name,
        "engine": engine,
        "fits": len(fits),
        "identical": sum(fit["identical"] for fit in fits),
        "kit_epochs": sum(fit["kit_epochs"] for fit in fits),
        "our_epochs": sum(fit["our_epochs"] for fit in fits),
        "largest_first_difference": max(
            (fit["first_difference"] for fit in fits if not fit["identical"]), default=0.0
        ),
        "unit": fits[0]["unit"],
    }


def _ten(found: dict[str, Any]) -> dict[str, Any]:
    kit, ten = found.get("kit-b"), found.get("ours-b-ten")
    if kit is None or ten is None:
        return {"case": "b", "our_cpu_s": None}
    return {
        "case": "b",
        "our_cpu_s": ten["cpu_s"],
        "our_wall_s": ten["wall_s"],
        "jobs": ten["jobs"],
        "kit_cpu_s_extrapolated": 10 * kit["cpu_s"],
        "ratio_cpu": 10 * kit["cpu_s"] / ten["cpu_s"],
    }


def _pairs(pairs: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return mean difference and its 90 % interval: the two one-sided tests at +-0.5 points."""
    if pairs is None:
        return None
    from scipy.stats import t

    points, n = pairs["points"], pairs["n_pairs"]
    mean = statistics.fmean(points)
    half = t.ppf(0.95, n - 1) * statistics.stdev(points) / math.sqrt(n)
    return {
        "n_pairs": n,
        "mean_points": mean,
        "low90": float(mean - half),
        "high90": float(mean + half),
        "equivalent": bool(mean - half > -0.5 and mean + half < 0.5),
        "same_epoch_and_score": pairs["same_epoch_and_score"],
    }


def _text(value: Any, digits: int = 1) -> str:
    return NOT_RUN if value is None else f"{value:.{digits}f}" if digits else f"{value:.0f}"


def _markdown(summary: dict[str, Any]) -> str:
    machine = summary["provenance"]
    lines = [
        "# Probe training against hear-eval-kit 2021.1.3",
        "",
        f"torch {machine['versions']['torch']}, numba {machine['versions']['numba']}; one thread, "
        "CPU seconds of whole processes, both sides of a row on one machine. The machines were "
        "shared with other work: read ratios as +-20 %. `python perf/probe.py`.",
        "",
        "(a) 1200/400/400 rows, 512-d, 50 labels, 8 fits; (b) five folds of 47 rows, 384-d, 4 "
        "labels, 8 + 4 fits; default grid, one seed. The default stream draws other numbers than "
        "the kit's and trains another number of epochs: there the ratio per epoch compares the "
        "work.",
        "",
        "| case | stream | kit, CPU s | mambabench, CPU s | ratio | goal | epochs, kit | "
        "epochs, mambabench | ratio per epoch | measured on |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| ({r['case']}) | {r['stream']} | {_text(r['kit_cpu_s'])} | {_text(r['our_cpu_s'])} | "
        f"{_text(r['ratio'], 2)}{_other_work(r)} | {r['goal']} | {_count(r.get('kit_epochs'))} | "
        f"{_count(r.get('our_epochs'))} | {_per_epoch_text(r)} | {r.get('cpu', '')} |"
        for r in summary["whole_runs"]
    ]
    lines += [
        "",
        "CPU ms per epoch of the same fits (validation every 3 epochs included), and the share of "
        "our time that the bare matrix products take in a loop of their own:",
        "",
        "| case | hidden layers | kit | mambabench | ratio | products alone | share | host |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = {row["case"]: row for row in summary["one_layer"]}
    for g in summary["gemm"]:
        row, n = rows[g["case"]], g["layers"]
        lines.append(
            f"| ({g['case']}) | {n} | {_text(row[f'kit_ms_{n}'])} | {_text(row[f'our_ms_{n}'])} | "
            f"{_text(row[f'ratio_{n}'], 2)} | {_text(g['products_ms'])} | "
            f"{_text(g['fraction'], 2)} | {g.get('cpu', '')} |"
        )
    lines += ["", *_equality(summary)]
    return "\n".join(lines) + "\n"


def _equality(summary: dict[str, Any]) -> list[str]:
    lines = ["Replay of the kit's fits from its recorded states of the random generator:", ""]
    lines += [
        "| engine | case | fits | identical (best score, best epoch, epochs) | others: first "
        "difference, at most | epochs, kit | epochs, mambabench | measured on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in summary["replay"]:
        if r["fits"] is None:
            lines.append(f"| {r['engine']} | {_case(r['case'])} | {NOT_RUN} | | | | | |")
            continue
        lines.append(
            f"| {r['engine']} | {_case(r['case'])} | {r['fits']} | {r['identical']} | "
            f"{_difference(r)} | {_count(r.get('kit_epochs'))} | {_count(r.get('our_epochs'))} | "
            f"{r.get('cpu', '')} |"
        )
    ten, pairs = summary["ten_seeds"], summary["pairs"]
    lines += ["", "Ten seeds of (b): " + _ten_text(ten)]
    lines += ["", "Default stream against the plain torch loop: " + _pairs_text(pairs)]
    return lines


def _case(name: str) -> str:
    return f"{name} ({METRICS[name]})" if name in METRICS else name


def _difference(row: dict[str, Any]) -> str:
    if "largest_first_difference_clips" in row:  # a kept row
        return f"{row['largest_first_difference_clips']:.0f} clips"
    if row["identical"] == row["fits"]:
        return "none"
    digits = ".0f" if row["unit"] == "clips" else ".1g"
    return f"{row['largest_first_difference']:{digits}} {row['unit']}"


def _other_work(row: dict[str, Any]) -> str:
    """Mark a ratio of runs that did not train the same epochs."""
    ours = row.get("our_epochs")
    if ours is None:
        return " (perhaps other epochs)" if row["stream"] == "default" and row["ratio"] else ""
    return "" if ours == row["kit_epochs"] else " (other epochs)"


def _per_epoch_text(row: dict[str, Any]) -> str:
    ratio = row.get("ratio_per_epoch")
    return _count(None) if ratio is None else _text(ratio, 2)


def _count(value: int | None) -> str:
    return "not counted" if value is None else f"{value:,}"


def _ten_text(ten: dict[str, Any]) -> str:
    if ten["our_cpu_s"] is None:
        return f"{NOT_RUN}."
    on = f"{ten['cpu']}: " if "cpu" in ten else ""
    return on + (
        f"{ten['our_cpu_s']:.0f} CPU s, {ten['our_wall_s']:.0f} s wall on {ten['jobs']} threads; "
        f"the kit, extrapolated from one run, {ten['kit_cpu_s_extrapolated']:.0f} CPU s: "
        f"{ten['ratio_cpu']:.1f} times. Ten seeds of (a) were not run."
    )


def _pairs_text(pairs: dict[str, Any] | None) -> str:
    if pairs is None:
        return f"{NOT_RUN}."
    verdict = "passes" if pairs["equivalent"] else "does not pass"
    return (
        f"{pairs['n_pairs']} pairs, fixed beforehand, same initial weights and masks, (a), one "
        f"layer, lr 3.2e-3: {pairs['mean_points']:+.2f} points, 90 % interval "
        f"[{pairs['low90']:+.2f}, {pairs['high90']:+.2f}]; equivalence at +-0.5 {verdict}. "
        f"{pairs['same_epoch_and_score']} pairs have the same best epoch and score."
    )
