"""A sound HEAR module as text, and one planted fault for every check."""

from __future__ import annotations

SOUND = """
import torch


class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 6
    timestamp_embedding_size = 6

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(800, 6, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)


def load_model(model_file_path=""):
    model = Model()
    if model_file_path:
        model.load_state_dict(torch.load(model_file_path, weights_only=True))
    return model.eval()


def frames(audio, model):
    n = max(1, audio.shape[1] // 640)
    audio = torch.nn.functional.pad(audio, (80, 800))
    return torch.tanh(model.dropout(audio.unfold(1, 800, 640)[:, :n]) @ model.weight)


def get_timestamp_embeddings(audio, model):
    with torch.no_grad():
        embeddings = frames(audio, model)
    times = 20.0 + 40.0 * torch.arange(embeddings.shape[1], device=audio.device)
    return embeddings, times.expand(len(audio), -1).contiguous()


def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""

_SCENE = "    return get_timestamp_embeddings(audio, model)[0].mean(1)\n"
_TIMES = "    return embeddings, times.expand(len(audio), -1).contiguous()\n"

# check -> (what is replaced, by what, text of the finding)
FAULTS: dict[str, list[tuple[str, str, str]]] = {
    "import": [
        (
            "import torch\n",
            "import torch\nraise RuntimeError('no weights here')\n",
            "raised RuntimeError while being imported: no weights here",
        ),
        ("def get_scene_embeddings", "def get_scene_embedding", "lacks get_scene_embeddings"),
        (
            "import torch\n",
            "import torch, argparse\np = argparse.ArgumentParser()\n"
            "p.add_argument('--model', required=True)\np.parse_args()\n",
            "must not parse sys.argv",
        ),
        ("import torch\n", "import torch, no_such_module_here\n", "No module named 'no_such_mod"),
    ],
    "load_model": [
        (
            "    return model.eval()",
            "    model.eval()",
            "returned None: end it with `return model`",
        ),
        (
            "    model = Model()",
            "    raise OSError('disk gone')",
            "raised OSError while loading its model: disk gone",
        ),
    ],
    "attributes": [
        ("    sample_rate = 16000\n", "", "has sample_rate = None"),
        ("sample_rate = 16000", "sample_rate = 12345", "HEAR knows 16000, 22050"),
        ("scene_embedding_size = 6", "scene_embedding_size = '6'", "scene_embedding_size = '6'"),
    ],
    "eval mode": [("model.eval()", "model", "call model.eval() before returning")],
    "scene shape": [
        (
            _SCENE,
            _SCENE.replace(".mean(1)", ".mean(1)[:, :5]"),
            "returned shape [4, 5], expected [4, 6]",
        ),
        (_SCENE, _SCENE.replace(".mean(1)", ".mean(1).numpy()"), "returned ndarray, expected a"),
        (_SCENE, "    raise ValueError('bad length')\n", "raised ValueError while get_scene_emb"),
        (
            _SCENE,
            "    return get_timestamp_embeddings(audio, model)[0].mean(1).long()\n",
            "returned torch.int64, expected torch.float32",
        ),
    ],
    "timestamp shape": [
        (_TIMES, "    return embeddings\n", "must return the pair (embeddings, timestamps)"),
        (_TIMES, "    return embeddings, times\n", "(timestamps) of provider"),
    ],
    "dtypes": [
        (
            _SCENE,
            _SCENE.replace(".mean(1)", ".mean(1).double()"),
            "scene embeddings are torch.float64",
        ),
        (_TIMES, _TIMES.replace(".contiguous()", ".double()"), "timestamps are torch.float64"),
    ],
    "device": [(_SCENE, _SCENE.replace(".mean(1)", ".mean(1).to('meta')"), "outputs on cpu, meta")],
    "gradient-free": [
        ("with torch.no_grad():", "with torch.enable_grad():", "compute them under torch.no_grad()")
    ],
    "stays in eval mode": [
        (
            _SCENE,
            "    model.dropout.train()\n" + _SCENE.replace("audio, m", "audio, m"),
            "put dropout into training mode",
        )
    ],
    "finite": [
        (
            _SCENE,
            "    x = get_timestamp_embeddings(audio, model)[0].mean(1)\n"
            "    return torch.where(audio.abs().amin(1, keepdim=True) >= 1, torch.nan, x)\n",
            "NaN or infinite values on full-scale",
        ),
    ],
    "silent clip": [
        (
            _SCENE,
            _SCENE.replace(".mean(1)", ".mean(1) / audio.std(1, keepdim=True)"),
            "NaN or infinite values on silent clips",
        ),
    ],
    "50 ms clip": [
        (
            "    n = max(1, audio.shape[1] // 640)\n",
            "    n = audio.shape[1] // 640\n    assert audio.shape[1] > 1000, 'too short'\n",
            "raised AssertionError while get_scene_embeddings was given 2 x 800 samples: too short",
        ),
        (
            "times = 20.0 +",
            "times = (90.0 if embeddings.shape[1] == 1 else 20.0) +",
            "a clip of 50 ms has a timestamp at 90.0 ms",
        ),
    ],
    "deterministic": [
        (
            _SCENE,
            "    return get_timestamp_embeddings(audio, model)[0].mean(1) + torch.rand(6) * 1e-3\n",
            "other embeddings the second time",
        ),
        (
            _SCENE,
            "    model.n_calls = getattr(model, 'n_calls', 0) + 1\n"
            "    return get_timestamp_embeddings(audio, model)[0].mean(1) + model.n_calls * 1e-4\n",
            "state kept between calls",
        ),
    ],
    "input unchanged": [
        (
            _SCENE,
            "    x = get_timestamp_embeddings(audio, model)[0].mean(1)\n    audio *= 0.5\n"
            "    return x\n",
            "the audio tensor was changed in place",
        )
    ],
    "batch: alone": [
        (
            _SCENE,
            "    x = get_timestamp_embeddings(audio, model)[0].mean(1)\n    return x - x.mean(0)\n",
            "has another embedding alone than in a batch",
        ),
    ],
    "batch: order": [
        (
            _SCENE,
            "    x = get_timestamp_embeddings(audio, model)[0].mean(1)\n    return x + x[:1]\n",
            "order of clips in a batch changes their embeddings",
        ),
    ],
    "timestamps": [
        (
            "times = 20.0 + 40.0 * torch.arange(embeddings.shape[1], device=audio.device)",
            "times = 20.0 + 40.0 * torch.arange(embeddings.shape[1]); times[7] += 9",
            "the hop is not regular",
        ),
        ("times = 20.0 + 40.0", "times = 0.02 + 0.04", "more than 1.5 hops from the clip's border"),
        ("times = 20.0 +", "times = 420.0 +", "they are milliseconds, the centres of the frames"),
    ],
    "timestamp drift": [
        ("20.0 + 40.0 *", "20.0 + 39.97 *", "more than 1.5 hops from the clip's border"),
        (
            "20.0 + 40.0 *",
            "(audio.shape[1] / 16) / (embeddings.shape[1] + 0.3) *",
            "compute timestamps from the frame's position in samples",
        ),
    ],
}
