"""Runners of whole trainings: the product's one loop with each system's parts, on given data."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_training import Case, Found, absolute, peak, relative, same
from torch import nn

from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder
from mambabench.models.encoders.ssamba import (
    SsambaClassifier,
    SsambaConfiguration,
    SsambaPretraining,
    classifier_backbone,
)
from mambabench.train import objectives, optimise, published, rates
from mambabench.train.batches import Batch, Step
from mambabench.train.judge import Judge
from mambabench.train.loop import Tick, Work, run_training
from mambabench.train.ranks import Ranks
from mambabench.train.systems import aum as aum_system
from mambabench.train.systems import ssamba as ssamba_system

Tensors = dict[str, torch.Tensor]


@dataclass
class Fixed:
    """The same batches every epoch, or one list for the whole run."""

    batches: list[Batch]
    steps_per_epoch: int

    def steps(self, epoch: int, first: int, ranks: Ranks, accumulate: int) -> Iterator[Step]:
        for i in range(first, self.steps_per_epoch):
            at = (epoch * self.steps_per_epoch + i) % len(self.batches)
            batch = self.batches[at]
            n = len(batch)
            own = slice(n * ranks.rank // ranks.world, n * (ranks.rank + 1) // ranks.world)
            part = Batch(
                batch.inputs[own],
                None if batch.targets is None else batch.targets[own],
                {k: v[own] for k, v in batch.draws.items()},
            )
            yield Step(n, [part], [len(part)])


@dataclass
class FixedBlocks:
    x: torch.Tensor  # [blocks, n, ...]
    y: torch.Tensor

    @property
    def n_clips(self) -> int:
        return self.x.shape[0] * self.x.shape[1]

    @property
    def n_blocks(self) -> int:
        return len(self.x)

    def blocks(self, ranks: Ranks) -> Iterator[tuple[int, slice, Batch]]:
        n = self.x.shape[1]
        for i in range(ranks.rank, len(self.x), ranks.world):
            yield i, slice(i * n, (i + 1) * n), Batch(self.x[i], self.y[i], {})


class Watch:
    """Notes rates, losses, norms and the first gradients and updates of a run."""

    def __init__(self, work: Work, names: Callable[[str], str] = str) -> None:
        self.ticks: list[Tick] = []
        self.rates: list[list[float]] = []
        self.first: Tensors = {}
        self.after: Tensors = {}
        self.work, self.names = work, names
        work.optimiser.register_step_pre_hook(self._before)
        work.optimiser.register_step_post_hook(self._after)

    def _before(self, *_: Any) -> None:
        self.rates.append([group["lr"] for group in self.work.optimiser.param_groups])
        if not self.first:
            self.first = {
                self.names(n): p.grad.clone()
                for n, p in self.work.model.named_parameters()
                if p.grad is not None
            }

    def _after(self, *_: Any) -> None:
        if not self.after and self.rates[-1][0] > 0:
            state = self.work.model.state_dict()
            self.after = {self.names(k): v.clone() for k, v in state.items()}

    def __call__(self, tick: Tick) -> None:
        self.ticks.append(tick)

    def shown(self, name: str) -> list[float]:
        return [tick.shown[name] for tick in self.ticks]


def gradients(case: Case, watch: Watch, left_out: set[str]) -> Found:
    theirs = case.tensors("first_gradients")
    yield "gradients", same(sorted(watch.first), sorted(theirs)), 0
    for name, value in theirs.items():
        if name not in left_out:
            yield (
                f"gradient of {name}",
                peak(watch.first[name], value),
                case.bound("first_gradients"),
            )


def updates(case: Case, watch: Watch, rate: float, left_out: set[str]) -> Found:
    grads, theirs = case.tensors("first_gradients"), case.tensors("after_first_update")
    for name, value in theirs.items():
        if name not in grads or name in left_out:
            continue
        gradient = grads[name].abs()
        sure = gradient >= 1e-6 * gradient.max()
        far = (watch.after[name] - value).abs()[sure]
        yield f"first update of {name}", float(far.max()) if len(far) else 0.0, 0.02 * rate


def finals(case: Case, ours: Mapping[str, torch.Tensor], file: str, left_out: set[str]) -> Found:
    for name, value in case.tensors(file).items():
        if name in left_out or not value.is_floating_point():
            continue
        mine, theirs = ours[name], value
        if name.endswith("qkv_layer.bias") and "key third" in case.settings["tolerance"]["final"]:
            third = len(value) // 3  # the keys' biases have no true gradient
            mine, theirs = (torch.cat((v[:third], v[2 * third :])) for v in (mine, theirs))
        bound = case.bound("final" if file == "final" else file)
        yield f"{file} {name}", absolute(mine, theirs), bound


# ---- SSAM and its twin


def ssam_model(config: Mapping[str, Any], weights: Tensors, twin: bool) -> SsamEncoder:
    model = SsamEncoder(
        SsamConfiguration(
            config["embed_dim"], depth=config["depth"],
            num_heads=config["num_heads"] if twin else 0,
            img_size=tuple(config["img_size"]), patch_size=tuple(config["patch_size"]),
            d_state=config["d_state"], expand=config["expand"],
            use_cls_token=config["use_cls_token"], mask_ratio=config["mask_ratio"],
            masking_mode=config["masking_mode"],
        )
    )  # fmt: skip
    model.load_state_dict(weights)
    return model


def ssam_optimiser(model: nn.Module, o: Mapping[str, Any], lr: float) -> torch.optim.Optimizer:
    if o.get("bias_decay"):
        groups = optimise.all_in_one(model, o["weight_decay"], fixed=True)
    else:
        groups = optimise.decay_groups(model, o["weight_decay"])
    return optimise.adamw(groups, lr, tuple(o["betas"]), o.get("eps", 1e-8))


def ssam_work(case: Case, norm_pixels: bool) -> Work:
    s, o, inputs = case.settings, case.settings["optimiser"], case.arrays("inputs")
    model = ssam_model(s["config"], case.tensors("weights"), s.get("model") == "ssast")
    x, noise = torch.from_numpy(inputs["spectrograms"]), torch.from_numpy(inputs["noise"])
    batches = [Batch(x[i % len(x)], None, {"noise": noise[i]}) for i in range(len(noise))]
    optimiser = ssam_optimiser(model, o, o["learning_rate"] * x.shape[1] / 256)
    schedule = rates.Cosine(
        optimiser, o["steps_per_epoch"], floor=o.get("min_lr", 0.0),
        warmup=o["warmup_epochs"], epochs=o["epochs"],
    )  # fmt: skip
    return Work(
        model, optimiser, schedule, objectives.masked_patches(norm_pixels),
        Fixed(batches, o["steps_per_epoch"]), o["epochs"],
        clip_norm=o.get("clip"), log_norm=True,
    )  # fmt: skip


def run_ssam(case: Case) -> Found:
    work = ssam_work(case, case.settings["norm_pix_loss"])
    watch = Watch(work)
    names = {id(p): n for n, p in work.model.named_parameters()}
    for i, group in enumerate(case.settings["parameter_groups"]):
        ours = work.optimiser.param_groups[i]
        yield f"group {i}", same([names[id(p)] for p in ours["params"]], group["names"]), 0
        yield f"decay {i}", same(ours["weight_decay"], group["weight_decay"]), 0
    out = case.arrays("outputs")
    with tempfile.TemporaryDirectory() as folder:
        run_training(work, Path(folder), Ranks(), tick=watch)
    yield "loss", relative(watch.shown("loss"), out["loss"]), case.bound("loss")
    lr = [r[0] for r in watch.rates]
    sure = out["lr"] > 0
    yield "lr", relative(np.array(lr)[sure], out["lr"][sure]), case.bound("lr")
    yield "lr 0", absolute(np.array(lr)[~sure], out["lr"][~sure]), 0
    yield "grad_norm", relative(watch.shown("grad_norm"), out["grad_norm"]), case.bound("grad_norm")
    yield from gradients(case, watch, set())
    rate = float(out["lr"][out["lr"] > 0][0])
    # the twin's key biases have no true gradient: Adam turns rounding into steps
    zero = {n for n in watch.after if n.endswith("qkv_layer.bias")}
    yield from updates(case, watch, rate, zero)
    yield from finals(case, work.model.state_dict(), "final", set())


def _rank(rank: int, world: int, directory: str, port: int, out: str) -> None:
    import json
    import os

    from mambabench.train.ranks import joined

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    path = Path(directory)
    case = Case(path, json.loads((path / "case.json").read_text()))
    work = ssam_work(case, False)
    seen: list[float] = []

    def objective(model: nn.Module, batch: Batch) -> Any:
        losses = objectives.masked_patches()(model, batch)
        seen.append(float(losses.loss.detach()))
        return losses

    work.objective = objective
    watch = Watch(work)
    with joined(Ranks(rank, world, rank), "cpu") as ranks:
        run_training(work, Path(out) / "run", ranks, tick=watch)
    torch.save(
        {"seen": seen, "loss": watch.shown("loss"), "state": work.model.state_dict()},
        Path(out) / f"{rank}.pt",
    )


def free_port() -> int:
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def run_ddp(case: Case) -> Found:
    import torch.multiprocessing as mp

    world, out = case.settings["world"], case.arrays("outputs")
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_rank, (world, str(case.directory), free_port(), folder), nprocs=world)
        found = [torch.load(Path(folder) / f"{r}.pt", weights_only=True) for r in range(world)]
    for rank, one in enumerate(found):
        yield (
            f"loss of rank {rank}",
            relative(one["seen"], out["loss_rank"][rank]),
            case.bound("loss"),
        )
        yield from finals(case, one["state"], "final", set())
    yield "loss", relative(found[0]["loss"], out["loss_reduced"]), case.bound("loss")
    alone = ssam_work(case, False)
    watch = Watch(alone)
    with tempfile.TemporaryDirectory() as folder:
        run_training(alone, Path(folder), Ranks(), tick=watch)
    yield "one process", relative(watch.shown("loss"), out["loss_one_process"]), case.bound("loss")
    worst = max(absolute(found[0]["state"][k], v) for k, v in alone.model.state_dict().items())
    yield "two ranks against one", worst, 1e-5


def run_checkpoint(case: Case) -> Found:
    s = case.settings
    shapes = dict(s["model_keys"])
    dim = shapes["patch_embed.proj.weight"][0]
    depth = 1 + max(int(k.split(".")[1]) for k in shapes if k.startswith("blocks."))
    kernel, own = shapes["patch_embed.proj.weight"], {}
    if "blocks.0.mixer.A_log" in shapes:
        inner, state = shapes["blocks.0.mixer.A_log"]
        own = {"d_state": state, "expand": inner // dim}
    else:
        own = {"num_heads": 2}
    n = shapes["pos_embed"][1] - ("cls_token" in shapes)
    model = SsamEncoder(
        SsamConfiguration(
            dim, depth=depth, img_size=(kernel[2] * n // 2, kernel[3] * 2),
            patch_size=tuple(kernel[2:]), use_cls_token="cls_token" in shapes, **own,
        )
    )  # fmt: skip
    from mambabench.models.blocks.initialise import initialise

    initialise(model, 0, depth)
    first = s["optimizer_param_groups"][0]
    decay = s["optimizer_param_groups"][1]["weight_decay"]
    optimiser = optimise.adamw(
        optimise.decay_groups(model, decay), first["lr"], tuple(first["betas"]), first["eps"]
    )
    x = torch.randn(2, 1, *model.configuration.img_size)
    for _ in range(2):
        optimiser.zero_grad()
        model.pretrain(x, torch.rand(2, n)).loss.backward()
        optimiser.step()
    epoch = int(re.findall(r"-(\d+)\.pth", s["file"])[0])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoints" / s["file"]
        content = published.ssam_checkpoint(model, optimiser, None, epoch, {"seed": 0})
        published.save_pth(path, content)
        from mambabench.models.weights.checkpoint import read_checkpoint

        read = read_checkpoint(Path(folder))
        with torch.serialization.safe_globals([__import__("argparse").Namespace]):
            raw = torch.load(path, weights_only=True)
    yield "top keys", same(list(raw), s["top_keys"]), 0
    yield "model", same([[k, list(v.shape)] for k, v in raw["model"].items()], s["model_keys"]), 0
    yield "our reader", same(list(read.state), list(shapes)), 0
    groups = raw["optimizer"]["param_groups"]
    yield "groups", same(groups_of(groups), groups_of(s["optimizer_param_groups"])), 0
    names = {id(p): n for n, p in model.named_parameters()}
    ordered = [names[id(p)] for g in optimiser.param_groups for p in g["params"]]
    indexed = {str(i): n for i, n in enumerate(ordered)}
    yield "index to name", same(indexed, s["optimizer_index_to_name"]), 0
    states = raw["optimizer"]["state"]
    yield "n states", same(len(states), s["n_states"]), 0
    fields = {k: [list(v.shape), str(v.dtype)] for k, v in states[0].items()}
    yield "fields", same(fields, s["optimizer_state_fields"]), 0
    yield "epoch", same(raw["epoch"], epoch), 0
    saved = [e for e in range(100) if published.ssam_saved(e, 100)]
    yield "saved epochs", same(saved, s["saved_epochs_of_100"]), 0


def groups_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return parameter groups comparably: JSON knows no tuples."""
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in row.items()} for row in rows]


