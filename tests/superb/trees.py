"""Generate small corpora in the real layouts of SUPERB's tasks: folders, list files, audio.

``python tests/superb/trees.py DEST`` writes them all.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
LETTER_NOISE = 0.003  # the same in letters and in the turns of readers
LOUDEST_NOISE: float | None = None  # letters: a clip's own noise, log-uniform up to this
NOISE = 0.02  # deviation of the white noise in tones: raise it for a harder task

# an encoder for them: log power in 40 bands, 10 ms a frame
ENCODER = """
import numpy as np
import torch

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 40
    timestamp_embedding_size = 40
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

def load_model(path=""):
    return Model()

def get_timestamp_embeddings(audio, model):
    with torch.no_grad():
        padded = torch.nn.functional.pad(audio, (0, 400))
        frames = padded.unfold(1, 400, 160) * torch.hann_window(400)
        power = torch.fft.rfft(frames, 512).abs()[..., 1:241]
        bands = torch.log(power.reshape(*power.shape[:2], 40, 6).mean(-1) + 1e-3) * model.scale
        bands = (bands + 3.0) / 2.0  # near zero mean and unit spread
    times = (torch.arange(bands.shape[1]) * 10.0).expand(len(audio), -1)
    return bands, times

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""


def _tone(path: Path, pitch: float, seconds: float, rng: np.random.Generator) -> None:
    """Write a harmonic tone in noise: what is to be recognised is its pitch and timbre."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * pitch * k * t + rng.uniform(0, 6)) / k for k in (1, 2, 3))
    signal = 0.2 * wave * np.exp(-((t / seconds - 0.5) ** 2) * 4) + NOISE * rng.normal(size=len(t))
    soundfile.write(path, signal.astype(np.float32), RATE, subtype="PCM_16")


def keyword_spotting(root: Path, n_speakers: int = 24) -> Path:
    """Write Speech Commands v0.01 and its test set, with six noise files."""
    from mambabench.benchmarks.superb.ks import CLASSES, TEST_FOLDER, TRAIN_FOLDER, WORDS

    rng = np.random.default_rng(1)
    names = [hashlib.sha1(f"speaker {i}".encode()).hexdigest()[:8] for i in range(n_speakers)]
    for index, word in enumerate((*WORDS, "bed", "cat")):
        for name in names:
            pitch = 150 * 1.12**index
            _tone(root / TRAIN_FOLDER / word / f"{name}_nohash_0.wav", pitch, 1.0, rng)
    for index in range(6):
        path = root / TRAIN_FOLDER / "_background_noise_" / f"noise_{index}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.05 * rng.normal(size=3 * RATE)
        soundfile.write(path, noise.astype(np.float32), RATE, subtype="PCM_16")
    for index, label in enumerate(CLASSES):
        for name in names[:6]:
            path = root / TEST_FOLDER / label / f"{name}_nohash_1.wav"
            if label == "_silence_":
                path.parent.mkdir(parents=True, exist_ok=True)
                noise = (0.05 * rng.normal(size=RATE)).astype(np.float32)
                soundfile.write(path, noise, RATE, subtype="PCM_16")
            else:
                _tone(path, 150 * 1.12 ** min(index, 11), 1.0, rng)
    return root


def intent_classification(root: Path, n_clips: int = 240) -> Path:
    """Write Fluent Speech Commands with its three lists (6 actions, 14 objects, 4 locations)."""
    rng = np.random.default_rng(2)
    base = root / "fluent_speech_commands_dataset"
    (base / "data").mkdir(parents=True)
    for split, n in (("train", n_clips), ("valid", n_clips // 4), ("test", n_clips // 4)):
        rows = []
        for index in range(n):
            # the first 14 training rows show every value of every slot
            a, o = (index % 6, index % 14) if index < 14 else rng.integers(0, (6, 14))
            where = int(o) % 4
            speaker = f"spk{index % 12:02d}"
            path = f"wavs/speakers/{speaker}/{split}-{index:04d}.wav"
            _tone(base / path, 120 * 1.1 ** (a + 6 * where), 0.8, rng)
            rows.append(
                {
                    "path": path,
                    "speakerId": speaker,
                    "transcription": "do it",
                    "action": f"action{a}",
                    "object": f"object{o}",
                    "location": f"place{where}",
                }
            )
        with (base / "data" / f"{split}_data.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["", *rows[0]])
            writer.writeheader()
            writer.writerows({"": i, **row} for i, row in enumerate(rows))
    return root


def speaker_identification(
    root: Path, n_speakers: int = 12, n_videos: int = 6, n_held: int = 1
) -> Path:
    """Write VoxCeleb1 with the owners' identification split; one clip a speaker is over 8 s.

    Of each speaker's videos the last `n_held` are the test set, as many before validate.
    """
    rng = np.random.default_rng(3)
    lines = []
    for speaker in range(n_speakers):
        part = "test" if speaker < 3 else "dev"
        for video in range(n_videos):
            relative = f"id{10001 + speaker}/video{video}/00001.wav"
            seconds = 9.0 if video == 0 else 1.0
            path = root / "VoxCeleb1" / part / "wav" / relative
            _tone(path, 100 * 1.13**speaker, seconds, rng)
            split = 1 + (video >= n_videos - 2 * n_held) + (video >= n_videos - n_held)
            lines.append(f"{split} {relative}")
    (root / "iden_split.txt").write_text("\n".join(lines) + "\n")
    return root


def emotion_recognition(root: Path, n_turns: int = 10) -> Path:
    """Write IEMOCAP's five sessions with their EmoEvaluation files."""
    rng = np.random.default_rng(4)
    emotions = ("neu", "hap", "exc", "ang", "sad", "fru", "xxx")
    for session in range(1, 6):
        base = root / "IEMOCAP" / f"Session{session}"
        for gender in "FM":
            dialog = f"Ses0{session}{gender}_impro01"
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for turn in range(n_turns):
                for speaker in "FM":
                    name = f"{dialog}_{speaker}{turn:03d}"
                    emotion = emotions[(turn + session) % len(emotions)]
                    index = {"exc": 1}.get(emotion, emotions.index(emotion))
                    _tone(
                        base / "sentences" / "wav" / dialog / f"{name}.wav",
                        (140 if speaker == "F" else 90) * 1.25**index,
                        float(rng.uniform(0.6, 1.2)),
                        rng,
                    )
                    lines.append(
                        f"[{turn:.4f} - {turn + 1:.4f}]\t{name}\t{emotion}\t[2.5, 2.5, 2.5]"
                    )
                    lines.append("C-E2:\tNeutral;\t()")
            folder = base / "dialog" / "EmoEvaluation"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{dialog}.txt").write_text("\n".join(lines) + "\n")
    return root


