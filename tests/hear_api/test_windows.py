"""Windows: where they lie, what stands in them, and that clips never touch each other."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from mambabench.cli.check import command
from mambabench.errors import EncoderError
from mambabench.hear_api.adapters import load_hear_module
from mambabench.hear_api.check import check
from mambabench.hear_api.template import write_template
from mambabench.hear_api.windows import WindowedModel, Windows, windowed


def _model(embed, **given):  # type: ignore[no-untyped-def]
    return WindowedModel(embed, Windows(**{"sample_rate": 16000, **given}))


def _ends(windows: torch.Tensor) -> torch.Tensor:
    """Return the first and the last sample of each window."""
    return torch.stack([windows[:, 0], windows[:, -1]], 1)


def test_timestamps_are_the_centres_of_their_windows() -> None:
    ramp = torch.arange(1, 16001).float()[None]
    model = _model(lambda w: w[:, 400:401], window_samples=800, size=1, hop_ms=50)
    rows, times = model.timestamps(ramp)
    assert times[0].tolist() == [50.0 * i for i in range(20)]
    assert rows[0, :, 0].tolist() == [800.0 * i + 1 for i in range(20)]  # the sample at that time


def test_a_scene_is_covered_from_end_to_end() -> None:
    ramp = torch.arange(2500).float()[None]
    found = []

    def embed(windows: torch.Tensor) -> torch.Tensor:
        found.extend(_ends(windows).tolist())
        return windows[:, :1]

    scene = _model(embed, window_samples=1000, size=1, scene_hop_samples=600).scene(ramp)
    assert found == [[0, 999], [500, 1499], [1000, 1999], [1500, 2499]]
    assert scene.tolist() == [[750.0]]


def test_a_centred_scene_starts_around_the_first_sample() -> None:
    ramp = torch.arange(1, 2501).float()[None]
    found: list[list[float]] = []

    def embed(windows: torch.Tensor) -> torch.Tensor:
        found.extend(_ends(windows).tolist())
        return windows[:, :1]

    given = {"window_samples": 1000, "size": 1, "scene_hop_samples": 1000, "scene_centred": True}
    _model(embed, **given).scene(ramp)
    assert found == [[0, 500], [501, 1500]]


@pytest.mark.parametrize(("n", "before"), [(1, 4), (9, 0), (10, 0), (4, 3)])
def test_a_short_clip_stands_in_the_middle(n: int, before: int) -> None:
    found: list[torch.Tensor] = []
    model = _model(lambda w: (found.append(w), w[:, :1])[1], window_samples=10, size=1)
    model.scene(torch.ones(1, n))
    assert len(found[0]) == 1
    assert found[0][0].tolist() == [0.0] * before + [1.0] * n + [0.0] * (10 - n - before)


def test_batches_cross_clips_and_change_nothing() -> None:
    audio = torch.randn(5, 4000, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []

    def embed(windows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(windows))
        return windows[:, ::100] * 2

    together = _model(embed, window_samples=1000, size=10, batch=7)
    alone = _model(embed, window_samples=1000, size=10, batch=1)
    assert torch.equal(together.scene(audio), alone.scene(audio))
    assert sizes[0] == 7
    for i, clip in enumerate(audio):
        assert torch.equal(together.timestamps(clip[None])[0][0], together.timestamps(audio)[0][i])


def test_frames_lie_side_by_side_without_their_edges() -> None:
    ramp = torch.arange(1, 3001).float()[None]
    model = _model(
        lambda w: w[:, :1000].reshape(len(w), 10, 100)[:, :, :1],
        window_samples=1000, size=1, frame_samples=100, edge_frames=2, hop_ms=12.5,
    )  # fmt: skip
    rows, times = model.timestamps(ramp)
    assert rows[0, :, 0].tolist() == [200.0 * i + 1 for i in range(15)]
    assert times[0].tolist() == [12.5 * i for i in range(15)]


def test_scene_statistics_stand_side_by_side() -> None:
    model = _model(lambda w: w[:, :3], window_samples=4, size=3, scene=("mean", "std", "max"))
    audio = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))
    rows = torch.stack([audio[:, s : s + 3] for s in range(0, 37, 2)], 1)
    wanted = torch.cat([rows.mean(1), rows.std(1, correction=0), rows.amax(1)], 1)
    assert torch.allclose(model.scene(audio), wanted)
    assert model.scene_embedding_size == 9


def test_faults_name_what_is_wrong() -> None:
    with pytest.raises(EncoderError, match=r"'maen' is not one of mean, std, max; did you mean"):
        windowed(lambda w: w, 16000, 1.0, 4, scene="maen")
    with pytest.raises(EncoderError, match="either embed or load"):
        windowed(None, 16000, 1.0, 4)
    with pytest.raises(EncoderError, match="window_samples = 0"):
        windowed(lambda w: w, 16000, 0.0, 4)
    model = _model(lambda w: w[:, :2], window_samples=8, size=4)
    with pytest.raises(EncoderError, match=r"embed returned shape \[1, 2\].*expected \[1, 4\]"):
        model.scene(torch.ones(1, 8))


def test_the_template_passes_and_takes_a_hop(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    runner = CliRunner()
    result = runner.invoke(command, ["--template", str(file)], standalone_mode=False)
    assert result.return_value == 0
    assert check(str(file), device="cpu", long_s=5).passed
    plain = load_hear_module(file, device="cpu")
    wide = load_hear_module(file, device="cpu", options={"hop_ms": 200})
    audio = torch.ones(1, 16000)
    assert plain.timestamps(audio, None)[1].shape == (1, 20)
    assert wide.timestamps(audio, None)[1].shape == (1, 5)
    assert plain.identity != wide.identity
    with pytest.raises(EncoderError, match="exists"):
        write_template(file)


def test_weights_files_are_part_of_the_identity(tmp_path: Path) -> None:
    weights = tmp_path / "net.bin"
    weights.write_bytes(bytes(64))
    file = tmp_path / "net.py"
    file.write_text(
        "from pathlib import Path\n"
        "from mambabench.hear_api.windows import windowed\n"
        "W = Path(__file__).with_name('net.bin')\n"
        "load_model, get_scene_embeddings, get_timestamp_embeddings = windowed(\n"
        "    lambda w: w[:, 5:9], 16000, 0.1, 4, weights_files=[W])\n"
    )
    before = load_hear_module(file, device="cpu").identity
    assert load_hear_module(file, device="cpu").identity == before
    weights.write_bytes(bytes(63) + b"\x01")
    assert load_hear_module(file, device="cpu").identity != before
    weights.unlink()
    with pytest.raises(EncoderError, match=r"net\.bin in weights_files: no such file"):
        load_hear_module(file, device="cpu")
