"""Test-then-train metrics of one micro-batch, as sums that merge exactly.

`served`: with the weights of the snapshot before the micro-batch; the user's own earlier events of the same micro-batch
count as known context, as they do when a list is asked for. `sequential`: inside the shard, each event just before it is
learned. Popularity is measured on the same events, always.
"""

from __future__ import annotations

import numpy as np

from freshet.asking import POPULARITY_FLOOR
from freshet.head import TOTALS, Head
from freshet.kernels.popularity import log_popularity
from freshet.kernels.ranking import ndcg_at, pairs_won, recall_at, reciprocal
from freshet.leader import follow, follow_interest
from freshet.models.contract import Context, Events, Examples, Model, Rows
from freshet.ranked import SAMPLED, MetricSpec, ranked_events
from freshet.report import Metric
from freshet.schema import HISTORY, INTEREST, MIX, POPULARITY

SERVED, SEQUENTIAL = "served", "sequential"
SHRINKAGE = 5.0  # events by which an item's mean value leans to the mean of all


def by_slice(
    metric: str, scoring: str, learner: str, values: np.ndarray, new_user: np.ndarray
) -> list[Metric]:
    """The sums over all events, over those of new and over those of known users; NaN values are not counted."""
    return [
        Metric(metric, scoring, learner, name, float(values[chosen].sum()), int(chosen.sum()))
        for name, chosen in _slices(np.isfinite(values), new_user).items()
    ]


def _slices(among: np.ndarray, new_user: np.ndarray) -> dict[str, np.ndarray]:
    return {"all": among, "new_user": among & new_user, "known_user": among & ~new_user}


def loss_metrics(
    model: Model, scoring: str, examples: Examples, prediction: np.ndarray, loss: np.ndarray, new_user: np.ndarray
) -> list[Metric]:
    """Metrics of predictions float64[n]: rmse and mae of values, or the model's own loss, for labels with AUC and calibration."""
    if model.loss_metric == "rmse":
        return value_metrics(scoring, model.name, prediction - examples.target, new_user)
    found = by_slice(model.loss_metric, scoring, model.name, loss, new_user)
    if model.labels:
        positive = examples.target > 0
        found += auc(scoring, model.name, prediction, positive, new_user)
        if model.loss_metric == "logloss":
            found += calibration(scoring, model.name, prediction, positive, new_user)
    return found


def auc(scoring: str, learner: str, score: np.ndarray, positive: np.ndarray, new_user: np.ndarray) -> list[Metric]:
    """auc of scores float64[n]: a sum over the pairs of a positive and a negative of this micro-batch, so that it adds up."""
    return [
        Metric("auc", scoring, learner, name, *pairs_won(score[chosen], positive[chosen]))
        for name, chosen in _slices(np.isfinite(score), new_user).items()
    ]


def calibration(scoring: str, learner: str, score: np.ndarray, positive: np.ndarray, new_user: np.ndarray) -> list[Metric]:
    """calibration of log-odds float64[n]: positives expected over positives there were; 1 is right, above it too hopeful."""
    finite = np.isfinite(score)
    chance = np.exp(-np.logaddexp(0.0, -np.where(finite, score, 0.0)))
    return [
        Metric("calibration", scoring, learner, name, float(chance[chosen].sum()), int(positive[chosen].sum()))
        for name, chosen in _slices(finite, new_user).items()
    ]


def value_metrics(scoring: str, learner: str, error: np.ndarray, new_user: np.ndarray) -> list[Metric]:
    """rmse (as squared errors) and mae of errors float64[n]."""
    squared = by_slice("rmse", scoring, learner, error**2, new_user)
    return squared + by_slice("mae", scoring, learner, np.abs(error), new_user)


