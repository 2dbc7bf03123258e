"""The report as one HTML page: the matrix first, every number opens down to its clips.

One file that asks nothing of the network (a content security policy forbids it). The matrix, the
ranking, the notes and the provenance are there without script.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench import __version__
from mambabench.report.costs import COLUMNS, audio_hours
from mambabench.report.exchange.citations import sources_of
from mambabench.report.formats.legend import legend, seeds_words
from mambabench.report.formats.page_audio import Sounds, hardest_sounds, sounds_beside
from mambabench.report.formats.page_charts import charts, ranking
from mambabench.report.formats.page_data import Packed, packed_details
from mambabench.report.formats.tables import pools, remarks
from mambabench.report.matrix import matrices
from mambabench.report.names import task_family
from mambabench.report.together import standing
from mambabench.report.view import View

if TYPE_CHECKING:
    from mambabench.report.matrix import Cell, Head, Line, Matrix
    from mambabench.report.rows import Summary

__all__ = ["as_page", "matrices_html"]

_PUBLISHED = 20  # rows of others in the matrix, at most


def as_page(
    summary: Summary,
    clips: str = "auto",
    *,
    with_audio: int = 0,
    tasks: Sequence[Path] = (),
    folder: Path | None = None,
) -> str:
    """Return the page; `clips` is "auto", "all" or "none". Restricted tasks' clips have no name.

    `with_audio` embeds the sound of so many clips of each task, the hardest ones, from the task
    directories `tasks` or below them; never that of restricted tasks. Where `folder`, in which the
    page is to lie, has task directories in a folder ``audio``, every clip of theirs can be heard.
    """
    page = _page(summary)
    packed = packed_details(
        summary, clips, beside=len(page(Packed("", "", {}), Sounds("")).encode())
    )
    sounds = hardest_sounds(packed.clips, with_audio, tasks) if with_audio else Sounds("")
    if folder is not None:
        sounds = replace(sounds, beside=sounds_beside(packed.clips, folder))
    return page(packed, sounds)


def _page(summary: Summary) -> Callable[[Packed, Sounds], str]:
    """Return what makes the page of its packed details and sounds."""
    view = View(published=_PUBLISHED)
    found = matrices(summary, view)
    notes = legend(found, summary, view) + remarks(summary)
    data = {
        "matrices": [_data(one) for one in found],
        "caption": " ".join(legend(found, summary, view)),
        "bibtex": asdict(sources_of(summary)),
        "standings": [_standing(summary, one.protocol) for one in found],
        "costs": {one.encoder: [getattr(one, kind) for kind in COLUMNS] for one in summary.costs},
        "cost_names": list(COLUMNS.values()),
        "hint": "Choose a number: its seeds, folds, chosen heads, comparisons, clips and command.",
        "mean_of": "A mean of several task directories has no details of its own; theirs:",
    }
    style = _file("page.css")
    script = "".join(map(_file, ("page.js", "page_details.js", "page_charts.js")))
    parts = [
        _bar(found),
        *(_table(one, number) for number, one in enumerate(found)),
        '<section id="detail" aria-live="polite" aria-label="Details of a number"></section>',
        *(ranking(summary, one, number) for number, one in enumerate(found)),
        charts(found, bool(summary.costs)),
        "<h2>How to read</h2>" + _items(notes),
        _provenance(summary),
    ]

    def page(packed: Packed, sounds: Sounds) -> str:
        note = " ".join(filter(None, (packed.note, sounds.note)))
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, sounds)}">'
            f"<title>mambabench report</title><style>{style}</style></head>\n<body><main>"
            + "\n".join((_first(summary, found, note), *parts))
            + '</main>\n<script type="application/json" id="data">'
            f"{_json({**data, 'clips_note': packed.note})}</script>\n"
            f'<script type="application/octet-stream" id="packed">{packed.text}</script>\n'
            f"{_embedded(sounds)}"
            f"<script>{script}</script></body></html>\n"
        )

    return page


def matrices_html(summary: Summary) -> str:
    """Return the matrices and their legend alone, as a notebook shows them."""
    view = View()
    found = matrices(summary, view)
    tables = "".join(_table(one, number) for number, one in enumerate(found))
    return tables.replace("<button", "<span").replace("</button>", "</span>") + _items(
        legend(found, summary, view)
    )


def _file(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _embedded(sounds: Sounds) -> str:
    if not (sounds.clips or sounds.beside):
        return ""
    beside = {task: asdict(one) for task, one in sounds.beside.items()}
    data = {"kind": sounds.kind, "clips": sounds.clips, "beside": beside}
    return f'<script type="application/json" id="sounds">{_json(data)}</script>\n'


def _policy(script: str, sounds: Sounds) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:"
    media = ["data:"] * bool(sounds.clips) + ["'self'", "file:"] * bool(sounds.beside)
    if media:  # what lies beside the page is its own, from a disk and from a server
        allowed += f"; media-src {' '.join(media)}"
    return f"default-src 'none'; {allowed}"


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element that holds it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c")


def _data(matrix: Matrix) -> dict[str, Any]:
    def rounded(cell: Cell) -> float | None:
        return None if cell.value is None else float(f"{cell.value:.8g}")

    columns = [
        {"key": h.key, "kind": h.kind, "title": h.title, "family": task_family(h.key)}
        for h in matrix.columns
    ]
    rows = [
        {
            "key": line.head.key,
            "kind": line.head.kind,
            "title": line.head.title,
            "values": [rounded(cell) for cell in line.cells],
        }
        for line in matrix.lines
    ]
    what = {"protocol": matrix.protocol, "corner": matrix.corner}
    return {**what, "columns": columns, "rows": rows}


def _first(summary: Summary, found: Sequence[Matrix], note: str) -> str:
    rows = [row for row in summary.rows if row.mean is not None]
    n_encoders = len({row.encoder for row in summary.rows})
    n_tasks = len({row.task for row in summary.rows})
    protocols = ", ".join(f"<code>{escape(one.protocol)}</code>" for one in found)
    clips = sum({row.task: row.n_test or 0 for row in rows}.values())
    hours = audio_hours(summary)
    audio = "" if hours is None else f"; {_hours(hours)} of audio in all splits"
    baseline = f" Baseline: {escape(summary.baseline)}." if summary.baseline else ""
    flagged = sum(bool(row.flags) for row in rows)
    warning = f" <b>{flagged} numbers are flagged, see the notes.</b>" if flagged else ""
    return (
        f"<h1>mambabench report: {_many(n_encoders, 'encoder')} on {_many(n_tasks, 'task')}</h1>"
        f'<p class="sub">Protocol {protocols}; {seeds_words(found)}; {clips} test clips{audio}; '
        f"{len(summary.runs)} runs; mambabench {escape(__version__)}, "
        f"{date.today().isoformat()}.{baseline} {escape(note)}{warning}</p>"
    )


def _hours(hours: float) -> str:
    """Return hours in words, to two digits; minutes below one."""
    return f"{60 * hours:.2g} min" if hours < 1 else f"{float(f'{hours:.2g}'):,g} hours"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _bar(found: Sequence[Matrix]) -> str:
    """Return the controls, of use with script only."""
    heads = {head.key: head for one in found for head in one.columns}
    families = sorted({task_family(h.key) for h in heads.values() if h.kind == "task"})
    options = "".join(f"<option>{escape(name)}</option>" for name in families)
    rows = {f"{line.head.kind} {line.head.key}": line.head for one in found for line in one.lines}
    protocols = [one.protocol for one in found]
    buttons = "".join(
        f'<button data-copy="{key}">{name}</button>'
        for key, name in (
            *(("latex", "LaTeX"), ("markdown", "Markdown"), ("csv", "CSV")),
            ("bibtex", "BibTeX"),
        )
    )
    return (
        '<div class="bar"><label>Find <input id="find" type="search" size="12"></label>'
        f'<label>Tasks <select id="family"><option value="">all</option>{options}</select></label>'
        f"{_protocols(protocols) if len(protocols) > 1 else ''}"
        '<label><input id="published" type="checkbox" checked> published rows</label>'
        f"{_boxes('columns', 'Columns', heads)}{_boxes('rows', 'Rows', rows)}"
        f"<span>Copy</span>{buttons}<button data-reset>Reset</button>"
        '<span id="said" role="status"></span></div>'
        '<textarea id="copied" hidden rows="6" cols="60" aria-label="Copied text"></textarea>'
    )


def _protocols(names: Sequence[str]) -> str:
    options = "".join(f"<option>{escape(name)}</option>" for name in names)
    return (
        f'<label>Protocol <select id="only"><option value="">all</option>{options}</select></label>'
    )


def _boxes(name: str, title: str, heads: Mapping[str, Head]) -> str:
    """Return a box to hide each of the heads by its key."""
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{escape(key)}">{escape(head.title)}</label> '
        for key, head in heads.items()
    )
    return f'<details><summary>{title}</summary><div id="{name}">{boxes}</div></details>'


def _table(matrix: Matrix, number: int) -> str:
    heads = "".join(_head(head) for head in matrix.columns)
    shades = [_places(matrix, index) for index in range(len(matrix.columns))]
    body, kind = [], "encoder"
    for index, line in enumerate(matrix.lines):
        rule = line.head.kind != kind
        kind = line.head.kind
        cells = "".join(
            _cell(cell, line, head, shade.get(index))
            for cell, head, shade in zip(line.cells, matrix.columns, shades, strict=True)
        )
        css = " ".join([line.head.kind] + ["rule"] * rule)
        group = f"{line.head.group}: " if line.head.group else ""
        source = f" <small>{escape(line.head.sub)}</small>" if line.head.sub else ""
        body.append(
            f'<tr class="{css}" data-r="{index}"><th scope="row" title="{escape(line.head.key)}">'
            f"{escape(group + line.head.title)}{source}</th>{cells}</tr>"
        )
    label = f"Scores under {escape(matrix.protocol)}"
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}" '
        f'data-protocol="{escape(matrix.protocol)}">'
        f'<table class="matrix" id="m{number}"><caption>Protocol {escape(matrix.protocol)}: '
        "mean and half the interval. Shade: place within the column.</caption>"
        f'<thead><tr><th scope="col"><button data-sort="name">{matrix.corner}</button></th>{heads}'
        f"</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _head(head: Head) -> str:
    falls = ' data-falls="1"' if head.kind == "rank" or "lower is better" in head.sub else ""
    sub = f"<small>{escape(head.sub)}</small>" if head.sub else ""
    return (
        f'<th scope="col" title="{escape(head.key)}"><button data-sort="{escape(head.key)}"{falls}>'
        f"{escape(head.title)}</button>{sub}</th>"
    )


def _places(matrix: Matrix, index: int) -> dict[int, float]:
    """Return, by our lines, the share of the others that are worse in this column."""
    head = matrix.columns[index]
    values = {
        number: line.cells[index].value
        for number, line in enumerate(matrix.lines)
        if line.head.kind == "encoder"
    }
    known = {number: value for number, value in values.items() if value is not None}
    falls = head.kind == "rank" or "lower is better" in head.sub
    sign = -1.0 if falls else 1.0
    others = max(1, len(known) - 1)
    return {
        number: sum(sign * other < sign * value for other in known.values()) / others
        for number, value in known.items()
    }


def _cell(cell: Cell, line: Line, column: Head, shade: float | None) -> str:
    if cell.value is None:
        why = cell.row.reason if cell.row is not None else None
        title = f' title="{escape(why)}"' if why else ""
        return f"<td{title}>{'missing' if why else '–'}</td>"
    rank = column.kind == "rank"
    half = "" if not cell.half else f" [{cell.half}]" if rank else f" ±{cell.half}"
    flags = f" [{cell.flags}]" if cell.flags else ""
    rest = escape(half + ("=" if cell.same else "") + cell.marks + flags)
    small = f"<small>{rest}</small>" if rest else ""
    text = f"<b>{escape(cell.text)}</b>{small}"
    css = [name for name, on in (("best", cell.best), ("second", cell.second)) if on]
    kind = f' class="{" ".join(css)}"' if css else ""
    heat = ""
    if shade is not None and column.kind == "task":
        heat = f' style="--h:{0.04 + 0.3 * shade:.2f}"'
    if line.head.kind == "encoder" and cell.row is not None:
        text = f"<button>{text}</button>"  # the script knows which
    return f"<td{kind}{heat}>{text}</td>"


def _standing(summary: Summary, protocol: str) -> dict[str, Any] | None:
    """Return mean ranks, groups and what they rest on, for the critical-difference diagram."""
    one = standing(summary, protocol)
    if one is None:
        return None
    ranks = [[rank.encoder, round(rank.rank, 4)] for rank in one.ranks]
    return {"ranks": ranks, "groups": one.groups, "note": one.note}


def _items(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def _provenance(summary: Summary) -> str:
    found: dict[tuple[str, str], list[Any]] = {}
    for run in summary.runs:
        key = (run.record.encoder, run.record.encoder_identity)
        found.setdefault(key, []).append(run)
    rows = "".join(
        f'<tr><th scope="row">{escape(encoder)}</th><td>{len(runs)}</td>'
        f"<td><code>{escape(identity[:16] or 'none')}</code></td>"
        f"<td>{escape(', '.join(sorted({run.source for run in runs})))}</td></tr>"
        for (encoder, identity), runs in sorted(found.items())
    )
    sources = sorted({f"{row.citation}" for row in summary.published})
    return (
        '<h2>Provenance</h2><div class="scroll" tabindex="0" role="region" '
        'aria-label="Provenance"><table><thead><tr><th scope="col">Encoder</th><th scope="col">'
        'Runs</th><th scope="col">Identity</th><th scope="col">Source</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{_items([*pools(summary), *sources])}"
        '<p class="sub">Every score and comparison unrounded: scores.csv, comparisons.csv and '
        "report.json beside this page.</p>"
    )
