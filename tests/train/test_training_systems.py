"""What each system can be asked for beyond its loop: starts, folds, seconds, probes, evaluation."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import write_lists
from small import SMALL, TINY, furthest, run, weights

import mambabench
from mambabench.benchmarks.layout.read import load_task
from mambabench.cli.curves import command as curves_command
from mambabench.cli.evaluate import command as evaluate_command
from mambabench.cli.train import command
from mambabench.errors import DataError, EncoderError, ProtocolError
from mambabench.models.blocks.block import DropPath, drop_rates, feed_drop_paths
from mambabench.models.blocks.initialise import initialise
from mambabench.models.encoders.aum import AumConfiguration, AumEncoder
from mambabench.models.encoders.ssamba import SsambaBackbone, SsambaClassifier, SsambaConfiguration
from mambabench.models.weights.checkpoint import read_checkpoint
from mambabench.report.summary import summarise
from mambabench.store.records import read_predictions, read_record
from mambabench.train import encoder_verb, finish
from mambabench.train.encoder_settings import AumSettings, SsamSettings
from mambabench.train.epic_data import open_epic, select_segments
from mambabench.train.log import read_log
from mambabench.train.probing import parse_probe
from mambabench.train.ranks import Ranks
from mambabench.train.scored import Scored, evaluate_checkpoint
from mambabench.train.settings import resolve
from mambabench.train.system import Call
from mambabench.train.systems.ssam import SYSTEM as SSAM
from mambabench.train.verb import train_encoder

Data = dict[str, Path]


@pytest.fixture(scope="session")
def data(tars: Path, lists: Path) -> Data:
    return {"tars": tars, "lists": lists}


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory, lists: Path) -> Path:
    """A task directory of three folds from the labelled clips."""
    import shutil

    folder = tmp_path_factory.mktemp("tasks") / "tones"
    folder.mkdir()
    rows = json.loads((lists / "train.json").read_text())["data"]
    rows += json.loads((lists / "test.json").read_text())["data"]
    metadata = {
        "task_name": "tones", "version": "v1", "embedding_type": "scene",
        "prediction_type": "multiclass", "split_mode": "new_split_kfold",
        "sample_duration": 0.7, "evaluation": ["top1_acc"], "nfolds": 3,
        "splits": ["fold00", "fold01", "fold02"],
    }  # fmt: skip
    (folder / "task_metadata.json").write_text(json.dumps(metadata))
    names = ("low", "middle", "high")
    vocabulary = "idx,label\n" + "".join(f"{i},{n}\n" for i, n in enumerate(names))
    (folder / "labelvocabulary.csv").write_text(vocabulary)
    for k in range(3):
        audio = folder / "16000" / f"fold0{k}"
        audio.mkdir(parents=True)
        own = rows[8 * k : 8 * k + 8]
        labels = {r["wav"]: [r["labels"].removeprefix("/m/")] for r in own}
        (folder / f"fold0{k}.json").write_text(json.dumps(labels))
        for r in own:
            shutil.copy(lists / r["wav"], audio / r["wav"])
    return folder


def test_fine_tuning_starts_from_the_pretrained_encoder(data: Data, tmp_path: Path) -> None:
    before = run("ssam", data, tmp_path / "before")
    after = run(
        "ssam-classify", data, tmp_path / "after", {"lr": 0.0, "d_state": 8},
        init=str(before.folder),
    )  # fmt: skip
    found = weights(after)
    assert furthest(weights(before), {k: found[f"encoder.{k}"] for k in weights(before)}) == 0
    with pytest.raises(EncoderError, match="no such file"):
        run("ssam-classify", data, tmp_path / "x", init=str(tmp_path / "nothing"))
    done = run("ssam-classify", data, tmp_path / "y", init=str(before.folder))
    assert "does not fit these settings" in done.error


def test_ssam_s_decay_is_taken_off_the_weights(data: Data, tmp_path: Path) -> None:
    """Of the size it has in pretraining it would, in Adam's gradient, take weights to zero."""
    own = {**TINY, **SMALL["ssam-classify"][2], "head_lr": 10.0, "weight_decay": 0.05}
    settings = resolve(SsamSettings, own, "test")
    clips = SSAM.open_data(settings, [str(data["lists"])])
    (fold,) = clips.folds
    work = SSAM.prepare(settings, clips, fold, 0, tmp_path, Call("cpu", Ranks(), None)).work
    before = {k: v.detach().clone() for k, v in work.model.named_parameters()}
    for parameter in work.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    work.optimiser.step()
    after = {k: v.detach() for k, v in work.model.named_parameters()}
    kept = {k: float(v.norm() / before[k].norm().clamp(min=1e-9)) for k, v in after.items()}
    assert kept["encoder.blocks.0.mixer.in_proj.weight"] == pytest.approx(1 - 1e-3 * 0.05)
    assert kept["head.1.weight"] == pytest.approx(1 - 1e-2 * 0.05)
    assert kept["encoder.blocks.0.norm.weight"] == 1


