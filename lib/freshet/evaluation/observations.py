"""What was observed of events or users, and the figures that follow: values with intervals, and paired differences.

    value = sum of `over` / sum of `under`       (rmse: its root)       AUC = pairs won / pairs

The interval is the middle 95 % of the values of samples of the same users drawn again, each with all of his observations
(kernels.bootstrap). Of a difference it is that of the differences within each sample, so what two learners share cancels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from freshet.kernels.bootstrap import resampled, resampled_pairs, states_of
from freshet.kernels.ranking import pairs_won

RESAMPLES = 1000
INTERVAL = (2.5, 97.5)  # percentiles
Parts = Mapping[str, tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Slices:
    """A way to part observations: each belongs to the slice names[code], or to none where its code is -1; codes int32[n]."""

    names: tuple[str, ...]
    codes: np.ndarray

    def take(self, at: np.ndarray) -> Slices:
        """The same for some of the observations."""
        return Slices(self.names, self.codes[at])


@dataclass(frozen=True)
class Observations:
    """n observations, each of the user key user[i]; arrays float64[n].

    parts[learner][metric] are (over, under); scores[learner] with positive bool[n] give the AUC. The first learner is the one
    in question, the others are what it is held against; all of them saw the same.
    """

    user: np.ndarray
    parts: Mapping[str, Parts]
    slices: tuple[Slices, ...] = ()
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    positive: np.ndarray = field(default_factory=lambda: np.empty(0, bool))

    def __len__(self) -> int:
        return len(self.user)

    def values(self) -> dict[str, dict[str, float]]:
        """learner -> metric -> value over all observations; not a number where nothing is under it."""
        found = {
            learner: {name: _value(name, over.sum(), under.sum()) for name, (over, under) in parts.items()}
            for learner, parts in self.parts.items()
        }
        for learner, score in self.scores.items():
            found.setdefault(learner, {})["auc"] = _value("auc", *pairs_won(score, self.positive))
        return found


@dataclass(frozen=True)
class Figure:
    """The value of a metric for a learner ("a - b": the difference of two) in a slice, with its interval; not a number for
    the ends of that of a single user. `observations` and `users` are behind it."""

    metric: str
    slice: str
    learner: str
    value: float
    low: float
    high: float
    observations: int
    users: int

    def record(self) -> dict[str, Any]:
        """As a row; None for what is not a number."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def figures(seen: Observations, seed: int) -> list[Figure]:
    """The figures of all observations, then those of each slice that has some."""
    every = Slices(("all",), np.zeros(len(seen), np.int32))
    found = []
    for parting in (every, *seen.slices):
        for code, name in enumerate(parting.names):
            at = np.flatnonzero(parting.codes == code)
            if len(at):
                found += _of_slice(seen, at, name, seed)
    return found


def _of_slice(seen: Observations, at: np.ndarray, name: str, seed: int) -> list[Figure]:
    users, own = np.unique(seen.user[at], return_inverse=True)
    states = states_of(users, seed)
    columns = [(learner, metric) for learner, parts in seen.parts.items() for metric in parts]
    sums = np.zeros((len(users), 2 * len(columns)))
    for number, (learner, metric) in enumerate(columns):
        for place, values in enumerate(seen.parts[learner][metric]):
            sums[:, 2 * number + place] = np.bincount(own, values[at], len(users))
    # The first of the samples is the users themselves.
    drawn = np.concatenate([sums.sum(axis=0)[None], resampled(sums, states, RESAMPLES)])
    found = {column: _value(column[1], *drawn[:, 2 * number : 2 * number + 2].T) for number, column in enumerate(columns)}
    for learner, score in seen.scores.items():
        pairs = resampled_pairs(score[at], seen.positive[at], own.astype(np.int32), states, RESAMPLES)
        own_pairs = np.array(pairs_won(score[at], seen.positive[at]))[None]
        found[learner, "auc"] = _value("auc", *np.concatenate([own_pairs, pairs]).T)
    first = next(iter({**seen.parts, **seen.scores}))
    against = {
        (f"{first} - {learner}", metric): found[first, metric] - values
        for (learner, metric), values in found.items() if learner != first and (first, metric) in found
    }
    every = {**found, **against}
    return [_figure(metric, name, learner, values, len(at), len(users)) for (learner, metric), values in every.items()
            if not math.isnan(values[0])]


def _figure(metric: str, name: str, learner: str, values: np.ndarray, observations: int, users: int) -> Figure:
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.percentile(drawn, INTERVAL) if users > 1 and len(drawn) else (math.nan, math.nan)
    return Figure(metric, name, learner, float(values[0]), float(low), float(high), observations, users)


def _value(metric: str, over: Any, under: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(np.asarray(under) > 0.0, np.divide(over, under), np.nan)
    return np.sqrt(value)[()] if metric == "rmse" else value[()]


def joined(groups: Sequence[Observations | None], seed: int) -> list[Figure]:
    """The figures of several sets of observations; None is none."""
    return [figure for group in groups if group is not None and len(group) for figure in figures(group, seed)]
