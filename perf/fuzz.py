"""Give every reader damaged files: only named errors, no hang, no traceback, nothing is run.

Usage: ``python perf/fuzz.py [--inputs 10000] [--seed 0] [--kind NAME]... [--limit-s 20]``; writes
``results/scale/fuzz.json`` and ``fuzz.md``.

Whole files of every kind are made first. Each input is one of them with one to three changes: bits
flipped, bytes overwritten, cut off, doubled or put in; in JSON and TOML also values of other kinds,
odd numbers and keys that go or come, and then, for files that carry their own hash, a right hash
again; in archives the same inside the compression. A process reads them one after another; one
that takes longer than the limit is ended and counted as a hang. Inputs are numbered: kind, seed and
number give the same bytes again.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import multiprocessing
import os
import pickle
import random
import shutil
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import soundfile

from mambabench.errors import DataError, MambabenchError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "scale"
LIMIT_S = 20.0
MEMORY = 6 << 30  # bytes of address space beyond what the reader has when it starts
Read = Callable[[Path], None]


class Runs:
    """What a pickle would do if somebody loaded it: leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@dataclass(frozen=True)
class Kind:
    """A kind of input: a folder of whole files, those that are changed, and how it is read."""

    folder: Path
    files: tuple[str, ...]
    read: Read


# --- whole files ---


def make_kinds(at: Path, mark: Path) -> dict[str, Kind]:
    """Write whole files of every kind below `at`; return how each is read."""
    makers: dict[str, Callable[[Path, Path], Read]] = {
        "audio": _audio, "task": _task, "store": _store, "kit": _kit, "record": _record,
        "report": _report, "checkpoint": _checkpoint, "array": _array, "archive": _archive,
        "recipe": _recipe, "tar": _tar, "lists": _lists,
    }  # fmt: skip
    found = {}
    for name, make in makers.items():
        folder = at / name
        folder.mkdir(parents=True)
        read = make(folder, mark)
        files = tuple(
            str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()
        )
        found[name] = Kind(folder, files, read)
    return found


def _audio(folder: Path, mark: Path) -> Read:
    from mambabench.reading.audio import duration_s, read_audio, read_header

    wave = 0.3 * np.sin(np.arange(8000) / 9)
    formats = {"a.wav": "PCM_16", "b.wav": "FLOAT", "c.wav": "ULAW", "a.flac": "PCM_16",
               "a.aiff": "PCM_16", "a.au": "PCM_16", "a.ogg": "VORBIS",
               "a.mp3": "MPEG_LAYER_III"}  # fmt: skip
    for name, subtype in formats.items():
        soundfile.write(folder / name, wave, 16000, subtype=subtype)

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            read_audio(path)
            read_header(path)
            duration_s(path)

    return read


def _write_task(directory: Path, events: bool = False) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        (directory / "16000" / split).mkdir(parents=True)
        entries: dict[str, Any] = {}
        for i in range(4):
            name = f"{split}{i}.wav"
            soundfile.write(directory / "16000" / split / name, rng.normal(size=4000) / 9, 16000)
            label = str(i % 2)
            entries[name] = [{"label": label, "start": 20.0, "end": 150.0}] if events else [label]
        (directory / f"{split}.json").write_text(json.dumps(entries))
    (directory / "labelvocabulary.csv").write_text("idx,label\n0,0\n1,1\n")
    metadata = {
        "task_name": directory.name, "version": "v1",
        "embedding_type": "event" if events else "scene",
        "prediction_type": "multilabel" if events else "multiclass",
        "split_mode": "trainvaltest", "splits": ["train", "valid", "test"],
        "sample_duration": 0.25, "evaluation": ["segment_1s_er"] if events else ["top1_acc"],
    }  # fmt: skip
    (directory / "task_metadata.json").write_text(json.dumps(metadata))
    return directory


def _task(folder: Path, mark: Path) -> Read:
    from mambabench.benchmarks import discover

    _write_task(folder / "scene-v1-test")
    _write_task(folder / "event-v1-test", events=True)

    def read(at: Path) -> None:
        discover([at], ())

    return read


def _extracted(folder: Path, layout: str) -> None:
    from mambabench.extract.verb import extract

    task = _write_task(folder / "tasks" / "scene-v1-test")
    extract("logmel_stats", task, out=folder / "out", jobs=1, device="cpu", layout=layout)
    shutil.rmtree(folder / "tasks")


def _store(folder: Path, mark: Path) -> Read:
    return _stored(folder, "store")