def test_ssamba_fine_tunes_its_published_file(data: Data, tmp_path: Path) -> None:
    before = run("ssamba", data, tmp_path / "before")
    best = before.folder / "models" / "best_audio_model.pth"
    assert all(k.startswith("module.") for k in torch.load(best, weights_only=True))
    after = run("ssamba-classify", data, tmp_path / "after", {"lr": 0.0}, init=str(best))
    own = read_checkpoint(best).state
    assert torch.equal(weights(after)["v.layers.0.mixer.A_log"], own["v.layers.0.mixer.A_log"])
    assert weights(after)["v.pos_embed"].shape != own["v.pos_embed"].shape
    done = run("ssamba-classify", data, tmp_path / "z", init=str(after.folder))
    assert "is no SSAMBA pretraining checkpoint" in done.error


def test_aum_starts_from_another_length_and_from_vim(data: Data, tmp_path: Path) -> None:
    first = run("aum", data, tmp_path / "first")
    longer = run(
        "aum", data, tmp_path / "longer", {"n_frames": 128, "lr": 0.0, "weight_decay": 0.0},
        init=str(first.folder),
    )  # fmt: skip
    a, b = weights(first), weights(longer)
    assert torch.equal(a["head.weight"], b["head.weight"])
    assert a["pos_embed.pos_embed"].shape[1] * 2 - 1 == b["pos_embed.pos_embed"].shape[1]
    vim = AumEncoder(AumConfiguration(16, depth=2, spectrogram_size=(224, 224), directions="v2"))
    initialise(vim, 0, 2)
    state = vim.state_dict()
    state["pos_embed"] = state.pop("pos_embed.pos_embed")
    state["patch_embed.proj.weight"] = (
        state["patch_embed.proj.weight"].expand(-1, 3, -1, -1).clone()
    )
    torch.save({"model": state}, tmp_path / "vim.pth")
    small = run(
        "aum", data, tmp_path / "vim", {"variant": "Bi-Bi", "lr": 0.0, "weight_decay": 0.0},
        init=str(tmp_path / "vim.pth"),
    )  # fmt: skip
    kernel = weights(small)["patch_embed.proj.weight"]
    assert torch.allclose(kernel, state["patch_embed.proj.weight"][:, :1], atol=1e-6)
    with pytest.raises(EncoderError, match="--init imagenet needs vim_s_midclstok"):
        run("aum", data, tmp_path / "q", init="imagenet")


@pytest.mark.parametrize(
    "settings",
    [
        {"variant": "Fo-Fo"}, {"variant": "Bi-Bi", "class_token": "double", "transposed": True},
        {"class_token": "none", "random_class_place": False, "batch_scale": 4},
        {"flexible": True, "random_class_place": False, "n_frames": 128},
        {"drop_path": 0.2, "warmup": True}, {"adaptive": True, "balanced": False},
    ],
)  # fmt: skip
def test_every_variant_of_aum_trains(settings: dict[str, Any], data: Data, tmp_path: Path) -> None:
    own = {"random_class_place": False, **settings}
    done = run("aum", data, tmp_path, own)
    assert done.error is None
    assert math.isfinite(done.result["folds"][0]["last_loss"])


def test_aum_takes_whole_numbers_for_patch_and_stride() -> None:
    model = AumEncoder(AumConfiguration(16, depth=2, spectrogram_size=(128, 64), num_classes=3))
    initialise(model, 0, 2)
    x = torch.randn(2, 64, 128)
    assert torch.equal(model(x, patch_size=8, strides=8), model(x, (8, 8), (8, 8)))


