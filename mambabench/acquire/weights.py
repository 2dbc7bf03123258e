"""Published weights by name: the few that can be downloaded, and where the others come from."""

from __future__ import annotations

from pathlib import Path

from mambabench.acquire.fetch import OnBytes, RemoteFile, fetch
from mambabench.acquire.hf_repository import HUB, hub_address
from mambabench.errors import EncoderError
from mambabench.models.registry import find_entry

__all__ = ["SOURCES", "get_weights", "remote_weights"]

# name -> (file, address), never verified from here: see docs/data-and-weights.md. All other
# published weights lie in Google Drive folders, which cannot be fetched by a fixed address.
_SSAMBA = f"{HUB}/attentionisallyouneed369/ssamba/resolve/main"
SOURCES: dict[str, str] = {
    f"ssamba_{size}": f"{_SSAMBA}/ssamba_{size}_400.pth" for size in ("tiny", "small", "base")
}


def remote_weights(name: str, url: str | None = None, checksum: str | None = None) -> RemoteFile:
    """Return what to download for the encoder `name`; EncoderError where no address is known."""
    entry = find_entry(name)
    if not entry.published:
        raise EncoderError(f"encoder {entry.name} needs no weights")
    address = url or SOURCES.get(entry.name)
    if address is None:
        raise EncoderError(
            f"the weights of {entry.name} have no fixed address: {entry.weights}. Then run "
            f"`mambabench weights import FILE --name {entry.name}`, or give an address with --url"
        )
    if url is None:
        address = address.replace(HUB, hub_address(), 1)
    return RemoteFile(address.rpartition("/")[2], address, checksum)


def get_weights(
    name: str, file: RemoteFile, downloads: Path, *, progress: OnBytes | None = None
) -> Path:
    """Download `file`, check that it fits the encoder `name`, convert it into the weights folder.

    Returns the converted file, where `load_encoder` finds it. Raises DataError and EncoderError.
    """
    from mambabench.models.weights.convert import import_checkpoint

    path = fetch(file, downloads, progress=progress)
    imported = import_checkpoint(path, find_entry(name).name)
    path.unlink(missing_ok=True)
    return imported.path