# ---- SSAMBA


def vim(c: Mapping[str, Any], size: tuple[int, int], stride: int | None = None) -> Any:
    patch = (c["patch_size"], c["patch_size"])
    step = c["stride"] if stride is None else stride
    return SsambaConfiguration(
        c["embed_dim"], depth=c["depth"], spectrogram_size=size, patch_size=patch,
        strides=(step, step), num_classes=c["num_classes"], directions=c["bimamba_type"],
        paired=c["if_bidirectional"], rms_norm=c["rms_norm"], norm_epsilon=c["norm_epsilon"],
        divide_out=c["if_devide_out"], drop_path=c["drop_path_rate"],
    )  # fmt: skip


def bare(state: Mapping[str, torch.Tensor]) -> Tensors:
    return {k.removeprefix("module."): v for k, v in state.items()}


def prefixed(name: str) -> str:
    return "module." + name


def pretraining(case: Case, size: tuple[int, int]) -> SsambaPretraining:
    model = SsambaPretraining(vim(case.settings["vision_mamba_config"], size))
    model.load_state_dict(bare(case.tensors("weights")))
    return model


ZERO = {"module.cpredlayer.0.bias", "module.cpredlayer.2.bias"}


def run_ssamba(case: Case) -> Found:
    s, o, inputs, out = (
        case.settings, case.settings["optimiser"], case.arrays("inputs"), case.arrays("outputs")
    )  # fmt: skip
    task = s["task"].removeprefix("pretrain_")
    model = pretraining(case, tuple(s["input_size"]))
    fbank = torch.from_numpy(inputs["fbank"])
    ids = torch.from_numpy(inputs["mask_ids"]).long()
    n, per = fbank.shape[1], 2 if task == "joint" else 1
    ids = ids.reshape(s["steps"], per, n, -1)
    keep = None
    if s["drop_path"]:
        keep = torch.from_numpy(inputs["drop_path_keep"])
        # the uniform draw that leaves a clip in, or out
        keep = (1 - keep.float()).reshape(s["steps"], -1, n).transpose(1, 2)
    batches = []
    for step in range(s["steps"]):
        draws = {"contrastive": ids[step, 0], "generative": ids[step, -1]}
        if keep is not None:
            draws["drop"] = keep[step]
        batches.append(Batch(fbank[step % 2], None, draws))
    optimiser = optimise.adamw(
        optimise.all_in_one(model, o["weight_decay"]), o["lr"], tuple(o["betas"]), o["eps"]
    )
    work = Work(
        model, optimiser, rates.Stairs(optimiser, warmup=False),
        objectives.ssamba_objective(task), Fixed(batches, s["steps"]), 1,
    )  # fmt: skip
    watch = Watch(work, prefixed)
    with tempfile.TemporaryDirectory() as folder:
        run_training(work, Path(folder), Ranks(), tick=watch)
    yield "loss", relative(watch.shown("loss"), out["loss"]), case.bound("loss")
    for name, shown in (("acc", "accuracy"), ("nce", "nce"), ("mse", "mse")):
        if not np.isnan(out[name]).any():
            bound = 1e-6 if name == "acc" else case.bound("loss")
            yield name, relative(watch.shown(shown), out[name]), bound
    left_out = ZERO if task != "mpg" else set()
    yield from gradients(case, watch, left_out)
    untouched = {watch.names(n) for n, p in model.named_parameters()} - set(watch.first)
    yield "no gradient", same(sorted(untouched), sorted(s["no_gradient"])), 0
    yield from updates(case, watch, o["lr"], left_out)
    ours = {prefixed(k): v for k, v in model.state_dict().items()}
    yield from finals(case, ours, "final", left_out)