def test_folds_of_a_task_directory_published_and_sound(task: Path, tmp_path: Path) -> None:
    settings = {
        **TINY, "objective": "classify", "n_frames": 64, "stride": 10, "loss": "CE", "lr": 1e-3,
        "batch_size": 4,
    }  # fmt: skip
    results = {}
    for mode in ("published", "sound"):
        (done,) = train_encoder(
            "ssamba", data=[task], settings=settings, mode=mode, out=tmp_path / mode
        )
        assert done.error is None
        results[mode] = done
        assert [f["fold"] for f in done.result["folds"]] == ["fold00", "fold01", "fold02"]
    facts = {m: r.result["folds"][0]["facts"]["training clips"] for m, r in results.items()}
    assert facts == {"published": 16, "sound": 8}  # published trains on the next fold, too
    assert "‡" in results["published"].result["folds"][0]["selection"]
    assert results["sound"].result["folds"][0]["selection"] == "validation clips"
    table = np.loadtxt(results["published"].folder / "acc_fold.csv", delimiter=",")
    assert table.shape == (4,)
    assert table[3] == pytest.approx(table[:3].mean())
    scored = evaluate_checkpoint(results["sound"].folder, data=[str(task)])
    assert scored.n_clips == 24
    assert len(scored.folds) == 3
    assert scored.scores["acc"] == pytest.approx(np.mean([f["acc"] for f in scored.folds]))
    _stands_in_a_report(scored, task, tmp_path / "sound")


def _stands_in_a_report(scored: Scored, task: Path, out: Path) -> None:
    assert scored.record is not None
    assert scored.record.is_relative_to(out / "probes")
    record = read_record(scored.record)
    assert (record.protocol, record.task, record.metric) == ("trained", task.name, "top1_acc")
    assert [f.fold for f in record.folds] == ["fold00", "fold01", "fold02"]
    assert record.score == pytest.approx(scored.scores["acc"])
    kept = read_predictions(scored.record)
    one = float(np.mean(kept["fold01/target"] == kept["fold01/probability"].argmax(1)))
    assert one == pytest.approx(scored.folds[1]["acc"])
    names = [clip.name for clip in load_task(task).clips["fold01"]]
    assert kept["fold01/clip"].tolist() == names
    table = mambabench.load_results(out)
    assert record.encoder in set(table["encoder"])
    (shown,) = summarise([out]).rows
    assert (shown.encoder, shown.task) == ("ssamba", task.name)
    assert shown.mean == pytest.approx(record.score)
    assert shown.n_units == scored.n_clips
    assert shown.boot_low < shown.mean < shown.boot_high  # from the predictions


