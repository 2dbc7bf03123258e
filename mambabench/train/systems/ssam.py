"""SSAM: masked pretraining on log-mels, and classification."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mambabench.errors import EncoderError
from mambabench.files import write_bytes
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder
from mambabench.train import orders, rates
from mambabench.train.batches import LoaderSource
from mambabench.train.classifier_files import Files, classifier_files
from mambabench.train.encoder_data import ClipData, open_clips, parse_data
from mambabench.train.encoder_settings import SsamSettings
from mambabench.train.initial import initial_state
from mambabench.train.judge import Judge
from mambabench.train.log import SentNames
from mambabench.train.loop import LoopEvent, Progress, Work
from mambabench.train.melclips import check_lengths
from mambabench.train.objectives import masked_patches
from mambabench.train.optimise import adamw, all_in_one, decay_groups
from mambabench.train.published import save_pth, ssam_checkpoint, ssam_saved
from mambabench.train.readers import MelReader
from mambabench.train.supervised import classify, fbank_settings, recompute
from mambabench.train.system import Call, PreparedTraining, System, dimension
from mambabench.train.tars import Record, find_tars, index_tar

__all__ = ["SYSTEM", "MelData", "SsamClassifier", "configuration", "make_system"]

N_BANDS = 80
SENT = SentNames(
    "ssast-pytorch-mamba",
    {
        "loss": "train_loss",
        "steps_per_s": "steps_per_second",
        "clips_per_s": "samples_per_second",
    },
)


@dataclass(frozen=True)
class MelData:
    """The samples of all tars."""

    records: tuple[Record, ...]
    shards: tuple[range, ...]  # which records a tar holds
    notes: tuple[str, ...] = ()
    restricted: bool = False
    folds: tuple[Any, ...] = ("",)
    labels: tuple[str, ...] = ()


def open_data(settings: SsamSettings, values: Sequence[str]) -> MelData | ClipData:
    """Index the tars for pretraining, or read the lists for classification."""
    if settings.objective == "classify":
        return open_clips(values, settings)
    roles = parse_data(values)
    tars = find_tars([path for paths in roles.values() for path in paths])
    records: list[Record] = []
    shards = []
    for tar in tars:
        found = index_tar(tar)
        shards.append(range(len(records), len(records) + len(found)))
        records += found
    return MelData(tuple(records), tuple(shards))


def configuration(settings: SsamSettings, twin: bool) -> SsamConfiguration:
    """Return the architecture."""
    dim = dimension(settings)
    return SsamConfiguration(
        dim,
        depth=settings.depth or 12,
        num_heads=max(1, dim // 64) if twin else 0,
        img_size=(settings.n_frames, N_BANDS),
        d_state=settings.d_state,
        expand=settings.expand,
        use_cls_token=settings.cls_token,
        mask_ratio=settings.mask_ratio,
        masking_mode=settings.masking,
    )


class SsamClassifier(nn.Module):
    """The encoder on whole clips [n, k * n_frames, 80]: mean of the tokens, LayerNorm, linear.

    Not the authors': they publish no fine-tuning. A clip goes through in chunks.
    """

    def __init__(self, encoder: SsamEncoder, n_classes: int) -> None:
        super().__init__()
        dim = encoder.configuration.embed_dim
        self.encoder = encoder
        self.head = nn.Sequential(nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, n_classes))

    @property
    def initial_rules(self) -> dict[str, str]:
        """Name what is initialised otherwise than torch: `mambabench.models.blocks.initialise`."""
        rules = {f"encoder.{k}": v for k, v in self.encoder.initial_rules.items()}
        return {**rules, "head.1.weight": "small", "head.1.bias": "zero"}

    def fill_fixed(self) -> None:
        """Fill the encoder's position table."""
        self.encoder.fill_fixed()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits [n, n_classes]."""
        length = self.encoder.configuration.img_size[0]
        n = len(features)
        chunks = features.reshape(-1, 1, length, features.shape[2])
        tokens = self.encoder.hidden_states(chunks)[0]
        pooled = tokens.reshape(n, -1, tokens.shape[2]).mean(dim=1)
        logits: torch.Tensor = self.head(pooled)
        return logits


def _run_name(settings: SsamSettings, row: str, seed: int) -> str:
    """Return the authors' folder: name, ranks x clips, precision, run."""
    per = settings.batch_size // settings.ranks
    return f"{row}_{settings.ranks}x{per}_{settings.precision}_r{seed}"


def _checkpoints(folder: Path, settings: SsamSettings) -> Files:
    """Return what writes checkpoints/checkpoint-<epoch>.pth."""

    def files(event: LoopEvent, work: Work, progress: Progress) -> None:
        if event != "epoch":
            return
        epoch = progress.epoch - 1
        loss = progress.mean("loss", "epoch")
        progress.history.append({"step": progress.step, "epoch": epoch, "train_loss": loss})
        text = "".join(
            json.dumps({"train_loss": row["train_loss"], "epoch": row["epoch"]}) + "\n"
            for row in progress.history
        )
        write_bytes(folder / "log.txt", text.encode())
        last = progress.epoch == work.n_epochs
        if not last and (settings.checkpoints == "last" or not ssam_saved(epoch, work.n_epochs)):
            return
        arguments = {**asdict(settings), "seeds": list(settings.seeds)}
        content = ssam_checkpoint(work.model, work.optimiser, work.scaler, epoch, arguments)
        save_pth(folder / "checkpoints" / f"checkpoint-{epoch}.pth", content)

    return files


