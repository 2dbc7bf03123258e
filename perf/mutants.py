"""Would the tests notice? Plant faults in the product, one at a time, and count those they see.

    python perf/mutants.py run [--n 300] [--shard 1/2] [--minutes 60]   again to go on
    python perf/mutants.py table                                        results/quality/mutants.*
    python perf/mutants.py show ID                                      one mutant as a diff
    python perf/mutants.py sample                                       what would be planted

Faults are drawn with a seed from `AREAS`; the same tree and seed give the same ones, a longer
sample begins with the shorter one, and a file that has not changed keeps its faults. Every outcome
is kept in --work and with the table, and not computed again, but that what the table says was not
noticed, or not decided, is tried again, as tests may have come; shards share --work. `table` fails
where fewer than `FLOOR` of the faults are noticed. What is neither noticed nor unnoticed counts as
not noticed: a test that was stopped by the clock says nothing, as a busy machine does that too.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import itertools
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from mutants_make import Site, compiles, mutated, sites
from mutants_run import Outcome, Tree, measure, passes_alone, try_mutant, warm_up

ROOT = Path(__file__).resolve().parent.parent
AREAS = ("probe", "report", "extract", "benchmarks/metrics")
TESTS = ("probe", "report", "extract", "benchmarks", "superb", "affect")
FLOOR = 0.85


def standing(root: Path) -> tuple[dict[str, Site], dict[str, bytes]]:
    """Return every fault that can be planted below the areas, by key, and the files' sources."""
    every: dict[str, Site] = {}
    sources: dict[str, bytes] = {}
    for area in AREAS:
        for path in sorted((root / "mambabench" / area).rglob("*.py")):
            name = str(path.relative_to(root))
            sources[name] = path.read_bytes()
            every |= {site.key(sources[name]): site for site in sites(name, sources[name])}
    return every, sources


def drawn(root: Path, seed: int, n: int) -> list[Site]:
    """Return `n` faults below the areas, in the order in which they were drawn."""
    every, sources = standing(root)
    ranked = (every[key] for key in sorted(every, key=lambda key: _rank(seed, key)))
    good = (s for s in ranked if compiles(mutated(sources[s.file], s)))
    return list(itertools.islice(good, n))


def _rank(seed: int, key: str) -> str:
    """Return where a fault stands in the draw: by its own name, whatever the others are."""
    return hashlib.sha256(f"{seed} {key}".encode()).hexdigest()


def difference(root: Path, site: Site) -> str:
    """Return a fault as a unified diff without context."""
    source = (root / site.file).read_bytes()
    before, after = (s.decode().splitlines() for s in (source, mutated(source, site)))
    lines = list(difflib.unified_diff(before, after, site.file, site.file, n=0, lineterm=""))
    return "\n".join(lines[2:])


def noticed(row: dict[str, Any]) -> bool:
    """Say whether a fault was noticed: a test failed, or took many times its processor time."""
    return row["status"] in ("killed", "exceeded")


