"""Tell whether a clip is still the audio that was encoded: cheaply first, then by its content.

Beside the embeddings lie two files. ``audio.json`` holds the SHA-256 of every clip's file and is a
result like any other. ``audio-seen.json`` holds size, mtime and inode of these files where they
were read last: it only spares hashing, and may be deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mambabench.errors import DataError
from mambabench.files import canonical_json, sha256_bytes, sha256_file
from mambabench.selfhash import parse_hashed, seen, write_hashed_json
from mambabench.store.embeddings import read_manifest
from mambabench.store.plan import PlannedClip, Seen, Shard, TaskPlan
from mambabench.store.shards import read_record, rows_path

__all__ = [
    "AUDIO",
    "SEEN",
    "SourceFiles",
    "changed_in_shard",
    "changed_in_store",
    "looked_at_again",
    "read_sources",
    "write_sources",
]

AUDIO, SEEN = "audio.json", "audio-seen.json"
_SCHEMA = "mambabench.audio/1"
Hashes = dict[str, dict[str, str]]  # split -> clip -> SHA-256 of its file


@dataclass(frozen=True)
class SourceFiles:
    """The files that a sealed store was made from."""

    sha256: Hashes
    seen: dict[str, dict[str, Seen]] = field(default_factory=dict)


def write_sources(directory: Path, sources: SourceFiles, prefix: str = "") -> None:
    """Write both files into a store; `prefix` is put before their names."""
    write_hashed_json(
        directory / (prefix + AUDIO), {"schema": _SCHEMA, "splits": dict(sources.sha256)}
    )
    _write_seen(directory, sources.seen, prefix)


def read_sources(directory: Path, prefix: str = "") -> SourceFiles | None:
    """Return what a store was made from; None where `AUDIO` is absent or damaged."""
    try:
        hashes = parse_hashed((directory / (prefix + AUDIO)).read_bytes())["splits"]
    except (OSError, ValueError, KeyError):
        return None
    looks: dict[str, dict[str, Seen]] = {}
    with suppress(OSError, ValueError, KeyError, TypeError):  # then every clip is hashed
        found = parse_hashed((directory / (prefix + SEEN)).read_bytes())["splits"]
        looks = {s: {c: _triple(v) for c, v in clips.items()} for s, clips in found.items()}
    return SourceFiles(hashes, looks)


def _write_seen(directory: Path, looks: Mapping[str, Mapping[str, Seen]], prefix: str) -> None:
    body = {"schema": _SCHEMA, "splits": {split: dict(clips) for split, clips in looks.items()}}
    write_hashed_json(directory / (prefix + SEEN), body)


def _triple(value: Iterable[int]) -> Seen:
    size, mtime_ns, inode = value
    return int(size), int(mtime_ns), int(inode)


def changed_in_shard(directory: Path, shard: Shard, *, full: bool) -> tuple[str, ...]:
    """Return the clips of a committed shard whose files are not what was encoded.

    Files that look as they did are believed, unless `full`. Others are hashed; those of equal
    content are noted as they look now. A shard that is not committed has none.
    """
    record = read_record(directory, shard.split, shard.key)
    if record is None:
        return ()
    old = not record.seen  # written by an older version, which hashed no file that failed
    clips = [clip for clip in shard.clips if not (old and clip.name in record.failures)]
    changed, looks = _compared(clips, record.audio_sha256, record.seen, full=full)
    if looks != record.seen and not changed:
        path = rows_path(directory, shard.split, shard.key).with_suffix(".json")
        write_hashed_json(path, asdict(replace(record, seen=looks)))
    return changed


def changed_in_store(
    directory: Path,
    plan: TaskPlan,
    *,
    full: bool,
    prefix: str = "",
    audio_sha256: Mapping[str, str] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Return split -> clips of a sealed store whose files are not what was encoded.

    Where `AUDIO` is missing, all clips are hashed and held against `audio_sha256`, the manifest's
    one hash per split; of a split that differs all clips are returned.
    """
    known = read_sources(directory, prefix)
    if known is None:
        return _by_split(directory, plan, prefix, audio_sha256 or {})
    changed: dict[str, tuple[str, ...]] = {}
    looks: dict[str, dict[str, Seen]] = {}
    for split, clips in _clips_of(plan).items():
        before = known.seen.get(split, {})
        changed[split], looks[split] = _compared(
            clips, known.sha256.get(split, {}), before, full=full
        )
    if looks != known.seen and not any(changed.values()):
        with suppress(OSError):  # a folder that is read-only: hash again next time
            _write_seen(directory, looks, prefix)
    return {split: clips for split, clips in changed.items() if clips}


