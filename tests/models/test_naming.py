"""What encoders are called, and what a name stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mambabench.errors import EncoderError
from mambabench.hear_api.template import write_template
from mambabench.models.naming import called, expanded, short_name
from mambabench.models.registry import encoder_entries, load_encoder, split_name, with_option


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("logmel_stats", "logmel_stats"),
        ("ssam_tiny:token_order=time", "ssam_tiny:token_order=time"),
        ("voice=ssam_tiny:token_order=time", "voice"),
        ("some/where/my.py", "my"),
        ("my.py@weights.pt", "my@weights.pt"),
        ("onnx@some/where/net.onnx", "net"),
        ("tflite:hop_ms=200@net.toml", "net"),
        ("v=onnx@a=b.onnx", "v"),
        ("hf@some/folder", "hf@some/folder"),
        ("package.module", "package.module"),
    ],
)
def test_short_names(text: str, name: str) -> None:
    assert short_name(text) == name


def test_a_file_that_is_called_like_a_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.py").write_text("")
    assert called("a=b.py") == (None, "a=b.py")


def test_the_name_goes_with_options_and_labels(tmp_path: Path) -> None:
    assert split_name("v=x:a=1@p") == ("x", {"a": 1}, Path("p"))
    assert with_option("v=logmel_stats", "hop_ms", 20.0) == "v=logmel_stats:hop_ms=20"
    encoder = load_encoder("floor=logmel_stats", device="cpu")
    assert (encoder.name, encoder.label) == ("floor", "floor")
    assert encoder.identity == load_encoder("logmel_stats", device="cpu").identity
    write_template(tmp_path / "mine.py")
    assert load_encoder(str(tmp_path / "mine.py"), device="cpu").label == "mine"


def test_zoo_means_what_is_at_hand() -> None:
    entries = encoder_entries()
    at_hand = ("crepe_tiny", "birdnet")
    given = ["logmel_stats", "zoo", "birdnet"]
    assert expanded(given, entries, at_hand) == ("logmel_stats", "crepe_tiny", "birdnet")
    with pytest.raises(EncoderError, match="no encoder of the zoo is at hand"):
        expanded(["zoo"], entries, ())
    with pytest.raises(EncoderError, match="two encoders are called 'a'"):
        expanded(["a=x.py", "a=y.py"], entries, ())
