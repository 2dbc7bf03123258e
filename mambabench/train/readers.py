"""From a place in an epoch to a clip with its draws: what the loader's workers run.

Every random number comes from the stream of (seed, epoch, place): who reads the clip does not
matter. All of it can be pickled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mambabench.errors import DataError, MambabenchError
from mambabench.models.encoders.frontends import EpicLogMel
from mambabench.models.encoders.ssamba import cluster_mask
from mambabench.train import epic, melclips
from mambabench.train.augment import FbankSettings, StreamDraws
from mambabench.train.batches import Batch, ClipBatches, Item, Place, first_of
from mambabench.train.clips import TrainingClip
from mambabench.train.loaders import load_clip
from mambabench.train.orders import stream
from mambabench.train.ranks import Ranks
from mambabench.train.tars import Record, read_array

__all__ = ["Blocks", "EpicReader", "FbankReader", "Masks", "MelReader"]


@dataclass(frozen=True)
class MelReader:
    """Reads SSAM's log-mels: standardised, cropped, with the noise that masks."""

    records: Sequence[Record]
    n_frames: int
    n_bands: int
    n_noise: int  # values that decide what is masked: patches, or columns of them
    seed: int
    published: bool

    def __call__(self, place: Place) -> Item:
        """Return one clip [1, n_frames, n_bands] with the draws "noise"."""
        record = self.records[place.clip]
        features = read_array(record)
        if features.shape[1] != self.n_bands:
            raise DataError(
                f"{record.tar}: {record.key} has {features.shape[1]} bands, the model "
                f"{self.n_bands}"
            )
        rng = stream(self.seed, place.epoch, place.place, "mel")
        # the last window is drawn in mode sound only
        n = melclips.n_starts(len(features), self.n_frames) + (0 if self.published else 1)
        start = int(rng.integers(n)) if len(features) > self.n_frames else 0
        x = melclips.cut(features, self.n_frames, start, published=self.published, name=record.key)
        noise = torch.from_numpy(rng.random(self.n_noise, np.float32))
        inputs = torch.from_numpy(np.ascontiguousarray(x))[None]
        return Item(inputs, None, {"noise": noise}, record.key)