@pytest.mark.parametrize("pooling", ["ft_avgtok_1sec", "time"])
def test_seconds_are_labelled_and_scored_one_by_one(pooling: str, tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "lists", n=12)
    for name in ("train", "test"):
        document = json.loads((folder / f"{name}.json").read_text())
        for i, row in enumerate(document["data"]):
            del row["labels"]
            row["seconds"] = ",".join(str((i + s // 20) % 3) for s in range(60))
        (folder / f"{name}.json").write_text(json.dumps(document))
    settings = {
        **TINY, "objective": "classify", "n_frames": 256, "stride": 16, "loss": "CE",
        "pooling": pooling, "seconds": 60, "batch_size": 2, "held_out": 0.25,
    }  # fmt: skip
    (done,) = train_encoder("ssamba", data=[folder], settings=settings, out=tmp_path / "out")
    assert done.error is None
    assert set(done.result["folds"][0]["best"]) >= {"acc", "mAP", "valid_loss"}
    assert np.loadtxt(done.folder / "metrics.csv", delimiter=",").shape == (2, 3)
    (done,) = train_encoder(
        "ssamba", data=[folder], settings={**settings, "pooling": "ft_avgtok"}, out=tmp_path / "b"
    )
    assert "clips labelled per second need pooling" in str(done.error)


def test_seconds_pool_true_time() -> None:
    c = SsambaConfiguration(8, depth=2, spectrogram_size=(128, 1024))
    model = SsambaClassifier(SsambaBackbone(c), 3, (16, 16), "time")
    tokens = torch.zeros(1, 1 + 8 * 64, 8)
    tokens[0, 1:] = torch.arange(64.0).repeat(8)[:, None]  # every patch holds its column
    pooled = model.pool(tokens)
    assert pooled.shape == (1, 60, 8)
    # second k holds the mean of the columns k * 64 // 60 up to (k + 1) * 64 // 60
    assert pooled[0, 0, 0] == 0
    assert pooled[0, 59, 0] == 62.5
    assert (pooled[0, 1:, 0] > pooled[0, :-1, 0]).all()


@pytest.mark.parametrize("mode", ["published", "sound"])
def test_s3prl_s_recipes_train_the_encoder_with_the_head(
    mode: str, lists: Path, data: Data, tmp_path: Path
) -> None:
    before = run("ssamba", data, tmp_path / "before", {"max_steps": 1})
    settings = {
        **TINY, "objective": "classify", "pooling": "s3prl", "n_frames": 1000, "stride": 10,
        "loss": "CE", "lr": 1e-3, "weight_decay": 0.0, "clip_norm": 1.0, "steps": 2,
        "evaluate_every": 1, "batch_size": 4, "accumulate": 2, "crop_s": 0.5, "held_out": 0.2,
    }  # fmt: skip
    (done,) = train_encoder(
        "ssamba", data=[lists], settings=settings, mode=mode, out=tmp_path / mode,
        init=str(before.folder),
    )  # fmt: skip
    assert done.error is None
    fold = done.result["folds"][0]
    assert (fold["steps"], len(fold["history"])) == (2, 2)
    assert "held out" in fold["selection"]  # never the test clips, in either mode
    found = weights(done)
    # the authors' wrapper builds RMSNorm and drops the biases of the checkpoint
    assert ("v.layers.0.norm.bias" in found) == (mode == "sound")
    start = read_checkpoint(before.folder / "weights.safetensors").state
    assert not torch.equal(found["v.layers.0.mixer.D"], start["v.layers.0.mixer.D"])
    scored = evaluate_checkpoint(done.folder, data=[str(lists)])
    assert scored.n_clips == 8


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


def _killing(at: str, plain: Any) -> Any:
    """Return `plain`, a writer, that ends the process before it writes `at`."""

    def write(path: Path, *arguments: Any) -> None:
        if path.name == at:
            raise Killed
        plain(path, *arguments)

    return write


def test_weights_are_averaged_and_scored_whenever_killed(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(**more: Any) -> Any:
        own = {"epochs": 4, "average": [2, 3]}
        return run("ssamba-classify", data, tmp_path, own, **more)

    def averaged_now() -> dict[str, torch.Tensor]:
        (path,) = tmp_path.rglob("audio_model_wa.pth")
        found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        return found

    with monkeypatch.context() as patch:  # before the average is written
        patch.setattr(finish, "save_table", _killing("wa_result.csv", finish.save_table))
        with pytest.raises(Killed):
            train()
    (models,) = tmp_path.rglob("models")
    second, third = (torch.load(models / f"audio_model.{e}.pth", weights_only=True) for e in (2, 3))
    with monkeypatch.context() as patch:  # when all but the first are removed
        patch.setattr(encoder_verb, "write_json", _killing("fold.json", encoder_verb.write_json))
        with pytest.raises(Killed):
            train(resume=True)
    before = averaged_now()
    for key, value in before.items():
        assert torch.allclose(value, (second[key] + third[key]) / 2, atol=1e-7), key
    assert any(not torch.equal(second[key], third[key]) for key in second)
    table = (models.parent / "wa_result.csv").read_bytes()
    made = models / "audio_model_wa.pth"
    made.rename(tmp_path / "away.pth")
    assert re.search(r"lacks audio_model\.3\.pth.* train again", train(resume=True).error)
    (tmp_path / "away.pth").rename(made)
    done = train(resume=True)
    assert furthest(before, averaged_now(), exactly=True) == 0
    assert (done.folder / "wa_result.csv").read_bytes() == table
    assert np.loadtxt(done.folder / "wa_result.csv", delimiter=",").shape == (5,)
    (fold,) = done.result["folds"]
    assert fold["averaged"]["epochs"] == [2, 3]
    kept = sorted(p.name for p in (done.folder / "models").glob("audio_model.*.pth"))
    assert kept == ["audio_model.2.pth"]
    best = torch.load(done.folder / "models" / "best_audio_model.pth", weights_only=True)
    assert furthest(weights(done), {k.removeprefix("module."): v for k, v in best.items()}) == 0
    assert fold["best"]["step"] < fold["steps"]  # so the last weights would not do


def test_published_validation_is_reloaded_and_scored_on_the_test_clips(
    lists: Path, tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "lists"
    shutil.copytree(lists, folder)
    shutil.copy(folder / "test.json", folder / "valid.json")
    system, _, own = SMALL["ssamba-classify"]
    (done,) = train_encoder(
        system, data=[folder], settings={**TINY, **own}, mode="published", out=tmp_path / "out"
    )
    row = np.loadtxt(done.folder / "eval_result.csv", delimiter=",")
    assert row.shape == (4,)
    assert row[:2] == pytest.approx(row[2:])  # the same clips in both
    assert done.result["folds"][0]["test"]["acc"] == pytest.approx(row[2])


def test_probing_while_training(task: Path, data: Data, tmp_path: Path) -> None:
    for name in ("ssam", "ssamba", "aum"):
        done = run(name, data, tmp_path / name, probe="tones@1", tasks=[task.parent])
        rows = [r for r in read_log(done.folder / "log.jsonl") if r["kind"] == "probe"]
        assert [r["epoch"] for r in rows] == [0, 1, 2]
        assert all(0 <= r["tones"] <= 1 for r in rows)
    plain = run("ssam", data, tmp_path / "plain")
    assert furthest(weights(plain), weights(run("ssam", data, tmp_path / "ssam"))) == 0
    knn = run("aum", data, tmp_path / "knn", probe=str(task), probe_method="knn")
    assert knn.error is None
    with pytest.raises(ProtocolError, match="no task 'tone'; did you mean 'tones'"):
        parse_probe("tone@2", [task.parent])


def test_evaluating_a_file_needs_its_recipe(data: Data, lists: Path, tmp_path: Path) -> None:
    done = run("aum", data, tmp_path)
    best = done.folder / "models" / "best_audio_model.pth"
    with pytest.raises(ProtocolError, match="needs --task"):
        evaluate_checkpoint(best, data=[str(lists)])
    with pytest.raises(ProtocolError, match="did you mean 'vggsound'"):
        evaluate_checkpoint(best, data=[str(lists)], task="vgsound")
    found = evaluate_checkpoint(
        best, data=[str(lists)], task="as20k",
        settings={"n_frames": 64, "workers": 0, "precision": "fp32"},
    )  # fmt: skip
    own = evaluate_checkpoint(done.folder, data=[str(lists)])
    assert found.scores["acc"] == pytest.approx(own.scores["acc"])
    assert {row[0] for row in found.published} == {
        "AuM-B Fo-Bi (b), released checkpoint",
        "AuM-S Bi-Bi (c), ImageNet init, released checkpoint",
    }  # fmt: skip
    predictions = np.loadtxt(done.folder / "test_predictions.csv", delimiter=",")
    assert predictions.shape == (8, 3)
    with pytest.raises(EncoderError, match="has no classifier"):
        evaluate_checkpoint(
            run("ssam", data, tmp_path / "s").folder / "weights.safetensors", data=[str(lists)]
        )


def test_the_command_line(data: Data, lists: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    small = [
        w for k, v in {**TINY, "n_frames": 64, "lr": 1e-3}.items() for w in ("--set", f"{k}={v}")
    ]
    base = ["aum", "--data", str(lists), *small, "--out", str(tmp_path), "--device", "cpu"]
    dry = runner.invoke(command, [*base, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "steps per epoch" in dry.output
    assert not list(tmp_path.iterdir())
    job = runner.invoke(command, [*base, "--slurm", "--gpus", "12"])
    assert "--nodes=2 --ntasks-per-node=6 --gpus-per-node=6\n" in job.output
    done = runner.invoke(command, base)
    assert done.exit_code == 0, done.output
    assert "aum step 4/4 epoch 2  loss" in done.stderr
    folder = tmp_path / "train" / "aum" / "own" / "aum" / "seed-000"
    scored = runner.invoke(evaluate_command, [str(folder), "--data", str(lists)])
    assert "8 test clips, mode sound" in scored.output
    as_json = runner.invoke(evaluate_command, [str(folder), "--data", str(lists), "--json"])
    assert json.loads(as_json.output)["n_clips"] == 8
    picture = tmp_path / "c.html"
    drawn = runner.invoke(curves_command, [str(folder), "--to", str(picture)])
    assert drawn.exit_code == 0, drawn.output
    assert "data:image/png" in picture.read_text()
    for words, message in (
        (["aum", "--store", "x"], "--store is not an option of aum"),
        (["mmml", "--gpus", "2"], "--gpus is not an option of mmml"),
        ([], "name a system"),
    ):
        wrong = runner.invoke(command, words)
        assert wrong.exit_code == 2
        assert message in wrong.output
    listed = runner.invoke(command, ["ssamba", "--list"])
    assert "ssamba-esc50" in listed.output
    assert "aum-" not in listed.output


def test_drop_path_rates_and_draws() -> None:
    rates = drop_rates(0.1, 24)
    assert rates[:2] == [0.0, 0.0]
    assert rates[2:] == pytest.approx([0.1 * (i - 1) / 23 for i in range(2, 24)])
    drop = DropPath(0.25)
    x = torch.ones(4, 2, 3)
    assert torch.equal(drop.eval()(x), x)
    drop.train()
    feed_drop_paths(drop, lambda n: torch.tensor([0.0, 0.74, 0.76, 1.0][:n]))
    assert torch.allclose(drop(x)[:, 0, 0], torch.tensor([4 / 3, 4 / 3, 0.0, 0.0]))
    feed_drop_paths(drop, None)
    torch.manual_seed(0)
    kept = drop(torch.ones(4000, 1))
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)


def test_ssam_leaves_its_authors_files(data: Data, tmp_path: Path) -> None:
    done = run("ssam", data, tmp_path, {"epochs": 8})
    names = sorted(p.name for p in (done.folder / "checkpoints").iterdir())
    assert names == sorted(f"checkpoint-{e}.pth" for e in (0, 2, 3, 4, 5, 6, 7))
    assert done.folder.name == "ssam_1x8_fp32_r0"
    lines = [json.loads(line) for line in (done.folder / "log.txt").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(8))
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]
    read = read_checkpoint(done.folder)  # the highest epoch
    assert furthest(dict(read.state), weights(done)) == 0


def _epic(folder: Path) -> list[str]:
    """Write two recordings of EPIC-SOUNDS' kind; return --data."""
    import soundfile

    rng = np.random.default_rng(0)
    audio = folder / "audio"
    audio.mkdir()
    for video in ("P01_01", "P01_02"):
        wave = 0.1 * rng.standard_normal(24000 * 14)
        soundfile.write(audio / f"{video}.wav", wave, 24000, subtype="PCM_16")
    rows = ["annotation_id,video_id,start_timestamp,stop_timestamp,class_id"]
    for i in range(8):
        video = ("P01_01", "P01_02")[i % 2]
        stop = ("00:00:01.500", "00:00:13.000")[i % 3 == 0]
        rows.append(f"a{i},{video},00:00:00.250,{stop},{i % 3}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    (folder / "valid.csv").write_text("\n".join(rows[:5]) + "\n")
    (folder / "test.csv").write_text("\n".join(rows[:4]) + "\n")
    return [f"{k}={folder / v}" for k, v in (("train", "train.csv"), ("audio", "audio"),
            ("valid", "valid.csv"), ("test", "test.csv"))]  # fmt: skip


EPIC = {
    **TINY, "dataset": "epic_sounds", "n_frames": 128, "warp": "published", "warmup": True,
    "loss": "CE", "batch_size": 4,
}  # fmt: skip


@pytest.mark.parametrize("mode", ["published", "sound"])
def test_epic_sounds_trains_from_its_annotations(mode: str, tmp_path: Path) -> None:
    data = _epic(tmp_path)
    (done,) = train_encoder("aum", data=data, settings=EPIC, mode=mode, out=tmp_path / "out")
    assert done.error is None
    rates = [x["lr"] for x in read_log(done.folder / "log.jsonl") if x["kind"] == "step"]
    assert rates == pytest.approx([1e-5 * (0.01 + 0.99 * i / 4) for i in range(4)])
    (fold,) = done.result["folds"]
    assert (fold["selection"], fold["facts"]["evaluation clips"]) == ("validation segments", 4)
    scored = evaluate_checkpoint(done.folder, data=data)
    assert (scored.n_clips, scored.selection) == (3, "validation segments")  # the test list
    assert "‡" in evaluate_checkpoint(done.folder, data=data[:3]).selection  # now it is the same
    (tmp_path / "train.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="is a pickle, which can run code"):
        train_encoder(
            "aum", data=[f"train={tmp_path / 'train.pkl'}", *data[1:]], settings=EPIC,
            out=tmp_path / "c",
        )  # fmt: skip
    with pytest.raises(DataError, match="EPIC-SOUNDS needs --data train=CSV"):
        train_encoder("aum", data=data[:2], settings=EPIC, out=tmp_path / "d")


@pytest.mark.parametrize("role", ["valid", "test"])
def test_epic_sounds_only_evaluation_list_is_the_test(role: str, tmp_path: Path) -> None:
    train, audio, *_ = _epic(tmp_path)
    data = [train, audio, f"{role}={tmp_path / 'test.csv'}"]
    (done,) = train_encoder("aum", data=data, settings=EPIC, mode="published", out=tmp_path / "p")
    (fold,) = done.result["folds"]
    assert fold["selection"] == "test segments ‡"
    assert fold["facts"] == {"training clips": 8, "evaluation clips": 3, "classes": 44}
    scored = CliRunner().invoke(
        evaluate_command, [str(done.folder), *(w for d in data for w in ("--data", d))]
    )
    assert "‡ selected on the test clips" in scored.output
    table = (tmp_path / "test.csv").read_text()
    unheard = table.replace("P01_01", "P99_99").replace("P01_02", "P99_99")
    (tmp_path / "test.csv").write_text(unheard)  # a sound training never opens its audio
    (done,) = train_encoder("aum", data=data, settings=EPIC, mode="sound", out=tmp_path / "s")
    (fold,) = done.result["folds"]
    assert fold["selection"] == "4 segments held out of training (1 recordings)"
    assert fold["facts"] == {"training clips": 4, "evaluation clips": 4, "classes": 44}
    opened = open_epic(data)
    kept, held, _ = select_segments(opened, resolve(AumSettings, EPIC, "test"))
    assert {s.video for s in kept}.isdisjoint(s.video for s in held)
    assert sorted(s.name for s in (*kept, *held)) == sorted(s.name for s in opened.train)
    with pytest.raises(DataError, match="P99_99"):
        evaluate_checkpoint(done.folder, data=data)
    (tmp_path / "test.csv").write_text(table)
    scored = evaluate_checkpoint(done.folder, data=data)
    assert (scored.n_clips, scored.selection) == (3, fold["selection"])
    with pytest.raises(DataError, match="1 training recordings and held_out"):
        one = dataclasses.replace(opened, train=kept)
        select_segments(one, resolve(AumSettings, EPIC, "test"))


def test_trained_weights_serve_as_an_encoder(tmp_path: Path) -> None:
    from mambabench.models.encoders.ssamba import SsambaPretraining
    from mambabench.models.registry import load_encoder
    from mambabench.train.encoder_settings import SsamSettings
    from mambabench.train.state import save_tensors
    from mambabench.train.systems.ssam import SYSTEM

    ssam = SYSTEM.build(SsamSettings(size="tiny"), 0)
    ssamba = SsambaPretraining(SsambaConfiguration(192))
    for name, model, depth in (("ssam_tiny", ssam, 12), ("ssamba_tiny", ssamba, 24)):
        initialise(model, 0, depth)
        path = tmp_path / name / "weights.safetensors"
        save_tensors(path, dict(model.state_dict()), {"objective": "pretrain"})
        loaded = load_encoder(f"{name}@{path}")
        assert loaded.scene(torch.randn(1, 16000), None).isfinite().all()


def test_what_is_trained_learns(data: Data, tmp_path: Path) -> None:
    plain = {"mixup": 0.0, "balanced": False, "random_class_place": False, "loss": "CE"}
    done = run("aum", data, tmp_path / "aum", {**plain, "epochs": 12, "lr": 3e-3})
    losses = [row["train_loss"] for row in done.result["folds"][0]["history"]]
    assert losses[-1] < 0.75 * losses[0]
    done = run("ssamba", data, tmp_path / "s", {"epochs": 16, "lr": 3e-3, "evaluate_every": 4})
    rows = done.result["folds"][0]["history"]
    assert rows[-1]["train_loss"] < 0.75 * rows[0]["train_loss"]
    assert rows[-1]["eval_accuracy"] > rows[0]["eval_accuracy"]
