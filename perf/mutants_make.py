"""Plant small faults in Python source: where they can stand, and the text with one in place.

A site is a piece of an expression or a statement and what it becomes: a turned comparison, a
swapped operator, a constant one larger, a negated condition, a statement left out. Messages of
errors, docstrings, annotations, assertions, decorators and imports are left alone.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Site", "compiles", "mutated", "sites"]

_COMPARED: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_REVERSED: dict[type, type] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
_CALCULATED: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLED = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "floor": "ceil",
    "ceil": "floor",
    "argmax": "argmin",
    "argmin": "argmax",
    "minimum": "maximum",
    "maximum": "minimum",
    "zeros": "ones",
    "ones": "zeros",
    "sorted": "list",
    "cumsum": "array",
    "sum": "mean",
    "mean": "sum",
    "std": "var",
}
_CHECKS = ("strict",)  # arguments that are assertions: without them the same comes out
_LEFT_ALONE = (
    ast.Raise,
    ast.Assert,
    ast.Import,
    ast.ImportFrom,
    ast.JoinedStr,
    ast.Global,
    ast.Nonlocal,
)


@dataclass(frozen=True)
class Site:
    """One fault: bytes start:stop of a file's source become `text`."""

    file: str  # relative to the root of the tree
    line: int  # 1-based, of the first byte
    last_line: int
    start: int
    stop: int
    kind: str
    text: str
    jitted: bool  # inside a function that numba compiles: no tracer sees its lines
    importing: bool  # runs when the module is imported

    def key(self, source: bytes) -> str:
        """Return a name that is the same as long as the file is."""
        told = f"{self.file} {self.start} {self.stop} {self.text}".encode()
        return hashlib.sha256(told + source).hexdigest()[:16]


def mutated(source: bytes, site: Site) -> bytes:
    """Return the source with the fault in place."""
    return source[: site.start] + site.text.encode() + source[site.stop :]


def sites(file: str, source: bytes) -> list[Site]:
    """Return every fault that can be planted in a file, in the order of the text.

    A few do not compile (`compiles`): which, is only asked of those that are drawn.
    """
    finder = _Finder(file, source)
    tree = ast.parse(source)
    for node in tree.body:
        finder.statement(node, jitted=False, importing=True)
    return sorted(set(finder.found), key=lambda s: (s.start, s.stop, s.kind, s.text))


