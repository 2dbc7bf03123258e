"""Runners of what needs no loop: data, draws, masks, schedules, scores, initial values."""

from __future__ import annotations

import random
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_training import Case, Found, absolute, relative, same
from torch import nn

from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.ssam import SsamConfiguration, SsamEncoder, masking_from_noise
from mambabench.models.encoders.ssamba import (
    SsambaConfiguration,
    SsambaPretraining,
    cluster_mask,
    frame_mask,
)
from mambabench.train import (
    augment,
    clips,
    epic,
    loaders,
    melclips,
    optimise,
    orders,
    published,
    rates,
    scores,
    tars,
)


class Listed:
    """Hands out recorded draws in order, checking which is asked for."""

    def __init__(self, rows: list[Any], arrays: list[np.ndarray] | None = None) -> None:
        self.rows = deque(rows)
        self.arrays = deque(arrays or [])

    def _next(self, kind: str) -> Any:
        row = self.rows.popleft()
        assert row[0] == kind, (row, kind)
        return row[2]

    def mixed(self) -> float:
        return float(self._next("random.random"))

    def partner(self, n: int) -> int:
        assert self.rows[0][1] == [0.0, n - 1]
        return int(self._next("random.randint"))

    def share(self) -> float:
        return float(self._next("np.beta"))

    def span(self) -> float:
        return float(self._next("torch.rand")[0])

    def noise(self, shape: tuple[int, ...]) -> np.ndarray:
        assert self._next("torch.rand") == "array"
        return self.arrays.popleft().reshape(shape)

    def loudness(self) -> float:
        return float(self._next("np.rand"))

    def roll(self) -> int:
        return int(self._next("np.randint"))


def run_dataset(case: Case) -> Found:
    out = case.arrays("outputs")
    labels = clips.read_labels_csv(case.directory / "labels.csv")
    listed = clips.read_clips(case.directory / "data.json", labels)
    for item in case.settings["items"]:
        conf, key = item["conf"], item["key"]
        settings = augment.FbankSettings(
            conf["target_length"], conf["mean"], conf["std"], conf["freqm"], conf["timem"],
            conf["noise"], conf["num_mel_bins"], float(conf["fshift"]),
        )  # fmt: skip
        names = sorted(name for name in out if name.startswith(f"noise_{key}_"))
        draws = Listed(item["draws"], [out[name] for name in names])
        sample = loaders.load_clip(
            listed, item["index"], settings, draws, mixup=conf["mixup"], n_classes=len(labels)
        )
        assert not draws.rows, f"{key}: draws left over"
        ours = sample.fbank.numpy()[:: item["every"]]
        theirs = out[f"fbank_{key}"]
        yield f"fbank_{key}", absolute(ours, theirs), case.bound("fbank")
        far = np.abs(ours - theirs) > 1e-4
        yield f"fbank_{key}, share above 1e-4", float(far.mean()), 1e-3
        yield f"label_{key}", absolute(sample.target.numpy(), out[f"label_{key}"]), 1e-7


class EpicListed:
    def __init__(self, uniform: list[Any], whole: list[Any], normal: torch.Tensor | None) -> None:
        self.u, self.w, self.n = deque(uniform), deque(whole), normal

    def uniform(self, low: float, high: float) -> float:
        row = self.u.popleft()
        assert (low, high) == (row[0], row[1])
        return float(row[2])

    def whole(self, low: int, high: int) -> int:
        row = self.w.popleft()
        assert [low, high] == row[0], (low, high, row)
        return int(row[1])

    def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
        assert self.n is not None
        assert self.n.shape == shape
        return self.n


def run_epic(case: Case) -> Found:
    inputs, out = case.arrays("inputs"), case.arrays("outputs")
    seed, seconds = (int(s) for s in _recipe_numbers(case.settings["audio_recipe"]))
    rs = np.random.RandomState(seed)
    audio = (rs.randn(24000 * seconds) * 0.1).astype(np.float32)
    frontend = epic.EpicLogMel()
    for i, clip in enumerate(case.settings["clips"]):
        first, end = epic.to_sample(clip["start"]), epic.to_sample(clip["stop"])
        yield f"clip {i} start", same(first, clip["start_sample"]), 0
        yield f"clip {i} end", same(end, clip["end_sample"]), 0
        draws = EpicListed(clip["uniform_draws"], [], None)
        a, b = epic.choose_window(first, end, draws)
        spec = epic.spectrogram(torch.from_numpy(audio[a:b]), frontend, clip["spec_shape"][1])
        ours = spec.numpy()[:: clip["every"]]
        yield f"spec_{i}", absolute(ours, out[f"spec_{i}"]), case.bound("spec")
    start = torch.from_numpy(inputs["aug_input"])[0]
    for i, row in enumerate(case.settings["augmentation"]):
        normal = torch.from_numpy(inputs[f"warp_randn_{i}"])
        draws = EpicListed([], row["randrange_draws"], normal)
        ours = epic.augment(start, draws, warp=row["W"], freqm=row["F"], timem=row["T"])
        assert not draws.w
        yield f"augmented_{i}", absolute(ours.numpy(), out[f"augmented_{i}"][0]), 1e-2
        warped = torch.from_numpy(out[f"warped_{i}"])[0]
        again = EpicListed([], row["randrange_draws"][2:], None)
        masked = epic.mask_twice(warped, again, row["F"], row["T"])
        # exact up to the last bit of the fill's mean
        yield f"masks_{i}", absolute(masked.numpy(), out[f"augmented_{i}"][0]), 1e-6


