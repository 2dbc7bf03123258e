"""Query by example (QbE): QUESST 2014, English part, subsequence DTW, no training.

Source: s3prl 0.4.18, downstream `quesst14_dtw`; SUPERB (Yang et al. 2021), table 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mambabench.benchmarks.superb.sources import (
    Corpus,
    CorpusDefect,
    SourceClip,
    missing_files,
    read_lines,
    require_folder,
)
from mambabench.errors import DataError

__all__ = ["check", "query_scores", "read", "read_relevance", "subsequence_dtw", "z_normalise"]

LANGUAGE = "nnenglish"
GAIN_DB = -3.0
MIN_QUERY_FRAMES = 5  # shorter queries score 0
_LISTS = {
    "documents": "language_key_utterances.lst",
    "valid": "language_key_dev.lst",
    "test": "language_key_eval.lst",
}
_FOLDERS = {"documents": "Audio", "valid": "dev_queries", "test": "eval_queries"}
_REMEDY = "unpack quesst14Database so that scoring/ and Audio/ lie in the corpus folder"

Array = npt.NDArray[np.float64]


def read(root: Path) -> Corpus:
    """Read the English documents and queries of `root`, a quesst14Database folder.

    Splits: ``documents``, and the queries of ``valid`` (dev) and ``test`` (eval).
    """
    require_folder(root / "scoring", "QUESST 2014's scoring folder", _REMEDY)
    splits = {}
    for split, name in _LISTS.items():
        clips = []
        for number, line in enumerate(read_lines(root / "scoring" / name, _REMEDY), start=1):
            parts = line.split()
            if len(parts) < 2:
                raise DataError(f"{root / 'scoring' / name}, line {number}: not 'file language'")
            if parts[1] == LANGUAGE:
                stem = Path(parts[0]).stem
                path = f"{_FOLDERS[split]}/{stem}.wav"
                clips.append(SourceClip(f"{stem}.wav", path, (), gain_db=GAIN_DB))
        splits[split] = tuple(clips)
    return Corpus("superb_qbe", splits, ())


def read_relevance(root: Path, split: str) -> set[tuple[str, str]]:
    """Return the (query, document) stems that match, from the split's RTTM-like ground truth.

    Lines of ``scoring/groundtruth_quesst14_{dev,eval}/quesst14.rttm`` hold the document second and
    the query sixth, as ``LEXEME <document> 1 0 1 <query> lex <id> <score>``.
    """
    part = {"valid": "dev", "test": "eval"}[split]
    path = root / "scoring" / f"groundtruth_quesst14_{part}" / f"quesst14_{part}.rttm"
    found = set()
    for line in read_lines(path, _REMEDY):
        parts = line.split()
        if len(parts) >= 6 and parts[0] == "LEXEME":
            found.add((parts[5], parts[1]))
    return found


def subsequence_dtw(cost: Array, lengths: npt.NDArray[np.int64]) -> Array:
    """Return the normalised distance of one query to each of several documents.

    `cost` is [n_documents, n_query, n_document_frames], padded; `lengths` [n_documents] says how
    many frames count. Asymmetric steps (each query frame advances the document by 0, 1 or 2), free
    begin and end in the document, divided by the number of query frames. Returns [n_documents].
    """
    total = np.where(np.arange(cost.shape[2]) < lengths[:, None], cost[:, 0], np.inf)
    for row in range(1, cost.shape[1]):
        best = total.copy()
        np.minimum(best[:, 1:], total[:, :-1], out=best[:, 1:])
        np.minimum(best[:, 2:], total[:, :-2], out=best[:, 2:])
        total = best + cost[:, row]
    valid = np.where(np.arange(cost.shape[2]) < lengths[:, None], total, np.inf)
    distance: Array = valid.min(axis=1) / cost.shape[1]
    return distance


def _costs(query: Array, document: Array) -> Array:
    """Return [n_query, n_frames]: exp of the cosine distance, minus one, min-max scaled a row."""
    similarity = (query / np.maximum(np.linalg.norm(query, axis=1, keepdims=True), 1e-12)) @ (
        document / np.maximum(np.linalg.norm(document, axis=1, keepdims=True), 1e-12)
    ).T
    cost: Array = np.expm1(1.0 - similarity)
    low, high = cost.min(axis=1, keepdims=True), cost.max(axis=1, keepdims=True)
    scaled: Array = (cost - low) / np.maximum(high - low, 1e-12)
    return scaled


def query_scores(query: Array, documents: Sequence[Array], batch: int = 64) -> Array:
    """Return a score for each document (higher: more likely to contain the query).

    `query` is [n_query, dim], each document [n_frames, dim], standardised with the statistics of
    all queries and documents. Queries of fewer than five frames score 0 everywhere.
    """
    scores = np.zeros(len(documents))
    if len(query) < MIN_QUERY_FRAMES:
        return scores
    for start in range(0, len(documents), batch):
        part = documents[start : start + batch]
        lengths = np.array([len(document) for document in part])
        cost = np.zeros((len(part), len(query), lengths.max()))
        for index, document in enumerate(part):
            cost[index, :, : len(document)] = _costs(query, document)
        scores[start : start + batch] = -subsequence_dtw(cost, lengths)
    return scores


def z_normalise(scores: Array) -> Array:
    """Return scores [n_queries, n_documents] with zero mean and unit deviation per query."""
    spread = scores.std(axis=1, keepdims=True)
    centred: Array = (scores - scores.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    return centred


def check(root: Path) -> tuple[CorpusDefect, ...]:
    """List every listed English document and query whose audio is missing."""
    corpus = read(root)
    clips = [clip for split in corpus.splits.values() for clip in split]
    return missing_files(root, clips, _REMEDY)
