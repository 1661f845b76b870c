"""Measures of single observations: (over, under) float64[n] whose sums divide to the value of the whole.

    rmse, mae     error of a value                             logloss    -log of the probability given to what came
    calibration   positives expected / positives there were    accuracy, precision, recall, f1     of yes or no at a threshold
    recall@K, precision@K, ndcg@K, map@K, mrr, hit@K           of the place of an item, or of a list (kernels.list_metrics)

With TP, FP, FN counted over all observations: precision TP / (TP + FP), recall TP / (TP + FN), f1 2 TP / (2 TP + FP + FN). Events
weigh 1 each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from freshet.evaluation.observations import Parts
from freshet.kernels.list_metrics import MEASURES
from freshet.kernels.ranking import ndcg_at, recall_at, reciprocal

BINS = 10


def mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A plain mean; what is not a number is not counted."""
    there = ~np.isnan(values)
    return np.where(there, values, 0.0).astype(np.float64), there.astype(np.float64)


def decision_parts(said: np.ndarray, true: np.ndarray) -> Parts:
    """Of yes or no, bool[n] each: what was said, and what is true."""
    both = (said & true).astype(np.float64)
    return {
        "accuracy": mean(np.asarray(said == true, np.float64)), "precision": (both, said.astype(np.float64)),
        "recall": (both, true.astype(np.float64)), "f1": (2.0 * both, said.astype(np.float64) + true),
    }


def value_parts(prediction: np.ndarray, value: np.ndarray, threshold: float | None) -> Parts:
    """Of predicted values; at a threshold yes is a value of at least that."""
    error = prediction - value
    found = {"rmse": mean(error**2), "mae": mean(np.abs(error))}
    return found if threshold is None else {**found, **decision_parts(prediction >= threshold, value >= threshold)}


def label_parts(score: np.ndarray, positive: np.ndarray, logistic: bool, threshold: float | None) -> Parts:
    """Of scores of a label: log-odds where `logistic`, and then the threshold (default 0.5) is a probability; else one of the
    score (default 0)."""
    if not logistic:
        return decision_parts(score >= (0.0 if threshold is None else threshold), positive)
    chance = probability(score)
    loss = np.logaddexp(0.0, np.where(positive, -score, score))
    return {
        "logloss": mean(loss), "calibration": (chance, positive.astype(np.float64)),
        **decision_parts(chance >= (0.5 if threshold is None else threshold), positive),
    }


def probability(score: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-score)), finite for any score."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -score)))


def reliability(chance: np.ndarray, positive: np.ndarray) -> tuple[list[dict[str, Any]], float]:
    """(for each tenth of the probabilities that has events: their number, the mean probability, the share of positives; the mean
    over events of the distance of the two, the expected calibration error: Guo et al., ICML 2017)."""
    place = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    events = np.bincount(place, minlength=BINS)
    expected, came = np.bincount(place, chance, BINS), np.bincount(place, positive, BINS)
    rows = [
        {"from": number / BINS, "to": (number + 1) / BINS, "events": int(events[number]),
         "expected": float(expected[number] / events[number]), "observed": float(came[number] / events[number])}
        for number in np.flatnonzero(events).tolist()
    ]
    return rows, float(np.abs(expected - came).sum() / max(len(chance), 1))


def rank_parts(rank: np.ndarray, k: int, suffix: str = "") -> Parts:
    """Of the place int32[n] of the one item that was wanted, 0 for an item nobody knew. mrr looks at any place."""
    hit = recall_at(rank, k)
    found = {
        f"recall@{k}": hit, f"precision@{k}": hit / k, f"ndcg@{k}": ndcg_at(rank, k), f"map@{k}": reciprocal(rank) * hit,
        "mrr": reciprocal(rank), f"hit@{k}": hit,
    }
    return {name + suffix: mean(values) for name, values in found.items()}


def list_parts(found: np.ndarray, k: int, suffix: str = "") -> Parts:
    """Of lists cut at k: float64[m, 6] as kernels.list_metrics.worth gives them. mrr is cut too, and says so."""
    return {f"{name}@{k}{suffix}": mean(values) for name, values in zip(MEASURES, found.T, strict=True)}