def run_ssamba_loop(case: Case) -> Found:
    s, args, out = case.settings, case.settings["args"], case.arrays("outputs")
    c = s["vision_mamba_config"]
    model = pretraining(case, tuple(c["img_size"]))
    seed = int(re.findall(r"RandomState\((\d+)\)", s["input_recipe"])[0])
    n_train, n_valid = (
        int(n) for n in re.findall(r"(\d+) (?:training|validation) arrays", s["input_recipe"])
    )
    rs = np.random.RandomState(seed)
    shape = (1, c["img_size"][1], c["img_size"][0])
    arrays = [
        torch.from_numpy((rs.randn(*shape) * 0.5).astype(np.float32))
        for _ in range(n_train + n_valid)
    ]
    rows = iter(torch.from_numpy(case.arrays("inputs")["mask_ids"]).long())
    task = args["task"].removeprefix("pretrain_")

    def masks() -> Tensors:
        kinds = {"mpc": ("contrastive",), "mpg": ("generative",)}
        drawn = {}
        for kind in kinds.get(task, ("contrastive", "generative")):
            row = next(rows)
            drawn[kind] = row[row >= 0][None]
        return drawn

    # masks are listed in running order: training steps with an evaluation every epoch_iter
    batches, valid = [], []
    for i in range(s["n_train_batches"]):
        batches.append(Batch(arrays[i % n_train], None, masks()))
        if (i + 1) % args["epoch_iter"] == 0:
            valid += [Batch(array, None, masks()) for array in arrays[n_train:]]
    seen: list[tuple[bool, float | None, float]] = []
    inner = objectives.ssamba_objective(task)

    def objective(module: nn.Module, batch: Batch) -> Any:
        losses = inner(module, batch)
        shown = {name: float(value.detach()) for name, value in losses.shown.items()}
        if "nce" in shown:
            seen.append((module.training, shown["accuracy"], shown["nce"]))
        if "mse" in shown:
            seen.append((module.training, None, shown["mse"]))
        return losses

    optimiser = optimise.adamw(optimise.all_in_one(model, 5e-8), args["lr"], (0.95, 0.999))
    upcoming = iter(valid)

    def validation(ranks: Ranks) -> Iterator[Batch]:
        for _ in range(n_valid):
            yield next(upcoming)

    with tempfile.TemporaryDirectory() as folder:
        judge = ssamba_system.PretrainingJudge(model, objective, validation, task, published=True)
        work = Work(
            model, optimiser, rates.Plateau(optimiser, patience=args["lr_patience"]),
            objective, Fixed(batches, s["n_train_batches"]), args["n_epochs"],
            evaluate=judge, evaluate_every=args["epoch_iter"],
            files=ssamba_system.pretraining_files(Path(folder), args["epoch_iter"], judge),
        )  # fmt: skip
        watch = Watch(work)
        progress = run_training(work, Path(folder), Ranks(), tick=watch)
        models = sorted(p.name for p in (Path(folder) / "models").iterdir())
        table = np.loadtxt(Path(folder) / "result.csv", delimiter=",", ndmin=2)
        best = torch.load(Path(folder) / "models" / "best_audio_model.pth", weights_only=True)
    yield "lr", relative_where([r[0] for r in watch.rates], out["lr"]), 1e-9
    losses = [call[4] for call in s["calls"]]
    yield "calls", same([c[1] for c in s["calls"]], [x[0] for x in seen]), 0
    yield "loss", relative([x[2] for x in seen], losses), case.bound("calls")
    accuracies = [(x[1], call[3]) for x, call in zip(seen, s["calls"], strict=True) if call[3]]
    if accuracies:
        yield "accuracy", relative(*zip(*accuracies, strict=True)), case.bound("calls")
    yield "result.csv", relative_where(table, out["result_csv"]), case.bound("result_csv")
    yield "files", same(models, sorted(s["model_files"])), 0
    yield (
        "evaluations",
        same([h["step"] for h in progress.history], [r[1] for r in s["progress_rows"]]),
        0,
    )
    for name, value in case.tensors("best").items():
        if value.is_floating_point() and name not in ZERO:
            yield f"best {name}", absolute(best[name], value), 2e-4


