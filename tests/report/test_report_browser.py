"""The page in a real browser: it sorts, filters, opens, copies, and asks nothing of the network."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from synthetic_results import write_events, write_scene

import mambabench
from mambabench.files import sha256_file, write_json
from mambabench.provenance import provenance

pytestmark = pytest.mark.browser
ESC = "esc50-v2.0.0-full"
OWN_SOURCES = {  # of ESC-50, CREMA-D, HEAR and ssam2024
    "cao2014crema", "mambabench", "piczak2015esc", "turian2022hear", "yadav2024audiomamba",
}  # fmt: skip
EVIL = "<img src=x onerror=document.title='broken'>&\"'"
PROVENANCE = {**provenance(), "started_unix": 1_790_000_000.0, "wall_s": 12.34, "device": "cpu"}
SKILLS = {"weak": 0.8, "strong": 2.0, EVIL: 1.4}


def make_browser(*flags):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", *flags):
        options.add_argument(flag)
    options.add_argument("--window-size=1400,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


@pytest.fixture(scope="module")
def browser():
    driver = make_browser()
    yield driver
    driver.quit()


def records(folder, encoder, task=ESC):
    stems = (folder / "probes" / encoder / task / "ssam2024").glob("seed-*.npz")
    return [stem.with_suffix(".json") for stem in sorted(stems)]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    for name, skill in SKILLS.items():
        for task in (ESC, "tfds_crema_d-1.0.0-full", "own <b>task"):
            write_scene(folder, name, task, skill=skill, seeds=5, folds={"test": 80})
    for number, name in enumerate(("weak", "strong", EVIL)):  # what a second of audio took
        run = {"audio_s": 100.0, "worker_s": 10.0**number, "device": "cpu", "precision": "fp32"}
        write_json(folder / "embeddings" / name / ESC / "provenance.json", {"run": run})
    write_json(records(folder, "strong")[0].with_suffix(".provenance.json"), PROVENANCE)
    mambabench.report(folder)
    return folder


@pytest.fixture
def page(browser, out, monkeypatch):
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get("about:blank")
    browser.get((out / "report" / "report.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []
    assert browser.title == "mambabench report"


def js(page, code):
    return page.execute_script(f"return {code}")


def names(page):
    return js(
        page,
        "[...document.querySelectorAll('tr.encoder')].filter((r) => !r.hidden)"
        ".map((r) => r.cells[0].textContent)",
    )


def click(page, selector):
    page.execute_script("arguments[0].click()", page.find_element("css selector", selector))


def cited(page):
    """Return the keys of the BibTeX that is copied."""
    click(page, "[data-copy=bibtex]")
    text = js(page, "document.getElementById('copied').value")
    return set(re.findall(r"^@\w+\{([^,]+)", text, flags=re.MULTILINE))


def wait(page, code):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 10).until(lambda driver: js(driver, code))


def open_cell(page, encoder, task=ESC):
    script = (
        "[...document.querySelectorAll('[data-cell]')]"
        ".find((b) => b.dataset.cell === arguments[0]).click()"
    )
    page.execute_script(script, f"ssam2024|{task}|{encoder}")
    wait(page, "document.querySelector('#detail h2')?.textContent ?? ''")


def test_sorting_by_a_column_and_by_name(page):
    click(page, f"[data-sort='{ESC}']")
    assert names(page) == ["strong", EVIL, "weak"]
    assert js(page, f"document.querySelector('[data-sort=\"{ESC}\"]').parentNode.ariaSort")
    click(page, f"[data-sort='{ESC}']")
    assert names(page) == ["weak", EVIL, "strong"]
    click(page, "[data-sort=rank]")
    assert names(page)[0] == "strong"  # the first click shows the best first: rank falls
    assert js(page, "document.querySelector('tbody').lastElementChild.className") != "encoder"


def test_filters_and_hidden_columns_are_kept_in_the_address(page):
    page.find_element("id", "find").send_keys("STRO")
    assert names(page) == ["strong"]
    click(page, "#published")
    assert js(page, "[...document.querySelectorAll('tr.published')].every((r) => r.hidden)")
    click(page, f"#columns input[value='{ESC}']")
    click(page, "[data-sort='tfds_crema_d-1.0.0-full']")
    address = page.current_url
    assert "find=STRO" in address
    page.get("about:blank")
    page.get(address)
    assert names(page) == ["strong"]
    assert js(page, f"document.querySelector('[data-sort=\"{ESC}\"]').parentNode.hidden")
    assert js(page, "document.querySelectorAll('[aria-sort]').length") == 1
    click(page, "[data-reset]")
    assert len(names(page)) == 3


def test_rows_can_be_hidden_and_a_shared_address_keeps_it(page):
    published = "document.querySelectorAll('tr.published:not([hidden])').length"
    before = js(page, published)
    click(page, "#rows input[value='encoder strong']")
    click(page, "#rows input[value^='published ']")
    assert names(page) == [EVIL, "weak"]
    assert js(page, published) == before - 1
    click(page, "[data-copy=csv]")
    assert "strong" not in js(page, "document.getElementById('copied').value")
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    assert names(page) == [EVIL, "weak"]
    assert js(page, published) == before - 1
    assert not js(page, "document.querySelector('#rows input[value=\"encoder strong\"]').checked")
    click(page, "#rows input[value='encoder strong']")
    assert names(page) == ["strong", EVIL, "weak"]
    assert js(page, "document.getElementById('only')") is None  # one protocol: nothing to choose


def test_one_of_several_protocols_is_chosen_and_a_shared_address_keeps_it(browser, tmp_path):
    for protocol in ("hear2021", "ssam2024"):
        for task in (ESC, "tfds_crema_d-1.0.0-full"):
            for name in ("one", "two"):
                write_scene(
                    tmp_path, name, task, skill=1.0, seeds=2, folds={"test": 40}, protocol=protocol
                )
    mambabench.report(tmp_path, plot="none")
    browser.get((tmp_path / "report" / "report.html").as_uri())
    tables = "[...document.querySelectorAll('table.matrix')].filter((t) => t.offsetParent)"
    ranks = "[...document.querySelectorAll('h2')].filter((h) => h.offsetParent && "
    ranks += "h.textContent.startsWith('Mean ranks')).map((h) => h.textContent)"
    assert js(browser, f"{tables}.length") == len(js(browser, ranks)) == 2
    choose(browser, "only", "ssam2024")
    address = browser.current_url
    assert "only=ssam2024" in address
    for _ in range(2):
        captions = js(browser, f"{tables}.map((t) => t.caption.textContent)")
        assert [caption.split(":")[0] for caption in captions] == ["Protocol ssam2024"]
        assert js(browser, ranks) == ["Mean ranks, ssam2024"]
        click(browser, "[data-copy=latex]")
        text = js(browser, "document.getElementById('copied').value")
        assert "ssam2024" in text
        assert text.count("begin{table*}") == 1
        browser.get("about:blank")
        browser.get(address)
    click(browser, "[data-reset]")
    assert js(browser, f"{tables}.length") == 2
    assert browser.get_log("browser") == []


def test_family_of_tasks_can_be_chosen(page):
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", "family")).select_by_visible_text("own")
    chosen = js(page, "document.getElementById('family').value")
    assert chosen == "own"
    assert wait(page, f"document.querySelector('[data-sort=\"{ESC}\"]').parentNode.hidden")


def test_a_number_opens_down_to_its_clips(page, out):
    open_cell(page, "strong")
    text = js(page, "document.getElementById('detail').textContent")
    row = next(
        r for r in mambabench.report(out).summary.rows if (r.encoder, r.task) == ("strong", ESC)
    )
    assert f"{100 * row.mean:.2f} % top1_acc" in text
    assert f"{100 * row.boot_low:.2f} to {100 * row.boot_high:.2f}" in text
    assert f"mambabench probe --encoder strong --task {ESC} --protocol ssam2024 --seeds 5" in text
    assert js(page, "document.querySelectorAll('#detail circle').length") == 5
    assert js(page, "document.querySelectorAll('.clips button').length") == 80
    shown = js(page, "[...document.querySelectorAll('.clips button')].map((b) => +b.textContent)")
    assert shown == sorted(shown)  # the hardest first
    assert sum(shown) / (5 * 80) == pytest.approx(row.mean, abs=1e-12)
    click(page, ".clips button")
    said = js(page, "document.querySelector('.clips').nextSibling.textContent")
    assert "test-clip" in said
    assert "right in" in said
    assert "cell=" in page.current_url


def test_a_number_says_from_which_record_when_where_and_with_what(page, out):
    open_cell(page, "strong")
    text = js(page, "document.getElementById('detail').textContent")
    first = records(out, "strong")[0]
    assert f"records probes/strong/{ESC}/ssam2024/seed-*.json" in text
    assert f"SHA-256 of the first {sha256_file(first)}" in text
    assert "Ran: seed 0 at 2026-09-21 14:13 UTC, 12.3 s" in text
    assert f"cpu {PROVENANCE['cpu']}, cores {PROVENANCE['cores']}" in text
    assert f"platform {PROVENANCE['platform']}, device cpu" in text
    assert f"Versions: python {PROVENANCE['python']}, " in text
    assert f"mambabench {mambabench.__version__}" in text
    assert f"numpy {np.__version__}" in text
    assert "None" not in text  # a package that is not installed
    open_cell(page, "weak")  # whose provenance says less
    wait(page, "document.querySelector('#detail h2').textContent.startsWith('weak')")
    assert "Machine: host here" in js(page, "document.getElementById('detail').textContent")


def test_a_clip_tells_its_predictions_and_what_others_made_of_it(page, out):
    """The hardest clip of the page, looked up in the records."""
    open_cell(page, "strong")
    click(page, ".clips button")
    said = js(page, "document.querySelector('.clips').nextSibling.textContent")
    name = said.split(":")[0]
    clips = mambabench.load_clips(out, task=ESC)
    own = clips[(clips.encoder == "strong") & (clips["clip"] == name)].sort_values("seed")
    assert f"label {own.target.iloc[0]}; right in {own.right.sum()} of 5 seeds" in said
    assert f"predicted {', '.join(map(str, own.prediction))}" in said
    other = clips[(clips.encoder == "weak") & (clips["clip"] == name)]
    assert f"weak {other.right.sum()}/5" in said
    text = js(page, "document.getElementById('detail').textContent")
    assert "Confusion, over seeds" in text


def test_many_labels_have_their_hardest_and_what_is_confused(browser, tmp_path):
    write_scene(tmp_path, "one", "wide", skill=1.0, seeds=2, folds={"test": 900}, n_labels=300)
    mambabench.report(tmp_path)
    browser.get((tmp_path / "report" / "report.html").as_uri())
    browser.execute_script("document.querySelector('[data-cell]').click()")
    wait(browser, "document.querySelectorAll('#detail table').length > 2")
    clips = mambabench.load_clips(tmp_path)
    tables = "[...document.querySelectorAll('#detail table')]"
    rows = f"{tables}.map((t) => [...t.tBodies[0].rows].map((r) => [...r.cells]"
    read = js(browser, f"{rows}.map((c) => c.textContent)))")
    labels, confused = read[-2:]
    recall = clips.groupby("target").right.mean()
    assert [int(row[0]) for row in labels] == recall.sort_values(kind="stable").index.tolist()
    assert float(labels[-1][2]) == pytest.approx(100 * recall.max(), abs=0.051)
    wrong = clips[~clips.right].groupby(["target", "prediction"]).size()
    assert len(confused) == 10
    assert int(confused[0][2]) == wrong.max()
    assert all(wrong[int(row[0]), int(row[1])] == int(row[2]) for row in confused)
    assert browser.get_log("browser") == []


def test_events_have_recall_and_precision_of_every_label(browser, tmp_path):
    write_events(tmp_path, "one", "events", skill=0.5, n=30)
    mambabench.report(tmp_path)
    browser.get((tmp_path / "report" / "report.html").as_uri())
    browser.execute_script("document.querySelector('[data-cell]').click()")
    title = "Labels of events, the hardest first; over seeds and folds"
    table = f"document.querySelector('#detail [aria-label=\"{title}\"] table')"
    wait(browser, table)
    rows = js(
        browser, f"[...{table}.tBodies[0].rows].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    counts = np.zeros((11, 3))
    for file in (tmp_path / "probes").rglob("seed-*.npz"):
        own = np.load(file)["test/counts:event_onset_200ms_fms"]
        np.add.at(counts, np.arange(30) % 11, own)
    recall, precision = 100 * counts[:, 0] / counts[:, 1], 100 * counts[:, 0] / counts[:, 2]
    assert [int(row[0]) for row in rows] == np.argsort(recall, kind="stable").tolist()
    for label, true, predicted, matched, share, exact in rows:
        k = int(label)
        assert [int(matched), int(true), int(predicted)] == counts[k].tolist()
        assert float(share) == pytest.approx(recall[k], abs=0.051)
        assert float(exact) == pytest.approx(precision[k], abs=0.051)
    assert browser.get_log("browser") == []


def test_the_mean_of_directories_says_why_it_has_no_details(browser, tmp_path):
    for fold in (0, 1):
        write_scene(tmp_path, "one", f"beehive_states_fold{fold}-v2-full", skill=1.0, seeds=2)
    mambabench.report(tmp_path)
    browser.get((tmp_path / "report" / "report.html").as_uri())
    key = "ssam2024|beehive_states_mean_of_folds-v2-full|one"
    click(browser, f"[data-cell='{key}']")
    said = "A mean of several task directories has no details of its own; theirs:"
    assert wait(browser, "document.querySelector('#detail .mean')?.textContent ?? ''") == said
    assert len(browser.find_elements("css selector", "#detail button")) == 2
    click(browser, "#detail [data-cell*='_fold1-']")
    wait(browser, "document.querySelector('#detail h2')?.textContent ?? ''")
    assert "--task beehive_states_fold1-v2-full" in js(browser, "document.body.textContent")
    assert browser.get_log("browser") == []


def test_a_shared_address_opens_the_same_number(page):
    open_cell(page, "weak")
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    title = wait(page, "document.querySelector('#detail h2')?.textContent ?? ''")
    assert title == "weak on ESC-50"


def choose(page, name, text):
    from selenium.webdriver.support.ui import Select

    Select(page.find_element("id", name)).select_by_visible_text(text)


def test_charts_of_a_task_and_of_two_encoders(page, out):
    choose(page, "task", "ESC-50 (ssam2024)")
    wait(page, "document.querySelectorAll('#onetask circle').length > 3")
    text = js(page, "document.getElementById('onetask').textContent")
    assert "strong" in text
    assert "(published)" in text
    choose(page, "first", "strong")
    choose(page, "second", "weak")
    wait(page, "document.querySelectorAll('#twoencoders circle').length")
    assert js(page, "document.querySelectorAll('#twoencoders circle').length") == 3
    marks = js(
        page, "[...document.querySelectorAll('#twoencoders text')].map((x) => x.textContent)"
    )
    only_one(page, out)
    drawn = sorted(float(text.split(" p ")[0]) for text in marks if " p " in text)
    expected = sorted(
        100 * one.difference * (1 if one.encoder == "strong" else -1)
        for one in mambabench.report(out).summary.comparisons
        if {one.encoder, one.other} == {"strong", "weak"}
    )
    assert drawn == pytest.approx(expected, abs=0.051)


def test_what_the_charts_show_is_kept_in_the_address(page):
    price = js(page, "document.querySelector('#price').options[0].text")
    for name, text in (
        ("task", "ESC-50 (ssam2024)"),
        ("seedtask", "CREMA-D (ssam2024)"),
        ("first", EVIL),
        ("second", "weak"),
        ("ours", "strong"),
        ("score", "CREMA-D (ssam2024)"),
        ("price", price),  # the first one is chosen anyway: not in the address
    ):
        choose(page, name, text)
    frames = ("onetask", "seeds", "twoencoders", "beside", "cost")
    wait(page, "document.querySelectorAll('#twoencoders circle').length")
    wait(page, "document.querySelectorAll('#seeds circle').length")
    wait(page, "document.querySelectorAll('#onetask circle').length")
    shown = {name: marks(page, name) for name in frames}
    address = page.current_url
    assert "price" not in address
    page.get("about:blank")
    page.get(address)
    for name in frames:
        wait(page, f"document.querySelectorAll('#{name} text').length")
    assert {name: marks(page, name) for name in frames} == shown
    click(page, "[data-reset]")
    wait(page, "document.querySelector('#task').value === ''")
    left = {name: marks(page, name) for name in ("onetask", "seeds", "twoencoders", "beside")}
    assert not any(left.values())
    assert marks(page, "cost") != shown["cost"]
    assert "charts" not in page.current_url
    foreign = address.split("#")[0] + "#charts=" + "task%3D99%257C99%26first%3Dstrong"
    page.get("about:blank")
    page.get(foreign)  # a task that this page does not have: nothing is chosen
    assert js(page, "document.querySelector('#task').value") == ""
    assert js(page, "document.querySelector('#first').value") == "strong"


def only_one(page, out):
    """The clips that most seeds of one encoder get right, counted again from the records."""
    rows = "[...document.querySelectorAll('#twoencoders table:first-of-type tbody tr')]"
    shown = js(page, f"{rows}.map((r) => [...r.cells].map((c) => c.textContent))")
    hits = {}
    for name in ("strong", "weak"):
        clips = mambabench.load_clips(out, encoder=name, task=ESC)
        hits[name] = clips.groupby("clip").right.mean() > 0.5
    counts = [
        int((hits["strong"] & ~hits["weak"]).sum()),
        int((hits["weak"] & ~hits["strong"]).sum()),
        int((hits["strong"] & hits["weak"]).sum()),
        int((~hits["strong"] & ~hits["weak"]).sum()),
    ]
    assert counts[0] > 0
    first = next(row for row in shown if row[0] == "ESC-50 (ssam2024)")
    assert first[1:] == list(map(str, counts))
    listed = [row for row in shown if row[0] == "ESC-50 (ssam2024)" and row[1] == "strong"]
    assert len(listed) == min(5, counts[0])
    assert all(hits["strong"][row[2]] and not hits["weak"][row[2]] for row in listed)


def marks(page, where, what="text"):
    found = f"[...document.querySelectorAll('#{where} {what}')].map((x) => x.textContent)"
    return js(page, found)


def test_critical_differences_are_the_reports_groups(page, out):
    from mambabench.report.together import standing

    found = standing(mambabench.report(out).summary, "ssam2024")
    assert js(page, "document.querySelectorAll('#critical [stroke-width=\"4\"]').length") == len(
        found.groups
    )
    drawn = " ".join(marks(page, "critical"))
    for one in found.ranks:
        assert f"{one.rank:.2f}" in drawn
    assert found.note in marks(page, "critical", "p")


def test_charts_of_seeds_published_rows_and_cost(page, out):
    choose(page, "seedtask", "ESC-50 (ssam2024)")
    wait(page, "document.querySelectorAll('#seeds circle').length")
    summary = mambabench.report(out).summary
    own = {row.encoder: row.scores for row in summary.rows if row.task == ESC}
    assert js(page, "document.querySelectorAll('#seeds circle').length") == 15
    drawn = [text for text in marks(page, "seeds") if text.startswith("range")]
    ranges = sorted(f"range {100 * (max(s) - min(s)):.1f}" for s in own.values())
    assert sorted(drawn) == ranges
    choose(page, "ours", "strong")
    rows = js(page, "document.querySelectorAll('#beside rect').length")
    shown = js(page, "document.querySelectorAll('#beside circle').length")
    assert rows >= 1
    assert shown >= rows
    front = "document.querySelectorAll('#cost circle[data-front=true]').length"
    assert js(page, "document.querySelectorAll('#cost circle').length") == 3
    assert js(page, front) == 2  # the third is dearer and worse than the second


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<svg"), ("png", b"\x89PNG")])
def test_charts_can_be_saved(page, tmp_path, kind, start):
    """Drawn by the script, drawn without it, and within a number's details."""
    page.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    open_cell(page, "strong")
    for name in ("critical", "ranks0", "strip"):
        click(page, f"[data-save={name}][data-as={kind}]")
        data = downloaded(tmp_path / f"{name}.{kind}")
        assert data.startswith(start)
        assert b"var(" not in data  # a page's colours, which the picture alone has not


