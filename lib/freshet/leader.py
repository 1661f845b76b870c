"""Which mix makes the score: follow the leader over a small fixed set.

    leader = argmax over mixes of  (sum of NDCG, forgotten by 2 % a micro-batch) / (events, forgotten alike)

A choice is a mix of the model with one half-life of popularity. Its row in block `mix` is [NDCG, events, dense, sparse,
popularity, half-life in seconds], so what was chosen, when and why is a query. The leader of a micro-batch is taken from
the head, so no event has a say in how it is scored itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freshet.head import Head
from freshet.models.contract import Mix, Rows
from freshet.schema import MIX

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
    rows, _ = head.gather(MIX, np.arange(len(among)))
    return int(np.argmax(rows.values[:, 0] / np.maximum(rows.values[:, 1], np.float32(1e-9))))


def follow(head: Head, among: Sequence[Choice], ndcg: np.ndarray, events: int, at: int) -> Rows:
    """The rows of all choices after a micro-batch: ndcg float64[choices] sums over `events` events, `at` microseconds."""
    rows, _ = head.gather(MIX, np.arange(len(among)))
    rows.values[:, 0] = FORGETTING * rows.values[:, 0].astype(np.float64) + ndcg
    rows.values[:, 1] = FORGETTING * rows.values[:, 1].astype(np.float64) + events
    for number, choice in enumerate(among):
        mix, life = choice.mix, choice.half_life
        # Never is written as 0 like no popularity at all: its weight tells them apart, and infinity is not for tables.
        seconds = life / _SECOND if mix.popularity and not math.isinf(life) else 0.0
        rows.values[number, 2:] = mix.dense, mix.sparse, mix.popularity, seconds
    return Rows(rows.keys, rows.values, rows.links, rows.filled, rows.count + events, np.full(len(among), at))