def relative_where(ours: Any, theirs: Any) -> float:
    """Return the largest relative error; zeros must be zeros."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    if not np.array_equal(a == 0, b == 0):
        return math.inf
    return relative(a[b != 0], b[b != 0])


def classifier_batches(inputs: Mapping[str, np.ndarray]) -> tuple[list[Batch], FixedBlocks]:
    t = {k: torch.from_numpy(v) for k, v in inputs.items()}
    train = [Batch(x, y, {}) for x, y in zip(t["train_x"], t["train_y"], strict=True)]
    return train, FixedBlocks(t["val_x"], t["val_y"])


def compare_loop(
    case: Case, folder: Path, watch: Watch, seen: list[tuple[bool, float]], epochs: int
) -> Found:
    out = case.arrays("outputs")
    lr = np.array(watch.rates)
    yield "lr", relative_where(lr if out["lr"].ndim == 2 else lr[:, 0], out["lr"]), 1e-9
    theirs = case.settings["losses"]
    train = [x for x in theirs if x[0]]
    yield "losses", relative(watch.shown("loss"), [x[1] for x in train]), case.bound("losses")
    valid = [x[1] for x in theirs if not x[0]]
    yield "validation losses", relative([v for _, v in seen], valid), case.bound("losses")
    yield from gradients(case, watch, set())
    table = np.loadtxt(folder / "result.csv", delimiter=",", ndmin=2)
    yield "result.csv", absolute(table, out["result_csv"]), case.bound("result_csv")
    predictions = np.loadtxt(folder / "predictions" / f"predictions_{epochs}.csv", delimiter=",")
    yield "predictions", absolute(predictions, out["last_predictions"]), case.bound("predictions")
    if "cumulative_predictions" in out:
        mean = np.loadtxt(folder / "predictions" / "cum_predictions.csv", delimiter=",")
        yield "cumulative", absolute(mean, out["cumulative_predictions"]), case.bound("predictions")
    best = torch.load(folder / "models" / "best_audio_model.pth", weights_only=True)
    theirs_best = case.tensors("best")
    yield "best's keys", same(sorted(best), sorted(theirs_best)), 0
    bound = case.bound("best") if "best" in case.settings["tolerance"] else 5e-5
    for name, value in theirs_best.items():
        yield f"best {name}", absolute(best[name], value), bound


def noted(judge: Judge, seen: list[tuple[bool, float]]) -> Judge:
    """Note the validation losses of every block."""
    from mambabench.train import judge as room

    plain = room.predict

    def predict(*arguments: Any, **options: Any) -> Any:
        found = plain(*arguments, **options)
        seen.extend((False, float(v)) for v in found.sigmoid_losses)
        return found

    judge.predict = predict
    return judge


def run_finetune(case: Case) -> Found:
    s, args = case.settings, case.settings["args"]
    c = s["vision_mamba_config"]
    old = vim(c, tuple(s["pretrained_size"]), c["patch_size"])
    state = bare(case.tensors("pretrained"))
    below = {k.removeprefix("v."): v for k, v in state.items() if k.startswith("v.")}
    new, adapted = classifier_backbone(old, below, s["target_length"], tuple(s["strides"]))
    from mambabench.models.encoders.ssamba import SsambaBackbone

    model = SsambaClassifier(SsambaBackbone(new), s["n_class"], tuple(s["strides"]), args["task"])
    weights = bare(case.tensors("weights"))
    yield "positions", absolute(adapted["pos_embed"], weights["v.pos_embed"]), 1e-6
    model.load_state_dict(weights)
    ours = [[prefixed(k), list(v.shape)] for k, v in model.state_dict().items()]
    yield "keys", same(sorted(ours), sorted(s["state_dict_keys"])), 0
    o = s["optimiser"]
    groups = optimise.head_groups(model, args["lr"], args["head_lr"], "mlp_head.")
    optimiser = optimise.adam(groups, args["lr"], tuple(o["betas"]), o["weight_decay"])
    names = {id(p): n for n, p in model.named_parameters()}
    for i, group in enumerate(o["groups"]):
        if len(group["names"]) > 1:
            mine = [names[id(p)] for p in optimiser.param_groups[i]["params"]]
            yield f"group {i}", same(mine, group["names"]), 0
    train, valid = classifier_batches(case.arrays("inputs"))
    schedule: Any = rates.Plateau(
        optimiser, warmup=args["warmup"], patience=args["lr_patience"]
    ) if args["adaptschedule"] else rates.Milestones(
        optimiser, start=args["lrscheduler_start"], step=args["lrscheduler_step"],
        factor=args["lrscheduler_decay"], warmup=args["warmup"],
    )  # fmt: skip
    seen: list[tuple[bool, float]] = []
    judge = noted(Judge(model, valid, args["loss"], args["metrics"]), seen)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            model, optimiser, schedule, objectives.classification(args["loss"]),
            Fixed(train, len(train)), args["n_epochs"], evaluate=judge, kept=judge.kept,
            files=ssamba_system.finetuning_files(
                Path(folder), args["n_epochs"], judge,
                (args["wa_start"], args["wa_end"]) if args["wa"] else None,
            ),
        )  # fmt: skip
        watch = Watch(work, prefixed)
        run_training(work, Path(folder), Ranks(), tick=watch)
        yield from compare_loop(case, Path(folder), watch, seen, args["n_epochs"])
    for group, theirs in zip(optimiser.param_groups, s["optimiser_state_groups"], strict=True):
        yield "group's size", same(len(group["params"]), theirs["params"]), 0
        yield "group's decay", same(group["weight_decay"], theirs["weight_decay"]), 0


# ---- AuM


def run_aum(case: Case) -> Found:
    s, args, m = case.settings, case.settings["args"], case.settings["model"]
    model = AumEncoder(
        AumConfiguration(
            m["embed_dim"], depth=m["depth"], spectrogram_size=tuple(m["spectrogram_size"]),
            patch_size=(m["patch"],) * 2, strides=(m["stride"],) * 2,
            num_classes=m["num_classes"], directions=m["bimamba_type"],
            class_token=m["class_token"],
        )
    )  # fmt: skip
    model.load_state_dict(case.tensors("weights"))
    o = s["optimiser"]
    optimiser = optimise.adam(
        optimise.all_in_one(model, args["weight_decay"]), args["lr"],
        weight_decay=args["weight_decay"], scale=args["bs_scale_factor"],
    )  # fmt: skip
    group = optimiser.param_groups[0]
    yield "betas", relative(group["betas"], o["betas"]), 1e-12
    yield "eps", relative(group["eps"], o["eps"]), 1e-12
    train, valid = classifier_batches(case.arrays("inputs"))
    schedule: Any
    if args["dataset"] == "epic_sounds":
        schedule = rates.EpicRates(optimiser, len(train), warmup=args["warmup"])
    else:
        k = args["bs_scale_factor"]
        schedule = rates.Milestones(
            optimiser, start=args["lrscheduler_start"], step=args["lrscheduler_step"],
            factor=args["lrscheduler_decay"], warmup=args["warmup"],
            length=1000 // k, stair=50 // k,
        )  # fmt: skip
    seen: list[tuple[bool, float]] = []
    judge = noted(Judge(model, valid, args["loss"], args["metrics"], columns=8), seen)
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            model, optimiser, schedule, objectives.classification(args["loss"]),
            Fixed(train, len(train)), args["n_epochs"], evaluate=judge,
            files=aum_system.training_files(Path(folder), args["n_epochs"], judge),
        )  # fmt: skip
        watch = Watch(work)
        run_training(work, Path(folder), Ranks(), tick=watch)
        yield from compare_loop(case, Path(folder), watch, seen, args["n_epochs"])
        listed = {str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file()}
    wanted = {f for f in s["files"] if "." in f and not f.endswith((".pkl", ".pickle"))}
    yield "files", same(sorted(wanted - listed), []), 0


RUNNERS = {
    "training.ssam_pretrain": run_ssam,
    "training.ssast_pretrain": run_ssam,
    "training.ssam_ddp": run_ddp,
    "training.checkpoint": run_checkpoint,
    "training.ssamba_pretrain": run_ssamba,
    "training.ssamba_pretrain_loop": run_ssamba_loop,
    "training.ssamba_finetune_loop": run_finetune,
    "training.aum_loop": run_aum,
}