def downloaded(file):
    import time

    for _ in range(100):
        if file.is_file() and file.stat().st_size:
            break
        time.sleep(0.1)
    return file.read_bytes()


def test_injected_markup_stays_text(page):
    open_cell(page, EVIL, "own <b>task")
    assert js(page, "document.querySelector('#detail h2').textContent") == f"{EVIL} on own <b>task"
    assert js(page, "document.querySelectorAll('img, th b, h2 b').length") == 0


def test_copies_are_what_is_shown(page):
    page.find_element("id", "find").send_keys("strong")
    click(page, "#published")
    click(page, "[data-copy=csv]")
    rows = list(csv.reader(io.StringIO(js(page, "document.getElementById('copied').value"))))
    assert [row[0] for row in rows] == ["Encoder", "strong"]
    assert "ESC-50" in rows[0]
    click(page, "[data-copy=markdown]")
    text = js(page, "document.getElementById('copied').value")
    assert len(text.splitlines()) == 3
    assert "**" in text
    click(page, "[data-copy=latex]")
    text = js(page, "document.getElementById('copied').value")
    assert text.isascii()
    assert "\\textbf{" in text
    assert "\\toprule" in text
    assert "\\label{tab:mambabench-ssam2024}" in text
    assert cited(page) == OWN_SOURCES
    click(page, "[data-reset]")
    assert cited(page) > OWN_SOURCES  # those of published rows too
    click(page, f"#columns input[value='{ESC}']")
    assert "piczak2015esc" not in cited(page)
    wait(page, "document.getElementById('said').textContent")