def stored(results: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes that the table holds, by key."""
    path = results / "mutants.json"
    if not path.exists():
        return {}
    return {row["key"]: row for row in json.loads(path.read_text())["outcomes"]}


def outcomes(work: Path) -> dict[str, dict[str, Any]]:
    """Return the outcomes of --work, by key."""
    known = {}
    for path in sorted(work.glob("outcomes-*.jsonl")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            known[row["key"]] = row
    return known


def run(options: argparse.Namespace) -> None:
    """Test the mutants of this shard that have no outcome yet."""
    work: Path = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    shard, n_shards = map(int, options.shard.split("/"))
    own = work / f"shard-{shard}"
    own.mkdir(exist_ok=True)
    root: Path = options.root.resolve()
    tree = Tree(root, own / "tree")
    if not options.cold:
        warm_up()
    tests = options.tests or [f"tests/{room}" for room in TESTS if (root / "tests" / room).is_dir()]
    baseline = measure(tree, tests, work, 3600)
    print(f"{len(baseline.seconds)} tests, {len(baseline.failed)} skipped or failing", flush=True)
    sound: dict[str, bool] = {}  # tests that have found a fault: do they pass without one?

    def vetted(site: Site) -> Outcome:
        while True:
            outcome = try_mutant(tree, baseline, site, budget_s=options.budget, folder=own)
            test = outcome.by
            if test not in baseline.seconds:  # none known, or a collection that failed
                return outcome
            if test not in sound:
                sound[test] = passes_alone(tree, baseline, test, own)
            if sound[test]:
                return outcome
            print(f"left out, as it fails by itself: {test}", flush=True)
            del baseline.seconds[test]

    known = {key: row for key, row in stored(options.results).items() if noticed(row)}
    known |= outcomes(work)
    started = time.monotonic()
    wanted = drawn(root, options.seed, options.n)[shard - 1 :: n_shards]
    with (work / f"outcomes-{shard}.jsonl").open("a") as file:
        for i, site in enumerate(wanted, 1):
            key = site.key((root / site.file).read_bytes())
            if key in known or (options.only and not site.file.startswith(options.only)):
                continue
            if time.monotonic() - started > 60 * options.minutes:
                print("the time is up: run again to go on")
                break
            outcome = vetted(site)
            row = {"key": key, **dataclasses.asdict(outcome), "file": site.file, "line": site.line}
            file.write(json.dumps(row) + "\n")
            file.flush()
            print(
                f"{i}/{len(wanted)} {outcome.status} {site.file}:{site.line} {site.kind} "
                f"({outcome.n_tests} tests, {outcome.seconds:.1f} s) {outcome.by}",
                flush=True,
            )


def table(options: argparse.Namespace) -> None:
    """Write results/quality/mutants.{json,md}; exit 1 below the floor."""
    sys.path.insert(0, str(ROOT))
    from mambabench.provenance import provenance

    root: Path = options.root.resolve()
    known = stored(options.results) | outcomes(options.work.resolve())
    every, sources = standing(root)
    rows = [
        {**row, "kind": every[key].kind, "diff": difference(root, every[key])}
        for key, row in sorted(known.items())
        if key in every
    ]
    if not rows:
        raise SystemExit(f"no outcomes of this tree in {options.work}: `mutants.py run` first")
    sample = [site.key(sources[site.file]) for site in drawn(root, options.seed, options.n)]
    untried = sum(key not in known for key in sample)
    gone = [row for key, row in sorted(known.items()) if key not in every]
    areas = {area: _counted(rows, f"mambabench/{area}/") for area in AREAS}
    total = _counted(rows, "mambabench/")
    body = {
        "seed": options.seed,
        "asked": options.n,
        "floor": FLOOR,
        "total": total,
        "areas": areas,
        "untried": untried,
        "gone": len(gone),
        "outcomes": [{k: v for k, v in row.items() if k != "diff"} for row in (*rows, *gone)],
        "provenance": provenance(),
    }
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "mutants.json").write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
    survivors = [row for row in rows if not noticed(row)]
    (options.results / "mutants.md").write_text(_markdown(body, survivors))
    print(f"{total['noticed']} of {total['n']} noticed: {total['share']:.1%}")
    if untried or total["share"] < FLOOR:
        raise SystemExit(
            f"asked: {options.n} mutants ({untried} not tried), at least {FLOOR:.0%} noticed"
        )


def _counted(rows: list[dict[str, Any]], prefix: str) -> dict[str, Any]:
    counts = Counter(row["status"] for row in rows if row["file"].startswith(prefix))
    n = sum(counts.values())
    seen = counts["killed"] + counts["exceeded"]
    undecided = n - seen - counts["survived"] - counts["untested"]
    share = seen / n if n else None
    return {**counts, "n": n, "noticed": seen, "undecided": undecided, "share": share}


def _markdown(body: dict[str, Any], survivors: list[dict[str, Any]]) -> str:
    machine, n, asked = body["provenance"], body["total"]["n"], body["asked"]
    lines = [
        "# Faults planted in the product",
        "",
        f"{n} small faults drawn with seed {body['seed']}, one at a time, each met by "
        "the tests that execute its line (`python perf/mutants.py run`, `table`). At least "
        f"{body['floor']:.0%} must be noticed; {machine['cpu']}, commit {machine['git_commit']}.",
        "",
        f"Of the {asked} that are drawn from this tree, {body['untried']} have not been tried yet. "
        f"{body['gone']} kept outcomes are of files that have changed since: not counted.",
        "",
        "By processor time: the tests took more than five times what they take without the fault, "
        "and 20 s. Undecided (counted as not noticed): stopped by the clock alone.",
        "",
        "| area | faults | noticed | by a failing test | by processor time | not noticed | no test "
        "| undecided |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in {**body["areas"], "all": body["total"]}.items():
        share = "" if row["share"] is None else f" ({row['share']:.1%})"
        lines.append(
            f"| {name} | {row['n']} | {row['noticed']}{share} | {row.get('killed', 0)} | "
            f"{row.get('exceeded', 0)} | {row.get('survived', 0)} | {row.get('untested', 0)} | "
            f"{row['undecided']} |"
        )
    lines += ["", "## Not noticed", ""]
    for row in sorted(survivors, key=lambda row: (row["file"], row["line"])):
        told = f"{row['kind']}, {row['status']}, {row['n_tests']} tests ({row['key']}):"
        lines += [f"`{row['file']}`, {told}", ""]
        lines += ["```diff", row["diff"], "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "table", "show", "sample"))
    parser.add_argument("key", nargs="?")
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--shard", default="1/1")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after; run again to go on")
    parser.add_argument(
        "--budget", type=float, default=30.0, help="processor seconds of tests per mutant"
    )
    parser.add_argument("--only", help="files that begin so, relative to the repository")
    parser.add_argument("--tests", action="append", help="instead of every room's")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--cold", action="store_true", help="import no libraries beforehand")
    parser.add_argument("--work", type=Path, default=ROOT / "perf-mutants")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "quality")
    options = parser.parse_args()
    if options.what == "run":
        run(options)
    elif options.what == "table":
        table(options)
    else:
        for site in drawn(options.root, options.seed, options.n):
            key = site.key((options.root / site.file).read_bytes())
            if options.key in (None, key):
                print(f"{key} {site.kind}\n--- {site.file}\n{difference(options.root, site)}")


if __name__ == "__main__":
    main()
