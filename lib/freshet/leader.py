"""Which mix makes the score, and how fast interest fades: follow the leader over a small fixed set.

    leader = argmax over mixes of  (sum of NDCG, forgotten by 2 % a micro-batch) / (events, forgotten alike)

A choice is a mix of the model with one half-life of popularity. Its row in block `mix` is [NDCG, events, dense, sparse,
popularity, half-life in seconds], so what was chosen, when and why is a query. The leader of a micro-batch is taken from
the head, so no event has a say in how it is scored itself.

The decays of a user's interest (model.query.also) are followed alike, with the mix that leads, by each group of users for
itself: in block `interest`, rows [NDCG, events, decay, events of a user with which the group begins].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freshet.head import Head
from freshet.models.contract import Mix, Model, Rows
from freshet.schema import HISTORY, INTEREST, MIX

FORGETTING = 0.98
_SECOND = 1e6


@dataclass(frozen=True)
class Choice:
    """A mix and the half-life of its popularity: its number among the head's, and microseconds."""

    mix: Mix
    number: int
    half_life: float

    def __str__(self) -> str:
        parts = [f"{weight:g} {name}" for weight, name in ((self.mix.dense, "factors"), (self.mix.sparse, "counts")) if weight]
        if self.mix.popularity:
            life = "all time" if math.isinf(self.half_life) else f"{self.half_life / _SECOND:g} s"
            parts.append(f"{self.mix.popularity:g} popularity of {life}")
        return " + ".join(parts) or "nothing"


def choices(mixes: Sequence[Mix], half_lives: Sequence[float]) -> tuple[Choice, ...]:
    """Every mix with every half-life, or with the first where popularity has no weight in it or there is one mix only."""
    lives = list(enumerate(half_lives))
    return tuple(
        Choice(mix, number, life)
        for mix in mixes for number, life in (lives if mix.popularity and len(mixes) > 1 else lives[:1])
    )


def leader(head: Head, among: Sequence[Choice]) -> int:
    """Number of the choice that ranked best so far; the first while nothing was ranked, and of equals."""
    table = head.tables[MIX]
    if len(among) == 1 or not len(table):
        return 0
    return int(np.argmax(_so_far(head, MIX, len(among))))


def follow(head: Head, among: Sequence[Choice], ndcg: np.ndarray, events: int, at: int) -> Rows:
    """The rows of all choices after a micro-batch: ndcg float64[choices] sums over `events` events, `at` microseconds."""
    rows = _told(head, MIX, ndcg, np.full(len(among), events), at)
    for number, choice in enumerate(among):
        mix, life = choice.mix, choice.half_life
        # Never is written as 0 like no popularity at all: its weight tells them apart, and infinity is not for tables.
        seconds = life / _SECOND if mix.popularity and not math.isinf(life) else 0.0
        rows.values[number, 2:] = mix.dense, mix.sparse, mix.popularity, seconds
    return rows


def interest(head: Head, model: Model, users: np.ndarray) -> np.ndarray | None:
    """float64[m]: the decay that ranked best so far in the group of each user; None for a model that has no choice."""
    if len(model.decays) < 2:
        return None
    so_far = _so_far(head, INTEREST, (1 + len(model.groups)) * len(model.decays)).reshape(-1, len(model.decays))
    return np.array(model.decays)[so_far.argmax(axis=1)][_group(head, model, users)]


def follow_interest(head: Head, model: Model, users: np.ndarray, ndcg: np.ndarray, at: int) -> Rows:
    """The rows of all decays after a micro-batch: ndcg float64[m, decays] of events of the users int64[m]."""
    begin, decays, group = (0, *model.groups), len(model.decays), _group(head, model, users)
    gained = np.zeros((len(begin), decays))
    np.add.at(gained, group, ndcg)
    events = np.repeat(np.bincount(group, minlength=len(begin)), decays)
    rows = _told(head, INTEREST, gained.ravel(), events, at)
    rows.values[:, 2], rows.values[:, 3] = np.tile(model.decays, len(begin)), np.repeat(begin, decays)
    return rows


def _group(head: Head, model: Model, users: np.ndarray) -> np.ndarray:
    """int64[m]: the group of each user, by the events of his that the snapshot has learned."""
    return np.asarray(np.searchsorted(model.groups, head.gather(HISTORY, users)[0].count, side="right"))


def _so_far(head: Head, block: str, choices: int) -> np.ndarray:
    values = head.gather(block, np.arange(choices))[0].values
    return np.asarray(values[:, 0] / np.maximum(values[:, 1], np.float32(1e-9)))


def _told(head: Head, block: str, ndcg: np.ndarray, events: np.ndarray, at: int) -> Rows:
    rows, _ = head.gather(block, np.arange(len(ndcg)))
    rows.values[:, 0] = FORGETTING * rows.values[:, 0].astype(np.float64) + ndcg
    rows.values[:, 1] = FORGETTING * rows.values[:, 1].astype(np.float64) + events
    return Rows(rows.keys, rows.values, rows.links, rows.filled, rows.count + events, np.full(len(ndcg), at))
