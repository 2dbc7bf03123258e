"""The report as LaTeX: a `table*` a protocol, pure ASCII, with booktabs as its only package.

The columns are split over as many tabulars as the narrower of the common text widths asks for
(345 pt: `article` at 10 pt), so that the table compiles as printed in one and in two columns.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mambabench import __version__
from mambabench.report.formats import Format
from mambabench.report.formats.legend import interval_words, seeds_words, test_words
from mambabench.report.formats.tables import HEADINGS, cells, notes, remarks, tables_of, with_beside
from mambabench.report.matrix import lines_of, matrices

if TYPE_CHECKING:
    from mambabench.report.matrix import Cell, Head, Line, Matrix
    from mambabench.report.rows import Summary
    from mambabench.report.view import View

__all__ = ["FORMAT", "escaped", "long_latex", "matrix_latex"]

_TEXT_PT = 345.0  # \textwidth of article, 10 pt, one column; the other classes' are wider
_COLSEP_PT = 2.5
_DIGIT_PT, _TINY_PT = 4.7, 3.5  # a bold digit in \scriptsize, a digit in \tiny
_LONGEST = 26  # letters of a published row's name
_BREAK = 12  # letters of a head's line: beyond, words go to the next one
_TEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "†": "$^\\dagger$",
    "‡": "$^\\ddagger$",
    "…": "\\,\\ldots\\,",
    "–": "--",
    "−": "$-$",
    "±": "$\\pm$",
    "×": "$\\times$",
}


def escaped(text: str) -> str:
    """Return text that TeX prints as it stands, in ASCII; other letters lose their accents."""
    return "".join(_TEX.get(char) or _ascii(char) for char in text)


def _ascii(char: str) -> str:
    if char.isascii():
        return char
    plain = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return "".join(_TEX.get(one, one) for one in plain) or "?"


def matrix_latex(found: Sequence[Matrix], summary: Summary, view: View) -> str:
    """Return a table a protocol; needs the package booktabs and, for \\cite, references.bib."""
    parts = ["% needs \\usepackage{booktabs}; sources: references.bib (--format bibtex)\n"]
    for one in found:
        parts.append(_table(one, summary, view))
    parts += [_comment(line) for line in remarks(summary)]
    return "\n".join(parts)


def _comment(line: str) -> str:
    return "% " + " ".join(escaped(line).split()) + "\n"


def _table(matrix: Matrix, summary: Summary, view: View) -> str:
    label = re.sub(r"[^a-z0-9]+", "-", matrix.protocol.lower()).strip("-")
    tabulars = [_tabular(matrix, block) for block in _blocks(matrix, view.columns)]
    return (
        "\\begin{table*}\n\\centering\n\\caption{" + _caption(matrix, summary, view) + "}\n"
        f"\\label{{tab:mambabench-{label}}}\n"
        f"\\scriptsize\n\\setlength{{\\tabcolsep}}{{{_COLSEP_PT}pt}}\n"
        + "\n\\par\\medskip\n".join(tabulars)
        + "\n\\end{table*}\n"
    )


def _caption(matrix: Matrix, summary: Summary, view: View) -> str:

    cells = [cell for line in matrix.lines for cell in line.cells]
    parts = [
        f"Protocol \\texttt{{{escaped(matrix.protocol)}}}: mean over {seeds_words([matrix])}; "
        f"$\\pm$: {escaped(interval_words([matrix], view))}."
    ]
    if any(cell.best for cell in cells):
        second = "; underlined: second" if any(cell.second for cell in cells) else ""
        dagger = ""
        if any("†" in cell.marks for cell in cells):
            dagger = "; $^\\dagger$: its interval over clips overlaps another's"
        parts.append(f"Bold: best mean{second}{dagger}.")
    if any(cell.same for cell in cells):
        what = "best" if summary.baseline is None else f"baseline {summary.baseline}"
        parts.append(f"$^=$: no difference to the {escaped(what)}.")
    if summary.comparisons:
        parts.append(escaped(f"Tests: {test_words(summary)}."))
    heads = (*matrix.columns, *(line.head for line in matrix.lines))
    if any(head.kind == "rank" for head in heads):
        parts.append("Rank: mean place [95\\,\\% interval over shared resamples of clips].")
    for one in heads:
        if one.kind == "overall" and one.key not in ("wins", "difference"):
            parts.append(escaped(f"{one.title}: {_pool(summary, matrix.protocol, one.key)}."))
    if any(head.key == "wins" for head in heads):
        who = summary.baseline or "the other encoder"
        parts.append(escaped(f"Won/tied/lost, and mean difference in points: against {who}."))
    if any(head.kind == "published" for head in heads):
        parts.append("Below the rule: published rows.")
    return " ".join(parts) + f" Computed with mambabench {escaped(__version__)}."


def _pool(summary: Summary, protocol: str, key: str) -> str:
    for one in summary.overall:
        if (one.protocol, one.normalisation) == (protocol, key) and one.score is not None:
            return f"{key} over {one.n_tasks} tasks, pool of {len(one.pool)} encoders"
    return key


def _width(text: str, tiny: str = "") -> float:
    """Return about how wide a text is, in points, in the font of the table and in \\tiny."""
    narrow = sum(char in "ijlt.,:;'[]()|!I " for char in text)
    wide = sum(char in "mwMWQOG@%" for char in text)
    return _DIGIT_PT * (len(text) - 0.35 * narrow + 0.45 * wide) + _TINY_PT * len(tiny)


def _blocks(matrix: Matrix, columns: int | None) -> list[list[int]]:
    """Return the columns of each tabular: as many as fit, or at most `columns`."""
    names = [_width(_name(line.head)) + _cite_width(line.head) for line in matrix.lines]
    left = max([_width(matrix.corner), *names]) + 2 * _COLSEP_PT
    blocks: list[list[int]] = [[]]
    used = left
    for index, head in enumerate(matrix.columns):
        need = 2 * _COLSEP_PT + max(
            *(_width(part) for part in _head_lines(head.title)),
            _width("", head.sub) if head.kind != "published" else _cite_width(head),
            *(_cell_width(line.cells[index], line.head, head) for line in matrix.lines),
        )
        full = used + need > _TEXT_PT if columns is None else len(blocks[-1]) >= columns
        if blocks[-1] and full:
            blocks.append([])
            used = left
        blocks[-1].append(index)
        used += need
    return blocks


def _name(head: Head) -> str:
    """Return a line's name; that of a published row is cut to what a column has room for."""
    if head.kind != "published" or len(head.title) <= _LONGEST:
        return head.title
    return head.title[: _LONGEST - 3].rstrip() + "..."


