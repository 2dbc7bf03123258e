"""musicnn (Million Song Dataset): its 753 features; scenes are their maxima and means over time."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only
import librosa
import musicnn
import numpy as np
import tensorflow as tf
from musicnn.models import define_model

tf.compat.v1.disable_eager_execution()
FOLDER = Path(musicnn.__file__).parent / "MSD_musicnn"
X = tf.compat.v1.placeholder(tf.float32, [1, None, 96])
_, TIMBRAL, TEMPORAL, *MIDDLE, MEAN, TOP, _ = define_model(X, False, "MSD_musicnn", 50)
ROWS = tf.concat([TIMBRAL, TEMPORAL, *(tf.squeeze(m, [3]) for m in MIDDLE)], 2)


class MusicnnModel(tf.compat.v1.Session):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 1506, 753
    weights_files = (FOLDER / ".data-00000-of-00001",)

    def run_clips(self, outputs, audio):
        mel = {"sr": 16000, "n_fft": 512, "hop_length": 256, "n_mels": 96, "pad_mode": "constant"}
        power = (librosa.feature.melspectrogram(y=clip, **mel).T for clip in audio)
        return [self.run(outputs, {X: np.log10(1e4 * p + 1)[None]}) for p in power]


def load_model(model_file_path=""):
    one = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    session = MusicnnModel(config=one)
    tf.compat.v1.train.Saver().restore(session, f"{FOLDER}/")
    return session


def get_scene_embeddings(audio, model):
    return np.concatenate([np.concatenate(pair, 1) for pair in model.run_clips([TOP, MEAN], audio)])


def get_timestamp_embeddings(audio, model):
    rows = np.concatenate(model.run_clips(ROWS, audio))[:, ::3]
    return rows, np.tile(48.0 * np.arange(rows.shape[1], dtype=np.float32), (len(audio), 1))