def _kit(folder: Path, mark: Path) -> Read:
    read = _stored(folder, "hear-eval-kit")
    path = next(folder.rglob("*.target-labels.pkl"))
    path.with_name(f"evil-{path.name}").write_bytes(pickle.dumps([Runs(mark)]))
    return read


def _stored(folder: Path, layout: str) -> Read:
    from mambabench.probe.data import TaskRows
    from mambabench.status import status
    from mambabench.store.hear_eval_kit_read import read_labels
    from mambabench.store.open import content_sha256, list_stored_tasks, read_embeddings

    _extracted(folder, layout)

    def read(at: Path) -> None:
        status(at / "out")
        for evil in at.rglob("evil-*.pkl"):  # in the place of right labels
            os.replace(evil, evil.with_name(evil.name.removeprefix("evil-")))
        for stored in list_stored_tasks(at / "out", layout):
            content_sha256(stored)
            for split in stored.task.splits:
                np.asarray(read_embeddings(stored, split).embeddings)
                if layout != "store":
                    read_labels(stored.directory, split)
            TaskRows(stored, kit=layout != "store")

    return read


def _record(folder: Path, mark: Path) -> Read:
    from mambabench.report.checked import defect_of
    from mambabench.store.records import read_record, record_paths

    _write_records(folder / "out", 2)
    evil = folder / "out" / "evil.npz"
    np.savez(evil, allow=np.array([Runs(mark)], dtype=object))

    def read(at: Path) -> None:
        bad = at / "out" / "evil.npz"
        for i, path in enumerate(record_paths(at / "out")):
            if i == 0 and bad.is_file():
                shutil.copy(bad, path.with_suffix(".npz"))
            record = read_record(path)
            if defect := defect_of(path, path.read_bytes(), record):
                raise DataError(str(defect))

    return read


def _report(folder: Path, mark: Path) -> Read:
    from mambabench.report.formats import FORMATS
    from mambabench.report.summary import summarise
    from mambabench.report.view import View

    _write_records(folder / "out", 2)

    def read(at: Path) -> None:
        found = summarise([at / "out"], cache=None, jobs=1)
        FORMATS["json"].render(found, View())
        if found.defects:  # the report is there; what it refuses is named in it
            raise DataError(str(found.defects[0]))

    return read


def _write_records(out: Path, n: int) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.report.synthetic_results import write_events, write_scene

    for encoder, skill in (("a", 1.0), ("b", 1.5)):
        write_scene(out, encoder, "t", skill=skill, seeds=n, folds={"test": 30})
    write_events(out, "a", "e", skill=0.5, seeds=1)


