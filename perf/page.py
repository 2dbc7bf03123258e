"""Measure the page: its bytes and nodes, and how long Chromium takes to load and to sort it.

    python perf/page.py [--work DIR] [--results DIR] [--encoders 33] [--clips 60000]
    python perf/page.py --page NAME=report.html...     # pages that are there, instead

Three pages: few clips (240 a task) on 20 tasks; HEAR's own numbers of test clips, as in
perf/report.py; and so many clips an encoder, in six tasks. Needs Debian's chromium and its driver,
and selenium. Times are medians of five loads, with the processor as it is and slowed three times
(the browser's own throttle): CPU time of the page's own thread, which says the same on a busy
machine, and, for the loading, what passed until the load event.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import report as made_up
from selenium import webdriver

from mambabench.files import write_json
from mambabench.report.formats.page import as_page
from mambabench.report.summary import summarise

FIRST = """
const box = document.querySelector('td [data-cell]').getBoundingClientRect();
const t = performance.getEntriesByType('navigation')[0];
return {load: t.loadEventEnd, own: +document.body.dataset.ms, first: Math.round(box.top),
        nodes: document.querySelectorAll('*').length};
"""
SORT = """
const heads = [...document.querySelectorAll('[data-sort]')], times = [];
for (const head of heads.slice(0, 12)) {
  const start = performance.now();
  head.click();
  document.body.getBoundingClientRect();  // the layout counts
  times.push(performance.now() - start);
}
return times.sort((a, b) => a - b)[times.length >> 1];
"""
OPEN = """
const done = arguments[0], start = performance.now();
[...document.querySelectorAll('td [data-cell]')]
  .find((one) => !one.dataset.cell.includes('_mean_of_')).click();
const wait = () => document.querySelector('#detail h2')
  ? done(performance.now() - start) : setTimeout(wait, 5);
wait();
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--encoders", type=int, default=33)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--clips", type=int, default=60_000)
    parser.add_argument("--page", action="append", help="NAME=FILE of a page that is there")
    parser.add_argument("--work", type=Path, help="folder for made-up results; kept")
    parser.add_argument("--results", type=Path, default=Path("results/performance"))
    options = parser.parse_args()
    if options.page:
        pages = {}
        for given in options.page:
            name, _, path = given.rpartition("=")
            pages[name or path] = of_file(Path(path))
        write(options.results, "python perf/page.py --page " + " --page ".join(pages), pages)
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        few = dict.fromkeys(made_up.TASKS, (1, 48, 12, "top1_acc", False))
        n = options.clips // 6
        many = {f"task_{k}": (1, n, 12, "top1_acc", False) for k in range(6)}
        sets = {
            "few clips": ("few", few, options.encoders),
            "HEAR's clips": ("out", made_up.TASKS, options.encoders),
            f"{options.clips} clips": ("many", many, 8),
        }
        found = {}
        for name, (folder, tasks, n_encoders) in sets.items():
            out = work / folder
            if not out.is_dir():
                for encoder in range(n_encoders):
                    for seed in range(options.seeds):
                        made_up.write_runs(out, tasks, encoder, seed)
            found[name] = measured(out, n_encoders, tasks, options.seeds)
            print(name, found[name], flush=True)
    command = f"python perf/page.py --encoders {options.encoders} --clips {options.clips}"
    write(options.results, command, found)


def write(folder: Path, command: str, pages: dict) -> None:  # type: ignore[type-arg]
    """Write what was measured."""
    facts = {
        "command": command,
        "pages": pages,
        "machine": made_up.machine(),
        "chromium": version(),
    }
    write_json(folder / "page.json", facts)
    (folder / "page.md").write_text(table(facts), encoding="utf-8")
    print(table(facts))


def of_file(page: Path) -> dict:  # type: ignore[type-arg]
    """Return what was measured of a page that is there."""
    text = page.read_text(encoding="utf-8")
    facts = {"bytes": len(text.encode()), "left_out": left_out(text)}
    counts = re.search(r"<h1>mambabench report: (\d+) encoders? on (\d+) tasks?</h1>", text)
    assert counts is not None
    seeds = re.search(r"(\d+) seeds?;", text)
    facts |= {"encoders": int(counts[1]), "tasks": int(counts[2])}
    facts |= {"seeds": int(seeds[1]) if seeds else None}
    return facts | times(page)