TEXT_SIZES = """
const found = {};  // by tag: pixels that letters have on the screen, scaled drawings too
for (const one of document.querySelectorAll('main *')) {
  const own = [...one.childNodes].some((x) => x.nodeType === 3 && x.textContent.trim());
  const drawn = one.getScreenCTM?.()?.d ?? 1;
  if (!own || !one.getClientRects().length) continue;
  (found[one.localName] ??= []).push(drawn * parseFloat(getComputedStyle(one).fontSize));
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_both_schemes_and_widths(page, scheme, width):
    """Colours follow the scheme with contrast; the body never scrolls sideways; text is legible."""
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        open_cell(page, "strong")
        luminance = (
            "((c) => c.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255).map((v) => v <= .03928 ?"
            " v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((a, v, i) =>"
            " a + v * [.2126, .7152, .0722][i], 0))"
        )
        style = "getComputedStyle(document.querySelector('{}')).{}"
        back = js(page, f"{luminance}({style.format('body', 'backgroundColor')})")
        assert (back > 0.5) == (scheme == "light")
        for part in ("body", ".sub", "tr.published td", "a, h2"):
            front = js(page, f"{luminance}({style.format(part, 'color')})")
            contrast = (max(front, back) + 0.05) / (min(front, back) + 0.05)
            assert contrast >= 4.5, (part, contrast)
        assert js(page, "document.documentElement.scrollWidth") <= width
        assert js(page, "document.querySelector('tbody td').getBoundingClientRect().top") < 900
        for name in ("task", "seedtask"):
            choose(page, name, "ESC-50 (ssam2024)")
        for name, encoder in (("first", "strong"), ("second", "weak"), ("ours", "strong")):
            choose(page, name, encoder)
        wait(page, "document.querySelectorAll('#twoencoders circle').length")
        sizes = page.execute_script(TEXT_SIZES)
        assert len(sizes["text"]) > 60  # letters of charts too
        assert len(sizes["button"]) > 80  # squares of clips
        small = {tag: min(found) for tag, found in sizes.items() if min(found) < 12}
        assert not small
        assert js(page, style.format("tbody th", "position")) == "sticky"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_nothing_is_asked_of_the_network(page):
    open_cell(page, "strong")
    import json

    asked = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert all(url.startswith(("file:", "about:", "blob:")) for url in asked), asked
    assert sum(url.startswith("file:") for url in asked) <= 1


def test_controls_have_names_and_the_keyboard_reaches_them(page):
    unnamed = js(
        page,
        "[...document.querySelectorAll('input,select,button')].filter((e) => "
        "!(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length",
    )
    assert unnamed == 0
    assert js(page, "document.querySelectorAll('main').length") == 1
    assert js(page, "[...document.querySelectorAll('.scroll')].every((e) => e.tabIndex === 0)")
    page.execute_script("document.querySelector('[data-cell]').focus()")
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(Keys.ENTER)
    wait(page, "document.querySelector('#detail h2')?.textContent ?? ''")
    assert js(page, "document.activeElement.tagName") == "H2"


def axe_source():
    """Return axe-core's script from the package that ships it, without importing that package."""
    from importlib import metadata

    try:
        files = metadata.files("axe-playwright-python") or []
    except metadata.PackageNotFoundError:
        pytest.skip("axe-playwright-python, which ships axe-core, is not installed")
    (script,) = [file for file in files if file.name == "axe.min.js"]
    return script.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_axe_finds_nothing(page, scheme, width):
    """Matrix, an open number with its clips, and every chart, by axe-core's rules."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        open_cell(page, "strong")
        for name in ("task", "seedtask"):
            choose(page, name, "ESC-50 (ssam2024)")
        for name, encoder in (("first", "strong"), ("second", "weak"), ("ours", "strong")):
            choose(page, name, encoder)
        wait(page, "document.querySelectorAll('#twoencoders circle').length")
        page.execute_cdp_cmd("Runtime.evaluate", {"expression": axe_source()})
        result = page.execute_async_script(
            "const done = arguments[0]; axe.run().then("
            "(r) => done([r.passes.length, r.violations]), (e) => done([0, [e.message]]))"
        )
        n_rules, found = result
        assert n_rules > 20  # rules that had something to judge
        said = [
            (one["id"], one["help"], [node["html"][:160] for node in one["nodes"]][:3])
            for one in found
        ]
        assert said == []
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
