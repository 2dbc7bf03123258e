"""hear-eval-kit's results in, SSAM's aggregate files and leaderboard rows out, overall scores."""

from __future__ import annotations

import csv
import json
import statistics

import numpy as np
import pytest
from scipy import stats
from sklearn.preprocessing import StandardScaler
from synthetic_results import write_scene

import mambabench
from mambabench.benchmarks.superb import TASKS
from mambabench.errors import DataError, StoreError
from mambabench.report.exchange.overall import (
    LEADERBOARD_COLUMNS,
    leaderboard_scores,
    min_max_scores,
)
from mambabench.report.exchange.published import COLUMNS, published_folder, read_published

ESC, OPERA = "esc50-v2.0.0-full", "beijing_opera-v1.0-hear2021-full"
HPARAMS = {
    "batch_size": 1024,
    "check_val_every_n_epoch": 3,
    "dropout": 0.1,
    "hidden_dim": 1024,
    "hidden_layers": 1,
    "initialization": "<function xavier_normal_ at 0x7f42ed8b8e00>",
    "lr": 0.0001,
    "max_epochs": 500,
    "patience": 20,
}


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch):
    monkeypatch.setattr("mambabench.report.written.draw_plots", lambda *arguments: [])


def write_kit(folder, scores, **hparams):
    """Write what hear-eval-kit leaves, d' of a perfect class included: scores by fold or test."""
    folder.mkdir(parents=True)
    (folder / "task_metadata.json").write_text(json.dumps({"evaluation": ["top1_acc", "mAP"]}))
    (folder / "labelvocabulary.csv").write_text("idx,label\n0,x\n1,y\n")
    body = {"hparams": HPARAMS | hparams, "postprocessing": [], "score_mode": "max"}
    for name, score in scores.items():
        body[name] = {
            "test_loss": 0.1,
            "test_score": score,
            "test_mAP": 0.9,
            "test_top1_acc": score,
            "test_d_prime": float("inf"),
            "validation_score": 1.0,
            "epoch": 113,
            "time_in_min": 0.4,
        }
        (folder / f"{name}.json").write_text(
            json.dumps({f"{name}{i}.wav": ["x"] for i in range(8)})
        )
    if "test" not in scores:
        body["aggregated_scores"] = {"test_score_mean": statistics.fmean(scores.values())}
    (folder / "test.predicted-scores.json").write_text(json.dumps(body))


def test_hear_eval_kit_results_are_read_with_their_infinities(tmp_path):
    write_kit(tmp_path / "embeddings" / "my.module" / ESC, {"fold00": 0.5, "fold01": 0.7})
    frame = mambabench.load_results(tmp_path, metrics="all")
    assert set(frame.metric) == {"top1_acc", "mAP", "d_prime"}
    assert frame[frame.metric == "d_prime"].score.isna().all()
    primary = frame[frame.primary]
    assert primary.score.tolist() == [0.5, 0.7]
    assert set(frame.protocol) == {"hear2021"}
    assert set(frame.seed) == {42}
    assert set(frame.source) == {"hear-eval-kit"}
    assert "0x7f" not in frame.grid_point[0]
    result = mambabench.report(tmp_path, "json")
    (row,) = json.loads(result.text, parse_constant=pytest.fail)["rows"]
    assert row["encoder"] == "my.module"
    assert row["mean"] == pytest.approx(0.6)
    assert row["n_test"] == 16
    assert "name no clips" in row["reason"]


def test_kit_results_beside_ours_are_another_encoder(tmp_path):
    write_scene(tmp_path, "module", ESC, skill=1.0, seeds=2)
    write_kit(tmp_path / "embeddings" / "module" / ESC, {"test": 0.5})
    names = {"module (hear-eval-kit)", f"module@{sum(b'module'):064x}"[:15]}
    assert set(mambabench.load_results(tmp_path).encoder) == names


@pytest.mark.parametrize(
    ("hparams", "protocol"),
    [
        ({}, "hear2021"),
        ({"max_epochs": 50}, "hear2021/fast"),
        ({"hidden_dim": 64}, "hear2021/faster"),
    ],
)
def test_grids_of_the_kit_are_told_apart(tmp_path, hparams, protocol):
    write_kit(tmp_path / "module" / ESC, {"test": 0.5}, **hparams)
    assert mambabench.load_results(tmp_path).protocol[0] == protocol


