"""HEAR provider of any Hugging Face audio encoder in a local folder: ``hf@FOLDER``.

The folder is what ``save_pretrained`` writes of a model and its feature extractor. Nothing is
downloaded and no code from the folder is run. Needs the extra ``mambabench[hf]``.

Two kinds of model are understood. Those that read samples (wav2vec2, HuBERT, WavLM, data2vec,
UniSpeech, SEW...): frames lie where the convolutions of the configuration put them. Those that
read a fixed window of mel frames cut into patches (AST): windows follow one another, the patches
above one another are averaged, and frames whose centre is beyond the clip's end are dropped.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mambabench.errors import EncoderError
from mambabench.hear_api.factory import HearModel, get_scene_embeddings, get_timestamp_embeddings
from mambabench.models.encoder import LoadedEncoder
from mambabench.models.entry import Setting
from mambabench.models.registry import resolve_device
from mambabench.models.weights.identity import identity, weights_hash
from mambabench.models.weights.locate import repository_folder

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

Layers = tuple[int, ...] | None


def load_model(model_file_path: str = "", device: str = "auto") -> HearModel:
    """Load the model in the folder `model_file_path` with its feature extractor.

    Raises EncoderError where transformers is missing, the folder holds no audio encoder, or its
    kind is none of the two above.
    """
    if not model_file_path:
        raise EncoderError("name the model's folder: hf@FOLDER, as save_pretrained wrote it")
    folder = Path(model_file_path).expanduser()
    if not folder.exists() and repository_folder(model_file_path).is_dir():
        folder = repository_folder(model_file_path)
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"{folder} holds no config.json: give a local folder as save_pretrained writes it "
            f"(nothing is downloaded here: `mambabench weights get hf@{model_file_path}` fetches a "
            "public repository)"
        )
    network, extractor = _read(folder)
    if getattr(network.config, "model_type", "") == "mambabench":
        return HearModel(network.encoder)
    return HearModel(_encoder(folder, network, extractor, resolve_device(device)))


def _read(folder: Path) -> tuple[Any, Any]:
    transformers = _transformers()
    try:
        with warnings.catch_warnings():
            # Kaldi's own filter bank has an empty filter at these settings
            warnings.filterwarnings("ignore", message="At least one mel filter")
            extractor = transformers.AutoFeatureExtractor.from_pretrained(
                folder, local_files_only=True
            )
        network = transformers.AutoModel.from_pretrained(
            folder, local_files_only=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"{folder} cannot be loaded as a model: {error}") from error
    return network, extractor


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise EncoderError(
            "Hugging Face models need the package transformers: pip install 'mambabench[hf]'"
        ) from error
    from mambabench.hear_api.hf_export import register

    register()  # folders that `export` wrote load like any other
    return transformers


def _encoder(folder: Path, network: Any, extractor: Any, device: str) -> LoadedEncoder:
    network = network.to(device).eval()
    settings = network.config
    if getattr(settings, "conv_stride", None) is not None:
        reader: SampleReader | PatchReader = SampleReader(network, extractor)
    elif hasattr(settings, "time_stride") and hasattr(settings, "patch_size"):
        reader = PatchReader(network, extractor)
    else:
        raise EncoderError(
            f"{folder} is of the kind {settings.model_type!r}: only models on samples (wav2vec2 "
            "and its relatives) and patch models (AST) are understood. Wrap it in a HEAR module"
        )
    width = int(settings.hidden_size)
    n_states = int(settings.num_hidden_layers) + 1
    weights = weights_hash(network.state_dict())
    configuration: dict[str, Setting] = {
        "kind": "huggingface",
        "model_type": str(settings.model_type),
        "configuration_sha256": hashlib.sha256(
            (settings.to_json_string(use_diff=False) + extractor.to_json_string()).encode()
        ).hexdigest(),
        "sample_rate_hz": int(extractor.sampling_rate),
        "hop_ms": reader.hop_ms,
    }
    rate = int(extractor.sampling_rate)
    return LoadedEncoder(
        name="hf",
        label="hf",
        identity=identity(weights, configuration, lambda a: reader.scene(a, None), rate, device),
        model=network,
        device=device,
        sample_rate_hz=rate,
        scene_embedding_size=width,
        timestamp_embedding_size=width,
        n_hidden_states=n_states,
        scene=reader.scene,
        timestamps=reader.timestamps,
        configuration=configuration,
    )


def _states(output: Any, layers: Layers) -> torch.Tensor:
    """Return the chosen hidden states [n, n_tokens, n_layers, width]; the last is the output."""
    states = [*output.hidden_states[:-1], output.last_hidden_state]
    chosen = (len(states) - 1,) if layers is None else layers
    wrong = [i for i in chosen if not -len(states) <= i < len(states)]
    if wrong:
        raise EncoderError(f"layer {wrong[0]} is asked for; the model has 0 to {len(states) - 1}")
    return torch.stack([states[i] for i in chosen], dim=2).float()


def _features(extractor: Any, audio: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return what the model reads, made by the extractor that was saved with it."""
    clips = list(audio.detach().cpu().numpy())
    made = extractor(clips, sampling_rate=int(extractor.sampling_rate), return_tensors="pt")
    features: torch.Tensor = made[extractor.model_input_names[0]]
    return features.to(device)


