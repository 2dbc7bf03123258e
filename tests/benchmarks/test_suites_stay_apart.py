"""A suite is a folder: nothing outside it knows its name or its tasks' names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from mambabench.benchmarks import known
from mambabench.benchmarks.family import FamilyScore, TaskFamily
from mambabench.benchmarks.superb import TASKS
from mambabench.report.exchange.family_scores import family_scores
from mambabench.report.exchange.overall import overall_scores
from mambabench.report.rows import Row

PACKAGE = Path(known.__file__).resolve().parents[1]
SHORT = {task.superb_name for task in TASKS.values()} - {"SD"}  # of reports: standard deviation
ALLOWED = {
    "benchmarks/known.py": "the registry of families",
    "report/exchange/citations.py": "a table of citations",
    "report/exchange/published.py": "the list of published tables",
    "train/corpora.py": "IEMOCAP for fine-tuning has ER's folds and split",
}


def own(path: Path) -> bool:
    """Say whether a file belongs to the suite, or is one of protocols."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[:2] in (("benchmarks", "superb"), ("probe", "protocols"))


def words(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield names, imported modules and strings of a module, but for what documents it."""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        value = getattr(node, "value", None) if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and id(node) not in documented:
            yield node.lineno, value
        for field in ("id", "attr", "module", "name"):
            word = getattr(node, field, None)
            if isinstance(word, str):
                yield node.lineno, word


def named(path: Path) -> list[str]:
    return [
        f"{path.relative_to(PACKAGE)}:{line}: {word[:60]}"
        for line, word in words(ast.parse(path.read_text(encoding="utf-8")))
        if "superb" in word.lower() or word in SHORT
    ]


def test_nothing_outside_the_suite_names_it() -> None:
    found = {path: named(path) for path in PACKAGE.rglob("*.py") if not own(path)}
    naming = {str(path.relative_to(PACKAGE)): lines for path, lines in found.items() if lines}
    assert naming.keys() == ALLOWED.keys(), "\n".join(
        line for name, lines in naming.items() if name not in ALLOWED for line in lines
    )


def row(encoder: str, task: str, mean: float, protocol: str = "house/fast") -> Row:
    return Row(
        encoder=encoder,
        task=task,
        metric="top1_acc",
        higher_is_better=True,
        protocol=protocol,
        n_seeds=1,
        n_test=20,
        mean=mean,
        std=None,
        ci95_low=None,
        ci95_high=None,
        boot_low=None,
        boot_high=None,
        reason=None,
    )


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> TaskFamily:
    """Another package's family, whose score runs from 50 % to 100 %."""
    score = FamilyScore(
        "House score",
        "House points",
        protocols=("house",),
        tasks={"one-task": "one", "other-task": "other"},
        references=("chance", "perfect"),
        points=lambda task, values: 2 * (values["top1_acc"] - 50),
    )
    family = TaskFamily("house", tuple, score=score)
    monkeypatch.setitem(known.FAMILIES, "house", family)
    return family


def test_a_foreign_family_has_a_score_of_its_own(family: TaskFamily) -> None:
    rows = [
        row("good", "one-task", 0.75),
        row("good", "other-task", 1.0),
        row("half", "one-task", 0.5),
    ]
    rows.append(row("else", "one-task", 0.5, protocol="sound"))
    found = {(o.encoder, o.normalisation): o for o in family_scores(rows)}
    assert found["good", "House score"].score == pytest.approx(75)
    assert found["good", "House points, one"].score == pytest.approx(50)
    half = found["half", "House score"]
    assert (half.score, half.pool) == (None, ("chance", "perfect"))
    assert {one.n_imputed for one in found.values()} == {0}, "no score of a task is made up"
    assert half.reason == "no score without all two tasks; missing other"
    assert not any(encoder == "else" for encoder, _ in found)
    assert overall_scores(rows) == (), "no other overall score stands beside it"