def _clips_of(plan: TaskPlan) -> dict[str, list[PlannedClip]]:
    clips: dict[str, list[PlannedClip]] = {split: [] for split in plan.task.splits}
    for shard in plan.shards:
        clips[shard.split] += shard.clips
    return clips


def _by_split(
    directory: Path, plan: TaskPlan, prefix: str, audio_sha256: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    manifest = read_manifest(directory)
    missing = set(manifest["missing"]) if manifest else set()
    hashes: Hashes = {}
    looks: dict[str, dict[str, Seen]] = {}
    changed = {}
    for split, clips in _clips_of(plan).items():
        looks[split] = {clip.name: look for clip in clips if (look := seen(Path(clip.path)))}
        found = dict(_hashed(clips))
        hashes[split] = found
        read = {name: h for name, h in found.items() if f"{split}/{name}" not in missing}
        if audio_sha256.get(split) not in (_one_hash(found), _one_hash(read)):
            changed[split] = tuple(clip.name for clip in clips)
            hashes[split], looks[split] = {}, {}  # not known any more
    with suppress(OSError):
        write_sources(directory, SourceFiles(hashes, looks), prefix)
    return changed


def _one_hash(hashes: dict[str, str]) -> str:
    return sha256_bytes(canonical_json(hashes))


def _compared(
    clips: Iterable[PlannedClip],
    known: Mapping[str, str],
    before: Mapping[str, Seen],
    *,
    full: bool,
) -> tuple[tuple[str, ...], dict[str, Seen]]:
    """Return the changed clips and how all files look now."""
    clips = list(clips)
    looks = {clip.name: look for clip in clips if (look := seen(Path(clip.path)))}
    doubtful = [
        clip
        for clip in clips
        if full or before.get(clip.name) != looks.get(clip.name) or not looks.get(clip.name)
    ]
    found = dict(_hashed(doubtful))
    changed = tuple(c.name for c in doubtful if found.get(c.name) != known.get(c.name))
    return changed, looks


def _hashed(clips: Iterable[PlannedClip]) -> Iterator[tuple[str, str]]:
    """Yield clip and hash of every file that can be read; clips may share one."""
    clips = list(clips)
    paths = list(dict.fromkeys(clip.path for clip in clips))
    if not paths:
        return
    # several at a time, for disks that are far away; hashing lets go of the interpreter's lock.
    # threads of this call's own: those that a process inherits at a fork would never answer
    with ThreadPoolExecutor(4, thread_name_prefix="hash") as readers:
        hashes = dict(zip(paths, readers.map(_hash_or_none, paths), strict=True))
    for clip in clips:
        found = hashes[clip.path]
        if found is not None:
            yield clip.name, found


def _hash_or_none(path: str) -> str | None:
    try:
        return sha256_file(Path(path))
    except OSError:
        return None


def looked_at_again(shard: Shard) -> Shard:
    """Return the shard with its files as they look now.

    Raises DataError where one has another size: then the plan itself is out of date.
    """
    clips = []
    for clip in shard.clips:
        look = seen(Path(clip.path))
        if look is not None and clip.n_bytes >= 0 and look[0] != clip.n_bytes:
            raise DataError(
                f"{clip.path} has {look[0]} bytes, {clip.n_bytes} when this command started: wait "
                "until it is written and give the same command again; what is committed stays"
            )
        clips.append(replace(clip, seen=look))
    return replace(shard, clips=tuple(clips))
