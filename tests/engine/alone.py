"""An engine without a cluster: workers that see nothing of the output folder, run by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mambabench.engine.units import Crew, Unit, answered, told_error


class Alone:
    """Units cross a border of JSON, what they share comes beside; results are taken as they are."""

    shares_out = False

    def run(
        self,
        function: str,
        units: Iterable[Unit],
        *,
        attempts: int = 3,
        on_report: Callable[[Any], None] = lambda report: None,
        on_crew: Callable[[Crew], None] = lambda crew: None,
    ) -> Iterator[tuple[int, Any]]:
        for index, unit in enumerate(units):
            spec = json.loads(json.dumps(unit.spec))
            shared = {} if unit.shared is None else {"shared": unit.shared.load()}
            answer = answered(function, {**spec, **shared}, on_report)
            yield index, told_error(answer) if "error" in answer else answer["result"]

    def close(self) -> None:
        pass
