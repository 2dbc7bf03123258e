"""`tasks check` of a prepared task asks its family about the corpus that it points at."""

from __future__ import annotations

import csv
from pathlib import Path

from trees import keyword_spotting

from mambabench.benchmarks import tasks
from mambabench.benchmarks.layout.check import check_directory


def test_the_corpus_is_checked_by_its_own_family(tmp_path: Path) -> None:
    corpus = keyword_spotting(tmp_path / "corpus")
    made = tasks.prepare("KS", corpus, tmp_path / "tasks").directory
    found = [str(defect) for defect in check_directory(made).defects]
    assert any("superb_ks/test" in text and "clips, published 3,081" in text for text in found)
    with (made / "sources.csv").open(newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))["path"]
    (corpus / first).unlink()
    said = [d for d in check_directory(made).defects if d.file.endswith(first)]
    assert said
    assert said[0].severity == "error"