def test_ssam_tree_is_read_and_written_back(tmp_path):
    """The numbers are those that stats_aggregation.py's rules give for this tree."""
    scores = [0.91, 0.93, 0.9, 0.94]
    for seed, score in enumerate(scores):
        write_kit(tmp_path / f"ssam_tiny_r1_{seed:02d}" / ESC, {"fold00": score, "fold01": 0.8})
        write_kit(tmp_path / f"ssam_tiny_r1_{seed:02d}" / "own-v1-full", {"test": score})
    assert not (tmp_path / "report" / "ssam").exists()
    result = mambabench.report(tmp_path, export=["ssam"])
    row = next(row for row in result.summary.rows if row.task == ESC)
    assert (row.encoder, row.protocol, row.n_seeds) == ("ssam_tiny_r1", "ssam2024", 4)
    folder = tmp_path / "report" / "ssam"
    means = [(score + 0.8) / 2 for score in scores]
    lines = (folder / "ssam_tiny_r1" / "ESC-50_scores.txt").read_text().splitlines()
    assert [float(line) for line in lines] == pytest.approx(means)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(means), scale=stats.sem(means))
    text = (folder / "ssam_tiny_r1" / "ESC-50_stats.txt").read_text()
    assert text == f"{np.mean(means):.05f}\n{(high - low) / 2:.05f}\n"
    assert (folder / "ssam_tiny_r1" / "own-v1-full_stats.txt").is_file()
    with (folder / "all_results.csv").open() as file:
        table = list(csv.DictReader(file))
    assert list(table[0]) == ["exp", "ssl_run", "run", "dataset", "scores", "mapped_exp"]
    assert {(line["exp"], line["ssl_run"], line["mapped_exp"]) for line in table} == {
        ("ssam_tiny", "1", "0")
    }
    assert [int(line["run"]) for line in table if line["dataset"] == ESC] == [0, 1, 2, 3]


def test_our_runs_are_written_as_the_kits_and_read_back(tmp_path):
    write_scene(tmp_path, "weak", ESC, skill=1.0, seeds=3, folds={"fold00": 40, "fold01": 40})
    write_scene(tmp_path, "weak", "own-v1-full", skill=1.0, seeds=3)
    write_scene(tmp_path, "weak", "own-v1-full", skill=1.0, seeds=3, protocol="sound")
    mambabench.report(tmp_path)
    assert not (tmp_path / "report" / "hear-eval-kit").exists()  # nobody asked
    result = mambabench.report(tmp_path, export=["hear-eval-kit"])
    tree = tmp_path / "report" / "hear-eval-kit" / "ssam2024"
    files = sorted(tree.glob("*/*/test.predicted-scores.json"))
    assert len(files) == 6
    assert not (tree.parent / "sound").exists()
    body = json.loads((tree / "weak_r1_02" / ESC / "test.predicted-scores.json").read_text())
    inner = [body[fold]["test_score"] for fold in ("fold00", "fold01")]
    aggregated = body["aggregated_scores"]
    assert aggregated["test_score_mean"] == pytest.approx(statistics.fmean(inner))
    assert aggregated["test_score_std"] == pytest.approx(statistics.stdev(inner))
    means = {row.task: row.mean for row in result.summary.rows if row.protocol == "ssam2024"}
    back = mambabench.report(tree)
    found = {row.task: row.mean for row in back.summary.rows}
    assert found == pytest.approx(means)
    assert {row.protocol for row in back.summary.rows} == {"ssam2024"}
    assert len(mambabench.report(tmp_path).summary.rows) == 3  # its own tree is not read again


def test_broken_kit_result_names_the_file(tmp_path):
    folder = tmp_path / "module" / ESC
    write_kit(folder, {"test": 0.5})
    file = folder / "test.predicted-scores.json"
    file.write_text("{}")
    with pytest.raises(
        StoreError, match=r"test\.predicted-scores\.json: is no result of hear-eval"
    ):
        mambabench.load_results(tmp_path)


def test_leaderboard_row_has_the_leaderboards_columns(tmp_path):
    write_scene(tmp_path, "weak", ESC, skill=1.0, seeds=2, protocol="hear2021")
    write_scene(tmp_path, "weak", OPERA, skill=1.0, seeds=2, protocol="hear2021")
    result = mambabench.report(tmp_path)
    with (tmp_path / "report" / "hear_leaderboard.hear2021.csv").open() as file:
        (line,) = csv.DictReader(file)
    columns = {r.location.rpartition("column ")[2] for r in leaderboard()}
    assert columns == set(LEADERBOARD_COLUMNS)
    assert list(line) == ["Model", "URL", "Submission Date", *LEADERBOARD_COLUMNS]
    means = {row.task: row.mean for row in result.summary.rows}
    assert float(line["ESC-50"]) == means[ESC]
    assert line["FSD50K"] == ""
    among = [one for one in result.summary.overall if one.normalisation.endswith("+published")]
    assert len(among[0].pool) == 1 + 34
    assert set(among[0].tasks) == {ESC, OPERA}
    assert -1 <= among[0].score <= 1


def leaderboard():
    return read_published(published_folder() / "hear_leaderboard.csv")