def _recipe_numbers(text: str) -> list[str]:
    import re

    return re.findall(r"RandomState\((\d+)\).*24000\*(\d+)", text)[0]


def run_sample_weights(case: Case) -> Found:
    labels = clips.read_labels_csv(case.directory / "labels.csv")
    path = case.directory / "train.json"
    listed = clips.read_clips(path, labels)
    ours = clips.clip_weights(listed, len(labels))
    yield "weights", relative(ours, case.arrays("outputs")["weights"]), case.bound("weights")
    read = clips.read_weights(clips.weights_file(path), listed, len(labels))
    yield "weights file", relative(read, case.arrays("outputs")["weights"]), case.bound("weights")
    text = "".join(f"{w:.18e}\n" for w in ours)
    yield "text", same(text, clips.weights_file(path).read_text()), 0
    seed = int(case.settings["sampler"].rpartition("manual_seed(")[2].rstrip(")"))
    drawn = torch.multinomial(
        torch.from_numpy(ours), len(ours), True, generator=torch.Generator().manual_seed(seed)
    )
    yield "sampler", same(drawn.tolist(), case.settings["sampler_indices"]), 0


def run_masks(case: Case) -> Found:
    inputs, out = case.arrays("inputs"), case.arrays("outputs")
    for i, row in enumerate(case.settings["rows"]):
        noise = torch.from_numpy(inputs[f"noise_{i}"])
        if row["mode"] == "timestep":
            mask, _ = masking_from_noise(noise, row["ratio"])
            theirs = out[f"mask_{i}"].sum(axis=1)
            yield f"mask_{i}", absolute(mask.sum(dim=1), theirs), 0
            continue
        mask, restore = masking_from_noise(noise, row["ratio"])
        yield f"kept_{i}", same(int((mask[0] == 0).sum()), row["n_kept"]), 0
        yield f"mask_{i}", absolute(mask, out[f"mask_{i}"]), 0
        yield f"ids_restore_{i}", absolute(restore, out[f"ids_restore_{i}"]), 0


