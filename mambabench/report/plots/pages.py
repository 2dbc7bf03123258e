"""A plot's files, STEM.pdf and .png, STEM-2.pdf ...: their names, and those of earlier reports."""

from __future__ import annotations

from pathlib import Path

from mambabench.files import write_bytes

__all__ = ["bring", "page_stem", "remove_pages"]


def page_stem(stem: str, number: int) -> str:
    """Return the name of a page, counted from 1, without its suffix."""
    return stem if number == 1 else f"{stem}-{number}"


def remove_pages(folder: Path, stem: str, n: int) -> None:
    """Remove the pages of a plot beyond the first `n`: an earlier report has left them."""
    for file in (*folder.glob(f"{stem}.p[dn][fg]"), *folder.glob(f"{stem}-*.p[dn][fg]")):
        end = file.stem[len(stem) :]
        number = 1 if not end else int(end[1:]) if end[1:].isdecimal() else 0
        if number > n:
            file.unlink()


def bring(place: Path, folder: Path, stem: str) -> list[Path]:
    """Write the pages of a plot that lie in `place` to `folder` and return their files there."""
    written = []
    n = 0
    while (place / f"{page_stem(stem, n + 1)}.pdf").is_file():
        n += 1
        for suffix in ("pdf", "png"):
            name = f"{page_stem(stem, n)}.{suffix}"
            write_bytes(folder / name, (place / name).read_bytes())
            written.append(folder / name)
    remove_pages(folder, stem, n)
    return written