def test_published_tables_are_whole():
    """Every row has its source, every leaderboard cell is there, known traps are kept apart."""
    folder = published_folder()
    files = sorted(folder.glob("*.csv"))
    assert len(files) == 9
    for file in files:
        assert read_published(file), file
        text = file.read_text(encoding="utf-8")
        assert tuple(text.split("\n", 1)[0].split(",")) == COLUMNS
        assert "secondary" not in text
    assert len(leaderboard()) == 616
    assert len({row.model for row in leaderboard()}) == 34
    count = [r for r in read_published(folder / "ssam.csv") if r.task.startswith("libricount")]
    scores = {(r.protocol, round(100 * r.score, 1)) for r in count if r.model.startswith("MW")}
    assert {("ssam2024", 68.8), ("hear2021", 80.3)} <= scores
    superb = read_published(folder / "superb.csv")
    tuned = [
        r for r in superb if r.caution.startswith(("not frozen", "read")) and "SSAST" in r.model
    ]
    spotting = [r for r in tuned if r.task in ("superb_ks", "superb_sid", "superb_er")]
    assert spotting
    assert {r.protocol for r in spotting} == {"finetuned"}
    ours = {r.name: set(r.metrics) for r in TASKS.values()}
    found = {(r.task, r.metric) for r in superb if r.task in ours}
    assert {task for task, _ in found} == set(ours)  # every task has published rows beside it
    assert found - {("superb_asr", "wer_lm")} <= {(t, m) for t, own in ours.items() for m in own}
    hubert = {
        (r.task, r.metric): round(100 * r.score, 2) for r in superb if r.model == "HuBERT Base"
    }
    assert hubert["superb_asr", "wer"] == 6.42
    assert hubert["superb_asr", "wer_lm"] == 4.79
    assert hubert["superb_sf", "slot_type_f1"] == 88.53
    assert hubert["superb_sf", "slot_value_cer"] == 25.20
    assert hubert["superb_sd", "der"] == 5.88


def test_published_rows_stand_beside_ours_with_their_protocol(tmp_path):
    write_scene(tmp_path, "weak", ESC, skill=1.0, seeds=2)
    write_scene(tmp_path, "weak", "esc50-v2.0.0-esc10", skill=1.0, seeds=2)  # a subset: no match
    result = mambabench.report(tmp_path)
    assert {row.task for row in result.summary.published} == {ESC}
    ours = {row.same_protocol: row.protocol for row in result.summary.published}
    assert ours[True] == "ssam2024"
    assert ours[False] == "hear2021"
    text = mambabench.report(tmp_path, table="long").text
    assert "hear2021 (other protocol)" in text
    more = len(result.summary.published) - 5
    assert more > 0
    assert f"The best 5 a task; {more} more" in " ".join(text.split())
    lines = mambabench.report(tmp_path, published=99).text.splitlines()
    assert any("gram2026, hear2021" in line for line in lines)  # another protocol than ours
    assert any(line.rstrip().endswith("±0.2") or "(mwmaejaxofficial)" in line for line in lines)
    assert all(row.citation and row.location for row in result.summary.published)
    assert "mwmae-jax-official" in mambabench.report(tmp_path, "markdown", table="long").text


def test_published_row_without_source_is_an_error(tmp_path):
    good = "HEAR,esc50,,top1_acc,50,percent,,,,m,,hear2021,paper,Table 1,"
    file = tmp_path / "x.csv"
    file.write_text(",".join(COLUMNS) + "\n" + good + "\n" + good.replace("paper", "") + "\n")
    with pytest.raises(DataError, match=r"x\.csv, line 3: citation is empty"):
        read_published(file)
    file.write_text("a,b\n")
    with pytest.raises(DataError, match="the columns are not benchmark, task"):
        read_published(file)


def test_leaderboard_normalisation():
    rng = np.random.default_rng(0)
    scores = rng.random((6, 4))
    z = StandardScaler().fit_transform(scores)
    expected = np.clip(z, -1, 1).mean(axis=1)
    np.testing.assert_allclose(leaderboard_scores(scores), expected)
    scores[2, 1] = np.nan
    filled = leaderboard_scores(scores)
    assert np.isfinite(filled).all()
    assert (np.abs(filled) <= 1).all()


def test_min_max_normalisation_by_hand():
    scores = np.array([[0.2, 0.9, 0.5], [0.4, 0.5, 0.5], [0.3, 0.7, 0.5]])
    np.testing.assert_allclose(min_max_scores(scores), [50.0, 50.0, 50.0])
    np.testing.assert_allclose(min_max_scores(scores[:2]), [50.0, 50.0])
    assert np.isnan(min_max_scores(scores[:, 2:])).all()


def test_overall_names_pool_and_what_is_missing(tmp_path):
    for name, skill in (("a", 0.5), ("b", 1.0), ("c", 1.5), ("d", 0.7)):
        for task in ("one", "two", "three"):
            if (name, task) != ("c", "three"):
                write_scene(tmp_path, name, task, skill=skill, seeds=2)
    overall = mambabench.report(tmp_path).summary.overall
    scores = {(one.normalisation, one.encoder): one for one in overall}
    assert scores["min-max", "c"].score is None
    assert scores["min-max", "c"].reason == "no score without all tasks; missing three"
    assert scores["min-max", "a"].pool == ("a", "b", "d")
    assert scores["min-max", "b"].score == 100.0
    assert scores["hear-leaderboard", "c"].score is None
    assert scores["hear-leaderboard", "b"].score > scores["hear-leaderboard", "a"].score
    common = scores["hear-leaderboard, common tasks", "c"]
    assert common.tasks == ("one", "two")
    assert common.pool == ("a", "b", "c", "d")
    assert common.score > scores["hear-leaderboard, common tasks", "b"].score
    assert not any(one.n_imputed for one in overall)
