"""The objectives of the four systems: a model and a batch in, a loss and what is logged out.

Everything random comes in with the batch, one row per clip.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from mambabench.errors import ProtocolError
from mambabench.models.blocks.block import DropPath, feed_drop_paths
from mambabench.models.encoders.ssam import SsamEncoder
from mambabench.models.encoders.ssamba import SsambaPretraining, joint_loss
from mambabench.train.batches import Batch
from mambabench.train.loop import Losses

__all__ = [
    "Objective",
    "check_mixup",
    "classification",
    "classifier_loss",
    "masked_patches",
    "n_drop_calls",
    "ssamba_objective",
]

Objective = Callable[[nn.Module, Batch], Losses]
ObjectiveTask = Literal["mpc", "mpg", "joint"]


def masked_patches(norm_pixels: bool = False) -> Objective:
    """Return SSAM's objective: squared error over all patches, masked by the draws "noise"."""

    def objective(model: nn.Module, batch: Batch) -> Losses:
        assert isinstance(model, SsamEncoder)
        return Losses(model.pretrain(batch.inputs, batch.draws["noise"], norm_pixels).loss, {})

    return objective


def n_drop_calls(model: nn.Module) -> int:
    """Return how many draws one forward of `model` needs for its stochastic depth."""
    return sum(isinstance(m, DropPath) and m.rate > 0 for m in model.modules())


def _feed(model: nn.Module, batch: Batch) -> None:
    """Let the model's stochastic depth read the draws "drop" [n, calls], column by column."""
    draws = batch.draws.get("drop")
    if draws is None or draws.shape[1] == 0:
        feed_drop_paths(model, None)
        return
    columns = iter(draws.unbind(1))
    feed_drop_paths(model, lambda n: next(columns))


def ssamba_objective(task: ObjectiveTask = "joint") -> Objective:
    """Return SSAMBA's pretraining objective: InfoNCE, squared error, or nce + 10 mse.

    The masks are the draws "contrastive" and "generative" [n, n_masked]; the joint objective makes
    two forwards, each with its own.
    """

    def objective(model: nn.Module, batch: Batch) -> Losses:
        assert isinstance(model, SsambaPretraining)
        _feed(model, batch)
        if task == "mpg":
            mse = model.generative(batch.inputs, batch.draws["generative"]).mse
            return Losses(mse, {"mse": mse})
        contrastive = model.contrastive(batch.inputs, batch.draws["contrastive"])
        shown = {"accuracy": contrastive.accuracy, "nce": contrastive.nce}
        if task == "mpc":
            return Losses(contrastive.nce, shown)
        generative = model.generative(batch.inputs, batch.draws["generative"])
        return Losses(joint_loss(contrastive, generative), {**shown, "mse": generative.mse})

    return objective


def check_mixup(loss: str, mixup: float, published: bool) -> None:
    """Refuse cross-entropy with mixup as published: soft labels would all truncate to class 0."""
    if loss == "CE" and mixup > 0 and published:
        raise ProtocolError(
            f"loss CE with mixup {mixup:g}: as published, soft labels are cut to whole numbers and "
            "every mixture becomes class 0; use loss BCE, mixup 0, or mode sound"
        )


def classifier_loss(
    outputs: torch.Tensor, targets: torch.Tensor, loss: str, soft: bool = False
) -> torch.Tensor:
    """Return BCE with logits or CE, averaged over everything.

    outputs [n, classes] or [n, seconds, classes]; targets of the same shape, or class ids
    [n, seconds]. CE takes the class of the largest whole part, as published, or with `soft` the
    shares themselves.
    """
    outputs = outputs.float()
    if targets.ndim < outputs.ndim:
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten().long())
    if loss == "BCE":
        return F.binary_cross_entropy_with_logits(outputs, targets)
    if soft:
        return F.cross_entropy(outputs, targets / targets.sum(dim=-1, keepdim=True))
    return F.cross_entropy(outputs, targets.long().argmax(dim=-1))


def classification(loss: str, soft: bool = False) -> Objective:
    """Return the supervised objective.

    The draws "class_at" and "patch", if given, are AuM's place of the class token and patch size,
    one for the whole step.
    """

    def objective(model: nn.Module, batch: Batch) -> Losses:
        _feed(model, batch)
        assert batch.targets is not None
        options = {}
        if "class_at" in batch.draws:
            options["class_at"] = int(batch.draws["class_at"][0])
        if "patch" in batch.draws:
            options["patch_size"] = options["strides"] = int(batch.draws["patch"][0])
        logits = model(batch.inputs, **options)
        return Losses(classifier_loss(logits, batch.targets, loss, soft), {})

    return objective
