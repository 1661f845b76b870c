"""Events with a planted answer, as the arrays a learner gets after cleaning: no Spark.

A checkerboard: user u likes item i when u + i is even (value 5), else not (value 1). No bias helps, only factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from freshet.attributes import describe
from freshet.head import Head
from freshet.intake import note_ids
from freshet.kernels.seeds import mix
from freshet.learner import Learned, Learner, Run
from freshet.models.contract import ITEM, USER, Events, Model
from freshet.pipelines.assembly import new_head, new_learner
from freshet.settings import Settings, load

USERS, ITEMS = 30, 24
SECOND = 1_000_000


def key(kind: int, number: np.ndarray) -> np.ndarray:
    """int64 keys that look like hashes; `kind` keeps users, items and events apart."""
    return mix(np.asarray(number).astype(np.uint64) + np.uint64(kind << 40)).view(np.int64)


USER_KEYS, ITEM_KEYS = key(1, np.arange(USERS)), key(2, np.arange(ITEMS))


# Of an item: whether its number is even, a third of the items it belongs to, and nothing in the third place.
ATTRIBUTES = np.stack([key(8, np.arange(ITEMS) % 2), key(9, np.arange(ITEMS) % 3), np.zeros(ITEMS, np.int64)], axis=1)


def likes(user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """The planted answer."""
    return (user + item) % 2 == 0


def checkerboard(n: int, seed: int = 1, start: int = 0) -> Events:
    """n events in canonical order; `start` is the number of events before them."""
    random = np.random.default_rng([seed, start])
    user, item = random.integers(USERS, size=n), random.integers(ITEMS, size=n)
    value = np.where(likes(user, item), 5.0, 1.0)
    at = (start + np.arange(n)) * SECOND + 10**15
    return Events(USER_KEYS[user], ITEM_KEYS[item], value, np.ones(n), at, key(3, start + np.arange(n)))


def part(events: Events, at: slice | np.ndarray) -> Events:
    """Some of the events."""
    return Events(*(getattr(events, name)[at] for name in Events.__dataclass_fields__))


def settings(*sets: str) -> Settings:
    """Small: 4 factors, 1 shard; values of at least 3 are positive."""
    mine = ["model.factors=4", "model.shards=1", "model.positive_from=3", "metrics.sample=0"]
    return load([], {}, [*mine, *sets])[0]


@dataclass
class Lab:
    """A learner with its head, driven over arrays as the stream drives it over micro-batches."""

    chosen: Settings
    model: Model | None = None
    described: tuple[np.ndarray, np.ndarray] = (ITEM_KEYS, ATTRIBUTES)
    head: Head = field(init=False)
    learner: Learner = field(init=False)

    def __post_init__(self) -> None:
        made = new_learner(self.chosen)
        self.learner = Learner(self.model or made.model, made.spec)
        self.head = new_head(self.learner.model, self.chosen)
        if self.chosen.model.features.items:
            self.head.apply(*describe(self.head, *self.described))

    def seen(self, events: Events) -> Events:
        """The events with as many features as the settings name: one of five values, the first tells the users' halves."""
        n = len(self.chosen.model.features.context)
        at, half = events.event_at // SECOND, events.user_key % 2
        columns = [key(4 + c, half if c == 0 else (at + c) % 5) for c in range(n)]
        return replace(events, features=np.stack(columns, axis=1)) if n else events

    def learn(self, events: Events, run: Run | None = None) -> Learned:
        """Learn a micro-batch and take the changes."""
        events = self.seen(events)
        learned = self.learner.learn(self.head, events, run or self.one_by_one)
        self.head.apply(learned.changes, learned.digest)
        self.head.clock = max([self.head.clock, *events.event_at.tolist()])
        for space, keys in ((USER, events.user_key), (ITEM, events.item_key)):
            note_ids(self.head, space, keys, keys)
        return learned

    def one_by_one(self, tasks: Sequence) -> list:
        """Shards one after the other, in this thread."""
        return [self.learner.model.learn(task) for task in tasks]

    def bits(self) -> dict[str, dict[int, tuple[bytes, ...]]]:
        """Every row of every block, by key, as bytes."""
        found = {}
        for name, table in self.head.tables.items():
            rows, _ = self.head.gather(name, table.keys.copy())
            arrays = (rows.values, rows.links, rows.filled, rows.count, rows.last_at)
            found[name] = {int(k): tuple(array[r].tobytes() for array in arrays) for r, k in enumerate(rows.keys)}
        return found
