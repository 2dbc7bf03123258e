"""Plot what trainings said of themselves: loss, rate, accuracy and probes over steps."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from mambabench.errors import DataError
from mambabench.files import write_bytes
from mambabench.train.log import read_log

__all__ = ["Curve", "draw", "page_section", "read_run", "write_curves"]

_NOT_SHOWN = ("kind", "step", "epoch", "lr", "clips_per_s", "x_real_time")
_EVALUATED = (
    "main", "acc", "mAP", "auc", "valid_loss", "train_accuracy", "eval_accuracy", "eval_nce",
    "eval_mse",
)  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One quantity of one run."""

    run: str
    panel: str  # loss, rate, evaluation or probe
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def read_run(folder: Path) -> list[Curve]:
    """Return the curves of a run folder (or one fold of it); DataError where it has no log."""
    path = folder / "log.jsonl"
    if not path.is_file():
        below = sorted(p.parent.name for p in folder.glob("*/log.jsonl"))
        hint = f"; it has the folds or seeds {', '.join(below)}" if below else ""
        raise DataError(f"{folder} has no log.jsonl{hint}")
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in read_log(path):
        for panel, name, value in _points(row):
            if isinstance(value, int | float):
                found.setdefault((panel, name), []).append((row["step"], float(value)))
    if not found:
        raise DataError(f"{path} says nothing yet")
    return [
        Curve(folder.name, panel, name, *(tuple(part) for part in zip(*points, strict=True)))
        for (panel, name), points in found.items()
    ]


def _points(row: dict[str, Any]) -> list[tuple[str, str, Any]]:
    kind = row.get("kind")
    if kind == "step":
        own = [("loss", k, v) for k, v in row.items() if k not in (*_NOT_SHOWN, "grad_norm")]
        return [*own, ("rate", "lr", row.get("lr"))]
    if kind == "evaluation":
        return [("evaluation", k, row[k]) for k in _EVALUATED if k in row]
    if kind == "probe":
        return [("probe", k, v) for k, v in row.items() if k not in _NOT_SHOWN]
    return []


def draw(curves: Sequence[Curve]) -> bytes:
    """Return a PNG with a panel each for loss, rate, evaluations and probes, as far as known."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        p for p in ("loss", "rate", "evaluation", "probe") if any(c.panel == p for c in curves)
    ]
    runs = list(dict.fromkeys(c.run for c in curves))
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8, 2.6 * len(panels)), squeeze=False, sharex=True
    )
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for curve in (c for c in curves if c.panel == panel):
            label = f"{curve.run}: {curve.name}" if len(runs) > 1 else curve.name
            mark = "." if len(curve.steps) < 60 else None
            axis.plot(curve.steps, curve.values, label=label, linewidth=1, marker=mark)
        axis.set_ylabel(panel)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="best")
    axes[-1, 0].set_xlabel("optimiser step")
    figure.tight_layout()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return buffer.getvalue()


def page_section(picture: bytes, runs: Sequence[str]) -> str:
    """Return a section of HTML with the picture inside."""
    named = ", ".join(html.escape(run) for run in runs)
    source = b64encode(picture).decode()
    return (
        f'<section id="training"><h2>Training</h2><p>{named}</p>'
        f'<img alt="loss, rate, evaluations and probes of {named}" '
        f'src="data:image/png;base64,{source}"></section>\n'
    )


def write_curves(folders: Sequence[Path], to: Path) -> Path:
    """Plot the runs into `to`: a PNG, or with the ending .html a section for a page."""
    curves = [curve for folder in folders for curve in read_run(folder)]
    picture = draw(curves)
    if to.suffix == ".html":
        picture = page_section(picture, [folder.name for folder in folders]).encode()
    elif to.suffix != ".png":
        raise DataError(f"{to}: the ending must be .png or .html")
    write_bytes(to, picture)
    return to
