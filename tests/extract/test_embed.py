"""One's own files: formats of the output, sample rates, channels, errors."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from mambabench.errors import DataError, EncoderError, MambabenchError
from mambabench.extract.embed import embed

Provide = Callable[..., str]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three recordings: mono WAV, stereo FLAC at another rate, short mono WAV."""
    rng = np.random.default_rng(3)
    specs = (("a.wav", 16000, (16000,)), ("b.flac", 44100, (30000, 2)), ("c.wav", 16000, (4000,)))
    paths = []
    for name, rate, shape in specs:
        path = tmp_path / name
        soundfile.write(path, 0.1 * rng.standard_normal(shape), rate)
        paths.append(path)
    return paths


def test_arrays_of_the_archive_for_scenes(
    files: list[Path], provider: Provide, tmp_path: Path
) -> None:
    name, output = provider(), tmp_path / "x.npz"
    done = embed(files, name, output=output)
    with np.load(output, allow_pickle=False) as archive:
        found = {key: archive[key] for key in archive}
    assert set(found) == {"file", "embedding", "duration_s", "encoder", "encoder_identity"}
    assert found["file"].tolist() == [str(path) for path in files]
    assert found["embedding"].dtype == np.float32
    assert found["embedding"].shape == (3, 6)
    np.testing.assert_array_equal(found["embedding"], done.embedding)
    np.testing.assert_allclose(found["duration_s"], [1.0, 30000 / 44100, 0.25], atol=1e-4)
    assert str(found["encoder"]) == Path(name).stem
    assert str(found["encoder_identity"]) == done.encoder_identity
    assert len(done.encoder_identity) == 64


def test_arrays_of_the_archive_for_frames(
    files: list[Path], provider: Provide, tmp_path: Path
) -> None:
    output = tmp_path / "x.npz"
    embed(files, provider(), timestamps=True, output=output)
    with np.load(output, allow_pickle=False) as archive:
        found = {key: archive[key] for key in archive}
    assert set(found) == {
        "file", "embedding", "timestamp_ms", "offsets", "duration_s", "encoder", "encoder_identity"
    }  # fmt: skip
    offsets = found["offsets"]
    assert offsets.dtype == np.int64
    assert offsets[[0, 1, -1]].tolist() == [0, 49, len(found["embedding"])]
    assert found["timestamp_ms"].dtype == np.float32
    np.testing.assert_allclose(found["timestamp_ms"][offsets[1] : offsets[1] + 2], [12.5, 32.5])


def test_stereo_is_averaged(provider: Provide, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    audio = 0.1 * rng.standard_normal((8000, 2))
    soundfile.write(tmp_path / "stereo.wav", audio, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", audio.mean(1), 16000, subtype="FLOAT")
    done = embed([tmp_path / "stereo.wav", tmp_path / "mono.wav"], provider())
    np.testing.assert_allclose(done.embedding[0], done.embedding[1], atol=1e-6)


def test_resampling_keeps_a_tone(provider: Provide, tmp_path: Path) -> None:
    from mambabench.extract.audio import decode

    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
    soundfile.write(tmp_path / "tone.wav", tone, 44100)
    samples = decode(tmp_path / "tone.wav", 16000).samples
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert len(samples) == 16000
    np.testing.assert_allclose(samples[500:-500], wanted[500:-500], atol=1e-3)


def test_npy_and_csv_hold_the_same_numbers(
    files: list[Path], provider: Provide, tmp_path: Path
) -> None:
    name = provider()
    done = embed(files, name, timestamps=True, output=tmp_path / "x.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), done.embedding)
    embed(files, name, timestamps=True, output=tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["file", "timestamp_ms", *(f"e{i}" for i in range(6))]
    assert [row[0] for row in rows] == [
        str(path) for path, n in zip(files, np.diff(done.offsets), strict=True) for _ in range(n)
    ]
    np.testing.assert_array_equal(np.array([r[1] for r in rows], np.float32), done.timestamp_ms)
    np.testing.assert_array_equal(np.array([r[2:] for r in rows], np.float32), done.embedding)
    embed(files[:1], name, output=tmp_path / "scene.csv")
    assert (tmp_path / "scene.csv").read_text().startswith("file,e0,e1,e2,e3,e4,e5\n")


def test_what_cannot_be_embedded_is_named(provider: Provide, tmp_path: Path) -> None:
    name = provider()
    with pytest.raises(DataError, match=r"nowhere\.wav is missing"):
        embed([tmp_path / "nowhere.wav"], name)
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(DataError, match=r"text\.wav is no readable audio"):
        embed([tmp_path / "text.wav"], name)
    with pytest.raises(DataError, match="no files to embed"):
        embed([], name)
    with pytest.raises(MambabenchError, match=r"x\.npx: the ending .*did you mean '\.npz'"):
        embed([tmp_path / "text.wav"], name, output=tmp_path / "x.npx")
    soundfile.write(tmp_path / "quiet.wav", np.zeros(8000), 16000)
    with pytest.raises(EncoderError, match=r"quiet\.wav that are NaN or infinite"):
        embed([tmp_path / "quiet.wav"], provider("nan", name="nan"))


def test_the_command(files: list[Path], provider: Provide, tmp_path: Path) -> None:
    from mambabench.cli.embed import command

    output = tmp_path / "x.npz"
    arguments = [*map(str, files), "--encoder", provider(), "--timestamps", "-o", str(output)]
    result = CliRunner().invoke(command, arguments, standalone_mode=False)
    assert result.exception is None, result.output
    assert result.return_value == 0
    assert f"{output}: " in result.output
    assert output.is_file()
    assert CliRunner().invoke(command, ["a.wav", "-o", "x.npz"]).exit_code == 2


def test_folders_and_several_encoders(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from mambabench.cli.embed import command

    below = tmp_path / "clips" / "more"
    below.mkdir(parents=True)
    for path in (tmp_path / "clips" / "b.wav", below / "a.wav"):
        soundfile.write(path, np.linspace(-0.5, 0.5, 8000), 16000)
    (tmp_path / "clips" / "notes.txt").write_text("no audio")
    output = tmp_path / "out.npz"
    words = [str(tmp_path / "clips"), "-o", str(output)]
    words += ["--encoder", "logmel_stats", "--encoder", "X=logmel_stats", "--encoder", "nothing"]
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert done.return_value == 1
    assert not output.exists()
    for name in ("logmel_stats", "X"):
        found = np.load(tmp_path / f"out.{name}.npz")
        assert [Path(str(f)).name for f in found["file"]] == ["b.wav", "a.wav"]
        assert str(found["encoder"]) == name
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no audio files"):
        embed(tmp_path / "empty", "logmel_stats")