def _checkpoint(folder: Path, mark: Path) -> Read:
    import torch
    from safetensors.torch import save_file

    from mambabench.models.weights.checkpoint import read_checkpoint
    from mambabench.train.state import load_tensors

    state = {"module.v.a": torch.ones(3, 4), "module.v.b": torch.arange(5)}
    torch.save({"model": state, "epoch": 3, "args": {"lr": 0.1}}, folder / "new.pth")
    torch.save(state, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": state, "more": Runs(mark)}, folder / "evil.pth")
    (folder / "evil.bin").write_bytes(pickle.dumps(Runs(mark)))
    save_file({"a": state["module.v.a"]}, folder / "a.safetensors", {"step": "3"})

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            read_checkpoint(path)
            if path.suffix == ".safetensors":
                load_tensors(path)

    return read


def _array(folder: Path, mark: Path) -> Read:
    from mambabench.reading.arrays import read_array, read_arrays

    np.save(folder / "a.npy", np.ones((3, 4), np.float32))
    np.save(folder / "f.npy", np.asfortranarray(np.ones((3, 4))))
    np.save(folder / "evil.npy", np.array([Runs(mark)], dtype=object))
    np.savez(folder / "a.npz", a=np.ones(3), b=np.array(["x", "yy"]))
    np.savez_compressed(folder / "c.npz", a=np.ones(300))
    np.savez(folder / "evil.npz", a=np.array([Runs(mark)], dtype=object))

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            if path.suffix == ".npz":
                read_arrays(path, ("a",), remedy="make it again")
            else:
                np.asarray(read_array(path, remedy="make it again"))
                np.asarray(read_array(path, remedy="make it again", mapped=True))

    return read


def _archive(folder: Path, mark: Path) -> Read:
    from mambabench.acquire.unpack import unpack_tasks

    with tempfile.TemporaryDirectory() as name:
        task = _write_task(Path(name) / "scene-v1-test")
        for suffix, mode in (("gz", "w:gz"), ("bz2", "w:bz2"), ("xz", "w:xz"), ("tar", "w")):
            with tarfile.open(folder / f"a.{suffix}", mode) as tar:
                tar.add(task, "tasks/scene-v1-test")

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            if path.is_file():
                into = at / f"into-{path.suffix}"
                try:
                    unpack_tasks(path, into)
                finally:
                    assert not list(at.parent.parent.glob("escaped*")), "written outside"
                    left = list(into.rglob("*.tmp")) if into.is_dir() else []
                    assert not left, f"left behind: {left}"

    return read


def _recipe(folder: Path, mark: Path) -> Read:
    from mambabench.pipeline import experiment_of, read_experiment
    from mambabench.train.recipes import read_recipe

    for name in ("generated-v1", "ssamba-esc50", "ssam-tiny-demo", "depmamba-dvlog"):
        shutil.copy(ROOT / "recipes" / f"{name}.toml", folder)
    from mambabench.files import toml_text

    plain = experiment_of({"encoder": ["logmel_stats"], "seeds": 3, "task": ["x"]}).plain()
    (folder / "experiment.toml").write_text(toml_text(plain))

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            if path.name == "experiment.toml":
                read_experiment(path)
            else:
                read_recipe(path, {})

    return read


def _tar(folder: Path, mark: Path) -> Read:
    from mambabench.train.tars import index_tar, read_array, read_labels, write_tar

    rows = [(f"c{i}", np.ones((20 + i, 8), np.float32), np.array([i])) for i in range(3)]
    write_tar(folder / "a.tar", rows)
    with tarfile.open(folder / "evil.tar", "w") as tar:
        for part in ("data", "target"):
            text = pickle.dumps(Runs(mark))
            info = tarfile.TarInfo(f"c0.{part}.pyd")
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))

    def read(at: Path) -> None:
        for path in sorted(at.iterdir()):
            for record in index_tar(path):
                read_array(record)
                read_labels(record)

    return read


def _lists(folder: Path, mark: Path) -> Read:
    from mambabench.train.encoder_data import open_clips
    from mambabench.train.settings import SYSTEMS, resolve

    for i in range(4):
        soundfile.write(folder / f"{i}.wav", np.ones(800) / 9, 16000)
    for name in ("train", "test"):
        rows = [{"wav": f"{i}.wav", "labels": f"/m/{i % 2}"} for i in range(4)]
        (folder / f"{name}.json").write_text(json.dumps({"data": rows}))
    (folder / "labels.csv").write_text("index,mid,display_name\n0,/m/0,a\n1,/m/1,b\n")
    settings = resolve(SYSTEMS["ssamba"], {"objective": "classify"}, "fuzz")

    def read(at: Path) -> None:
        open_clips([str(at)], settings)

    return read


# --- changes ---

ODD = (None, True, -1, 0, 1e308, -1e-308, 2**70, float("nan"), float("inf"), "", "x" * 3000, "\x00",
       "../../escaped", "/escaped", "\ud800", [], {}, [[]], {"a": {}}, [None], "1", 1.5,
       "ä" * 50, ["x"] * 2000)  # fmt: skip


