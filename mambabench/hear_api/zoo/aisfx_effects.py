"""aiSFX (sound effects): 512 values of blocks of 2.3 s of a clip that is scaled to its peak."""

import librosa
import torch
from aisfx.inference import get_path_modelWeights
from aisfx.models.cnn2d import EmbeddingNet
from torch.nn.functional import pad

MEL = {"sr": 44100, "n_fft": 2048, "hop_length": 1024, "n_mels": 96, "htk": True, "norm": 1.0}


class AisfxModel(EmbeddingNet):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 44100, 512, 512

    def blocks(self, audio, starts):  # every block starts at a frame
        y = (audio / audio.abs().amax(1, keepdim=True).clamp(min=1e-5)).numpy()
        mel = [librosa.feature.melspectrogram(y=one, pad_mode="constant", **MEL).T for one in y]
        mel = [
            pad((torch.tensor(m) * 1e4 + 1).log10() / 9.457798957824707, (0, 0, 0, 100))
            for m in mel
        ]
        cut = torch.stack([m[a : a + 100] for m in mel for a in starts])
        return torch.cat([self(part) for part in cut.split(8)]).view(len(audio), len(starts), 512)


def load_model(model_file_path=""):
    model = AisfxModel("max", 3, 1, 64)
    weights = torch.load(get_path_modelWeights(), map_location="cpu")[0]
    model.load_state_dict({k[14:]: v for k, v in weights.items() if k[:14] == "embedding_net."})
    return model


def get_scene_embeddings(audio, model):
    return model.blocks(audio, range(0, max(1, audio.shape[1] // 1024 + 1 - 50), 100)).mean(1)


def get_timestamp_embeddings(audio, model):  # every 500 ms, the block's middle there
    n = max(1, round(audio.shape[1] / 22050))
    rows = model.blocks(pad(audio, (51200, 51200)), [round(i * 22050 / 1024) for i in range(n)])
    return rows, (torch.arange(n) * 500.0).expand(len(audio), -1).contiguous()