def _cite_width(head: Head) -> float:
    if head.kind != "published":
        return 0.0
    _, _, protocol = head.sub.partition(", ")
    return 14.0 + _TINY_PT * (len(protocol) + 3 if protocol else 0)


def _cell_width(cell: Cell, line: Head, column: Head) -> float:
    half = 0 if not cell.half else len(cell.half) + (3 if "rank" in (line.kind, column.kind) else 2)
    small = half + len(cell.marks) + cell.same * 2 + (len(cell.flags) + 3 if cell.flags else 0)
    return _width(cell.text, "0" * small)


def _head_lines(title: str) -> list[str]:
    """Break a head into lines of a few letters, at spaces."""
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + len(word) >= _BREAK:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _tabular(matrix: Matrix, block: Sequence[int]) -> str:
    columns = [matrix.columns[i] for i in block]
    heads = [_head(head) for head in columns]
    subs = [_sub(head) for head in columns]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(block)}}}\n\\toprule",
        " & ".join([escaped(matrix.corner), *heads]) + " \\\\",
    ]
    if any(subs):
        lines.append(" & ".join(["", *subs]) + " \\\\")
    lines.append("\\midrule")
    kind, group = "", ""
    for number, line in enumerate(lines_of(matrix, block)):
        kinds = {kind, line.head.kind}
        if len(kinds) > 1 and number and ("published" in kinds or kinds == {"task", "rank"}):
            lines.append("\\midrule")
        if line.head.group and line.head.group != group:
            text = escaped(line.head.group)
            lines.append(f"\\multicolumn{{{len(block) + 1}}}{{l}}{{\\emph{{{text}}}}} \\\\")
        kind, group = line.head.kind, line.head.group
        lines.append(_row(line, matrix, block))
    return "\n".join(lines) + "\n\\bottomrule\n\\end{tabular}"


def _head(head: Head) -> str:
    parts = [escaped(part) for part in _head_lines(head.title)]
    if len(parts) == 1:
        return parts[0]
    return "\\shortstack[r]{" + "\\\\".join(parts) + "}"


def _sub(head: Head) -> str:
    if not head.sub:
        return ""
    return f"{{\\tiny {_source(head) if head.kind == 'published' else escaped(head.sub)}}}"


def _source(head: Head) -> str:
    key, _, protocol = head.sub.partition(", ")
    return f"\\cite{{{key}}}" + (f" ({escaped(protocol)})" if protocol else "")


def _row(line: Line, matrix: Matrix, block: Sequence[int]) -> str:
    name = f"{{{escaped(_name(line.head))}}}"  # braces: a "[" after \\ would be its argument
    if line.head.kind == "published":
        name += f" {{\\tiny {_source(line.head)}}}"
    values = [_cell(line.cells[i], line.head, matrix.columns[i]) for i in block]
    return " & ".join([name, *values]) + " \\\\"


def _cell(cell: Cell, line: Head, column: Head) -> str:
    if cell.value is None:
        return escaped(cell.text)
    text = escaped(cell.text) if not cell.text.startswith(("-", "−")) else f"${cell.text}$"
    if cell.best:
        text = f"\\textbf{{{text}}}"
    elif cell.second:
        text = f"\\underline{{{text}}}"
    small = ""
    if cell.half:
        rank = "rank" in (line.kind, column.kind)
        small = f"[{escaped(cell.half)}]" if rank else f"$\\pm${escaped(cell.half)}"
    small += f" [{escaped(cell.flags)}]" if cell.flags else ""
    small += escaped(cell.marks) + ("$^=$" if cell.same else "")
    return text + (f"{{\\tiny {small}}}" if small else "")


def long_latex(summary: Summary) -> str:
    """Return one booktabs table a protocol, a row a score; needs booktabs and longtable."""
    parts = ["% needs \\usepackage{booktabs,longtable}\n"]
    for protocol, tasks in tables_of(with_beside(summary)):
        parts.append("\\begin{longtable}{lllrrrccl}\n")
        parts.append(f"\\caption{{Protocol \\texttt{{{escaped(protocol)}}}.}}\\\\\n\\toprule\n")
        parts.append(" & ".join(HEADINGS) + " \\\\\n\\midrule\n\\endhead\n")
        for number, own in enumerate(tasks):
            parts.append("\\midrule\n" if number else "")
            for row in own:
                values = [escaped(value) for value in cells(row)]
                values[4] = f"\\textbf{{{values[4]}}}" if row.best else values[4]
                parts.append(" & ".join(values) + " \\\\\n")
        parts.append("\\bottomrule\n\\end{longtable}\n")
    return "".join([*parts, *map(_comment, notes(summary))])


def _render(summary: Summary, view: View) -> str:
    if view.table == "long":
        return long_latex(summary)
    return matrix_latex(matrices(summary, view), summary, view)


FORMAT = Format("latex", _render)
