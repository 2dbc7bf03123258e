"""What lies behind the surprises of results/leaderboard: the scores of a few plain statistics.

    python perf/surprises.py TASKS OUT [TASK]...     # TASKS: a folder of tasks in HEAR's layout

Protocol `linear`. Five encoders without weights: `loudness` (three numbers), `spectrum` (the mean
log power of 64 bands, its own mean taken off, so that no loudness is left), `quiet` (the same of
the tenth of the frames that are most quiet: room and microphone rather than voice), `flat` (each
band's mean over time taken off every frame, then mean absolute deviation and mean step: nothing of
a constant channel is left), `pace` (each band's mean, deviation and mean steps over 10, 50, 200 and
800 ms). Of Silero its probability of speech alone, its embedding of clips at one level, and the
same network with the entries of every weight array shuffled; of AuM with random weights its class
token and the mean of its columns, and how alike embeddings of different clips are; of musicnn and
aiSFX the same networks with shuffled weights. Then what each encoder gets right of every emotion,
which events of the demo log-mel statistics, musicnn and `ordered` find (log-mel statistics that
know before from after), and how many notes PESTO names rightly by itself, without any probe, and
what a logistic regression gets of some encoders with each column standardised or all in one scale.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from shuffled_weights import EXCHANGES, shadow_module, shuffle_onnx, shuffler
from sklearn.linear_model import LogisticRegression

import mambabench
from mambabench.benchmarks.layout.read import load_task
from mambabench.benchmarks.task import Fold, clip_path, folds
from mambabench.extract.audio import decode
from mambabench.store.open import list_stored_tasks, read_embeddings

SIZES = {"loudness": 3, "spectrum": 64, "quiet": 64, "flat": 128, "pace": 384}
SCALED = (
    ("pesto_pitch", "instr_pitch-v1-full"),
    ("crepe_tiny", "instr_pitch-v1-full"),
    ("musicnn", "emodb-v1-full"),
    ("opensmile_egemaps", "emodb-v1-full"),
    ("musicnn", "emodb_speaker-v1-full"),
    ("opensmile_egemaps", "wakeword6-v1-full"),
)
PLAIN = """
import torch

WHAT = "{what}"
SIZE = {size}


class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, SIZE, SIZE


def load_model(path=""):
    return Model().eval()


def get_scene_embeddings(audio, model):
    window = torch.hann_window(512)
    power = torch.stft(audio, 512, 160, window=window, return_complex=True).abs().square()
    bands = torch.nn.functional.avg_pool1d(power.transpose(1, 2)[..., 1:], 4)  # [n, frames, 64]
    level = (bands.mean(2) + 1e-9).log()
    rows = (bands + 1e-9).log()
    if WHAT == "loudness":
        return torch.stack([level.mean(1), level.amax(1), level.std(1)], 1)
    if WHAT == "flat":
        rows = rows - rows.mean(1, keepdim=True)
        return torch.cat([rows.abs().mean(1), rows.diff(dim=1).abs().mean(1)], 1)
    if WHAT == "pace":
        steps = [(rows[:, n:] - rows[:, :-n]).abs().mean(1) for n in (1, 5, 20, 80)]
        return torch.cat([rows.mean(1), rows.std(1), *steps], 1)
    if WHAT == "quiet":  # clips are padded with zeros: those frames are none of the recording
        return torch.stack([quietest(*one) for one in zip(rows, level)])
    mean = rows.mean(1)
    return mean - mean.mean(1, keepdim=True)


