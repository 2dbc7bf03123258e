"""What audio becomes: token orders, times, windows, hops and padding."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from mambabench.models.encoders import fbank_runtime, ssam_runtime
from mambabench.models.encoders.frontends import EpicLogMel, KaldiFbank, SsamLogMel
from mambabench.models.encoders.ssam_runtime import upstream_features
from mambabench.models.registry import load_encoder


def clips(n: int, n_samples: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, n_samples, generator=generator) * 0.1


def close(ours: torch.Tensor, theirs: torch.Tensor, bound: float = 1e-5) -> bool:
    return ours.shape == theirs.shape and bool(
        (ours - theirs).abs().max() <= bound * theirs.abs().max()
    )


# ------------------------------------------------------------------------------------------ SSAM


def test_upstream_order_reads_time_major_tokens_as_frequency_major() -> None:
    steps, bands = 50, 5
    token = torch.arange(steps * bands, dtype=torch.float32)[:, None]  # token t * 5 + f
    rows = upstream_features(token, bands)
    for k in (0, 7, 49):
        for g in range(bands):
            assert rows[k, g] == (10 * g + k // 5) * bands + k % 5


def test_orders_agree_on_what_they_average_over_a_full_chunk() -> None:
    """Over whole chunks, both orders hold the same tokens in other places."""
    audio = clips(1, 31840)  # 200 frames exactly
    upstream, time = (
        load_encoder("ssam_tiny_random", device="cpu", token_order=order).timestamps(audio, None)
        for order in ("upstream", "time")
    )
    assert upstream[0].shape[1] == 50
    flat = [rows[0, :50, 0].reshape(250, 192).sum(dim=0) for rows in (upstream[0], time[0])]
    assert not torch.equal(upstream[0][:, :49], time[0][:, :49])
    # 1.99 s ends before the centre of nothing: all fifty columns are kept in both orders
    assert time[0].shape[1] == 50
    assert close(flat[0], flat[1], 1e-4)


@pytest.mark.parametrize("n_samples", [8000, 17120, 31680, 31840, 32000, 52800, 160000])
def test_ssam_times_are_centred_and_free_of_drift(n_samples: int) -> None:
    rows, times = load_encoder("ssam_tiny_random", device="cpu").timestamps(
        clips(1, n_samples), None
    )
    duration_ms = n_samples / 16
    assert times[0].tolist() == [40 * k + 15 for k in range(times.shape[1])]
    assert times[0, -1] <= duration_ms < times[0, -1] + 40
    assert rows.shape[1] == times.shape[1]


def test_ssam_rows_follow_an_event_in_time() -> None:
    """A click moves the rows where it is, not others: rows are aligned to time."""
    encoder = load_encoder("ssam_tiny_random", device="cpu")
    quiet = clips(1, 48000) * 0.01
    loud = quiet.clone()
    loud[0, 24000:24400] += clips(1, 400, seed=5)[0]  # 1.5 s: row 37
    embeddings = encoder.model.frontend.raw
    changed = (embeddings(loud) - embeddings(quiet)).abs().amax(dim=(0, 2))
    frames = changed.nonzero().flatten()
    assert 147 <= int(frames.min()) <= int(frames.max()) <= 155
    tokens = encoder.timestamps(loud, (0,))[0] - encoder.timestamps(quiet, (0,))[0]
    strength = tokens.abs().sum(dim=(0, 2, 3))
    assert int(strength.argmax()) in (37, 38)


def test_ssam_scene_orders_differ_and_are_recorded() -> None:
    audio = clips(1, 16000)
    default = load_encoder("ssam_tiny_random", device="cpu")
    time = load_encoder("ssam_tiny_random:scene_token_order=time", device="cpu")
    assert default.configuration["scene_token_order"] == "upstream"
    assert default.configuration["timestamp_token_order"] == "time"
    assert time.configuration["scene_token_order"] == "time"
    assert not torch.equal(default.scene(audio, None), time.scene(audio, None))
    rows, _ = time.timestamps(audio, None)
    assert close(time.scene(audio, None), rows.mean(dim=1))


def test_ssam_chunks_in_any_grouping_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder("ssam_tiny_random", device="cpu")
    audio = clips(2, 16000 * 5)
    whole = encoder.scene(audio, None)
    monkeypatch.setattr(ssam_runtime, "CHUNKS_AT_ONCE", 2)
    assert close(encoder.scene(audio, None), whole)


# ----------------------------------------------------------------------------- SSAMBA and AuM


FBANK = ("aum_tiny_random", "ssamba_tiny_random")


@pytest.mark.parametrize("name", FBANK)
def test_silence_after_a_clip_is_padding_only_if_it_is_in_the_clip(name: str) -> None:
    """Without `window=published` a short clip is not scanned with padding, and never averaged."""
    audio = clips(1, 16000)
    encoder = load_encoder(f"{name}:pooling=mean", device="cpu")
    rows, times = encoder.timestamps(audio, None)
    assert times[0].tolist() == [87.5 + 160 * k for k in range(6)]
    assert close(encoder.scene(audio, None), rows.mean(dim=1))
    padded = load_encoder(f"{name}:pooling=mean,window=published", device="cpu")
    padded_rows, padded_times = padded.timestamps(audio, None)
    assert torch.equal(padded_times, times)
    assert not close(padded_rows, rows, 1e-3)
    assert close(padded.scene(audio, None), padded_rows.mean(dim=1))


@pytest.mark.parametrize("name", FBANK)
def test_a_smaller_hop_interleaves_shifted_windows(name: str) -> None:
    audio = clips(1, 12000)
    native, times = load_encoder(name, device="cpu").timestamps(audio, None)
    encoder = load_encoder(f"{name}:hop_ms=40", device="cpu")
    rows, fine = encoder.timestamps(audio, None)
    assert encoder.configuration["hop_ms"] == 40
    assert fine[0].tolist() == [87.5 + 40 * k for k in range(fine.shape[1])]
    assert 750 - 40 < fine[0, -1] <= 750
    assert close(rows[:, ::4], native)
    assert torch.equal(fine[:, ::4], times)
    # the rows between are the native rows of the clip from 40 ms on, its mean aside
    shifted = encoder.model.frontend(audio)[:, 4:]
    assert torch.equal(shifted[0, 0], encoder.model.frontend(audio)[0, 4])
    assert not close(rows[:, 1::4][:, :3], native[:, :3], 1e-4)


@pytest.mark.parametrize("name", FBANK)
def test_columns_hold_the_patches_of_a_column(name: str) -> None:
    audio = clips(1, 8000)
    mean = load_encoder(f"{name}:pooling=mean", device="cpu")
    columns = load_encoder(f"{name}:pooling=columns", device="cpu")
    assert columns.scene_embedding_size == columns.timestamp_embedding_size == 8 * 192
    rows, wide = mean.timestamps(audio, None)[0], columns.timestamps(audio, None)[0]
    assert close(wide.unflatten(3, (8, 192)).mean(dim=3), rows)
    scene = columns.scene(audio, None).unflatten(2, (8, 192)).mean(dim=2)
    assert close(scene, mean.scene(audio, None))


def test_stride_ten_gives_twelve_bands_and_a_hop_of_100_ms() -> None:
    encoder = load_encoder("ssamba_tiny_random:stride=10,pooling=columns", device="cpu")
    rows, times = encoder.timestamps(clips(1, 8000), None)
    assert rows.shape[3] == 12 * 192 == encoder.timestamp_embedding_size
    assert times[0].tolist() == [87.5 + 100 * k for k in range(5)]


def test_long_clips_reach_back_for_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """11.2 s have 69 columns: one window of 64, one of the last 64 that adds five."""
    encoder = load_encoder("aum_tiny_random:pooling=mean", device="cpu")
    audio = clips(1, 16000 * 11 + 3200)
    rows, times = encoder.timestamps(audio, None)
    assert rows.shape[1] == times.shape[1] == 70 - 0
    runtime = encoder.model
    windows, new = runtime._windows(runtime.frontend(audio), 70, False)
    assert windows.shape == (1, 2, 1024, 128)
    assert new == [64, 6]
    assert torch.equal(windows[:, 0, 96:], windows[:, 1, : 1024 - 96])
    assert close(encoder.scene(audio, None), rows.mean(dim=1))
    monkeypatch.setattr(fbank_runtime, "WINDOWS_AT_ONCE", 1)
    assert close(encoder.timestamps(audio, None)[0], rows)


def test_class_vectors_of_windows_are_weighted_by_their_new_columns() -> None:
    encoder = load_encoder("aum_tiny_random", device="cpu")
    runtime = encoder.model
    audio = clips(1, 16000 * 11 + 3200)
    windows, new = runtime._windows(runtime.frontend(audio), 70, False)
    with torch.no_grad():
        vectors = [next(iter(runtime._states(windows[:, i], None)))[0] for i in range(2)]
    expected = (vectors[0] * new[0] + vectors[1] * new[1]) / sum(new)
    assert close(encoder.scene(audio, None)[:, 0], expected)


def test_probabilities_use_the_head_at_the_trained_length() -> None:
    encoder = load_encoder("aum_tiny_random", device="cpu")
    runtime, audio = encoder.model, clips(2, 16000)
    with torch.no_grad():
        found = runtime.probabilities(audio)
        padded = runtime._fit(runtime.frontend(audio), 1024)
        expected = runtime.backbone(padded).sigmoid()
    assert found.shape == (2, 527)
    assert close(found, expected)
    runtime.sigmoid = False
    assert close(runtime.probabilities(audio).sum(dim=1), torch.ones(2))


def test_epic_sounds_models_hear_24_khz_and_repeat_the_edge() -> None:
    from mambabench.models.blocks.initialise import initialise
    from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
    from mambabench.models.encoders.fbank_runtime import FbankOptions, FbankRuntime

    encoder = AumEncoder(AumConfiguration(32, depth=2, num_classes=44)).eval()
    initialise(encoder, 0, 2)
    options = FbankOptions(pooling="mean", hop_ms=40.0)
    runtime = FbankRuntime(encoder, EpicLogMel(), None, options, sigmoid=False)
    audio = clips(2, 24000)
    with torch.no_grad():
        rows, times = runtime.timestamps(audio)
        scene, shares = runtime.scene(audio), runtime.probabilities(audio)
    assert (scene.shape, shares.shape) == ((2, 1, 32), (2, 44))
    assert times[0].tolist() == [37.5 + 40 * k for k in range(25)]
    assert rows.shape == (2, 25, 1, 32)
    features = runtime.frontend(audio)
    fitted = runtime._fit(features, 1024)
    assert torch.equal(fitted[:, :201], features)
    assert torch.equal(fitted[:, 900], features[:, -1])


@pytest.mark.peer
def test_epic_log_mel_equals_librosa() -> None:
    librosa = pytest.importorskip("librosa")
    audio = clips(1, 48000)
    audio[0, 5000:9000] = 0
    spectrum = librosa.stft(
        audio[0].numpy(), n_fft=2048, hop_length=120, win_length=240, pad_mode="constant"
    )
    filters = librosa.filters.mel(sr=24000, n_fft=2048, n_mels=128, htk=True, norm=None)
    expected = torch.from_numpy(filters @ abs(spectrum) + 1e-6).log().T
    assert float((EpicLogMel()(audio)[0] - expected).abs().max()) < 1e-4


@pytest.mark.parametrize("dataset", ["esc50", "vggsound", "urbansound8k"])
def test_normalisation_changes_and_is_recorded(dataset: str) -> None:
    audio = clips(1, 8000)
    encoder = load_encoder(f"ssamba_tiny_random:normalisation={dataset}", device="cpu")
    assert encoder.configuration["normalisation"] == dataset
    other = load_encoder("ssamba_tiny_random", device="cpu")
    assert not torch.equal(encoder.scene(audio, None), other.scene(audio, None))


# ------------------------------------------------------------------------------------ front-ends


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 32000, 44100, 48000])
def test_kaldi_fbank_at_other_rates_follows_its_definition(rate: int) -> None:
    """Frame by frame in float64, written from the definition."""
    frontend = KaldiFbank(rate)
    audio = clips(1, rate // 4)
    features = frontend(audio)
    frame, hop = int(rate * 0.025), rate // 100
    n_fft = 2 ** math.ceil(math.log2(frame))
    assert frontend.n_fft == n_fft
    assert features.shape == (1, 1 + (audio.shape[1] - frame) // hop, 128)
    x = (audio - audio.mean()).double()[0, 3 * hop : 3 * hop + frame]
    x = x - x.mean()
    x = x - 0.97 * torch.cat((x[:1], x[:-1]))
    x = x * (0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(frame) / (frame - 1)))
    power = torch.fft.rfft(x, n=n_fft).abs().square()[: n_fft // 2]
    mel = [1127 * math.log(1 + hz / 700) for hz in (20.0, rate / 2)]
    corners = torch.linspace(mel[0], mel[1], 130, dtype=torch.float64)
    at = 1127 * torch.log(1 + torch.arange(n_fft // 2).double() * rate / n_fft / 700)
    rising = (at - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - at) / (corners[2:] - corners[1:-1])[:, None]
    energy = torch.minimum(rising, falling).clamp_min(0) @ power
    expected = energy.clamp_min(1.1920929e-07).log()
    assert float((features[0, 3].double() - expected).abs().max()) < 1e-2


def test_front_ends_give_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from mambabench.models.encoders import frontends

    audio = clips(2, 24000)
    made = (SsamLogMel(), KaldiFbank(), EpicLogMel())
    whole = [frontend(audio) for frontend in made]
    monkeypatch.setattr(frontends, "BLOCK_FRAMES", 7)
    for frontend, expected in zip(made, whole, strict=True):
        assert close(frontend(audio), expected, 1e-4)


def test_silence_is_exactly_zero_after_ssam_standardisation() -> None:
    assert torch.equal(SsamLogMel()(torch.zeros(2, 16000)), torch.zeros(2, 101, 80))


@pytest.mark.parametrize("frontend", [SsamLogMel(), KaldiFbank(), EpicLogMel()])
def test_front_ends_add_nothing_to_a_state_dict(frontend: torch.nn.Module) -> None:
    assert not frontend.state_dict()


# ------------------------------------------------------------------------------------ long audio


LONG = """
import resource, sys, torch
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.fbank_runtime import FbankOptions, FbankRuntime, Normalisation
from mambabench.models.encoders.frontends import KaldiFbank
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder
from mambabench.models.encoders.ssam_runtime import SsamRuntime

if sys.argv[1] == "ssam":
    encoder, wrap = SsamEncoder(SsamConfiguration(32, depth=2)), SsamRuntime
else:
    options = FbankOptions(pooling="mean")
    encoder = AumEncoder(AumConfiguration(32, depth=2))
    wrap = lambda e: FbankRuntime(e, KaldiFbank(), Normalisation(-4.3, 4.6), options)
initialise(encoder, 0, 2)
runtime = wrap(encoder.eval())

def peak(minutes):
    with torch.no_grad():
        assert runtime.scene(torch.ones(1, 960000 * minutes) * 0.1, (0, 1, 2)).isfinite().all()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

first = peak(2)
print(peak(20) - first)
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["ssam", "aum"])
def test_twenty_minutes_take_little_more_memory_than_two(family: str) -> None:
    """The samples are 73 MB, the features up to 59 MB, each once more while they are padded."""
    command = [sys.executable, "-c", LONG, family]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 450, f"{done.stdout} MB more"
