"""A small sound provider: fixed projections of frames of 25 ms, 20 ms apart."""

import torch

HOP, WIDTH, SIZE = 320, 400, 8


class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = timestamp_embedding_size = SIZE


def load_model(model_file_path=""):
    return Model().eval()


def get_timestamp_embeddings(audio, model):
    padded = torch.nn.functional.pad(audio, (40, WIDTH))
    n_frames = max(1, audio.shape[1] // HOP)
    basis = torch.outer(torch.arange(WIDTH).float(), 0.02 * torch.arange(1, SIZE + 1)).sin()
    frames = (padded.unfold(1, WIDTH, HOP)[:, :n_frames] @ basis).abs().log1p()
    return frames, (10.0 + 20.0 * torch.arange(n_frames)).repeat(len(audio), 1)


def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
