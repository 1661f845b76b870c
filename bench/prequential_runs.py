"""Public sets through the learner without Spark: events in the order of time, micro-batches of a size, metrics as sums."""

from __future__ import annotations

import gzip
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from arrays import Arrays, events, keys
from figures import Stages
from prepare import interleaved
from public_sets import BANDIT, SETS, NotThere, one

from freshet.attributes import describe
from freshet.models.contract import ITEM
from freshet.report import Metric
from freshet.settings import Settings

LEADER = "leader: "
MICRO = {"s": 1_000_000, "ms": 1000}


@dataclass(frozen=True)
class Triples:
    """Users, items, values and times (microseconds) of a set, ascending in time, as the set's own numbers; the columns
    of its context; and with which probability each was shown, where that is known."""

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    at: np.ndarray
    context: Mapping[str, np.ndarray] = field(default_factory=dict)
    propensity: np.ndarray | None = None

    def __getitem__(self, part: slice) -> Triples:
        context = {name: column[part] for name, column in self.context.items()}
        shown = None if self.propensity is None else self.propensity[part]
        return Triples(self.user[part], self.item[part], self.value[part], self.at[part], context, shown)


@dataclass
class Sums:
    """Metrics added up over micro-batches, and which mix led in each: (events before it, events after it, the mix)."""

    led: list[tuple[int, int, str]] = field(default_factory=list)
    totals: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)

    def add(self, metric: Metric) -> None:
        if metric.slice == "all":
            total = self.totals.setdefault((metric.metric, metric.scoring, metric.learner), [0.0, 0.0])
            total[0] += metric.total
            total[1] += metric.events

    def value(self, metric: str, scoring: str, learner: str) -> float:
        """Mean, or the root of it for rmse; NaN where nothing was measured."""
        total, count = self.totals.get((metric, scoring, learner), [0.0, 0.0])
        if not count:
            return math.nan
        return math.sqrt(total / count) if metric == "rmse" else total / count


def ratings(data: Path, name: str) -> Triples:
    """movielens-100k or movielens-latest-small. Raises NotThere."""
    user, item, value, time = ("user_id", "item_id", "rating", "timestamp") if name == "movielens-100k" else (
        "userId", "movieId", "rating", "timestamp")
    return _triples(data, name, user, item, value, time, "s")


def clicks(data: Path) -> Triples:
    """globo-clicks. Raises NotThere."""
    context = [f"click_{name}" for name in ("environment", "deviceGroup", "os", "country", "region", "referrer_type")]
    return _triples(data, "globo-clicks", "user_id", "click_article_id", None, "click_timestamp", "ms", context)


def _triples(
    data: Path, name: str, user: str, item: str, value: str | None, time: str, unit: str, context: Sequence[str] = ()
) -> Triples:
    whole = _whole(data, name)
    columns = {column: whole[column].to_numpy() for column in (user, item, time, *context, *([value] if value else []))}
    order = np.argsort(columns[time], kind="stable")
    values = columns[value][order].astype(np.float64) if value else np.ones(len(order))
    known = {column: columns[column][order] for column in context}
    return Triples(columns[user][order], columns[item][order], values, columns[time][order] * MICRO[unit], known)


def genres(data: Path) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n] keys of movielens-100k's films, int64[n, 8] keys of the genres of each, 0 for none). Raises NotThere."""
    path = one(data / "movielens-100k", "u.item")
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="latin-1") as file:
        fields = [line.rstrip("\n").split("|") for line in file]
    flags = np.array([row[5:] for row in fields]) == "1"
    order = np.argsort(~flags, axis=1, kind="stable")[:, :8]
    key = keys(np.arange(flags.shape[1]) + (1 << 42), ITEM)[order]
    return keys(np.array([int(row[0]) for row in fields]), ITEM), key * np.take_along_axis(flags, order, axis=1)


