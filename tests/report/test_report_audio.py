"""The page's sound: the hardest clips of tasks that may be heard, and nothing else."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr

import mambabench
from mambabench.benchmarks import demo
from mambabench.errors import MambabenchError
from mambabench.report.formats import page_audio
from mambabench.report.formats.page_audio import Beside, sounds_beside
from mambabench.report.formats.page_clips import TaskClips
from mambabench.store.records import read_predictions, read_record, record_paths, write_record

VOWEL, PITCH = "demo_vowel-v1-demo", "demo_pitch-v1-demo"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """Two tasks of the demo, probed; the second is made a restricted one."""
    folder = tmp_path_factory.mktemp("out")
    demo.generate(folder / "tasks")
    common = {"out": folder, "jobs": 1, "task": (VOWEL, PITCH)}
    mambabench.extract("logmel_stats", tasks=folder / "tasks", **common)
    mambabench.probe(protocol="linear", out=folder, jobs=1)
    for path in record_paths(folder):
        record = read_record(path)
        if record.task == PITCH:
            predictions = read_predictions(path)
            write_record(path.with_suffix(""), replace(record, restricted=True), predictions, {})
    return folder


def page_of(out, **options):
    result = mambabench.report(out, plot="none", **options)
    text = (out / "report" / "report.html").read_text(encoding="utf-8")
    found = re.search(r'id="sounds">([^<]*)<', text)
    return result, text, json.loads(found.group(1)) if found else None


def test_no_sound_unless_asked_for(out):
    _, text, sounds = page_of(out)
    assert sounds is None
    assert "media-src" not in text


def test_the_hardest_clips_are_heard_and_no_restricted_one(out):
    _, text, sounds = page_of(out, with_audio=3)
    assert "media-src data:;" in text.replace('">', ";") or "media-src data:" in text
    assert list(sounds["clips"]) == [VOWEL]
    clips = mambabench.load_clips(out, task=VOWEL)
    numbers = [int(number) for number in sounds["clips"][VOWEL]]
    hardest = clips.sort_values("right", kind="stable").index[:3].tolist()
    assert numbers == hardest
    for number, data in sounds["clips"][VOWEL].items():
        heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        name = clips["clip"][int(number)]
        told, own_rate = soundfile.read(out / "tasks" / VOWEL / "16000" / "test" / name)
        assert (rate, own_rate) == (16000, 16000)
        n = min(len(heard), len(told))
        assert n > 0.9 * len(told)
        assert np.corrcoef(heard[:n], told[:n])[0, 1] > 0.9


def test_wav_where_opus_cannot_be_written_and_five_seconds_at_most(out, tmp_path, monkeypatch):
    folder = tmp_path / VOWEL
    demo.generate(tmp_path)
    clips = mambabench.load_clips(out, task=VOWEL)
    name = clips["clip"][int(clips.sort_values("right", kind="stable").index[0])]
    tone = np.sin(np.arange(7 * 44100) / 20) / 2
    for file in sorted((folder / "16000" / "test").iterdir()):
        file.unlink()
    soundfile.write(folder / "16000" / "test" / name, np.stack([tone, tone], axis=1), 44100)
    monkeypatch.setattr(page_audio, "_writes_opus", lambda: False)
    _, text, sounds = page_of(out, with_audio=2, tasks=tmp_path)
    assert sounds["kind"] == "audio/wav"
    (data,) = sounds["clips"][VOWEL].values()
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 16000
    assert heard.ndim == 1
    assert len(heard) == 5 * 16000
    expected = soxr.resample(tone[: 5 * 44100], 44100, 16000)
    np.testing.assert_allclose(heard[:70000], expected[:70000], atol=2e-3)
    assert f"No sound found of {VOWEL}/" in text  # of the second: its file is gone


def test_sounds_end_at_the_limit_and_missing_tasks_are_named(out, tmp_path, monkeypatch):
    monkeypatch.setattr(page_audio, "MOST_BYTES", 15_000)
    _, text, sounds = page_of(out, with_audio=50)
    assert sum(map(len, sounds["clips"][VOWEL].values())) <= 15_000
    assert "Sounds end at 0 MB" in text
    _, text, sounds = page_of(out, with_audio=2, tasks=[tmp_path])
    assert sounds is None
    assert f"No sound found of {VOWEL} (--tasks DIR says where)." in text
    with pytest.raises(MambabenchError, match="with_audio is -1; it is 0 or more"):
        mambabench.report(out, with_audio=-1)


def test_audio_beside_the_page_is_heard_and_that_of_a_restricted_task_is_not(out, tmp_path):
    folder = tmp_path / "page"
    _, text, sounds = page_of(out, to=folder)
    assert sounds is None
    (folder / "audio").symlink_to(out / "tasks")  # made after the page: the report sees it
    mambabench.report(out, plot="none", to=folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    sounds = json.loads(re.search(r'id="sounds">([^<]*)<', text).group(1))
    n_clips = len(mambabench.load_clips(out, task=VOWEL)["clip"].unique())
    assert sounds["beside"] == {
        VOWEL: {"folder": f"audio/{VOWEL}/16000", "splits": [["test", n_clips]]}
    }
    assert sounds["clips"] == {}
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    assert policy.endswith("; media-src 'self' file:")


@pytest.mark.parametrize(
    ("rates", "heard"),
    [((48000, 16000), 16000), ((8000, 22050, 44100), 22050), ((4000, 8000), 8000)],
)
def test_the_lowest_rate_beside_the_page_that_keeps_the_band_is_heard(tmp_path, rates, heard):
    own = TaskClips(["a.wav", "b.wav", "c.wav"], ["x", "x", "y"], np.zeros(3, int), None, 1, False)
    for rate in rates:
        (tmp_path / "audio" / "t" / str(rate) / "x").mkdir(parents=True)
        (tmp_path / "audio" / "t" / str(rate) / "x" / "a.wav").touch()
    (tmp_path / "audio" / "t" / "16k").mkdir()
    found = sounds_beside({"t": own, "elsewhere": own}, tmp_path)
    assert found == {"t": Beside(f"audio/t/{heard}", [("x", 2), ("y", 1)])}
    (tmp_path / "audio" / "t" / str(heard) / "x" / "a.wav").unlink()
    others = [rate for rate in rates if rate != heard]
    assert sounds_beside({"t": own}, tmp_path)["t"].folder != f"audio/t/{heard}"
    for rate in others:
        (tmp_path / "audio" / "t" / str(rate) / "x" / "a.wav").unlink()
    assert sounds_beside({"t": own}, tmp_path) == {}
    assert sounds_beside({"t": replace(own, restricted=True)}, tmp_path) == {}


@pytest.mark.browser
def test_a_browser_plays_what_lies_beside_the_page(out, tmp_path):
    from test_report_browser import make_browser

    folder = tmp_path / "page #1"
    (folder / "audio").mkdir(parents=True)
    (folder / "audio" / VOWEL).symlink_to(out / "tasks" / VOWEL)
    mambabench.report(out, plot="none", to=folder)
    driver = make_browser("--autoplay-policy=no-user-gesture-required")
    try:
        driver.get((folder / "report.html").as_uri())
        play = (
            "const done = arguments[1]; [...document.querySelectorAll('[data-cell]')]"
            ".find((b) => b.dataset.cell.includes(arguments[0])).click();"
            "const ready = () => document.querySelector('.clips button');"
            "const wait = () => ready() ? play() : setTimeout(wait, 20);"
            "const play = () => { document.querySelectorAll('.clips button')[5].click();"
            "const sound = document.querySelector('#detail audio'); sound.muted = true;"
            "sound.addEventListener('timeupdate', () => sound.currentTime > 0 && "
            "done([sound.duration, sound.ariaLabel, decodeURIComponent(sound.src)]));"
            "sound.addEventListener('error', () => done([0, sound.error.message, sound.src]));"
            "sound.play(); }; wait();"
        )
        duration, label, source = driver.execute_async_script(play, VOWEL)
        assert 0.9 < duration < 1.2, (label, source)
        name = label.removeprefix("Sound of ")
        assert source.endswith(f"/audio/{VOWEL}/16000/test/{name}")
        assert driver.get_log("browser") == []
        (folder / "audio" / VOWEL).unlink()  # the page was passed on without its audio
        failed = (
            "const done = arguments[0]; document.querySelectorAll('.clips button')[7].click();"
            "const told = () => document.querySelector('#detail p span')?.textContent ?? '';"
            "const wait = () => told().startsWith('No sound') ? done(told()) : "
            "setTimeout(wait, 20); wait();"
        )
        said = driver.execute_async_script(failed)
        assert said.startswith(f"No sound: audio/{VOWEL}/16000/test/test")
        assert driver.execute_script("return document.querySelectorAll('.heard').length") == 0
    finally:
        driver.quit()


@pytest.mark.browser
def test_a_browser_plays_them(out):
    from test_report_browser import make_browser

    page_of(out, with_audio=2)
    driver = make_browser("--autoplay-policy=no-user-gesture-required")
    try:
        driver.get((out / "report" / "report.html").as_uri())
        open_cell = (
            "const done = arguments[1]; [...document.querySelectorAll('[data-cell]')]"
            ".find((b) => b.dataset.cell.includes(arguments[0])).click();"
            "const wait = () => document.querySelector('.clips button') ? "
            "done([...document.querySelectorAll('.heard')].length) : setTimeout(wait, 20); wait();"
        )
        assert driver.execute_async_script(open_cell, VOWEL) == 2
        play = (
            "const done = arguments[0]; document.querySelector('.heard').click();"
            "const sound = document.querySelector('#detail audio'); sound.muted = true;"
            "sound.addEventListener('timeupdate', () => sound.currentTime > 0 && "
            "done([sound.duration, sound.controls, sound.ariaLabel]));"
            "sound.addEventListener('error', () => done([0, false, sound.error.message]));"
            "sound.play();"
        )
        duration, controls, label = driver.execute_async_script(play)
        assert 0.9 < duration < 1.2  # the demo's vowels are one second long
        assert controls
        assert label.startswith("Sound of test")
        quiet = "document.querySelector('.clips button:not(.heard)').click();"
        driver.execute_script(quiet)
        assert driver.execute_script("return document.querySelectorAll('audio').length") == 0
        assert (
            driver.execute_async_script(
                "document.querySelector('.clips').remove();" + open_cell, PITCH
            )
            == 0
        )
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
