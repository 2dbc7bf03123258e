"""The decoder hears the whole file, or says in words why not, whatever header and name say."""

from __future__ import annotations

import io
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mambabench.errors import DataError
from mambabench.reading.audio import decode_bytes, find_file, read_audio, read_header, twins
from mambabench.reading.containers import flac_end

RATE = 16000
N = 32000
SIGNAL = 0.3 * np.sin(2 * np.pi * 440 * np.arange(N) / RATE)
ID3V2 = b"ID3\x03\x00\x00\x00\x00\x00\x0c" + b"TIT2" + bytes(8)
ID3V1 = b"TAG" + b"title".ljust(125, b"\0")
DELAY = 1200  # samples by which MP3 may begin later, and what its last frame is filled with


def encoded(kind: str, subtype: str | None = None, signal: np.ndarray = SIGNAL) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, RATE, format=kind, subtype=subtype)
    return file.getvalue()


WAV, FLAC, MP3 = encoded("WAV"), encoded("FLAC"), encoded("MP3")
AIFF, AU, RF64 = encoded("AIFF"), encoded("AU"), encoded("RF64")
VORBIS, OPUS = encoded("OGG", "VORBIS"), encoded("OGG", "OPUS")


def with_data_size(data: bytes, size: int) -> bytes:
    return data[:40] + struct.pack("<I", size) + data[44:]


def with_total(data: bytes, total: int) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0 | total >> 32]) + struct.pack(
        ">I", total & 0xFFFFFFFF
    ) + data[26:]  # fmt: skip


def without_xing(data: bytes) -> bytes:
    """Drop the first frame, which holds the length header."""
    return data[data.index(b"\xff\xf3", 4) :]


def vbr_without_header() -> bytes:
    """Noise, then silence: the first frames tell nothing of the rest."""
    rng = np.random.default_rng(0)
    signal = np.concatenate([0.5 * rng.uniform(-1, 1, 3 * RATE), np.zeros(3 * RATE)])
    return without_xing(encoded("MP3", None, signal))


WHOLE = [
    ("wav", WAV),
    ("wav float", encoded("WAV", "FLOAT")),
    ("wav in an extensible header", encoded("WAVEX")),
    ("rf64", encoded("RF64")),
    ("wav of unknown size (0)", with_data_size(WAV, 0)),
    ("wav of unknown size (-1)", with_data_size(WAV, 0xFFFFFFFF)),
    ("wav of unknown size (sox)", with_data_size(WAV, 0x7FFFFFFF - 36)),
    ("wav with a tag before", ID3V2 + WAV),
    ("wav with a padded tag before", ID3V2 + bytes(7) + WAV),
    ("wav with a tag behind", WAV + ID3V1),
    ("wav with a chunk behind", WAV + b"LIST" + struct.pack("<I", 4) + b"abcd"),
    ("wav with zeros behind", WAV + bytes(512)),
    ("flac", FLAC),
    ("flac of unknown length", with_total(FLAC, 0)),
    ("flac with tags", ID3V2 + with_total(FLAC, 0) + ID3V1),
    ("aiff", encoded("AIFF")),
    ("au", encoded("AU")),
    ("caf", encoded("CAF")),
    ("vorbis", VORBIS),
    ("opus", OPUS),
    ("vorbis with a tag before", ID3V2 + VORBIS),
    ("mp3", MP3),
    ("mp3 with tags", ID3V2 + MP3 + ID3V1),
]


@pytest.mark.parametrize("data", [d for _, d in WHOLE], ids=[n for n, _ in WHOLE])
def test_the_whole_file_is_heard(data: bytes) -> None:
    audio = decode_bytes(data)
    assert audio.problem is None
    assert (audio.sample_rate_hz, audio.samples.shape) == (RATE, (N, 1))
    assert np.corrcoef(audio.samples[:, 0], SIGNAL)[0, 1] > 0.99


def test_an_mp3_without_a_length_header() -> None:
    for data, seconds in ((without_xing(MP3), 2.0), (vbr_without_header(), 6.0)):
        for clothed in (data, ID3V2 + data, data + ID3V1):
            audio = decode_bytes(clothed)
            assert audio.problem is None
            assert abs(len(audio.samples) - seconds * RATE) <= 2 * DELAY