class Counted(random.Random):
    """Python's stream, with the values of randrange written down."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seen: list[int] = []

    def randrange(self, *arguments: int) -> int:  # type: ignore[override]
        self.seen.append(super().randrange(*arguments))
        return self.seen[-1]


def run_cluster(case: Case) -> Found:
    out = case.arrays("outputs")
    for i, row in enumerate(case.settings["rows"]):
        rng = Counted(row["seed"])
        for call in range(row["calls"]):
            rng.seen = []
            ids = cluster_mask(row["n_patches"], row["n_masked"], row["columns"], rng)
            yield f"ids_{i}[{call}]", same(ids, out[f"ids_{i}"][call].tolist()), 0
            drawn = [d for d in out[f"draws_{i}"][call].tolist() if d >= 0]
            yield f"draws_{i}[{call}]", same(rng.seen, drawn[: len(rng.seen)]), 0
    numbers = [int(n) for n in __import__("re").findall(r"\d+", case.settings["frame"])]
    seed, _, n_patches, n_masked = numbers
    rng = random.Random(seed)
    for call in range(len(out["frame_ids"])):
        ids = frame_mask(n_patches, n_masked, rng)
        yield f"frame_ids[{call}]", same(ids, out["frame_ids"][call].tolist()), 0


def _groups(rows: list[dict[str, Any]]) -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.zeros(1))], **row} for row in rows]
    return torch.optim.Adam(groups, lr=1.0)


def _changes(row: dict[str, Any], schedule: Any, optimiser: torch.optim.Optimizer) -> Any:
    """Drive a schedule through its epochs; return ([step, rates ...] changes, rate per epoch)."""
    changes: list[list[float]] = []
    ends = []
    step = 0
    for epoch in range(1, row["epochs"] + 1):
        for _ in range(row["steps_per_epoch"]):
            schedule.before_step(step)
            found = [group["lr"] for group in optimiser.param_groups]
            if not changes or found != changes[-1][1:]:
                changes.append([step, *found])
            step += 1
        ends.append(optimiser.param_groups[0]["lr"])
        schedule.after_epoch(epoch)
    return changes, ends


def run_lr(case: Case) -> Found:
    for row in case.settings["rows"]:
        name, bound = row["name"], case.bound("all")
        if "table_epoch_step_lr" in row:
            optimiser = _groups([{"lr": row["base_lr"]}])
            schedule = rates.Cosine(
                optimiser, row["steps_per_epoch"], floor=row["min_lr"],
                warmup=row["warmup_epochs"], epochs=row["epochs"],
            )  # fmt: skip
            ours = []
            for epoch, step, _ in row["table_epoch_step_lr"]:
                schedule.before_step(epoch * row["steps_per_epoch"] + step)
                ours.append(optimiser.param_groups[0]["lr"])
            yield name, relative(ours, [r[2] for r in row["table_epoch_step_lr"]]), bound
            continue
        if row.get("dataset") == "epic_sounds":
            optimiser = _groups([{"lr": row["lr"]}])
            schedule: Any = rates.EpicRates(optimiser, row["steps_per_epoch"], warmup=row["warmup"])
        else:
            peaks = [{"lr": row["lr"]}]
            if "head_lr" in row:
                peaks.append({"lr": row["lr"] * row["head_lr"]})
            optimiser = _groups(peaks)
            k = row.get("bs_scale", 1)
            schedule = rates.Milestones(
                optimiser, start=row["start"], step=row["step"], factor=row["decay"],
                warmup=row["warmup"], length=1000 // k, stair=50 // k,
            )  # fmt: skip
        changes, ends = _changes(row, schedule, optimiser)
        yield f"{name}: steps", same([c[0] for c in changes], [c[0] for c in row["changes"]]), 0
        yield f"{name}: rates", relative(changes, row["changes"]), bound
        if "result_csv_lr" in row:
            yield f"{name}: per epoch", relative(ends, row["result_csv_lr"]), bound
        if "optimiser" in row:
            made: Any = optimise.adam(
                [{"params": [nn.Parameter(torch.zeros(1))]}], 1.0, scale=row.get("bs_scale", 1)
            )
            group = made.param_groups[0]
            yield f"{name}: betas", relative(group["betas"], row["optimiser"]["betas"]), 1e-12
            yield f"{name}: eps", relative(group["eps"], row["optimiser"]["eps"]), 1e-12


def run_shards(case: Case) -> Found:
    for i, row in enumerate(case.settings["cases"]):
        for reader, theirs in row["shards"].items():
            rank, worker = (int(part) for part in reader.split("/"))
            ours = orders.shards_of_reader(
                row["n_tars"], rank, worker, row["world"], row["workers"]
            )
            yield f"{i}: {reader}", same(ours, theirs), 0
    for row in case.settings["shuffle_buffers"]:
        ours = orders.shuffle_buffer(row["multiplier"], row["batch"], row["workers"], row["world"])
        yield f"buffer {row}", same(ours, row["buffer"]), 0
    for row in case.settings["steps_per_epoch"]:
        steps = orders.steps_per_epoch(row["samples"], row["batch"], row["world"])
        yield f"steps {row}", same(steps, row["steps"]), 0


def run_tar(case: Case) -> Found:
    out, required = case.arrays("outputs"), case.settings["required_frames"]
    records = tars.index_tar(case.directory / "shard-000.tar")
    yield "keys", same([r.key for r in records], [r[0] for r in case.settings["records"]]), 0
    draws = dict(case.settings["crop_draws"])
    for record, (key, shape, labels) in zip(records, case.settings["records"], strict=True):
        features = tars.read_array(record)
        yield f"{key}: shape", same(list(features.shape), shape), 0
        ids = tars.read_labels(record).tolist()
        yield f"{key}: labels", same(ids, labels), 0
        yield f"{key}: positive classes", same(sorted(ids), out[f"label_{key}"].tolist()), 0
        start = None
        if draws[key]:
            (low, high), start = draws[key][0]
            yield f"{key}: range", same((low, high), (0, melclips.n_starts(shape[0], required))), 0
        ours = melclips.cut(features, required, start, published=True)
        yield f"random_{key}", absolute(ours[None], out[f"random_{key}"]), case.bound("all")
        centre = melclips.cut(features, required, "centre", published=True)
        theirs = out[f"center_flipped_{key}"]
        yield f"center_{key}", absolute(centre.T[None], theirs), case.bound("all")


def run_metrics(case: Case) -> Found:
    inputs, out = case.arrays("inputs"), case.arrays("outputs")
    bound = case.bound("all")
    for i, row in enumerate(case.settings["cases"]):
        if "classes" in row:
            got = scores.classifier_scores(inputs[f"output_{i}"], inputs[f"target_{i}"])
            yield f"ap_{i}", absolute(got.ap, out[f"ap_{i}"]), bound
            yield f"auc_{i}", absolute(got.auc, out[f"auc_{i}"]), bound
            pairs = {
                "mAP": got.mean_ap, "mAUC": got.mean_auc, "acc": got.accuracy,
                "d_prime": got.d_prime, "mean_middle_precision": got.middle_precision,
                "mean_middle_recall": got.middle_recall,
            }  # fmt: skip
            for name, value in pairs.items():
                yield f"{name}_{i}", abs(value - row[name]), bound
        elif "mAP" in row:
            acc, mean_ap = scores.per_second_scores(
                inputs["seconds_logits"], inputs["seconds_labels"]
            )
            yield "per second acc", abs(acc - row["acc"]), bound
            yield "per second mAP", abs(mean_ap - row["mAP"]), bound
        else:
            best, folds = scores.best_average_epoch(list(inputs["esc_result_csv"]))
            yield "best epoch", same(best, row["best_epoch"]), 0
            yield "folds", absolute(folds, row["fold_acc"]), bound
            yield "mean", abs(float(np.mean(folds)) - row["mean"]), bound


def _made(case: Case) -> nn.Module:
    dim, depth, name = case.settings["embed_dim"], case.settings["depth"], case.settings["case"]
    system = Path(name).name
    shapes = {row["key"]: row["shape"] for row in case.settings["rows"]}
    if system.startswith("ss") and system != "ssamba":
        heads = max(1, dim // 64) if system == "ssast" else 0
        return SsamEncoder(SsamConfiguration(dim, depth=depth, num_heads=heads))
    if system == "ssamba":
        classes = shapes.get("v.head.weight", [1000])[0]
        return SsambaPretraining(SsambaConfiguration(dim, depth=depth, num_classes=classes))
    directions = {"fofo": "none", "fobi": "v1", "bibi": "v2"}[system.rpartition("_")[2]]
    classes = shapes["head.weight"][0]
    return AumEncoder(
        AumConfiguration(dim, depth=depth, num_classes=classes, directions=directions)
    )


def run_init(case: Case) -> Found:
    model = _made(case)
    initialise(model, 0, case.settings["depth"])
    ours = model.state_dict()
    for row in case.settings["rows"]:
        value, n = ours[row["key"]].double(), int(np.prod(row["shape"]))
        yield f"{row['key']}: shape", same(list(value.shape), row["shape"]), 0
        mean, std = float(value.mean()), float(value.std(unbiased=False))
        low, high = float(value.min()), float(value.max())
        if row["std"] == 0:
            yield f"{row['key']}: constant", max(abs(low - row["mean"]), std), 1e-7
            continue
        if row["key"].endswith("_log"):
            yield f"{row['key']}: mean", abs(mean - row["mean"]), 1e-5
        if n >= 150:
            bound = 0.06 if n >= 2000 else 0.15
            yield f"{row['key']}: std", abs(std / row["std"] - 1), bound
        # two draws of one law: their means differ by at most five deviations of the difference
        spread = 5 * row["std"] / n**0.5 * 2**0.5
        yield f"{row['key']}: mean", abs(mean - row["mean"]), spread
        width = max(abs(row["min"]), abs(row["max"]))
        widest = max(abs(low), abs(high))
        if row["std"] > (0.5 if n < 10_000 else 0.4) * width:  # a law with edges
            yield f"{row['key']}: edge", abs(widest / width - 1), 0.05
        else:
            yield f"{row['key']}: largest", widest, 6 * row["std"]


def run_weight_average(case: Case) -> Found:
    inputs, out = case.arrays("inputs"), case.arrays("outputs")
    first, last = case.settings["epochs"]
    states = [
        {k: torch.from_numpy(inputs[f"{k}|{i}"]) for k in case.settings["kept_keys"]}
        for i in range(last - first + 1)
    ]
    ours = published.average_states(states)
    for key in case.settings["kept_keys"]:
        yield key, absolute(ours[key], out[key]), case.bound("all")


RUNNERS = {
    "training.dataset": run_dataset,
    "training.epic_sounds": run_epic,
    "training.sample_weights": run_sample_weights,
    "training.ssam_mask": run_masks,
    "training.cluster_mask": run_cluster,
    "training.lr_schedule": run_lr,
    "training.ssam_shards": run_shards,
    "training.ssam_data": run_tar,
    "training.metrics": run_metrics,
    "training.init": run_init,
    "training.weight_average": run_weight_average,
}
