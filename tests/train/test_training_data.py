"""Data of trainings: orders, tars, lists, and what is said of bad ones."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import write_lists
from small import TINY, run

from mambabench.errors import DataError, ProtocolError
from mambabench.train import orders
from mambabench.train import precompute as precompute_module
from mambabench.train.batches import Item, LoaderSource, Place
from mambabench.train.clips import read_weights
from mambabench.train.encoder_data import open_clips, parse_data
from mambabench.train.encoder_settings import AumSettings, SsambaSettings
from mambabench.train.log import read_log
from mambabench.train.precompute import precompute
from mambabench.train.ranks import Ranks, find_ranks
from mambabench.train.tars import index_tar, read_array, write_tar
from mambabench.train.verb import train_encoder


def read_name(place: Place) -> Item:
    return Item(torch.tensor([float(place.clip)]), None, {}, str(place.clip))


@pytest.mark.parametrize(("workers", "n_clips"), [(0, 24), (2, 24), (0, 25)])
def test_every_rank_and_worker_sees_each_sample_once_an_epoch(workers: int, n_clips: int) -> None:
    """Of 25 clips the last, incomplete batch of six is left out: one clip, another each epoch."""
    shards = [range(0, 7), range(7, 20), range(20, n_clips)]
    left_out = []
    for epoch in range(2):
        source = LoaderSource(
            lambda e: orders.buffered_order(shards, 5, 0, e), read_name, n_clips, 6, True, workers
        )
        assert source.steps_per_epoch == 4
        seen: list[str] = []
        by_step: list[set[str]] = []
        for rank in range(2):
            for i, step in enumerate(source.steps(epoch, 0, Ranks(rank, 2, rank), 1)):
                names = [name for part in step.parts for name in part.names]
                seen += names
                if rank == 0:
                    by_step.append(set(names))
                else:
                    by_step[i] |= set(names)
        assert len(set(seen)) == len(seen) == 24
        left_out.append(set(range(n_clips)) - set(map(int, seen)))
        alone = source.steps(epoch, 0, Ranks(), 1)
        assert by_step == [{n for part in step.parts for n in part.names} for step in alone]
    assert [len(one) for one in left_out] == [n_clips - 24] * 2
    assert n_clips == 24 or left_out[0] != left_out[1]


def test_orders_depend_on_seed_and_epoch_and_stay_local() -> None:
    shards = [range(100 * i, 100 * i + 100) for i in range(10)]
    first = orders.buffered_order(shards, 50, 0, 0)
    assert sorted(first) == list(range(1000))
    assert not np.array_equal(first, orders.buffered_order(shards, 50, 0, 1))
    assert not np.array_equal(first, orders.buffered_order(shards, 50, 1, 0))
    assert np.array_equal(first, orders.buffered_order(shards, 50, 0, 0))
    # a step of 32 clips reads from a few tars only
    assert max(len({int(i) // 100 for i in first[k : k + 32]}) for k in range(0, 968, 32)) <= 4


def test_the_published_order_reads_each_reader_s_own_tars() -> None:
    shards = [range(10 * i, 10 * i + 10) for i in range(8)]
    order = orders.published_order(
        shards, n_steps=6, batch=3, readers=(2, 2), buffer=4, seed=0, epoch=0
    )
    assert len(order) == 6 * 2 * 3
    steps = order.reshape(6, 2, 3)
    tars = {
        (rank, step % 2): {int(i) // 10 for s in range(step % 2, 6, 2) for i in steps[s, rank]}
        for rank in range(2)
        for step in range(2)
    }
    readers = list(tars.values())
    assert all(a.isdisjoint(b) for i, a in enumerate(readers) for b in readers[i + 1 :])
    with pytest.raises(ProtocolError, match="8 tars for 4 ranks x 16 readers"):
        orders.published_order(
            shards, n_steps=1, batch=1, readers=(4, 16), buffer=4, seed=0, epoch=0
        )


def test_a_balanced_order_follows_the_weights() -> None:
    order = orders.balanced_order(np.array([1.0, 0.0, 3.0] * 1000), 0, 0)
    kinds = np.bincount(order % 3, minlength=3) / len(order)
    assert kinds == pytest.approx([0.25, 0.0, 0.75], abs=0.03)


def test_a_tar_that_ends_early(tmp_path: Path, tars: Path) -> None:
    whole = (tars / "000.tar").read_bytes()
    for cut in (len(whole) // 2, len(whole) // 2 // 512 * 512, 700):
        path = tmp_path / f"{cut}.tar"
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match="ends early"):
            index_tar(path)


@pytest.mark.parametrize("member", ["clip0x3.data.pyd", "clip0x3.target.pyd"])
def test_a_tar_that_ends_between_members(member: str, tmp_path: Path, tars: Path) -> None:
    """Cut before a sample, or between its data and its target: no member is torn."""
    with tarfile.open(tars / "000.tar") as tar:
        first = tar.getmember(member).offset
    path = tmp_path / "a.tar"
    path.write_bytes((tars / "000.tar").read_bytes()[:first])
    with pytest.raises(DataError, match=r"a\.tar ends early, after sample clip0x.*fetch this tar"):
        index_tar(path)
    path.write_bytes(path.read_bytes() + bytes(512))  # the least that ends an archive
    assert index_tar(path)[2].key == "clip0x2"


def test_pickled_objects_and_odd_arrays_are_refused(tmp_path: Path) -> None:
    def tar(name: str, array: Any, **options: Any) -> Path:
        buffer = io.BytesIO()
        np.save(buffer, array, **options)
        path = tmp_path / name
        with tarfile.open(path, "w") as file:
            info = tarfile.TarInfo("a.data.pyd")
            info.size = buffer.tell()
            buffer.seek(0)
            file.addfile(info, buffer)
        return path

    evil = tar("evil.tar", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled objects are not read"):
        read_array(index_tar(evil)[0])
    flat = tar("flat.tar", np.zeros(5, np.float32))
    with pytest.raises(DataError, match=r"not floats \[frames, bands\]"):
        read_array(index_tar(flat)[0])
    fortran = tar("fortran.tar", np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert read_array(index_tar(fortran)[0]).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_sample_without_features_and_another_width(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [(f"x{i}", np.ones((210, 40)), np.zeros(1)) for i in range(8)])
    done = train_encoder(
        "ssam", data=[tmp_path], settings={**TINY, "ranks": 1}, out=tmp_path / "out"
    )
    assert "has 40 bands, the model 80" in str(done[0].error)


def test_published_short_clips_are_refused_by_name(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        (f"c{i}", rng.standard_normal((120, 80)).astype(np.float32), np.zeros(1)) for i in range(8)
    ]
    write_tar(tmp_path / "a.tar", rows)
    settings = {**TINY, "ranks": 1, "readers": 1, "epochs": 1, "mode": "published"}
    (done,) = train_encoder("ssam", data=[tmp_path], settings=settings, out=tmp_path / "p")
    assert "has 120 frames, fewer than 200" in str(done.error)
    assert "use mode sound" in str(done.error)
    (done,) = train_encoder(
        "ssam", data=[tmp_path], settings={**settings, "mode": "sound"}, out=tmp_path / "s"
    )
    assert done.error is None


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_one_late_short_clip_is_refused_before_the_first_step(
    version: tuple[int, int], tmp_path: Path
) -> None:
    rows = [(f"c{i}", np.ones((240, 80), np.float32), np.zeros(1)) for i in range(39)]
    write_tar(tmp_path / "a.tar", rows)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ones((199, 80), np.float32), version=version)
    with tarfile.open(tmp_path / "a.tar", "a") as tar:
        info = tarfile.TarInfo("c39.data.pyd")
        info.size = buffer.tell()
        buffer.seek(0)
        tar.addfile(info, buffer)
    settings = {**TINY, "ranks": 1, "readers": 1, "buffer": 1, "mode": "published"}
    (done,) = train_encoder("ssam", data=[tmp_path], settings=settings, out=tmp_path / "p")
    assert f"{tmp_path / 'a.tar'}: clip c39 has 199 frames, fewer than 200" in str(done.error)
    assert "leave it out, or use mode sound" in str(done.error)
    assert not [p for p in done.folder.rglob("*") if p.name == "state.safetensors"]
    log = done.folder / "log.jsonl"
    assert not log.is_file() or not [x for x in read_log(log) if x["kind"] == "step"]


def test_too_few_tars_for_the_published_readers(tmp_path: Path, tars: Path) -> None:
    settings = {**TINY, "mode": "published", "batch_size": 16}
    (done,) = train_encoder("ssam", data=[tars], settings=settings, out=tmp_path)
    assert "2 tars for 4 ranks x 16 readers" in str(done.error)


def test_masks_that_would_never_end_are_refused(tmp_path: Path, lists: Path) -> None:
    for settings, words in (
        ({"n_frames": 512, "mode": "published", "masks": 200}, "the original would hang there"),
        ({"n_frames": 64, "masks": 31}, "at most 30 can be drawn"),
    ):
        (done,) = train_encoder(
            "ssamba", data=[lists], settings={**TINY, **settings}, out=tmp_path / words[:5]
        )
        assert words in str(done.error)


def test_cross_entropy_with_mixup_is_refused_as_published(tmp_path: Path, lists: Path) -> None:
    settings = {**TINY, "n_frames": 64, "loss": "CE", "mixup": 0.5}
    (done,) = train_encoder(
        "aum", data=[lists], settings={**settings, "mode": "published"}, out=tmp_path / "p"
    )
    assert "every mixture becomes class 0" in str(done.error)
    (done,) = train_encoder("aum", data=[lists], settings=settings, out=tmp_path / "s")
    assert done.error is None


def _edited(lists: Path, to: Path, name: str, change: Any) -> Path:
    shutil.copytree(lists, to)
    document = json.loads((to / name).read_text())
    change(document["data"])
    (to / name).write_text(json.dumps(document))
    return to


def test_bad_lists_name_file_entry_and_remedy(lists: Path, tmp_path: Path) -> None:
    settings = AumSettings()
    folder = _edited(lists, tmp_path / "a", "train.json", lambda rows: rows[3].pop("wav"))
    with pytest.raises(DataError, match=r'train.json: entry 3 of "data" has no "wav"'):
        open_clips([str(folder)], settings)
    folder = _edited(
        lists, tmp_path / "b", "train.json", lambda rows: rows[2].update(labels="/m/hihg")
    )
    with pytest.raises(DataError, match="entry 2 .*'/m/hihg' is not in .*did you mean '/m/high'"):
        open_clips([str(folder)], settings)
    shutil.copytree(lists, tmp_path / "c")
    (tmp_path / "c" / "labels.csv").unlink()
    with pytest.raises(DataError, match="label CSV .* is missing"):
        open_clips([str(tmp_path / "c")], settings)
    with pytest.raises(DataError, match="no key 'trian'; did you mean 'train'"):
        parse_data(["trian=x.json"])
    with pytest.raises(DataError, match="nothere does not exist"):
        parse_data([str(tmp_path / "nothere")])
    with pytest.raises(DataError, match="give --data PATH"):
        parse_data([])


def test_an_empty_class_is_an_error_unless_allowed(lists: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    shutil.copytree(lists, folder)
    with (folder / "labels.csv").open("a") as file:
        file.write('3,/m/never,"never"\n')
    settings = {**TINY, "n_frames": 64}
    (done,) = train_encoder("aum", data=[folder], settings=settings, out=tmp_path / "a")
    assert "1 of 4 classes have no training clip ('never')" in str(done.error)
    (done,) = train_encoder(
        "aum", data=[folder], settings={**settings, "allow_empty": True}, out=tmp_path / "b"
    )
    assert done.error is None


def test_a_clip_shorter_than_a_frame_and_one_that_is_no_audio(tmp_path: Path) -> None:
    folder = write_lists(tmp_path / "lists")
    soundfile.write(folder / "03.wav", np.zeros(100), 16000)
    (done,) = train_encoder(
        "aum", data=[folder], settings={**TINY, "n_frames": 64, "workers": 1}, out=tmp_path / "a"
    )
    assert "03.wav has 100 samples, less than one frame" in str(done.error)
    (folder / "03.wav").write_text("no audio")
    (done,) = train_encoder(
        "aum", data=[folder], settings={**TINY, "n_frames": 64}, out=tmp_path / "b"
    )
    assert "cannot read the clip" in str(done.error)


def test_a_weight_file_of_another_list(lists: Path, tmp_path: Path) -> None:
    data = open_clips([str(lists)], AumSettings())
    path = tmp_path / "w.csv"
    path.write_text("1.0\n" * 3)
    with pytest.raises(DataError, match="has 3 weights for 16 clips"):
        read_weights(path, data.folds[0].train, 3)
    path.write_text("1.0\n" * 16)
    with pytest.raises(DataError, match="line 1 is not the weight of"):
        read_weights(path, data.folds[0].train, 3)


def test_ranks_that_do_not_divide_the_batch(tmp_path: Path, tars: Path) -> None:
    done = run("ssam", {"tars": tars}, tmp_path, {"accumulate": 3})
    assert "8 clips does not divide into 1 ranks x 3 micro-batches" in done.error
    assert "one of 1, 2, 4, 8" in done.error


def test_ranks_come_from_torchrun_or_slurm() -> None:
    assert find_ranks({}) == Ranks()
    assert find_ranks({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Ranks(3, 4, 1)
    slurm = {"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    assert find_ranks(slurm) == Ranks(5, 8, 1)
    # a batch script alone is one process, however many tasks it may start
    assert find_ranks({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) == Ranks()


def test_precompute_is_resumable_checked_and_the_same_in_parallel(tmp_path: Path) -> None:
    write_lists(tmp_path / "audio")
    first = precompute([tmp_path / "audio"], tmp_path / "one", clips_per_tar=9)
    assert (first.n_tars, first.n_clips, first.n_made) == (3, 24, 3)
    again = precompute([tmp_path / "audio"], tmp_path / "one", clips_per_tar=9)
    assert again.n_made == 0
    (tmp_path / "one" / "00001.tar").unlink()
    assert precompute([tmp_path / "audio"], tmp_path / "one", clips_per_tar=9).n_made == 1
    precompute([tmp_path / "audio"], tmp_path / "two", clips_per_tar=9, jobs=2)
    for name in ("00000.tar", "00001.tar", "00002.tar"):
        one, two = ((tmp_path / f / name).read_bytes() for f in ("one", "two"))
        assert one == two
    record = index_tar(tmp_path / "one" / "00000.tar")[0]
    features = read_array(record)
    index = int(record.key.rpartition("-")[2])
    wave, rate = soundfile.read(tmp_path / "audio" / f"{index:02d}.wav", dtype="float32")
    assert features.shape == (len(wave) // 160 + 1, 80)
    assert rate == 16000
    with pytest.raises(DataError, match="made with another clips_per_tar"):
        precompute([tmp_path / "audio"], tmp_path / "one", clips_per_tar=5)
    (tmp_path / "one" / "00002.tar").write_bytes(b"x")
    with pytest.raises(DataError, match="is not what was written"):
        precompute([tmp_path / "audio"], tmp_path / "one", clips_per_tar=9)
    (tmp_path / "audio" / "05.wav").write_text("broken")
    with pytest.raises(DataError, match=r"05\.wav"):
        precompute([tmp_path / "audio"], tmp_path / "three")
    left = precompute([tmp_path / "audio"], tmp_path / "four", on_error="skip")
    assert left.n_clips == 23
    assert [Path(p).name for p in left.skipped] == ["05.wav"]


def test_precompute_goes_on_after_a_kill_behind_the_first_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Stands for the end of the process."""

    plain = precompute_module.write_json

    def write(path: Path, value: Any) -> None:
        if list(path.parent.glob("*.tar")):
            raise Killed
        plain(path, value)

    write_lists(tmp_path / "audio")
    monkeypatch.setattr(precompute_module, "write_json", write)
    with pytest.raises(Killed):
        precompute([tmp_path / "audio"], tmp_path / "tars", clips_per_tar=9)
    monkeypatch.setattr(precompute_module, "write_json", plain)
    with pytest.raises(DataError, match="made with another clips_per_tar"):
        precompute([tmp_path / "audio"], tmp_path / "tars", clips_per_tar=5)
    done = precompute([tmp_path / "audio"], tmp_path / "tars", clips_per_tar=9)
    assert (done.n_tars, done.n_made, done.n_clips) == (3, 3, 24)
    # a folder in which nothing was made yet is free for another plan
    (tmp_path / "audio" / "05.wav").write_text("broken")
    with pytest.raises(DataError, match=r"05\.wav"):
        precompute([tmp_path / "audio"], tmp_path / "new")
    assert precompute([tmp_path / "audio"], tmp_path / "new", on_error="skip").n_clips == 23


def test_sound_holds_out_training_clips_and_published_takes_the_test_clips(lists: Path) -> None:
    from mambabench.train.encoder_data import selection_split

    fold = open_clips([str(lists)], AumSettings()).folds[0]
    sound, _ = selection_split(fold, AumSettings(held_out=0.25))
    assert (len(sound.train), len(sound.valid)) == (12, 4)
    assert {c.path for c in sound.valid}.isdisjoint(c.path for c in fold.test)
    published, why = selection_split(fold, AumSettings(mode="published"))
    assert published.valid == fold.test
    assert "‡" in why
    with pytest.raises(DataError, match="leave nothing to select on"):
        selection_split(fold, SsambaSettings(held_out=0.0))
