"""The published HEAR archives: names, hosts, checksums and licences, as far as they are known.

Source: HEAR 2021 documentation and hear-preprocess; what was never verified says so in
docs/data-and-weights.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from mambabench.acquire.fetch import RemoteFile
from mambabench.errors import DataError, nearest_names

__all__ = ["ARCHIVES", "Archive", "find_archives"]

HOST_48K = "https://zenodo.org/records/6332517/files"
BUCKETS = ("gs://hear2021-archive/tasks", "s3://hear2021-archive/tasks")
BUCKET_RATES_HZ = (16000, 22050, 32000, 44100)
_UNKNOWN = "not stated here: read the dataset's own page before use"


@dataclass(frozen=True)
class Archive:
    """What is published of one task directory."""

    directory: str  # the task directory that it unpacks to
    licence: str = _UNKNOWN
    md5_48k: str | None = None
    unpacked: str = "unknown size"

    @property
    def task(self) -> str:
        """The name without version and mode, as far as it is unique ("esc50")."""
        name = self.directory.partition("-")[0]
        return name + "_" + self.directory.rpartition("-")[2] if name in _TWICE else name

    def file_name(self, sample_rate_hz: int) -> str:
        """Return the archive's published name."""
        return f"hear2021-{self.directory}-{sample_rate_hz}.tar.gz"

    def remote(
        self, sample_rate_hz: int = 48000, mirror: str | None = None, checksum: str | None = None
    ) -> RemoteFile:
        """Return where to download it from; DataError for rates that lie in paid buckets only."""
        name = self.file_name(sample_rate_hz)
        if mirror is None and sample_rate_hz != 48000:
            places = " or ".join(f"{b}/{sample_rate_hz}/{name}" for b in BUCKETS)
            raise DataError(
                f"{name} lies in requester-pays buckets only ({places}). Either get the 48000 Hz "
                f"archive and resample it here (--resample {sample_rate_hz}), or fetch that file "
                "with the bucket's own client and use: mambabench data import"
            )
        known = f"md5:{self.md5_48k}" if self.md5_48k and sample_rate_hz == 48000 else None
        base = (mirror or HOST_48K).rstrip("/")
        return RemoteFile(name, f"{base}/{name}", checksum or known)


_TWICE = ("nsynth_pitch", "speech_commands")
_NC = "CC BY-NC 3.0 (read in the published small copy)"

ARCHIVES: tuple[Archive, ...] = (
    Archive("beijing_opera-v1.0-hear2021-full", "CC BY 3.0 (read in the published small copy)"),
    Archive("tfds_crema_d-1.0.0-full"),
    Archive("esc50-v2.0.0-full", _NC),
    Archive("libricount-v1.0.0-hear2021-full"),
    Archive("mridangam_stroke-v1.5-full", _NC),
    Archive("mridangam_tonic-v1.5-full", _NC),
    Archive("nsynth_pitch-v2.2.3-5h"),
    Archive("nsynth_pitch-v2.2.3-50h"),
    Archive("speech_commands-v0.0.2-5h", "CC BY 4.0 (read in the published small copy)"),
    Archive("speech_commands-v0.0.2-full", "CC BY 4.0 (read in the published small copy)"),
    Archive("fsd50k-v1.0-full"),
    Archive("vox_lingua_top10-hear2021-full"),
    Archive(
        "beehive_states_fold0-v2-full",
        md5_48k="f9e045f9b2ddf5643edc1143304c80aa",
        unpacked="about 31 GB",
    ),
    Archive(
        "beehive_states_fold1-v2-full",
        md5_48k="8bced7ce8336bf23fd61c61f04aee109",
        unpacked="about 31 GB",
    ),
    Archive("gunshot_triangulation-v1.0-full"),
    Archive("tfds_gtzan-1.0.0-full"),
    Archive("tfds_gtzan_music_speech-1.0.0-full"),
    Archive("vocal_imitation-v1.1.3-full"),
    Archive("dcase2016_task2-hear2021-full"),
    Archive("maestro-v3.0.0-5h"),
)


def find_archives(names: tuple[str, ...]) -> tuple[Archive, ...]:
    """Return the archives of the given directory or task names; "all" is every one.

    Raises DataError with the nearest names for an unknown one.
    """
    if "all" in names:
        return ARCHIVES
    by_name = {a.task: a for a in ARCHIVES} | {a.directory: a for a in ARCHIVES}
    for name in names:
        if name not in by_name:
            raise DataError(
                f"no published archive named {name!r}{nearest_names(name, by_name)}; "
                "`mambabench data list` names them"
            )
    return tuple(dict.fromkeys(by_name[name] for name in names))
