"""Run s3prl's own run_downstream with an encoder of ours, inside the peer's environment.

What a current Python lacks for s3prl 0.4.18 is put in its place before it is imported: file reading
through soundfile, the few sox effects that the recipes name (the silence gate is ours), names that
other packages dropped, a `cuda` that does nothing for ASV, which asks for one, and the reader of
PR's and SF's lists, which s3prl's package does not ship: windows of clips by the length of their
targets.
usage: python perf/s3prl_inside.py ENCODER COUNTER_FILE [arguments of run_downstream]
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path

import numpy as np
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def load(path, *args, **kwargs):
    samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    return torch.from_numpy(np.ascontiguousarray(samples.T)), rate


def apply_effects_file(path, effects, **kwargs):
    wav, rate = load(path)
    return apply_effects_tensor(wav, rate, effects)


def apply_effects_tensor(wav, rate, effects, **kwargs):
    for name, *values in effects:
        if name == "channels" and wav.shape[0] > 1:
            wav = wav.mean(0, keepdim=True)
        elif name == "rate" and int(values[0]) != rate:
            raise ValueError("the generated corpora are at 16 kHz")
        elif name == "gain":
            wav = wav * 10 ** (float(values[-1]) / 20)
        elif name == "silence":
            from mambabench.benchmarks.layout.silence import trim_silence

            wav = torch.from_numpy(trim_silence(wav[0].numpy(), rate))[None]
    return wav, rate


class ListedPhones:
    """PR's or SF's clips from a JSON list of [path, text], as s3prl's loader asks for them."""

    def __init__(self, listed, tokenizer, bucket_size, **kwargs):
        rows = [
            (path, tokenizer.encode(said)) for path, said in json.loads(Path(listed).read_text())
        ]
        self.rows = sorted(rows, key=lambda row: -len(row[1]))
        self.size = bucket_size

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if self.size == 1:
            return self.rows[index]
        first = min(index, len(self.rows) - self.size)
        return self.rows[first : first + self.size]


def prepare() -> None:
    import huggingface_hub
    import torchaudio

    torchaudio.load = load
    torchaudio.info = lambda path: soundfile.info(str(path))
    torchaudio.set_audio_backend = lambda *args: None
    sox = types.ModuleType("torchaudio.sox_effects")
    sox.apply_effects_file = apply_effects_file
    sox.apply_effects_tensor = apply_effects_tensor
    torchaudio.sox_effects = sys.modules["torchaudio.sox_effects"] = sox
    for name in ("HfFolder", "Repository"):
        if not hasattr(huggingface_hub, name):
            setattr(huggingface_hub, name, type(name, (), {}))
    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    corpus = types.ModuleType("s3prl.downstream.ctc.corpus")
    corpus.__path__ = []
    lists = types.ModuleType("s3prl.downstream.ctc.corpus.libriphone")
    lists.LibriPhoneDataset = ListedPhones
    slots = types.ModuleType("s3prl.downstream.ctc.corpus.snips")
    slots.SnipsDataset = ListedPhones
    sys.modules |= {part.__name__: part for part in (corpus, lists, slots)}
    loader = torch.utils.data.DataLoader
    made = loader.__init__  # `ctc` starts twelve processes at every evaluation, whatever it is told
    loader.__init__ = lambda self, *args, **kwargs: made(
        self, *args, **{**kwargs, "num_workers": 0}
    )
    plain = torch.load
    torch.load = lambda *args, **kwargs: plain(*args, **{"weights_only": False, **kwargs})


def keep_predictions(folder: Path) -> None:
    """Put what SD's test predicted into one file that needs no further package."""
    import h5py

    paths = sorted(folder.glob("scoring/predictions/*.h5"))
    if paths:
        found = {path.stem: np.array(h5py.File(path)["T_hat"]) for path in paths}
        np.savez("predictions.npz", **found)


def main() -> None:
    encoder, counter_file, *arguments = sys.argv[1:]
    torch.set_num_threads(1)
    prepare()
    from s3prl.run_downstream import main as run_downstream

    from mambabench.hear_api import s3prl_upstream as bridge

    count = {"clips": 0}
    forward = bridge.Upstream.forward

    def counted(self, wavs):
        count["clips"] += len(wavs)
        return forward(self, wavs)

    bridge.Upstream.forward = counted
    name = bridge.register(encoder, upstream="mambabench_peer") or "mambabench_peer"
    sys.argv = ["run_downstream.py", *arguments, "-u", str(name), "--device", "cpu"]
    start = time.process_time()
    run_downstream()
    count["cpu_s"] = round(time.process_time() - start, 2)
    keep_predictions(Path("exp"))
    Path(counter_file).write_text(json.dumps(count))


if __name__ == "__main__":
    main()