@dataclass(frozen=True)
class SampleReader:
    """A model whose convolutions read the samples themselves."""

    network: Any
    extractor: Any

    @property
    def hop_samples(self) -> int:
        """The product of the strides."""
        hop = 1
        for stride in self.network.config.conv_stride:
            hop *= int(stride)
        return hop

    @property
    def field_samples(self) -> int:
        """How many samples one frame sees."""
        settings = self.network.config
        field, hop = 1, 1
        for kernel, stride in zip(settings.conv_kernel, settings.conv_stride, strict=True):
            field += (int(kernel) - 1) * hop
            hop *= int(stride)
        return field

    @property
    def hop_ms(self) -> float:
        """Milliseconds between frames."""
        return 1000.0 * self.hop_samples / int(self.extractor.sampling_rate)

    @torch.no_grad()
    def timestamps(self, audio: torch.Tensor, layers: Layers) -> tuple[torch.Tensor, torch.Tensor]:
        """Return frames [n, n_frames, n_layers, width] and the centres of what they see, in ms."""
        field, hop = self.field_samples, self.hop_samples
        read = self._normalised(audio)
        if read.shape[1] < field:  # the convolutions need one whole field
            read = torch.nn.functional.pad(read, (0, field - read.shape[1]))
        rows = _states(self.network(read, output_hidden_states=True), layers)
        rate = int(self.extractor.sampling_rate)
        duration_ms = 1000.0 * audio.shape[1] / rate
        index = torch.arange(rows.shape[1], dtype=torch.float64)
        times = ((index * hop + field / 2) * (1000.0 / rate)).clamp(max=duration_ms)
        return rows, times.float().to(rows.device).expand(len(audio), -1)

    def _normalised(self, audio: torch.Tensor) -> torch.Tensor:
        device = next(self.network.parameters()).device
        return _features(self.extractor, audio, device)

    def scene(self, audio: torch.Tensor, layers: Layers) -> torch.Tensor:
        """Return the mean over the frames, [n, n_layers, width]."""
        return self.timestamps(audio, layers)[0].mean(dim=1)


@dataclass(frozen=True)
class PatchReader:
    """A model on fixed windows of mel frames cut into patches, class tokens first."""

    network: Any
    extractor: Any

    @property
    def frame_ms(self) -> float:
        """The hop of the Kaldi features that such models read."""
        return 10.0

    @property
    def hop_ms(self) -> float:
        """Milliseconds between columns of patches."""
        return self.frame_ms * int(self.network.config.time_stride)

    def _windows(
        self, audio: torch.Tensor, layers: Layers
    ) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
        """Return class vectors [n, n_windows, n_layers, width], columns of patches
        [n, n_columns, n_layers, width] joined over windows, and the samples of each window."""
        settings = self.network.config
        rate = int(self.extractor.sampling_rate)
        columns = (int(settings.max_length) - int(settings.patch_size)) // int(
            settings.time_stride
        ) + 1
        bands = (int(settings.num_mel_bins) - int(settings.patch_size)) // int(
            settings.frequency_stride
        ) + 1
        # a window moves by whole columns, so that frames stay on one grid
        step = int(columns * self.hop_ms * rate / 1000)
        device = next(self.network.parameters()).device
        classes, grids, lengths = [], [], []
        for start in range(0, audio.shape[1], step):
            part = audio[:, start : start + step]
            if part.shape[1] < rate // 40:  # the features need one frame of 25 ms
                part = torch.nn.functional.pad(part, (0, rate // 40 - part.shape[1]))
            features = _features(self.extractor, part, device)
            states = _states(self.network(features, output_hidden_states=True), layers)
            n_class = states.shape[1] - bands * columns
            grid = states[:, n_class:].reshape(len(audio), bands, columns, *states.shape[2:])
            grid = grid.mean(dim=1)
            first = states[:, :n_class].mean(dim=1) if n_class else grid.mean(dim=1)
            classes.append(first)
            grids.append(grid)
            lengths.append(min(step, audio.shape[1] - start))
        return torch.stack(classes, dim=1), torch.cat(grids, dim=1), lengths

    @torch.no_grad()
    def scene(self, audio: torch.Tensor, layers: Layers) -> torch.Tensor:
        """Return the mean of the class tokens, of several windows weighted by their lengths."""
        classes, _, lengths = self._windows(audio, layers)
        weights = torch.tensor(lengths, dtype=classes.dtype, device=classes.device)
        return torch.einsum("nwld,w->nld", classes, weights / weights.sum())

    @torch.no_grad()
    def timestamps(self, audio: torch.Tensor, layers: Layers) -> tuple[torch.Tensor, torch.Tensor]:
        """Return columns of patches [n, n_frames, n_layers, width] and their centres in ms."""
        _, grid, _ = self._windows(audio, layers)
        duration_ms = 1000.0 * audio.shape[1] / int(self.extractor.sampling_rate)
        centre = self.frame_ms * (int(self.network.config.patch_size) - 1) / 2 + 12.5
        n_frames = max(1, min(grid.shape[1], int((duration_ms - centre) // self.hop_ms) + 1))
        times = torch.arange(n_frames, dtype=torch.float64) * self.hop_ms + centre
        times = times.clamp(max=duration_ms)
        return grid[:, :n_frames], times.float().to(grid.device).expand(len(audio), -1)
