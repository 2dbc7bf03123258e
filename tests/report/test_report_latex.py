"""LaTeX that compiles as printed, in one and in two columns."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from synthetic_results import write_scene

import mambabench
from mambabench.report.formats.latex import _width

ODD = "odd_&%#$<>{}~^[x]\\é"
TASKS = (
    *("esc50-v2.0.0-full", "tfds_crema_d-1.0.0-full", "beijing_opera-v1.0-hear2021-full"),
    *("libricount-v1.0.0-hear2021-full", "mridangam_stroke-v1.5-full"),
    *("mridangam_tonic-v1.5-full", "nsynth_pitch-v2.2.3-5h", "speech_commands-v0.0.2-5h"),
    *("vox_lingua_top10-hear2021-full", "my_task_100%_<b>&$#"),
)
# margins of Interspeech's template: two columns of 80 mm on A4; its class is not on Debian
INTERSPEECH = (
    "[a4paper,twocolumn]{article}\n\\setlength{\\textwidth}{170mm}\n\\setlength{\\columnsep}{10mm}\n"
    "\\setlength{\\oddsidemargin}{-5.4mm}\n\\setlength{\\textheight}{235mm}\n"
    "\\setlength{\\topmargin}{-15mm}"
)
CLASSES = {
    "one column": "[10pt]{article}",
    "two columns": "[twocolumn]{article}",
    "A4": "[a4paper,twocolumn]{article}",
    "Interspeech": INTERSPEECH,
    "IEEEtran": "[conference]{IEEEtran}",
    "IEEEtran journal": "[journal]{IEEEtran}",
}
DOCUMENT = (
    "\\documentclass%s\n\\usepackage{booktabs}\n\\begin{document}\n%s\n\\nocite{*}\n"
    "\\bibliographystyle{plain}\n\\bibliography{references}\n\\end{document}\n"
)


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Ten tasks, eight encoders."""
    folder = tmp_path_factory.mktemp("out")
    for number in range(8):
        for task in TASKS:
            write_scene(
                *(folder, f"encoder_{number}" if number else "SSAM-Tiny"),
                *(task,),
                skill=0.4 + number / 5,
                seeds=2,
                folds={"test": 60},
                protocol="hear2021",
            )
    return folder


@pytest.fixture(scope="module")
def names(out):
    file = out / "names.csv"
    file.write_text(f'label,name,group\nencoder_1,"{ODD}",Ours\nencoder_2,[first],Ours\n')
    return file


def test_pure_ascii_with_caption_and_label(out, names):
    text = mambabench.report(out, "latex", names=names).text
    assert text.isascii()
    caption = re.search(r"\\caption\{(.*)\}", text).group(1)
    for part in ("mean over 2 seeds", "bootstrap interval over test clips", "Holm-corrected"):
        assert part in caption
    assert f"mambabench {mambabench.__version__}" in caption
    assert "\\label{tab:mambabench-hear2021}" in text
    assert text.count("\\begin{table*}") == 1
    assert "longtable" not in text
    body = "".join(line for line in text.splitlines() if not line.startswith("%"))
    assert not re.search(r"(?<!\\)[%#]", body)


def test_every_citation_has_its_entry(out):
    text = mambabench.report(out, "latex").text
    cited = set(re.findall(r"\\cite\{([^}]*)\}", text))
    bib = (out / "report" / "references.bib").read_text(encoding="utf-8")
    assert bib.isascii()
    entries = re.findall(r"^@\w+\{([^,]+),", bib, flags=re.M)
    assert len(entries) == len(set(entries))
    assert cited
    assert cited <= set(entries)
    assert {"turian2022hear", "piczak2015esc", "mambabench"} <= set(entries)
    assert mambabench.report(out, "bibtex").text == bib
    assert "yang2021superb" not in entries, "no protocol of SUPERB was used"


def test_superb_is_cited_where_one_of_the_protocols_is_its(tmp_path):
    for protocol in ("sound", "superb"):
        write_scene(tmp_path, "one", "task", skill=1.0, seeds=2, protocol=protocol)
    bib = mambabench.report(tmp_path, "bibtex").text
    assert "{yang2021superb," in bib


def compiled(folder, options, text):
    """Compile with pdflatex and bibtex; return the log of the last pass."""
    (folder / "paper.tex").write_text(DOCUMENT % (options, text), encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    for step in (command, ["bibtex", "paper"], command, command):
        done = subprocess.run(step, cwd=folder, capture_output=True, check=False)
        log = done.stdout.decode("latin-1")
        assert done.returncode == 0, log[-3000:]
    return (folder / "paper.log").read_text(encoding="latin-1")


@pytest.mark.tex
@pytest.mark.parametrize("options", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize("view", [{}, {"rows": "tasks"}, {"interval": "seeds", "published": 0}])
def test_compiles_without_overfull_boxes(out, names, tmp_path, options, view):
    needed = ["IEEEtran.cls", "ptmr7t.tfm"] if "IEEEtran" in options else ["article.cls"]
    wanted = f"{needed}: install the packages of TeX that .ci/run names"
    assert shutil.which("kpsewhich"), wanted
    assert subprocess.run(["kpsewhich", *needed], check=False).returncode == 0, wanted
    text = mambabench.report(out, "latex", names=names, **view).text
    (tmp_path / "references.bib").write_text(mambabench.report(out, "bibtex").text)
    log = compiled(tmp_path, options, text)
    over = [float(value) for value in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(over, default=0.0) <= 5.0, log
    assert "undefined" not in log
    assert "Too many unprocessed floats" not in log
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000


def test_a_line_is_as_wide_as_its_letters():
    assert _width("iiii") < _width("0000") < _width("MMMM")
    assert _width("0i0M") == pytest.approx(_width("M0i0"))
    assert _width("0000", "12") > _width("0000")