def changed(data: bytes, name: str, rng: random.Random) -> bytes:
    """Return the content of a file with one to three changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if name.endswith(".json") and rng.random() < 0.7:
            data = _json(data, rng)
        elif name.endswith((".npz", ".pth")) and rng.random() < 0.5:
            data = _inside_zip(data, rng)
        elif name.endswith(".gz") and rng.random() < 0.6:
            data = _inside_gzip(data, rng)
        elif name.endswith((".toml", ".csv")) and rng.random() < 0.6:
            data = _text(data, rng)
        else:
            data = _bytes(data, rng)
    return data


def _bytes(data: bytes, rng: random.Random) -> bytes:
    """Change bytes anywhere; the first hundred, where headers stand, as often as all others."""
    way = rng.randrange(9)
    if way == 0:
        return b"" if rng.random() < 0.2 else data[: rng.randrange(len(data) + 1)]
    if way == 1:
        return rng.randbytes(rng.randrange(1, 200))
    if not data:
        return rng.randbytes(8)
    reach = min(len(data), 100) if rng.random() < 0.5 else len(data)
    at = rng.randrange(reach)
    length = rng.choice((1, 1, 2, 4, 8, 64))
    changed = bytearray(data)
    if way == 2:
        changed[at] ^= 1 << rng.randrange(8)
    elif way == 3:
        changed[at : at + length] = rng.randbytes(length)
    elif way == 4:
        changed[at : at + length] = bytes(length)
    elif way == 5:
        changed[at : at + length] = b"\xff" * length
    elif way == 6:
        del changed[at : at + length]
    elif way == 7:
        changed[at:at] = changed[at : at + length * 8]
    else:
        other = rng.randrange(len(data))
        changed[at : at + length] = data[other : other + length]
    return bytes(changed)


def _text(data: bytes, rng: random.Random) -> bytes:
    """Change a word of a text, or a line."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    at = rng.randrange(len(lines))
    way = rng.randrange(5)
    odd = rng.choice(("", "-1", "1e400", "nan", "[", '"', "true", "x" * 2000, "ä", "2" * 80, ",",
                      "[[[[", "1979-05-27", "'''", "{}", "../escaped"))  # fmt: skip
    words = lines[at].split(" ")
    if way == 0:
        words[rng.randrange(len(words))] = odd
        lines[at] = " ".join(words)
    elif way == 1:
        del lines[at]
    elif way == 2:
        lines.insert(at, rng.choice(lines))
    elif way == 3:
        key, equals, value = lines[at].partition("=" if "=" in lines[at] else ",")
        lines[at] = f"{key}{equals}{odd}" if rng.random() < 0.7 else f"{odd}{equals}{value}"
    else:
        lines[at] += odd
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _json(data: bytes, rng: random.Random) -> bytes:
    """Change a value, a key or an element anywhere in a JSON document."""
    from mambabench.selfhash import FIELD, hashed_json

    try:
        body = json.loads(data)
    except ValueError:
        return _bytes(data, rng)
    places = list(_places(body))
    if not places:
        return _bytes(data, rng)
    holder, key = rng.choice(places)
    way = rng.randrange(5)
    if way < 3:
        holder[key] = rng.choice(ODD)
    elif way == 3:
        del holder[key]
    elif isinstance(holder, dict):
        holder[rng.choice(("x", "", "schema", "splits", "label"))] = holder.pop(key)
    else:
        holder.insert(key, rng.choice(ODD))
    if isinstance(body, dict) and FIELD in body and rng.random() < 0.7:
        try:
            return hashed_json(body)
        except (ValueError, UnicodeEncodeError):
            pass  # what no writer would write: as it is
    return json.dumps(body).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of everything in a document."""
    keys = list(value) if isinstance(value, dict) else range(len(value) if _many(value) else 0)
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _many(value: Any) -> bool:
    return isinstance(value, list)


def _inside_zip(data: bytes, rng: random.Random) -> bytes:
    """Change one member of a zip archive, whose sums are right again."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as old:
            members = [(info, old.read(info)) for info in old.infolist()]
    except Exception:  # it is damaged already
        return _bytes(data, rng)
    if not members:
        return _bytes(data, rng)
    at = rng.randrange(len(members))
    made = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(made, "w") as new:
        warnings.simplefilter("ignore")
        for i, (info, content) in enumerate(members):
            new.writestr(info.filename, _bytes(content, rng) if i == at else content,
                         info.compress_type)  # fmt: skip
    return made.getvalue()


def _inside_gzip(data: bytes, rng: random.Random) -> bytes:
    try:
        return gzip.compress(_bytes(gzip.decompress(data), rng), 1)
    except Exception:  # it is damaged already
        return _bytes(data, rng)


# --- reading ---


@dataclass
class Found:
    """What came of the inputs of one kind."""

    inputs: int = 0
    accepted: int = 0  # the change is one that a reader may accept
    named: int = 0
    wrong: list[str] = field(default_factory=list)
    longest_s: float = 0.0


def make_input(kind: Kind, name: str, seed: int, number: int, at: Path) -> str:
    """Write input `number` of a kind below `at`; return which file was changed."""
    rng = random.Random(f"{seed} {name} {number}")
    shutil.copytree(kind.folder, at)
    file = rng.choice(kind.files)
    path = at / file
    path.write_bytes(changed(path.read_bytes(), file, rng))
    alone = name in ("audio", "checkpoint", "array", "archive", "recipe", "tar")
    for other in kind.files:  # files that stand alone; and what is bad in itself
        if other != file and (alone or "evil" in other):
            (at / other).unlink()
    return file


