"""Check all that lies below an output folder, and move aside what does not hold."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mambabench.errors import MambabenchError, StoreError
from mambabench.report.bundle import unpack
from mambabench.store.embeddings import StoredTask, stored_task
from mambabench.store.hear_eval_kit_read import stored_task as stored_by_kit
from mambabench.store.notebook import html_table
from mambabench.verification.aside import SET_ASIDE, move_aside
from mambabench.verification.finding import Finding, is_temporary
from mambabench.verification.records import Fingerprints, check_cache, check_probes
from mambabench.verification.stores import check_store

__all__ = ["SET_ASIDE", "Verified", "verify"]


@dataclass(frozen=True)
class Verified:
    """What a check of an output folder found, and what became of it."""

    out: Path
    n_stores: int
    n_records: int
    findings: tuple[Finding, ...]
    moved: tuple[Path, ...] = ()  # where they lay
    moved_to: Path | None = None  # the folder that holds them now, under the same names

    @property
    def failed(self) -> bool:
        """Say whether something is wrong and still in its place."""
        unmoved = [finding for finding in self.findings if not finding.move]
        return bool(self.findings) if self.moved_to is None else bool(unmoved)

    def _repr_html_(self) -> str:
        """Show a row per finding in a notebook."""
        rows = [(one.kind, one.path, one.problem, one.remedy) for one in self.findings]
        said = f"{self.n_stores} stores and {self.n_records} records below {self.out}"
        said += f": {len(rows) or 'no'} defect{'' if len(rows) == 1 else 's'}"
        return html_table(said, ("kind", "path", "problem", "remedy"), rows)


def verify(out: Path | str = "mambabench-out", *, fix: bool = False) -> Verified:
    """Check every file below `out`: hashes, records against predictions, stores, strays.

    Nothing is changed, unless `fix`: then what was found is moved to ``out/set-aside/<time>/``,
    never deleted, so that the commands that made it make it again. Raises StoreError where there is
    no such folder or nothing can be moved. `out` may be an archive of `bundle`, whose files are
    checked against its list too; there is nothing to fix in one.
    """
    out = Path(out)
    if out.is_file():
        return _verify_bundle(out, fix)
    if not out.is_dir():
        raise StoreError(f"{out}: no such output folder; give the --out of extract or probe")
    stores = sorted(p for p in (out / "embeddings").glob("*/*") if p.is_dir())
    findings = [one for directory in stores for one in check_store(directory, out / "tasks")]
    broken = {finding.path for finding in findings} | {p for f in findings for p in f.move}
    fingerprints = Fingerprints([s for d in stores if d not in broken for s in _stored(d)])
    findings += check_probes(out / "probes", fingerprints)
    findings += check_cache(out / "report" / "cache")
    findings += _elsewhere(out, {finding.path for finding in findings})
    n_records = sum(1 for _ in (out / "probes").glob("*/*/*/seed-???.json"))
    found = Verified(out, len(stores), n_records, tuple(findings))
    return _moved(found) if fix and findings else found


def _verify_bundle(path: Path, fix: bool) -> Verified:
    """Check an archive: its list of files, and then what it holds as an output folder."""
    if fix:
        raise StoreError(f"{path}: an archive is not mended: pack it again, or unpack it first")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        problems = unpack(path, folder)
        found = verify(folder)
        remedy = "ask for the archive again"
        findings = [Finding(path / name, "damaged", what, remedy, ()) for name, what in problems]
        told = {finding.path for finding in findings}
        for one in found.findings:
            place = path / one.path.relative_to(folder)
            if place not in told:
                findings.append(Finding(place, one.kind, one.problem, remedy, ()))
    return Verified(path, found.n_stores, found.n_records, tuple(findings))


def _stored(directory: Path) -> Iterator[StoredTask]:
    for read in (stored_task, stored_by_kit):
        try:
            found = read(directory)
        except MambabenchError:  # found as damaged already
            continue
        if found is not None:
            yield found


def _elsewhere(out: Path, known: set[Path]) -> Iterator[Finding]:
    """Yield what lies between the stores and records: cut-off writes, and strangers."""
    for path in sorted(out.rglob(".*.tmp")):
        aside = path.relative_to(out).parts[0] == SET_ASIDE
        told = path in known or any(parent in known for parent in path.parents)
        if is_temporary(path) and not aside and not told:
            problem = "is the temporary file of a write that was cut off"
            remedy = "delete it, unless a command is running now"
            yield Finding(path, "leftover", problem, remedy, (path,))
    folders = [out / "embeddings", *(out / "embeddings").glob("*")]
    folders += [*(out / "probes").glob("*"), *(out / "probes").glob("*/*")]
    for folder in [out / "probes", *folders]:
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.is_file() and not is_temporary(path):
                problem = "lies where only folders belong"
                yield Finding(path, "stray", problem, "move it elsewhere", (path,))


def _moved(found: Verified) -> Verified:
    """Move what was found into a new folder, under the names that it has below the output."""
    wanted = {path for finding in found.findings for path in finding.move}
    paths = sorted(path for path in wanted if not wanted.intersection(path.parents))
    target = move_aside(found.out, paths)
    return Verified(
        found.out, found.n_stores, found.n_records, found.findings, tuple(paths), target
    )
