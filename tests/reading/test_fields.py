"""Values from JSON held against the types of a dataclass's fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mambabench.reading.fields import check_fields


@dataclass
class Part:
    name: str


@dataclass
class Whole:
    text: str
    count: int
    share: float
    fast: bool
    maybe: float | None
    names: tuple[str, ...]
    layers: tuple[int, ...] | None
    scores: dict[str, float | None]
    point: dict[str, str | int | float | bool | None]
    part: Part


FITS = {
    "text": ["", "a"],
    "count": [0, -3],
    "share": [0.5, 1],
    "fast": [True, False],
    "maybe": [None, 2, 0.5],
    "names": [[], ["a", "b"], ("a",)],
    "layers": [None, [], [1, 2], (1,)],
    "scores": [{}, {"acc": None, "mAP": 1}],
    "point": [{"a": "b", "c": 1, "d": 0.5, "e": True, "f": None}],
    "part": [Part("a"), {"name": 3}, "whatever"],
}
FAILS = {
    "text": [None, 1, True, ["a"]],
    "count": [0.5, "1", True, None],
    "share": ["0.5", True, None, [0.5]],
    "fast": [1, 0, None, "true"],
    "maybe": ["", True, [None]],
    "names": [None, "ab", [1], [True], {"a": "b"}],
    "layers": [[0.5], [True], "12", 3],
    "scores": [None, [], {"acc": "1"}, {1: 0.5}, {"acc": True}],
    "point": [{"a": []}, {None: 1}, {"a": {"b": 1}}],
    "part": [True],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, own in FITS.items() for v in own])
def test_what_fits(name: str, value: Any) -> None:
    check_fields(Whole, {name: value, "no field": object()})


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, own in FAILS.items() for v in own])
def test_what_does_not_fit_is_named(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"^{name} is .*, not "):
        check_fields(Whole, {name: value})