def popularity_metrics(
    head: Head, model: Model, events: Events, examples: Examples, new_user: np.ndarray, half_life: float
) -> list[Metric]:
    """What popularity says of the same examples: of a value the item's mean, of a label the item's decayed count."""
    if model.loss_metric == "rmse":
        error = np.where(events.corrects, np.nan, popularity_values(head, events) - events.value)[examples.event]
        return value_metrics(SERVED, "popularity", error, new_user)
    if not model.labels:
        return []
    level = popularity_levels(head, events.item_key[examples.event], half_life)
    level[events.corrects[examples.event]] = np.nan
    return auc(SERVED, "popularity", level, examples.target > 0, new_user)


def popularity_levels(head: Head, items: np.ndarray, half_life: float) -> np.ndarray:
    """float64[n]: logs of the items' decayed counts, of one that is forgotten or unknown the log of POPULARITY_FLOOR."""
    row = head.lookup(POPULARITY, items)
    known = row[row >= 0]
    counts = np.ascontiguousarray(head.values(POPULARITY)[known, 0])
    level, found = np.full(len(row), np.log(POPULARITY_FLOOR)), np.empty(len(known), np.float32)
    log_popularity(counts, head.tables[POPULARITY].column("last_at")[known], head.clock, half_life, POPULARITY_FLOOR, found)
    level[row >= 0] = found
    return level


def popularity_values(head: Head, events: Events) -> np.ndarray:
    """float64[n]: popularity's answer to a value, the item's decayed mean leaning to the mean of all by SHRINKAGE."""
    totals = head.values(TOTALS).astype(np.float64)
    mean = totals[0, 1] / totals[0, 0] if len(totals) and totals[0, 0] > 0 else 0.0
    row = head.lookup(POPULARITY, events.item_key)
    known = row >= 0
    values = head.values(POPULARITY)[np.where(known, row, 0)].astype(np.float64) if known.any() else np.zeros((len(row), 2))
    count, total = values[:, 0] * known, values[:, 1] * known
    return np.asarray((total + SHRINKAGE * mean) / (count + SHRINKAGE))


def ranking_metrics(
    head: Head, model: Model, events: Events, positive: np.ndarray, context: Context, spec: MetricSpec
) -> tuple[list[Metric], dict[str, Rows]]:
    """Recall@K, NDCG@K and MRR of ranked_events; and what they say of the model's mixes and decays: the rows of blocks `mix`
    and `interest` afterwards, where there is a choice.

    A user or an item unknown to the snapshot is part of the metric (an unknown item is a miss); their shares are metrics
    too. Where items were sampled the metrics' names end in `~sampled`.
    """
    ranked = ranked_events(head, model, events, positive, context, spec)
    if ranked is None:
        return [], {}
    new_user = head.lookup(HISTORY, events.user_key[ranked.events]) < 0
    among, best = ranked.among, ranked.best
    suffix = SAMPLED if ranked.sampled else ""
    found = []
    beside = [("segment", np.ascontiguousarray(rank)) for rank in ranked.by_segment.T]
    for learner, rank in ((model.name, ranked.rank), ("popularity", ranked.popular), *beside):
        for name, values in (
            (f"recall@{spec.k}", recall_at(rank, spec.k)),
            (f"ndcg@{spec.k}", ndcg_at(rank, spec.k)),
            ("mrr", reciprocal(rank)),
        ):
            found += by_slice(name + suffix, SERVED, learner, np.asarray(values, np.float64), new_user)
    shares = {"unknown_user": new_user, "unknown_item": ranked.unknown_item}
    found += [Metric(name, SERVED, model.name, "all", float(share.sum()), len(share)) for name, share in shares.items()]
    led, count, at = {}, len(ranked.events), int(events.event_at[ranked.events].max())
    if spec.decays:
        led[INTEREST] = follow_interest(head, model, events.user_key[ranked.events], ndcg_at(ranked.by_decay, spec.k), at)
    if len(among) > 1:
        gained = ndcg_at(ranked.by_choice, spec.k).sum(axis=0)
        found.append(Metric(f"ndcg@{spec.k}{suffix}", SERVED, f"leader: {among[best]}", "all", float(gained[best]), count))
        led[MIX] = follow(head, among, gained, count, at)
    return found, led