def compiles(text: bytes) -> bool:
    """Say whether Python takes the text."""
    try:
        compile(text, "mutant", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


class _Finder:
    """Collects the sites of one file."""

    def __init__(self, file: str, source: bytes) -> None:
        self._file = file
        lines = source.splitlines(keepends=True)
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self.found: list[Site] = []
        self._jitted = False
        self._importing = True

    def statement(self, node: ast.stmt, *, jitted: bool, importing: bool) -> None:
        """Collect from a statement and what lies below it."""
        self._jitted, self._importing = jitted, importing
        if isinstance(node, _LEFT_ALONE) or _is_text(node) or _is_exports(node):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            jitted = jitted or _is_jitted(node)
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    self._expression(default)
            self._body(node.body, jitted=jitted, importing=False)
            return
        if isinstance(node, ast.ClassDef):
            self._body(node.body, jitted=jitted, importing=importing)
            return
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "type_comment"):
                continue
            for part in value if isinstance(value, list) else [value]:
                self._part(part, jitted=jitted, importing=importing)
        self._jitted, self._importing = jitted, importing
        self._whole(node)

    def _body(self, body: list[ast.stmt], *, jitted: bool, importing: bool) -> None:
        for node in body:
            self.statement(node, jitted=jitted, importing=importing)

    def _part(self, part: object, *, jitted: bool, importing: bool) -> None:
        if isinstance(part, ast.stmt):
            self.statement(part, jitted=jitted, importing=importing)
        elif isinstance(part, ast.expr):
            self._jitted, self._importing = jitted, importing
            self._expression(part)
        elif isinstance(part, ast.AST):  # handlers, items of `with`, cases
            for child in ast.iter_child_nodes(part):
                self._part(child, jitted=jitted, importing=importing)

    def _whole(self, node: ast.stmt) -> None:
        """Add what can go wrong with a statement as a whole."""
        if isinstance(node, ast.If | ast.While) and not _is_typing(node.test):
            self._add(node.test, "condition negated", f"not ({ast.unparse(node.test)})")
        elif isinstance(node, ast.AugAssign) and type(node.op) in _CALCULATED:
            other = _CALCULATED[type(node.op)]()
            turned = ast.AugAssign(node.target, other, node.value)
            self._add(node, "operator", ast.unparse(turned))
            self._add(node, "left out", "pass")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            self._add(node, "left out", "pass")
        elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
            self._add(node, "nothing returned", "return None")
        elif isinstance(node, ast.Continue):
            self._add(node, "break", "break")
        elif isinstance(node, ast.Break):
            self._add(node, "continue", "continue")

    def _expression(self, node: ast.expr) -> None:
        if isinstance(node, _LEFT_ALONE):
            return
        for kind, text in _faults(node):
            self._add(node, kind, text)
        for child in ast.iter_child_nodes(node):
            self._below(child)

    def _below(self, node: ast.AST) -> None:
        if isinstance(node, ast.keyword) and node.arg in _CHECKS:
            return
        if isinstance(node, ast.expr):
            self._expression(node)
        elif isinstance(node, ast.keyword | ast.comprehension | ast.Slice | ast.arguments):
            for child in ast.iter_child_nodes(node):
                self._below(child)

    def _add(self, node: ast.expr | ast.stmt, kind: str, text: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        self.found.append(
            Site(
                file=self._file,
                line=node.lineno,
                last_line=node.end_lineno,
                start=self._starts[node.lineno - 1] + node.col_offset,
                stop=self._starts[node.end_lineno - 1] + node.end_col_offset,
                kind=kind,
                text=text,
                jitted=self._jitted,
                importing=self._importing,
            )
        )


def _faults(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Yield kind and text of the faults of one expression."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        kind = type(node.ops[0])
        for table in (_COMPARED, _REVERSED):
            if kind in table:
                turned = ast.Compare(node.left, [table[kind]()], node.comparators)
                yield "comparison", f"({ast.unparse(turned)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in _CALCULATED and not _is_textual(node):
        turned_op = ast.BinOp(node.left, _CALCULATED[type(node.op)](), node.right)
        yield "operator", f"({ast.unparse(turned_op)})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "and/or", f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "sign or not dropped", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.IfExp):
        yield "branches swapped", f"({ast.unparse(ast.IfExp(node.test, node.orelse, node.body))})"
    elif isinstance(node, ast.Constant):
        yield from _constants(node.value)
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _constants(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "constant", str(not value)
    elif isinstance(value, int):
        yield "constant", str(value + 1)
    elif isinstance(value, float):
        yield "constant", repr(value * 2 if value else 1.0)


def _calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else None
    name = node.func.id if isinstance(node.func, ast.Name) else name
    if name in _CALLED:
        other = _CALLED[name]
        func: ast.expr = ast.Name(other)
        if isinstance(node.func, ast.Attribute):
            func = ast.Attribute(node.func.value, other)
        keywords = [] if other == "list" else node.keywords
        yield "call", ast.unparse(ast.Call(func, node.args, keywords))
    for i, keyword in enumerate(node.keywords):
        if isinstance(keyword.value, ast.Constant) and keyword.arg not in (None, *_CHECKS):
            rest = [*node.keywords[:i], *node.keywords[i + 1 :]]
            yield "argument left out", ast.unparse(ast.Call(node.func, node.args, rest))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_exports(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_typing(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"


def _is_textual(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        or (isinstance(side, ast.BinOp) and _is_textual(side))
        for side in sides
    )


def _is_jitted(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether a decorator's name is one of numba's, or of a helper that applies one."""
    return any(
        word in ast.unparse(decorator)
        for decorator in node.decorator_list
        for word in ("jit", "kernel", "compile", "intrinsic", "vectorize")
    )