def left_out(text: str) -> str:
    """Return what a page says that it has not."""
    if "Single predictions were" in text:
        return "single predictions"
    return "clips" if "Clips were left out" in text else "nothing"


def times(page: Path) -> dict:  # type: ignore[type-arg]
    """Load a page again and again."""
    facts = {}
    for slowed in (1, 3):
        runs = [loaded(page, slowed) for _ in range(5)]
        middle = {key: round(statistics.median(run[key] for run in runs), 1) for key in runs[0]}
        facts |= {"nodes": middle.pop("nodes"), "first_number_px": middle.pop("first")}
        facts[f"slowed_{slowed}"] = middle
    return facts


def measured(out: Path, n_encoders: int, tasks: dict, n_seeds: int) -> dict:  # type: ignore[type-arg]
    """Write the page of a folder and return what was measured of it."""
    summary = summarise([out], cache=_cache(out))
    start = time.process_time()
    text = as_page(summary)
    seconds = time.process_time() - start
    page = out / "page.html"
    page.write_text(text, encoding="utf-8")
    scenes = [(folds * n) for folds, n, _, metric, multi in tasks.values() if metric != "mAP"]
    facts = {
        "encoders": n_encoders,
        "tasks": len(tasks),
        "seeds": n_seeds,
        "clips_an_encoder": sum(folds * n for folds, n, *_ in tasks.values()),
        "clips_with_squares": sum(scenes),
        "bytes": len(text.encode()),
        "all_clips_bytes": len(as_page(summary, "all").encode()),
        "left_out": left_out(text),
        "cpu_s_to_write": round(seconds, 2),
    }
    return facts | times(page)


def _cache(out: Path) -> Path:
    folder = out / "report" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument("--window-size=1400,1000")
    return webdriver.Chrome(
        options=options, service=webdriver.ChromeService("/usr/bin/chromedriver")
    )


_driver: list[webdriver.Chrome] = []


def loaded(page: Path, slowed: int) -> dict[str, float]:
    """Load the page, sort it and open a number; milliseconds."""
    if not _driver:
        _driver.append(browser())
    driver = _driver[0]
    driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    driver.get("about:blank")
    driver.execute_cdp_cmd("Emulation.setCPUThrottlingRate", {"rate": slowed})
    driver.get(page.resolve().as_uri())
    facts = {"load_cpu": busy(driver)}  # a navigation begins at 0
    facts |= driver.execute_script(FIRST)
    before = busy(driver)
    facts["sorted"] = driver.execute_script(SORT)
    facts["sort_cpu"] = (busy(driver) - before) / 12
    before = busy(driver)
    driver.execute_async_script(OPEN)
    facts["open_cpu"] = busy(driver) - before
    return facts


def busy(driver: webdriver.Chrome) -> float:
    """Return the milliseconds of CPU that the page's thread has taken since the navigation."""
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return 1000 * next(one["value"] for one in metrics if one["name"] == "TaskDuration")


def version() -> str:
    return str(_driver[0].capabilities["browserVersion"]) if _driver else ""


def table(facts: dict) -> str:  # type: ignore[type-arg]
    """Return the results as Markdown."""
    lines = []
    for name, one in facts["pages"].items():
        plain, slow = one["slowed_1"], one["slowed_3"]
        both = [
            f"{plain[key]:.0f} / {slow[key]:.0f}"
            for key in ("load_cpu", "load", "sort_cpu", "open_cpu")
        ]
        cells = [
            f"{name}: {one['encoders']} x {one['tasks']} x {one['seeds']}",
            f"{one['bytes'] / 1e6:.2f}",
            one["left_out"],
            f"{one['nodes']:.0f}",
            f"{one['first_number_px']:.0f}",
            *both,
        ]
        lines.append(f"| {' | '.join(cells)} |\n")
    own = facts["machine"]
    return (
        "# The report's page\n\n"
        "Medians of five loads, with the processor as it is / slowed three times.\n\n"
        "| page: encoders x tasks x seeds | MB | left out | nodes | first number at px | "
        "load, CPU ms | until load event, ms | sort, CPU ms | open a number, CPU ms |\n"
        f"|---|---|---|---|---|---|---|---|---|\n{''.join(lines)}\n"
        f"Chromium {facts['chromium']}, headless; {own['cpu']}, {own['cores']} cores; load average "
        f"{own['load_average']} (above the number of cores, milliseconds until the load event are "
        f"not the page's alone). Made by `{facts['command']}`.\n"
    )


if __name__ == "__main__":
    main()
