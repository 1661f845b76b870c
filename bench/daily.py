"""What learning as events come is worth beside learning the day's events at midnight, by the same learner with the same settings.

Generated clicks: ten days, in the middle of the sixth half of the users and 15 % of the items get new tastes; globo-clicks: the first
days, in the order of time. Online: micro-batches of a size, each ranked by the weights of the snapshot before it, the user's own
earlier clicks known. Nightly: a day is ranked by the weights of the midnight before it, then learned whole, in micro-batches of
10,000; `weights` knows the user's clicks of the day itself, `lists` knows nothing of it, as lists that were made at midnight. Events
of an eighth of the users are ranked (the same everywhere), against all known items, from the second day on; an event of an item the
snapshot does not know ranks nothing. Figures: NDCG@10 over that of nightly weights, the middle 95 % of 500 samples of the users.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from arrays import Arrays, chosen, events
from figures import Figure, Options, Result, Stages, Table, missing
from prequential_runs import Triples, borders, clicks
from public_sets import NotThere
from real import example

from freshet.demo.generator import Stream
from freshet.demo.truth import World
from freshet.head import Head
from freshet.kernels.bootstrap import resampled, states_of
from freshet.kernels.ranking import ndcg_at
from freshet.kernels.seeds import mix
from freshet.learner import Learner
from freshet.models.contract import Events
from freshet.retraining import take
from freshet.settings import Settings

DAY = 86_400_000_000  # microseconds
K, SHARE, SAMPLES, AT_MIDNIGHT = 10, 8, 500, 10_000
WEIGHTS, LISTS = "nightly, weights", "nightly, lists"
SIZES = {"generated": (100, 1000, 10_000), "globo": (2000, 10_000, 50_000)}


@dataclass(frozen=True)
class Ranked:
    """Events that were ranked, float64[n]: NDCG@K and Recall@K of each of all, NaN where it was not."""

    ndcg: np.ndarray
    recall: np.ndarray


def measure(options: Options) -> Result:
    """Both streams at every size."""
    result = Result(" ".join((__doc__ or "").split()))
    for name, what, make, settings in (
        ("generated", "generated clicks with a change", generated, chosen()),
        ("globo", "globo-clicks", globo, example("globo-clicks", "model.features.context=[]")),
    ):
        try:
            _measured(name, what, make(options), settings, options, result)
        except NotThere as error:
            result.figures += [missing(f"daily.{name}.{size}", f"{what}, micro-batches of {size:,}", str(error)) for size in SIZES[name]]
    return result


def generated(options: Options) -> Triples:
    """Ten days of a planted world."""
    count = options.pairs(120_000, 30_000)
    drawn = Stream(World(events=count, drift_at=0.55, gap_us=10 * DAY // count, seed=options.seed)).take(count)
    drawn = drawn[np.argsort(drawn.event_at, kind="stable")]
    return Triples(drawn.user, drawn.item, drawn.value, drawn.event_at)


def globo(options: Options) -> Triples:
    """The first days of globo-clicks. Raises NotThere."""
    whole = clicks(options.data or Path())
    days = (whole.at - whole.at[0]) // DAY
    return whole[: int(np.searchsorted(days, options.pairs(3, 2)))]


def _measured(name: str, what: str, triples: Triples, settings: Settings, options: Options, result: Result) -> None:
    user = mix(triples.user.astype(np.uint64))
    asked = user % SHARE == 0
    runs = {WEIGHTS: nightly(triples, settings, asked, together), LISTS: nightly(triples, settings, asked, one_by_one)}
    sizes = SIZES[name][1:] if options.quick else SIZES[name]
    runs |= {f"online, micro-batches of {size:,}": online(triples, settings, asked, size) for size in sizes}
    counted = asked & (triples.at - triples.at[0] >= DAY)
    counted &= ~np.isnan(np.stack([run.ndcg for run in runs.values()])).any(axis=0)
    rows = [["", f"NDCG@{K}", f"Recall@{K}"]]
    rows += [[label, f"{run.ndcg[counted].mean():.4f}", f"{run.recall[counted].mean():.4f}"] for label, run in runs.items()]
    for size in sizes:
        value, low, high = gain(user[counted], runs[f"online, micro-batches of {size:,}"].ndcg[counted], runs[WEIGHTS].ndcg[counted])
        label = f"{what}, online in micro-batches of {size:,} over nightly weights"
        result.figures.append(Figure(f"daily.{name}.{size}", label, value, low, high, f"NDCG@{K}"))
    value, low, high = gain(user[counted], runs[LISTS].ndcg[counted], runs[WEIGHTS].ndcg[counted])
    result.figures.append(Figure(f"daily.{name}.lists", f"{what}, lists made at midnight over nightly weights", value, low, high, f"NDCG@{K}"))
    days = int((triples.at[-1] - triples.at[0]) // DAY) + 1
    title = f"{what[0].upper()}{what[1:]}: {len(triples.user):,} events of {days} days, {int(counted.sum()):,} of them ranked"
    result.tables.append(Table(title, rows))


def online(triples: Triples, settings: Settings, asked: np.ndarray, size: int) -> Ranked:
    """Each micro-batch ranked, then learned."""
    arrays, found = Arrays(settings), _nothing(len(asked))
    for begin, end in pairwise(borders(len(asked), size, ())):
        _rank(arrays, triples, asked, begin, end, together, found)
        _learn(arrays, triples, begin, end)
    return found


def nightly(triples: Triples, settings: Settings, asked: np.ndarray, how: Callable[..., None]) -> Ranked:
    """Each day ranked, then learned."""
    arrays, found = Arrays(settings), _nothing(len(asked))
    days = (triples.at - triples.at[0]) // DAY
    for day in range(int(days[-1]) + 1):
        begin, end = np.searchsorted(days, [day, day + 1]).tolist()
        _rank(arrays, triples, asked, begin, end, how, found)
        for first, last in pairwise(borders(end - begin, AT_MIDNIGHT, ())):
            _learn(arrays, triples, begin + first, begin + last)
    return found


def together(learner: Learner, head: Head, batch: Events, number: np.ndarray, found: Ranked) -> None:
    """What came before in the batch is known of a user."""
    at, rank = learner.ranks(head, batch)
    found.ndcg[number[at]], found.recall[number[at]] = ndcg_at(rank, K), (rank > 0) & (rank <= K)


def one_by_one(learner: Learner, head: Head, batch: Events, number: np.ndarray, found: Ranked) -> None:
    """Each user's first events, then his second ones, and so on: of none is another one known."""
    order = np.argsort(batch.user_key, kind="stable")
    _, first, size = np.unique(batch.user_key[order], return_index=True, return_counts=True)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(first, size)
    for turn in range(int(size.max(initial=0))):
        mine = np.flatnonzero(place == turn)
        together(learner, head, take(batch, mine), number[mine], found)


def gain(user: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Mean of one over the mean of the other, and the middle 95 % of samples of the users."""
    keys, place = np.unique(user, return_inverse=True)
    sums = np.stack([np.bincount(place, values) for values in (one, other)], axis=1)
    drawn = resampled(sums, states_of(keys.view(np.int64), 1), SAMPLES)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975]).tolist()
    return float(one.sum() / other.sum()), low, high


def _nothing(count: int) -> Ranked:
    return Ranked(np.full(count, np.nan), np.full(count, np.nan))


def _rank(arrays: Arrays, triples: Triples, asked: np.ndarray, begin: int, end: int, how: Callable[..., None], found: Ranked) -> None:
    mine = begin + np.flatnonzero(asked[begin:end])
    if len(mine) and len(arrays.head):
        how(arrays.learner, arrays.head, take(_events(triples, begin, end), mine - begin), mine, found)


def _learn(arrays: Arrays, triples: Triples, begin: int, end: int) -> None:
    arrays.step(_events(triples, begin, end), Stages())


def _events(triples: Triples, begin: int, end: int) -> Events:
    one = triples[begin:end]
    return events(one.user, one.item, one.value, one.at, begin)