def read_one(kind: Kind, at: Path, mark: Path) -> tuple[str, str]:
    """Read an input; return ("accepted" | "named" | "wrong", what was said)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kind.read(at)
        outcome = ("accepted", "")
    except MambabenchError as error:
        text = str(error)
        outcome = ("named", "") if text.strip() else ("wrong", "an error without words")
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(f.filename).name}:{f.lineno}" for f in frames if "mambabench" in f.filename]
        where = " < ".join(reversed(own[-3:]))
        outcome = ("wrong", f"{type(error).__name__}: {str(error)[:160]} at {where}")
    if mark.exists():
        mark.rmdir()
        outcome = ("wrong", "A PICKLE WAS RUN")
    return outcome


def _reader(kind: Kind, name: str, seed: int, numbers: list[int], mark: Path, pipe: Any) -> None:
    """Read inputs one after another; tell before and after each."""
    import resource

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # decoders have much to say
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    with tempfile.TemporaryDirectory() as scratch:
        for number in numbers:
            at = Path(scratch) / str(number) / "in"
            file = make_input(kind, name, seed, number, at)
            pipe.send((number, file, "begun", "", 0.0))
            begun = time.perf_counter()
            outcome, said = read_one(kind, at, mark)
            pipe.send((number, file, outcome, said, time.perf_counter() - begun))
            shutil.rmtree(at.parent, ignore_errors=True)
    pipe.send(None)


def fuzz(
    kind: Kind, name: str, *, seed: int, n: int, mark: Path, limit_s: float = LIMIT_S
) -> Found:
    """Read `n` changed inputs of a kind in a process that may be ended."""
    found, todo = Found(), list(range(n))
    context = multiprocessing.get_context("fork")
    while todo:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_reader, args=(kind, name, seed, todo, mark, theirs))
        process.start()
        theirs.close()
        number, file = todo[0], "?"
        try:
            while True:
                if not ours.poll(limit_s):
                    found.wrong.append(f"{number} {file}: HANGS for {limit_s:g} s")
                    break
                message = ours.recv()
                if message is None:
                    todo = []
                    break
                number, file, outcome, said, seconds = message
                if outcome == "begun":
                    continue
                todo = todo[1:]
                _count(found, outcome, f"{number} {file}: {said}", seconds)
        except EOFError:
            process.join(10)
            found.wrong.append(f"{number} {file}: the process ended with {process.exitcode}")
        if todo and todo[0] == number:
            todo, found.inputs = todo[1:], found.inputs + 1
        process.kill()
        process.join()
        ours.close()
    return found


def _count(found: Found, outcome: str, said: str, seconds: float) -> None:
    found.inputs += 1
    found.longest_s = max(found.longest_s, seconds)
    if outcome == "accepted":
        found.accepted += 1
    elif outcome == "named":
        found.named += 1
    else:
        found.wrong.append(said)


def main() -> None:
    """Change, read, count, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S)
    options = parser.parse_args()
    from common import machine

    path = RESULTS / "fuzz.json"
    table: dict[str, Any] = json.loads(path.read_text())["kinds"] if path.is_file() else {}
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        mark = Path(name) / "ran"
        kinds = make_kinds(Path(name) / "whole", mark)
        each = -(-options.inputs // len(kinds))
        for kind in options.kind or kinds:
            one = fuzz(kinds[kind], kind, seed=options.seed, n=each, mark=mark,
                       limit_s=options.limit_s)  # fmt: skip
            wrong += len(one.wrong)
            table[kind] = {**vars(one), "longest_s": round(one.longest_s, 3)}
            kinds_of_wrong = Counter(text.split(": ", 1)[1][:150] for text in one.wrong)
            print(kind, one.inputs, "accepted", one.accepted, "named", one.named, flush=True)
            for text, times in kinds_of_wrong.most_common(12):
                print(f"  {times} x {text}", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    body = {"machine": machine(), "seed": options.seed, "kinds": table}
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")
    total = sum(one["inputs"] for one in table.values())
    lines = [
        "# Damaged inputs", "",
        f"Made by `python perf/fuzz.py`: {total} inputs, seed {options.seed}.", "",
        "| kind | inputs | refused by name | accepted | other ends | longest, s |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {kind} | {one['inputs']} | {one['named']} | {one['accepted']} | {len(one['wrong'])} | "
        f"{one['longest_s']} |"
        for kind, one in sorted(table.items())
    ]
    (RESULTS / "fuzz.md").write_text("\n".join(lines) + "\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
