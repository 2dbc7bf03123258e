"""Another hop for timestamp embeddings: ``--hop-ms`` is the encoder's own option."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

import mambabench
from mambabench.errors import EncoderError
from mambabench.models.registry import with_option


def test_the_option_joins_the_name():
    assert with_option("aum_tiny_random", "hop_ms", 40.0) == "aum_tiny_random:hop_ms=40"
    assert with_option("e:pooling=mean@a/b.pth", "hop_ms", 40) == "e:pooling=mean,hop_ms=40@a/b.pth"
    assert with_option("e:hop_ms=80", "hop_ms", 40) == "e:hop_ms=80"


def test_embed_with_another_hop(tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.normal(size=32000), 16000)
    coarse = mambabench.embed([tmp_path / "a.wav"], "aum_tiny_random", timestamps=True)
    fine = mambabench.embed([tmp_path / "a.wav"], "aum_tiny_random", timestamps=True, hop_ms=40)
    assert np.median(np.diff(coarse.timestamp_ms)) == pytest.approx(160)
    assert np.median(np.diff(fine.timestamp_ms)) == pytest.approx(40)
    assert fine.encoder == "aum_tiny_random:hop_ms=40"
    with pytest.raises(EncoderError, match="hop_ms"):
        mambabench.embed([tmp_path / "a.wav"], "aum_tiny_random", hop_ms=33)
