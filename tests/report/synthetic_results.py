"""Made-up run records with per-clip predictions, for the tests of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mambabench.benchmarks.metrics import METRICS
from mambabench.store.records import (
    FoldResult,
    RunRecord,
    read_record,
    record_bytes,
    record_stem,
    write_record,
)

FOLDS = {"test": 240}


def scene_arrays(rng, n, n_labels, skill, multilabel=False, target=None):
    """Return target and probability of one fold; higher skill, better scores."""
    if target is None:
        if multilabel:
            target = (rng.random((n, n_labels)) < 0.3).astype(np.uint8)
            target[:n_labels] |= np.eye(n_labels, dtype=np.uint8)
        else:
            target = np.arange(n) % n_labels
    hot = target if multilabel else np.eye(n_labels)[target]
    logits = rng.normal(size=(n, n_labels)) + skill * hot
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return target, probability.astype(np.float32)


def write_scene(
    out: Path,
    encoder: str,
    task: str,
    *,
    skill: float,
    metric: str = "top1_acc",
    protocol: str = "ssam2024",
    seeds: int = 10,
    folds: dict[str, int] | None = None,
    n_labels: int = 4,
    multilabel: bool = False,
    clusters: int = 0,
    restricted: bool = False,
    identity: str = "",
    salt: int = 0,
) -> list[Path]:
    """Write `seeds` records: clips differ in difficulty, which all seeds and encoders share."""
    paths = []
    for seed in range(seeds):
        arrays, results = {}, []
        for index, (fold, n) in enumerate((folds or FOLDS).items()):
            hard = np.random.default_rng([index, 99]).normal(size=(n, n_labels))
            rng = np.random.default_rng([seed, index, salt, sum(encoder.encode())])
            target, probability = scene_arrays(rng, n, n_labels, skill, multilabel)
            logits = np.log(probability) + hard
            probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
            probability = probability.astype(np.float32)
            names = np.array([f"{fold}-clip{i:05d}.wav" for i in range(n)])
            cluster = np.array([f"{fold}-c{i % clusters}" if clusters else "" for i in range(n)])
            own = {"clip": names, "cluster": cluster, "target": target}
            own["probability"] = probability
            arrays |= {f"{fold}/{name}": value for name, value in own.items()}
            results.append((fold, {metric: METRICS[metric](target, probability)}, n))
        paths.append(
            write_run(
                out,
                encoder,
                task,
                seed,
                results,
                arrays,
                metric=metric,
                protocol=protocol,
                n_labels=n_labels,
                restricted=restricted,
                identity=identity,
            )
        )
    return paths


def write_events(out: Path, encoder: str, task: str, *, skill: float, n=20, seeds=3, k=3) -> None:
    """Write records of a timestamp task: counts of matched, reference and predicted events."""
    metric = "event_onset_200ms_fms"
    for seed in range(seeds):
        rng = np.random.default_rng([seed, sum(encoder.encode())])
        reference = np.full(n, 30.0)
        matched = rng.binomial(30, skill, n).astype(float)
        predicted = matched + rng.poisson(8, n)
        counts = np.stack([matched, reference, predicted], axis=1)
        by_label = np.array([counts[label::11].sum(axis=0) for label in range(11)])
        arrays = {
            "test/clip": np.array([f"c{i:03d}.wav" for i in range(n)]),
            "test/cluster": np.full(n, ""),
            "test/event_clip": np.zeros(0, np.int64),
            f"test/counts:{metric}": counts,
            f"test/event_counts:{metric}": by_label,  # clip i has the label i modulo 11
        }
        score = float(METRICS[metric].score(counts.sum(axis=0)))
        results = [("test", {metric: score}, n)]
        write_run(out, encoder, task, seed, results, arrays, metric=metric, n_labels=11)


def write_run(
    out: Path,
    encoder: str,
    task: str,
    seed: int,
    results,
    arrays,
    *,
    metric: str,
    protocol: str = "ssam2024",
    n_labels: int,
    restricted: bool = False,
    identity: str = "",
    reason: str | None = None,
) -> Path:
    """Write one record; results: (fold, scores, n_test)."""
    folds = tuple(
        FoldResult(
            fold=fold,
            scores=scores,
            grid_point={"lr": 1e-4, "hidden_layers": 1},
            validation_score=0.5,
            best_epoch=12,
            n_epochs=30,
            n_test=n,
            head_sha256="0" * 64,
        )
        for fold, scores, n in results
    )
    known = [fold.scores[metric] for fold in folds]
    record = RunRecord(
        encoder=encoder,
        encoder_identity=identity or f"{sum(encoder.encode()):064x}",
        task=task,
        protocol=protocol,
        seed=seed,
        layers=None,
        metric=metric,
        higher_is_better=METRICS[metric].higher_is_better,
        n_labels=n_labels,
        folds=folds,
        score=None if reason else float(np.mean(known)),
        reason=reason,
        restricted=restricted,
    )
    key = f"{encoder}-{identity[:8]}" if identity else encoder
    stem = record_stem(out, key, task, protocol, seed)
    write_record(stem, record, arrays, {"host": "here"})
    return stem.with_suffix(".json")


def without_predictions(path: Path) -> Path:
    """Make of a record one that never had predictions: it states no hash of any."""
    path.with_suffix(".npz").unlink()
    path.write_bytes(record_bytes(read_record(path), ""))
    return path