def test_recordings_joined_to_one_file_are_all_heard() -> None:
    for one in (VORBIS, OPUS):
        audio = decode_bytes(one + one)
        assert (audio.samples.shape, audio.problem) == ((2 * N, 1), None)
    audio = decode_bytes(MP3 + MP3)
    assert abs(len(audio.samples) - 2 * N) <= 4 * DELAY
    audio = decode_bytes(without_xing(MP3) * 3)
    assert abs(len(audio.samples) - 3 * N) <= 6 * DELAY


def told(data: bytes) -> str:
    """Return what is said of a file, whether it is decoded in part or not at all."""
    try:
        return decode_bytes(data).problem or "nothing"
    except DataError as error:
        return str(error)


CUT = [
    ("wav", WAV[: len(WAV) // 3], r"is cut off: it holds 0\.67 s, its header promises 2\.00 s"),
    ("wav in its header", WAV[:30], "is no readable audio"),
    (
        "wav shorter than it is",
        with_data_size(WAV, 20000),
        r"promises 10000 samples, but audio goes",
    ),
    ("flac", FLAC[: len(FLAC) // 2], r"is cut off or damaged before the 32000 samples"),
    ("flac that claims 2^36", with_total(FLAC, 2**36 - 1), r"is cut off: it holds 2\.00 s"),
    ("flac that claims less", with_total(FLAC, 8000), r"promises 8000 samples, but it holds 32000"),
    ("vorbis", VORBIS[: len(VORBIS) // 2], "its last page is missing"),
    ("opus", OPUS[: len(OPUS) // 2], "its last page is missing"),
    ("mp3", MP3[: len(MP3) // 2], "is cut off: it holds"),
    ("aiff", AIFF[: len(AIFF) // 3], r"is cut off: it holds 0\.6\d s, its header promises 2\.00 s"),
    ("au", AU[: len(AU) // 3], r"is cut off: it holds 0\.6\d s, its header promises 2\.00 s"),
    ("rf64", RF64[: len(RF64) // 3], r"is cut off: it holds 0\.6\d s, its header promises 2\.00 s"),
    ("wav header alone", WAV[:44], r"is cut off: it holds 0\.00 s, its header promises 2\.00 s"),
    ("mp3 without header", without_xing(MP3)[:-20], "its last frame is cut off"),
]


@pytest.mark.parametrize(("data", "message"), [c[1:] for c in CUT], ids=[c[0] for c in CUT])
def test_what_is_not_whole_is_told(data: bytes, message: str) -> None:
    import re

    assert re.search(message, told(data)), told(data)


def test_a_wav_header_that_promises_too_little_is_read_on() -> None:
    assert len(decode_bytes(with_data_size(WAV, 20000)).samples) == N
    assert len(decode_bytes(with_total(FLAC, 8000)).samples) == N


NO_AUDIO = [
    (b"hello, this is text", "is no readable audio"),
    (b"RIFF nonsense", "is no readable audio"),
    (b"\0\0\0\x20ftypM4A " + bytes(64), r"is an MP4 file .*convert it to WAV or FLAC"),
    (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    (b"<!DOCTYPE html><p>404", "is a web page"),
    (b"PK\x03\x04" + bytes(40), "is a zip archive"),
    (b"\xff\xf1\x50\x80" + bytes(40), "is an AAC stream"),
    (WAV[:24] + bytes(4) + WAV[28:], "replace it"),
    (b"OggS", "replace it"),
    (b"fLaC" + bytes(60), "replace it"),
    (b"\xff\xfb\x90\x64" + bytes(300), "replace it"),
]


@pytest.mark.parametrize(("data", "message"), NO_AUDIO)
def test_what_is_no_audio_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        audio = decode_bytes(data)
        assert len(audio.samples) == 0
        raise DataError("is no readable audio: replace it")  # a decoder that finds nothing to say


@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_never_end_in_another_exception(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for data in (WAV, FLAC, MP3, VORBIS, OPUS):
        spoiled = bytearray(data[: int(rng.integers(1, len(data)))])
        for _ in range(int(rng.integers(0, 20))):
            spoiled[int(rng.integers(0, min(len(spoiled), 400)))] = int(rng.integers(0, 256))
        assert told(bytes(spoiled))


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    for name, message in (
        ("empty.wav", r"is empty \(0 bytes\)"),
        ("folder.wav", "is a folder or device"),
        ("no.wav", "is missing"),
    ):
        for read in (read_audio, read_header):
            with pytest.raises(DataError, match=message):
                read(tmp_path / name)


def test_names_say_nothing_of_the_content(tmp_path: Path) -> None:
    for name, data in (("a.raw", WAV), ("b.wav", FLAC), ("c.mp3", OPUS), ("d.flac", MP3)):
        (tmp_path / name).write_bytes(data)
        assert len(read_audio(tmp_path / name).samples) == N
        assert read_header(tmp_path / name).n_frames == N
    (tmp_path / "e.raw").write_bytes(np.full(500, 1000, "<i2").tobytes())
    with pytest.raises(DataError, match="is no readable audio"):
        read_audio(tmp_path / "e.raw")


@pytest.mark.parametrize("claimed", [0, 2**36 - 1])
def test_headers_of_impossible_length_are_measured(tmp_path: Path, claimed: int) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(with_total(FLAC, claimed))
    assert read_header(path).n_frames == N


def test_memory_follows_the_audio_and_not_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(with_total(FLAC, 2**36 - 1))
    tracemalloc.start()
    read_audio(path)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


@pytest.mark.parametrize("blocksize", [1, 3])
def test_the_end_of_a_flac_file_is_found_from_behind(blocksize: int) -> None:
    for n in (4096, 4097, 50000, 70000 * blocksize):
        signal = np.random.default_rng(n).uniform(-1, 1, n)
        assert flac_end(encoded("FLAC", None, signal)) == n


@pytest.mark.parametrize("n_channels", [1, 2, 5])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT", "ULAW"])
def test_samples_are_those_of_libsndfile(n_channels: int, subtype: str) -> None:
    signal = np.random.default_rng(0).uniform(-1, 1, (999, n_channels))
    data = encoded("WAV", subtype, signal)
    for part in (data, data[:-501]):
        wanted, _ = soundfile.read(io.BytesIO(part), dtype="float32", always_2d=True)
        np.testing.assert_array_equal(decode_bytes(part).samples, wanted)


def test_many_channels_and_long_files(monkeypatch: pytest.MonkeyPatch) -> None:
    from mambabench.reading import audio as module

    monkeypatch.setattr(module, "BLOCK", 1000)  # several blocks
    rng = np.random.default_rng(1)
    signal = rng.uniform(-0.5, 0.5, (5555, 3))
    found = decode_bytes(encoded("FLAC", "PCM_16", signal))
    np.testing.assert_allclose(found.samples, signal, atol=1e-4)


def test_a_file_of_another_ending_or_form_stands_for_a_clip(tmp_path: Path) -> None:
    accented = "caf\u00e9.wav"
    (tmp_path / "cafe\u0301.wav").write_bytes(WAV)
    assert find_file(tmp_path / accented).is_file()
    for ending in (".mp3", ".opus", ".ogg", ".flac", ".wav"):
        (tmp_path / f"a{ending}").write_bytes(WAV)
        assert find_file(tmp_path / "a.wav").suffix == ending
    assert find_file(tmp_path / "b.wav") == tmp_path / "b.wav"


def test_a_clash_of_case_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "Train").mkdir()
    with pytest.raises(DataError, match=r"is missing: the folder Train lies there and differs"):
        read_audio(tmp_path / "train" / "a.wav")


@pytest.mark.parametrize("rate", [1, 0xFFFFFFF0])
def test_a_rate_that_cannot_be(rate: int) -> None:
    with pytest.raises(DataError, match="sample rate|no readable audio"):
        decode_bytes(WAV[:24] + struct.pack("<I", rate) + WAV[28:])


def test_a_clash_of_case_is_named(tmp_path: Path) -> None:
    (tmp_path / "Train0.WAV").write_bytes(WAV)
    assert twins(tmp_path / "train0.wav") == ("Train0.WAV",)
    with pytest.raises(DataError, match=r"is missing: Train0\.WAV lies there and differs in case"):
        read_audio(tmp_path / "train0.wav")