PHONES = ("AA1", "IY1", "UW1", "EH1", "OW1", "ER1", "S", "M")


def phone_recognition(root: Path, n_train: int = 60, n_held: int | None = None) -> Path:
    """Write LibriSpeech folders with transcripts and a lexicon; each phone is a tone of its own."""
    rng = np.random.default_rng(5)
    words = {f"WORD{i}": tuple(rng.choice(PHONES, 3, replace=False)) for i in range(12)}
    (root / "lexicon").mkdir(parents=True)
    lexicon = "".join(f"{word}\t{' '.join(phones)}\n" for word, phones in words.items())
    (root / "lexicon" / "librispeech-lexicon-200k-g2p.txt").write_text(
        lexicon + "WORD0 AA1 AA1\n"  # a second pronunciation, never used
    )
    held = n_train // 4 if n_held is None else n_held
    sizes = {"train-clean-100": n_train, "dev-clean": n_train // 4, "test-clean": held}
    for folder, n in sizes.items():
        lines: dict[Path, list[str]] = {}
        for index in range(n):
            speaker = 100 + index % 4
            base = root / "LibriSpeech" / folder / str(speaker) / "7"
            name = f"{speaker}-7-{index:04d}"
            said = list(rng.choice(list(words), 2))
            phones = [phone for word in said for phone in words[word]]
            pieces = []
            for phone in phones:
                t = np.arange(int(rng.uniform(0.10, 0.16) * RATE)) / RATE
                pitch = 300 * 1.35 ** PHONES.index(phone)
                pieces.append(0.3 * np.sin(2 * np.pi * pitch * t) * np.hanning(len(t)) ** 0.3)
            signal = np.concatenate(pieces)
            signal = signal + 0.5 * NOISE * rng.normal(size=len(signal))
            base.mkdir(parents=True, exist_ok=True)
            soundfile.write(base / f"{name}.flac", signal.astype(np.float32), RATE)
            lines.setdefault(base / f"{speaker}-7.trans.txt", []).append(f"{name} {' '.join(said)}")
        for path, entries in lines.items():
            path.write_text("\n".join(entries) + "\n")
    return root


def speaker_verification(
    root: Path, n_train: int = 8, n_test: int = 4, seconds: float = 2.5, jitter: float = 0.0
) -> Path:
    """Write VoxCeleb1's development speakers, test speakers and a trial list.

    One training clip is short (0.6 of `seconds`) and one long (3.6 times). `jitter` is the
    deviation of a clip's logarithmic pitch from its speaker's; speakers are 0.14 apart.
    """
    rng = np.random.default_rng(6)
    for speaker in range(n_train + n_test):
        part, name = ("dev", f"id{10001 + speaker}")
        if speaker >= n_train:
            part = "test"
        for video in range(5):
            path = root / "VoxCeleb1" / part / "wav" / name / f"v{video}" / "00001.wav"
            pitch = 90 * 1.15 ** ((speaker * 5) % 12)
            if jitter:
                pitch *= float(np.exp(rng.normal(0, jitter)))
            _tone(path, pitch, seconds, rng)
    for video, share in (("short", 0.6), ("long", 3.6)):  # dropped; cropped
        path = root / "VoxCeleb1" / "dev" / "wav" / "id10001" / video / "00001.wav"
        _tone(path, 90.0, share * seconds, rng)
    tests = [
        f"id{10001 + s}/v{v}/00001.wav" for s in range(n_train, n_train + n_test) for v in range(5)
    ]
    trials = [
        f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}"
        for i, a in enumerate(tests)
        for b in tests[i + 1 :]
    ]
    (root / "voxceleb1_test_v2.txt").write_text("\n".join(trials) + "\n")
    return root