@dataclass(frozen=True)
class Masks:
    """Which masks SSAMBA's objective needs."""

    n_patches: int
    n_masked: int
    columns: int
    names: tuple[str, ...]  # of the draws: contrastive, generative

    def draw(self, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return mask ids per name, in the authors' way from a Python stream of our own."""
        python = random.Random(int(rng.integers(2**62)))
        return {
            name: torch.tensor(cluster_mask(self.n_patches, self.n_masked, self.columns, python))
            for name in self.names
        }


@dataclass(frozen=True)
class FbankReader:
    """Reads clips as fbanks with targets, augmented in training."""

    clips: Sequence[TrainingClip]
    settings: FbankSettings
    n_classes: int
    seed: int
    augmented: bool = True
    mixup: float = 0.0
    rate_hz: int | None = 16000  # None: the file's own, as published
    masks: Masks | None = None
    n_drops: int = 0
    batch_size: int = 1  # of a step: what is drawn once per step
    class_places: int = 0  # draw where the class token stands among so many patches
    flexible: bool = False  # draw a patch size per step

    def __call__(self, place: Place) -> Item:
        """Return one clip with the draws that its objective needs."""
        rng = stream(self.seed, place.epoch, place.place, "clip" if self.augmented else "valid")
        draws = StreamDraws(rng) if self.augmented else None
        sample = load_clip(
            self.clips,
            place.clip,
            self.settings,
            draws,
            mixup=self.mixup,
            n_classes=self.n_classes,
            rate_hz=self.rate_hz,
        )
        extra: dict[str, torch.Tensor] = {} if self.masks is None else self.masks.draw(rng)
        if self.augmented and self.n_drops:
            extra["drop"] = torch.from_numpy(rng.random(self.n_drops, np.float32))
        if self.augmented and (self.class_places or self.flexible):
            shared = stream(self.seed, place.epoch, place.place // self.batch_size, "step")
            if self.class_places:
                extra["class_at"] = torch.tensor(int(shared.integers(self.class_places + 1)))
            if self.flexible:
                extra["patch"] = torch.tensor(8 + 2 * int(shared.integers(21)))
        target = sample.target if self.n_classes else None
        clip = self.clips[place.clip]
        if clip.seconds:
            target = torch.tensor(clip.seconds, dtype=torch.float32)
        return Item(sample.fbank, target, extra, str(clip.path))


@dataclass(frozen=True)
class EpicReader:
    """Reads windows of EPIC-SOUNDS: from an HDF5 file, or a folder of <video_id>.wav."""

    segments: Sequence[epic.Segment]
    audio: Path
    n_classes: int
    seed: int
    augmented: bool
    published: bool
    n_frames: int = 1024
    freqm: int = 48
    timem: int = 192
    warp: bool = False

    def _wave(self, segment: epic.Segment) -> np.ndarray[Any, Any]:
        if self.audio.is_dir():
            import soundfile

            path = self.audio / f"{segment.video}.wav"
            try:
                wave, rate = soundfile.read(
                    path, start=segment.first, stop=segment.end, dtype="float32", always_2d=True
                )
            except (OSError, soundfile.LibsndfileError) as error:
                raise DataError(f"segment {segment.name}: cannot read {path}: {error}") from error
            if rate != epic.RATE_HZ:
                raise DataError(f"{path} has {rate} Hz, not {epic.RATE_HZ}: resample it first")
            return np.asarray(wave[:, 0])
        try:
            import h5py
        except ImportError as error:
            raise DataError(
                f"{self.audio} is HDF5: pip install h5py, or give a folder of VIDEO_ID.wav"
            ) from error
        with h5py.File(self.audio, "r") as file:
            if segment.video not in file:
                raise DataError(f"{self.audio} has no recording {segment.video}")
            return np.asarray(file[segment.video][segment.first : segment.end], np.float32)

    def __call__(self, place: Place) -> Item:
        """Return one window [n_frames, 128] with its one-hot target."""
        segment = self.segments[place.clip]
        draws = epic.EpicStream(stream(self.seed, place.epoch, place.place, "epic"))
        random_window = self.augmented or self.published  # the authors' evaluation draws, too
        first, end = epic.choose_window(
            segment.first, segment.end, draws if random_window else None
        )
        wave = self._wave(segment)[first - segment.first : end - segment.first]
        if not len(wave):
            raise DataError(f"segment {segment.name} lies beyond the end of {segment.video}")
        spectrum = epic.spectrogram(
            torch.from_numpy(np.ascontiguousarray(wave)), EpicLogMel(), self.n_frames
        )
        if self.augmented:
            spectrum = epic.augment(
                spectrum.T,
                draws,
                freqm=self.freqm,
                timem=self.timem,
                published_warp=self.warp,
            ).T.contiguous()
        target = torch.zeros(self.n_classes)
        target[segment.label] = 1.0
        return Item(spectrum, target, {}, segment.name)


@dataclass(frozen=True)
class Blocks:
    """Evaluation clips in batches, dealt out to the ranks in turn; each clip once."""

    read: Any  # Callable[[Place], Item]
    n_clips: int
    batch_size: int
    workers: int = 0

    @property
    def n_blocks(self) -> int:
        """How many batches there are."""
        return -(-self.n_clips // self.batch_size)

    def blocks(self, ranks: Ranks) -> Iterator[tuple[int, slice, Batch]]:
        """Yield (block, its clips, batch) for the blocks of this rank."""
        mine = range(ranks.rank, self.n_blocks, ranks.world)
        rows = [
            slice(b * self.batch_size, min((b + 1) * self.batch_size, self.n_clips)) for b in mine
        ]
        groups = [[Place(0, i, i) for i in range(r.start, r.stop)] for r in rows]
        loader = DataLoader(
            ClipBatches(self.read),
            batch_sampler=groups,
            num_workers=self.workers,
            collate_fn=first_of,
        )
        for block, own, batch in zip(mine, rows, loader, strict=True):
            if isinstance(batch, MambabenchError):
                raise batch
            yield block, own, batch

    def batches(self, ranks: Ranks) -> Iterator[Batch]:
        """Yield this rank's batches."""
        for _, _, batch in self.blocks(ranks):
            yield batch
