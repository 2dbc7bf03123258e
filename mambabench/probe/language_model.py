"""Words from letters with a language model: SUPERB's second ASR column, never in a score.

Source: s3prl 0.4.18, `downstream/asr/w2l_decoder.py` and its options: a beam search over a lexicon
by flashlight-text (Collobert et al. 2016). The lexicon are the model's own words, letter by letter.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambabench.benchmarks.metrics.ratios import WORD_ERRORS_LM
from mambabench.errors import DataError, ProtocolError
from mambabench.files import sha256_file
from mambabench.reading.arpa import END, START, Ngrams, read_arpa

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "KIND",
    "METRIC",
    "LanguageModel",
    "Search",
    "language_model",
]

METRIC, KIND = WORD_ERRORS_LM.name, "text"  # what it scores, of tasks of which kind
WORD_END = "|"


@dataclass(frozen=True)
class Search:
    """How hypotheses are sought and weighed; the defaults are s3prl's."""

    beam: int = 5
    threshold: float = 25.0
    model_weight: float = 2.0  # of base-10 logarithms
    word_score: float = -1.0


@dataclass(frozen=True)
class LanguageModel:
    """An n-gram model by its file; it is read when the first clip is decoded."""

    path: Path
    sha256: str

    @cached_property
    def _lock(self) -> threading.Lock:
        return threading.Lock()

    @cached_property
    def _decoders(self) -> dict[tuple[tuple[str, ...], Search], tuple[Any, tuple[str, ...], Any]]:
        return {}

    def words(
        self,
        log_probabilities: npt.NDArray[np.float32],
        symbols: Sequence[str],
        search: Search | None = None,
    ) -> list[str]:
        """Return the words of one clip from [n_frames, n_symbols]; symbol 0 is CTC's blank."""
        import numpy as np

        search = search or Search()
        key = tuple(symbols), search
        frames = np.ascontiguousarray(log_probabilities, np.float32)
        with self._lock:
            if key not in self._decoders:
                self._decoders[key] = _decoder(self.path, key[0], search)
            decoder, words, model = self._decoders[key]
            model.forget()
            found = decoder.decode(frames.ctypes.data, *frames.shape)
        return [words[i] for i in found[0].words if 0 <= i < len(words)] if found else []


def language_model(path: Path) -> LanguageModel:
    """Return the model in an ARPA file.

    Raises DataError where the file is none, ProtocolError where the decoder is not installed.
    """
    _flashlight()
    if not path.is_file():
        raise DataError(f"{path}: no such file; --lm takes an n-gram model in ARPA's format")
    return LanguageModel(path, sha256_file(path))


def _flashlight() -> Any:
    try:
        from flashlight.lib.text import decoder
    except ImportError as error:
        raise ProtocolError(
            "--lm needs flashlight-text, which is not installed: pip install 'mambabench[lm]'"
        ) from error
    return decoder


def _decoder(
    path: Path, symbols: tuple[str, ...], search: Search
) -> tuple[Any, tuple[str, ...], Any]:
    """Return flashlight's decoder, its words by index, and the model that it asks."""
    flashlight = _flashlight()
    ngrams = read_arpa(path)
    index = {symbol: i for i, symbol in enumerate(symbols)}
    words = tuple(word for word in ngrams.words if all(letter in index for letter in word))
    if WORD_END not in index or not words:
        raise DataError(
            f"{path}: none of its words is spelled in the task's letters "
            f"({' '.join(symbols[:12])} ...) with {WORD_END!r} at word ends; take a model of the "
            "task's language, in its letters"
        )

    model = _asked(flashlight.LM, flashlight.LMState, ngrams, words)
    trie = flashlight.Trie(len(symbols), index[WORD_END])
    start = model.start(False)
    for i, word in enumerate(words):
        spelled = [*(index[letter] for letter in word), index[WORD_END]]
        trie.insert(spelled, i, model.score(start, i)[1])
    trie.smear(flashlight.SmearingMode.MAX)
    options = flashlight.LexiconDecoderOptions(
        search.beam,
        len(symbols),
        search.threshold,
        search.model_weight,
        search.word_score,
        -math.inf,  # unknown words
        0.0,  # silence
        False,
        flashlight.CriterionType.CTC,
    )
    decoder = flashlight.LexiconDecoder(
        options, trie, model, index[WORD_END], 0, len(words), [], False
    )
    return decoder, words, model


def _asked(base: Any, state_of: Any, ngrams: Ngrams, words: Sequence[str]) -> Any:
    """Return the model as flashlight asks it: a state and a word's index in, a state out."""

    class Model(base):  # type: ignore[misc]
        """Keeps the context of every state, which flashlight knows by identity."""

        def __init__(self) -> None:
            base.__init__(self)
            self._contexts: dict[Any, tuple[str, ...]] = {}

        def forget(self) -> None:
            self._contexts.clear()

        def start(self, nothing: bool) -> Any:
            state = state_of()
            self._contexts[state] = () if nothing or ngrams.order == 1 else (START,)
            return state

        def score(self, state: Any, word: int) -> tuple[Any, float]:
            value, context = ngrams.score(self._contexts[state], words[word])
            child = state.child(word)
            self._contexts[child] = context
            return child, value

        def finish(self, state: Any) -> tuple[Any, float]:
            value, context = ngrams.score(self._contexts[state], END)
            child = state.child(len(words))
            self._contexts[child] = context
            return child, value

    return Model()