def query_by_example(root: Path, n_documents: int = 20, n_queries: int = 4) -> Path:
    """Write a quesst14Database: documents, queries spoken inside some, language keys, truth."""
    rng = np.random.default_rng(7)

    def word(index: int) -> np.ndarray:
        """Return half a second of five tones, in an order of the word's own."""
        pitches = np.random.default_rng(index).permutation([400, 700, 1100, 1600, 2200, 2900])[:5]
        t = np.arange(RATE // 10) / RATE
        return 0.3 * np.concatenate([np.sin(2 * np.pi * pitch * t) for pitch in pitches])

    (root / "scoring").mkdir(parents=True)
    for folder in ("Audio", "dev_queries", "eval_queries"):
        (root / folder).mkdir()
    keys: dict[str, list[str]] = {"utterances": [], "dev": [], "eval": []}
    truth: dict[str, list[str]] = {"dev": [], "eval": []}
    for index in range(n_documents):
        name = f"quesst14_{index:05d}"
        said = int(rng.integers(0, 2 * n_queries + 4))
        signal = 0.02 * rng.normal(size=int(rng.uniform(1.5, 2.5) * RATE))
        start = int(rng.integers(0, len(signal) - RATE // 2))
        signal[start : start + RATE // 2] += word(said)
        soundfile.write(root / "Audio" / f"{name}.wav", signal.astype(np.float32), RATE)
        language = "albanian" if index == n_documents - 1 else "nnenglish"
        keys["utterances"].append(f"Audio/{name}.wav {language}")
        for part, offset in (("dev", 0), ("eval", n_queries)):
            if offset <= said < offset + n_queries and language == "nnenglish":
                query = f"quesst14_{part}_{said - offset:04d}"
                truth[part].append(f"LEXEME {name} 1 0 1 {query} lex 1 1")
    for part, offset in (("dev", 0), ("eval", n_queries)):
        for index in range(n_queries):
            name = f"quesst14_{part}_{index:04d}"
            signal = word(offset + index) + 0.02 * rng.normal(size=RATE // 2)
            soundfile.write(root / f"{part}_queries" / f"{name}.wav", signal, RATE)
            keys[part].append(f"{part}_queries/{name}.wav nnenglish")
        folder = root / "scoring" / f"groundtruth_quesst14_{part}"
        folder.mkdir()
        (folder / f"quesst14_{part}.rttm").write_text("\n".join(truth[part]) + "\n")
    for part, lines in keys.items():
        (root / "scoring" / f"language_key_{part}.lst").write_text("\n".join(lines) + "\n")
    return root


def _letters(text: str, rng: np.random.Generator, seconds: float = 0.08) -> np.ndarray:
    """Return a tone of its own for every letter of a text, and a breath between words."""
    pieces = []
    for letter in text:
        t = np.arange(int(seconds * RATE)) / RATE
        if letter == " ":
            pieces.append(np.zeros(len(t)))
            continue
        pitch = 300 * 1.3 ** "ABCDEFGH".index(letter)
        pieces.append(0.3 * np.sin(2 * np.pi * pitch * t) * np.hanning(len(t)) ** 0.3)
        pieces.append(np.zeros(int(0.02 * RATE)))  # tells doubled letters apart
    signal = np.concatenate(pieces)
    noise = LETTER_NOISE
    if LOUDEST_NOISE:
        noise = float(np.exp(rng.uniform(np.log(LETTER_NOISE), np.log(LOUDEST_NOISE))))
    return (signal + noise * rng.normal(size=len(signal))).astype(np.float32)


def speech_recognition(root: Path, n_train: int = 96, n_test: int | None = None) -> Path:
    """Write LibriSpeech folders with transcripts; each letter is a tone of its own."""
    rng = np.random.default_rng(8)
    n_test = n_test or n_train // 4
    sizes = {"train-clean-100": n_train, "dev-clean": n_train // 4, "test-clean": n_test}
    for folder, n in sizes.items():
        lines: dict[Path, list[str]] = {}
        for index in range(n):
            speaker = 100 + index % 4
            base = root / "LibriSpeech" / folder / str(speaker) / "7"
            name = f"{speaker}-7-{index:04d}"
            words = ["".join(rng.choice(list("ABCD"), rng.integers(1, 4))) for _ in range(2)]
            base.mkdir(parents=True, exist_ok=True)
            soundfile.write(base / f"{name}.flac", _letters(" ".join(words), rng), RATE)
            lines.setdefault(base / f"{speaker}-7.trans.txt", []).append(
                f"{name} {' '.join(words)}"
            )
        for path, entries in lines.items():
            path.write_text("\n".join(entries) + "\n")
    return root


def slot_filling(root: Path, n_train: int = 96, n_test: int | None = None) -> Path:
    """Write Audio SNIPS: artists are words of C and D, times words of A and B after an E."""
    from mambabench.benchmarks.superb.sf import SPEAKERS

    rng = np.random.default_rng(9)
    base = root / "SNIPS"
    lines = []
    for split, n in (("train", n_train), ("valid", n_train // 4), ("test", n_test or n_train // 4)):
        (base / split).mkdir(parents=True)
        for index in range(n):
            speaker = SPEAKERS[split][index % 4]
            artist = "".join(rng.choice(list("CD"), rng.integers(1, 3)))
            words, tags = ["E", artist], ["O", "artist"]
            if index % 2:
                words += ["".join(rng.choice(list("AB"), 2))]
                tags += ["timeRange"]
            name = f"{speaker}-snips-{split}-{index}"
            soundfile.write(base / split / f"{name}.wav", _letters(" ".join(words), rng), RATE)
            lines.append(f"{name} BOS {' '.join(words)} EOS\tO {' '.join(tags)} PlayMusic")
    (base / "all.iob.snips.txt").write_text("\n".join(lines) + "\n")
    (base / "slots.txt").write_text("O\nartist\ntimeRange\n")
    return root


def speaker_diarization(root: Path, n_train: int = 40, n_test: int | None = None) -> Path:
    """Write Libri2Mix with alignments: two readers with tones of their own, turns that overlap."""
    rng = np.random.default_rng(10)
    readers = {"11": 400.0, "23": 1500.0, "9": 520.0, "31": 1900.0}  # a low and a high one each
    (root / "alignments").mkdir(parents=True)
    for chapter, split, part, n in (
        (1000, "train-clean-100", "train-100", n_train),
        (2000, "dev-clean", "dev", n_train // 4),
        (3000, "test-clean", "test", n_test or n_train // 4),
    ):
        audio = root / "Libri2Mix" / "wav16k" / "max" / part / "mix_both"
        audio.mkdir(parents=True)
        metadata = root / "Libri2Mix" / "wav16k" / "max" / "metadata"
        metadata.mkdir(exist_ok=True)
        rows = ["mixture_ID,mixture_path,source_1_path,source_2_path,noise_path,length"]
        turns = []
        for index in range(n):
            pair = ("11", "23") if index % 2 else ("31", "9")
            signal = LETTER_NOISE * rng.normal(size=2 * RATE)
            halves = []
            for side, reader in enumerate(pair):
                utterance = f"{chapter + index}-{side:04d}"
                start = round(float(rng.uniform(0, 0.6)) + 0.4 * side, 2)
                length = round(float(rng.uniform(0.5, 0.9)), 2)
                span = slice(int(start * RATE), int((start + length) * RATE))
                t = np.arange(span.stop - span.start) / RATE
                signal[span] += 0.3 * np.sin(2 * np.pi * readers[reader] * t)
                turns.append(
                    f"SPEAKER {utterance} 1 {start:.3f} {length:.3f} <NA> <NA> {reader} <NA> <NA>"
                )
                halves.append(f"{reader}-{utterance}")
            name = "_".join(halves)
            soundfile.write(audio / f"{name}.wav", signal.astype(np.float32), RATE)
            rows.append(f"{name},/elsewhere/{name}.wav,a,b,c,{len(signal)}")
        (metadata / f"mixture_{part}_mix_both.csv").write_text("\n".join(rows) + "\n")
        rttm = root / "alignments" / f"{split}.rttm"
        rttm.write_text("\n".join(turns) + "\n")
    return root


TREES = {
    "superb_ks": keyword_spotting,
    "superb_ic": intent_classification,
    "superb_sid": speaker_identification,
    "superb_er": emotion_recognition,
    "superb_pr": phone_recognition,
    "superb_asv": speaker_verification,
    "superb_qbe": query_by_example,
    "superb_asr": speech_recognition,
    "superb_sf": slot_filling,
    "superb_sd": speaker_diarization,
}

if __name__ == "__main__":
    for task, write in TREES.items():
        write(Path(sys.argv[1]) / task)