def run(
    triples: Triples, size: int, settings: Settings, starts: Sequence[float] = (0.0, 0.7), timer: Stages | None = None,
    described: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, Sums]:
    """Learn in micro-batches of at most `size` events; metrics of the events from each of `starts` on.

    `starts` are shares of the events; a micro-batch begins at each of them. `described` are items and their attributes,
    known from the start.
    """
    count = len(triples.user)
    cuts = {f"from {start:.0%}": int(start * count) for start in starts}
    found = {name: Sums() for name in cuts}
    arrays, timer = Arrays(settings), timer or Stages()
    if described is not None:
        arrays.head.apply(*describe(arrays.head, *described))
    for begin, end in pairwise(borders(count, size, starts)):
        part = triples[begin:end]
        known = [part.context[name] for name in settings.model.features.context]
        learned = arrays.step(events(part.user, part.item, part.value, part.at, begin, known, part.propensity), timer)
        for name, cut in cuts.items():
            if begin >= cut:
                for metric in learned.metrics:
                    found[name].add(metric)
                    if metric.learner.startswith(LEADER):
                        found[name].led.append((begin, end, metric.learner.removeprefix(LEADER)))
    return found


def borders(count: int, size: int, starts: Sequence[float]) -> list[int]:
    """Where micro-batches begin and the last one ends: every `size` events and at these shares of all."""
    return sorted({*range(0, count, size), *(int(start * count) for start in starts), 0, count})


def usages(data: Path) -> Triples:
    """frappe-partial in the order of its lines. Raises NotThere."""
    whole = _whole(data, "frappe-partial")
    columns = {name: whole[name].to_numpy() for name in whole.column_names}
    context = {name: column for name, column in columns.items() if name not in ("label", "user", "item")}
    at = 1_700_000_000_000_000 + np.arange(len(whole)) * 1_000_000
    return Triples(columns["user"], columns["item"], columns["label"].astype(np.float64), at, context)


def impressions(data: Path) -> Triples:
    """open-bandit in the order of time, its texts numbered. Raises NotThere."""
    whole = _whole(data, "open-bandit").sort_by("timestamp")
    numbered = {name: np.unique(whole[name].to_numpy(), return_inverse=True)[1] for name in whole.column_names}
    context = {name: numbered[name] for name in ("position", "shop", *BANDIT)}
    value, at, shown = (whole[name].to_numpy() for name in ("click", "timestamp", "propensity"))
    return Triples(numbered["user"], numbered["item"], value.astype(np.float64), at, context, shown)


def _whole(data: Path, name: str) -> pa.Table:
    if not (data / name).is_dir():
        raise NotThere(f"the folder of the public sets holds no {name}")
    return pa.concat_tables(SETS[name].read(data / name))


def sequences(data: Path, name: str) -> Triples:
    """LastFM, Beauty or Sports_and_Outdoors of s3rec-sequences, users mixed as prepare.py does. Raises NotThere."""
    folder = data / "s3rec-sequences"
    if not folder.is_dir():
        raise NotThere("the folder of the public sets holds no s3rec-sequences")
    there = [path for path in (folder / f"{name}.txt", folder / f"{name}.txt.gz") if path.exists()]
    if not there:
        raise NotThere(f"{folder} holds no {name}.txt (.gz or not)")
    whole = pa.concat_tables(SETS["s3rec"].read(there[0]))
    user = whole["user_id"].to_numpy()
    order = np.argsort(interleaved(user, 0.1, 1), kind="stable")
    at = 1_700_000_000_000_000 + np.arange(len(order)) * 1_000_000
    return Triples(user[order], whole["item_id"].to_numpy()[order], np.ones(len(order)), at)


def shop(data: Path, values: Mapping[str, float]) -> Triples:
    """retailrocket-core, each event worth what `values` says of its type; users mixed as prepare.py does. Raises NotThere."""
    whole = _whole(data, "retailrocket-core")
    user = whole["visitorid"].to_numpy()
    order = np.argsort(interleaved(user, 0.1, 1), kind="stable")
    value = np.array([values[kind] for kind in whole["event"].to_pylist()])
    at = 1_700_000_000_000_000 + np.arange(len(order)) * 1_000_000
    return Triples(user[order], whole["itemid"].to_numpy()[order], value[order], at)