def quietest(rows, level):
    heard = level > -20 if (level > -20).any() else level == level
    rows, level = rows[heard], level[heard]
    mean = rows[level.argsort()[: max(1, len(level) // 10)]].mean(0)
    return mean - mean.mean()


def get_timestamp_embeddings(audio, model):
    return get_scene_embeddings(audio, model)[:, None], torch.zeros(len(audio), 1)
"""
SILERO = """
from mambabench.models.registry import load_encoder

ENCODER = load_encoder("silero_vad", device="cpu")
WHAT = "{what}"
CHOSEN = [128, 257] if WHAT == "speech" else list(range(258))


class Model:
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, len(CHOSEN), 1
    weights_files = ENCODER.model.weights_files


def load_model(path=""):
    return Model()


def get_scene_embeddings(audio, model):
    if WHAT == "even":
        audio = 0.05 * audio / audio.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
    return ENCODER.scene(audio, None)[:, 0][:, CHOSEN]


def get_timestamp_embeddings(audio, model):
    rows, times = ENCODER.timestamps(audio, None)
    return rows[:, :, 0, 128:], times
"""
OF_SILERO = ("speech", "even")
# log-mel statistics' narrow window, and the means of what lies before and after: the same size
ORDERED = """
import torch

from mambabench.models.registry import load_encoder

BASE = load_encoder("logmel_stats", device="cpu")
HALF = 25  # frames of 10 ms


class Model:
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 240, 240


def load_model(path=""):
    return Model()


def get_scene_embeddings(audio, model):
    return BASE.scene(audio, None)[:, 0]


def get_timestamp_embeddings(audio, model):
    rows, times = BASE.timestamps(audio, None)
    bands = BASE.model.frontend.raw(audio).transpose(1, 2)  # [n, 80, frames]
    means = torch.nn.functional.pad(bands, (HALF, HALF), "replicate").unfold(2, HALF, 1).mean(3)
    centres = torch.arange(times.shape[1]) * 5 + 2
    before, after = means[:, :, centres], means[:, :, centres + HALF + 1]
    halves = torch.cat([before, after], 1).transpose(1, 2)
    return torch.cat([rows[:, :, 0, :80], halves], 2), times
"""
EVENTS = "demo_events-v1-demo"
ONSETS = "event_onset_200ms_fms"
ENCODERS = {
    "fsdd_speaker-v1.0.9-full": ["ssam_tiny_random"],
    "emodb_speaker-v1-full": ["ssam_tiny_random"],
    "emodb-v1-full": ["silero_vad", "musicnn", "aisfx"],
    "wakeword6-v1-full": ["musicnn", "ssam_tiny_random"],
    "esc50-v2.0.0-esc10": [
        "silero_vad",
        "musicnn",
        "ssamba_tiny_random",
        "aum_tiny_random",
        "columns=aum_tiny_random:pooling=columns",
    ],
}


def shuffled(out: Path) -> str:
    """Write Silero's network with the entries of every weight array shuffled; return its name."""
    import silero_vad

    path = out / "shuffled.onnx"
    shutil.copyfile(Path(silero_vad.__file__).parent / "data" / "silero_vad.onnx", path)
    shuffle_onnx(path, shuffler())
    text = (Path(mambabench.__file__).parent / "hear_api/zoo/silero_vad.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("package", "file"))]
    (out / "shuffled.toml").write_text("\n".join(lines) + "\n")
    return f"shuffled=onnx@{path}"


def emotions(out: Path) -> None:
    """Print the recall of every emotion."""
    clips = mambabench.load_clips(out, task="emodb-v1*")
    print(clips.groupby(["encoder", "target"])["right"].mean().unstack().round(3).to_string())


def events(out: Path) -> None:
    """Embed and probe the demo's events (`sound`, three seeds); print each label's F measure."""
    (out / "ordered.py").write_text(ORDERED)
    encoders = ("logmel_stats", str(out / "ordered.py"), "musicnn")
    mambabench.extract(encoder=encoders, task=(EVENTS,), out=out, jobs=1)
    path = out / "musicnn_shuffled.py"
    python = shadow_module("musicnn", path)
    mambabench.extract(encoder=str(path), task=(EVENTS,), out=out, python=python, jobs=1)
    mambabench.probe(3, "sound", task=(EVENTS,), out=out, jobs=1)
    for folder in sorted((out / "probes").glob(f"*/{EVENTS}/sound")):
        counts = [np.load(p)[f"test/event_counts:{ONSETS}"] for p in folder.glob("*.npz")]
        hits, there, found = np.sum(counts, axis=0).T
        print(f"{folder.parents[1].name}:", (2 * hits / (there + found)).round(3))


def alike(out: Path) -> None:
    """Print how alike the embeddings of different clips are, and in how many directions apart."""
    for stored in list_stored_tasks(out):
        if "random" not in stored.encoder and stored.encoder != "columns":
            continue
        parts = [read_embeddings(stored, split).embeddings for split in stored.task.splits]
        rows = np.concatenate([p.reshape(len(p), -1) for p in parts]).astype(np.float64)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        n = len(unit)
        cosine = ((unit @ unit.T).sum() - n) / (n * (n - 1))
        power = np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2
        share = power / power.sum()
        rank = float(np.exp(-(share * np.log(share + 1e-30)).sum()))
        print(f"{stored.task.name} {stored.encoder}: cosine {cosine:.5f}, directions {rank:.1f}")


def notes(folder: Path) -> None:
    """Print the share of a task's test clips whose note PESTO names.

    Of a clip the median over the three tenths of the frames of which it is surest, in semitones.
    """
    from mambabench.hear_api.zoo import pesto_pitch

    pesto_pitch.load_model()  # knows how to import it without torchaudio
    import pesto

    network = pesto.load_model("mir-1k_g7", step_size=50.0, sampling_rate=16000).eval()
    task = load_task(folder)
    off = []
    for clip in task.clips["test"]:
        samples = decode(clip_path(task, 16000, "test", clip.name), 16000).samples
        with torch.no_grad():
            pitch, confidence, *_ = (x[0].numpy() for x in network(torch.from_numpy(samples)[None]))
        sure = confidence >= np.quantile(confidence, 0.7)
        off.append(float(np.median(pitch[sure])) - float(clip.labels[0]))
    wrong = np.abs(np.array(off))
    octaves = np.abs((np.array(off) + 6) % 12 - 6)
    print(f"PESTO on {len(off)} notes: {(wrong < 0.5).mean():.3f} named, but for octaves", end=" ")
    print(f"{(octaves < 0.5).mean():.3f}; too high {(np.array(off) > 0.5).sum()}")


def scales(tasks: Path, out: Path) -> None:
    """Print what a logistic regression gets with each column standardised, and without.

    Without, all columns are divided by one number; C is chosen on each fold's validation clips.
    """
    for encoder, name in SCALED:
        mambabench.extract(encoder=encoder, tasks=[tasks / name], out=out, jobs=1)
        (stored,) = (
            s for s in list_stored_tasks(out) if (s.encoder, s.task.name) == (encoder, name)
        )
        rows, labels = {}, {}
        for split in stored.task.splits:
            read = np.asarray(read_embeddings(stored, split).embeddings, np.float64)
            rows[split] = read.reshape(len(read), -1)
            labels[split] = np.array([clip.labels[0] for clip in stored.task.clips[split]])
        print(f"{encoder} on {name}: deviations of its columns, lowest, median, highest:")
        print(np.quantile(np.concatenate(list(rows.values())).std(0), [0, 0.5, 1]))
        for each, what in ((True, "each column standardised"), (False, "one scale")):
            right = [of_scale(rows, labels, fold, each=each) for fold in folds(stored.task)]
            print(f"  {what}: {np.concatenate(right).mean():.3f}", flush=True)


def of_scale(
    rows: dict[str, np.ndarray], labels: dict[str, np.ndarray], fold: Fold, *, each: bool
) -> np.ndarray:
    """Return which test clips of a fold are found, with the C that its validation clips choose."""
    groups = (fold.train, (fold.valid,), (fold.test,))
    train, valid, test = (np.concatenate([rows[split] for split in group]) for group in groups)
    wanted = [np.concatenate([labels[split] for split in group]) for group in groups]
    deviation = train.std(0)
    scale = np.where(deviation > 0, deviation, 1) if each else train.std()
    scaled = [(one - train.mean(0)) / scale for one in (train, valid, test)]
    heads = [LogisticRegression(C=strength, max_iter=2000) for strength in (0.01, 0.1, 1, 10, 100)]
    for head in heads:
        head.fit(scaled[0], wanted[0])
    best = max(heads, key=lambda head: head.score(scaled[1], wanted[1]))
    return best.predict(scaled[2]) == wanted[2]


def main(tasks: Path, out: Path, *only: str) -> None:
    """Embed, probe, print; `only` some of the tasks."""
    out.mkdir(parents=True, exist_ok=True)
    plain = []
    for what, size in SIZES.items():
        plain.append(out / f"{what}.py")
        plain[-1].write_text(PLAIN.format(what=what, size=size))
    of_silero = [out / f"{what}.py" for what in OF_SILERO]
    for path in of_silero:
        path.write_text(SILERO.replace("{what}", path.stem))
    of_silero = [*of_silero, shuffled(out)]
    if not only or EVENTS in only:
        events(out)
    chosen = [task for task in ENCODERS if not only or task in only]
    for task in chosen:
        names = ENCODERS[task]
        own = [*names, *(of_silero if "silero_vad" in names else [])]
        encoders = [str(e) for e in (*plain, "logmel_stats", *own)]
        mambabench.extract(encoder=encoders, tasks=[tasks / task], out=out, jobs=1)
        for name in [n for n in names if n in EXCHANGES]:
            path = out / f"{name}_shuffled.py"
            python = shadow_module(name, path)
            mambabench.extract(
                encoder=str(path), tasks=[tasks / task], out=out, python=python, jobs=1
            )
        mambabench.probe(1, "linear", out=out, jobs=1)
    table = mambabench.load_results(out)
    print(table[["task", "encoder", "score"]].to_string())
    if "emodb-v1-full" in chosen:
        emotions(out)
    alike(out)
    if not only:
        notes(tasks / "instr_pitch-v1-full")
        scales(tasks, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