def _order(settings: SsamSettings, data: MelData, seed: int, n_steps: int) -> Any:
    if settings.mode == "sound":
        return lambda epoch: orders.buffered_order(data.shards, settings.buffer, seed, epoch)
    per = settings.batch_size // settings.ranks
    return lambda epoch: orders.published_order(
        data.shards,
        n_steps=n_steps,
        batch=per,
        readers=(settings.ranks, settings.readers),
        buffer=settings.buffer,
        seed=seed,
        epoch=epoch,
    )


def _pretrain(
    settings: SsamSettings, data: MelData, seed: int, folder: Path, call: Call, twin: bool
) -> PreparedTraining:
    published = settings.mode == "published"
    n = (settings.samples or len(data.records)) if published else len(data.records)
    n_steps = orders.steps_per_epoch(n, settings.batch_size)
    order = _order(settings, data, seed, n_steps)
    if published:  # what cannot run as published is refused before the first step
        if n_steps:
            order(0)  # too few tars
        check_lengths(data.records, settings.n_frames, N_BANDS)
    model = SsamEncoder(configuration(settings, twin))
    _fill(model, settings, seed, call)
    recompute(model, settings.checkpointing)
    model.to(call.device)
    c = model.configuration
    n_noise = c.grid[0] if c.masking_mode == "timestep" else c.n_patches
    reader = MelReader(data.records, settings.n_frames, N_BANDS, n_noise, seed, published)
    source = LoaderSource(order, reader, n, settings.batch_size, True, settings.workers)
    peak = settings.lr * settings.batch_size / 256
    if settings.bias_decay:
        optimiser = adamw(all_in_one(model, settings.weight_decay, fixed=True), peak, (0.9, 0.999))
    else:
        optimiser = adamw(decay_groups(model, settings.weight_decay), peak, (0.9, 0.95))
    schedule = rates.Cosine(
        optimiser, source.steps_per_epoch, floor=settings.min_lr,
        warmup=settings.warmup_epochs, epochs=settings.epochs,
    )  # fmt: skip
    work = Work(
        model, optimiser, schedule, masked_patches(settings.norm_pixels), source, settings.epochs,
        device=call.device, precision=settings.precision, accumulate=settings.accumulate,
        clip_norm=settings.clip_norm, log_norm=True, files=_checkpoints(folder, settings),
        max_steps=settings.max_steps,
    )  # fmt: skip
    facts = {
        "clips": len(data.records),
        "tars": len(data.shards),
        "patches": c.n_patches,
        "masked": c.n_patches - int(c.n_patches * (100 - 100 * c.mask_ratio) / 100),
    }
    return PreparedTraining(work, "", settings.n_frames / 100, facts)


def _fill(model: nn.Module, settings: SsamSettings, seed: int, call: Call) -> None:
    """Give the model its first weights: drawn, or a checkpoint's encoder."""
    encoder = model.encoder if isinstance(model, SsamClassifier) else model
    assert isinstance(encoder, SsamEncoder)
    initialise(model, seed, settings.depth or 12)
    if call.init is None:
        return
    state = initial_state(call.init)
    state = {k.removeprefix("encoder."): v for k, v in state.items() if not k.startswith("head.")}
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise EncoderError(f"--init {call.init} does not fit these settings: {error}") from error


def _classify(
    settings: SsamSettings,
    data: ClipData,
    fold: Any,
    seed: int,
    folder: Path,
    call: Call,
    twin: bool,
) -> PreparedTraining:
    model = SsamClassifier(SsamEncoder(configuration(settings, twin)), len(data.labels))
    _fill(model, settings, seed, call)
    n_frames = -(-settings.clip_frames // settings.n_frames) * settings.n_frames

    def files(below: Path, epochs: int, judge: Judge) -> Files:
        return classifier_files(below, epochs, judge, parallel=False, keep_all=False)

    return classify(
        settings, data, fold, seed, folder, call, model=model, head="head.",
        fbank=fbank_settings(settings, n_frames, ssam=True), files=files, columns=10,
        drop_last=True, decoupled=True,
    )  # fmt: skip


def make_system(name: str, twin: bool) -> System:
    """Return SSAM or its twin."""

    def build(settings: SsamSettings, n_classes: int) -> nn.Module:
        encoder = SsamEncoder(configuration(settings, twin))
        if settings.objective == "pretrain":
            return encoder
        return SsamClassifier(encoder, n_classes)

    def prepare(
        settings: SsamSettings, data: Any, fold: Any, seed: int, folder: Path, call: Call
    ) -> PreparedTraining:
        if settings.objective == "pretrain":
            return _pretrain(settings, data, seed, folder, call, twin)
        return _classify(settings, data, fold, seed, folder, call, twin)

    return System(name, open_data, build, prepare, lambda _: SENT, _run_name)


SYSTEM = make_system("ssam", twin=False)
