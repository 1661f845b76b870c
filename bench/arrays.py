"""A learner driven over arrays, without Spark: what figures of the head and of quality are measured on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freshet.head import Head
from freshet.kernels.seeds import mix
from freshet.learner import Learned, Learner, Timer
from freshet.models.contract import ITEM, USER, Events, Rows, ShardResult, ShardTask
from freshet.pipelines.assembly import new_head, new_learner
from freshet.schema import HISTORY, POPULARITY
from freshet.settings import Settings, load

SECOND = 1_000_000


def chosen(*sets: str) -> Settings:
    """Default settings with these."""
    return load([], {}, list(sets))[0]


def keys(numbers: np.ndarray, space: str) -> np.ndarray:
    """int64 keys of numbered users or items, scattered as hashes are."""
    offset = 0 if space == USER else 1 << 40
    return mix((numbers.astype(np.int64) + offset).astype(np.uint64)).astype(np.int64)


def events(
    user: np.ndarray, item: np.ndarray, value: np.ndarray, at: np.ndarray, first: int = 0, context: Sequence[np.ndarray] = (),
    propensity: np.ndarray | None = None,
) -> Events:
    """Events of numbered users and items, with the numbered values of each column of their context; `at` in microseconds,
    ascending; `first` is the number of the first event."""
    n = len(user)
    hashed = mix((np.arange(first, first + n) + (1 << 41)).astype(np.uint64)).astype(np.int64)
    known = [mix((column + ((42 + number) << 41)).astype(np.uint64)).astype(np.int64) for number, column in enumerate(context)]
    features = np.stack(known, axis=1) if known else np.empty((n, 0), np.int64)
    shown = np.full(n, np.nan) if propensity is None else propensity
    return Events(keys(user, USER), keys(item, ITEM), value.astype(np.float64), np.ones(n), at.astype(np.int64), hashed, features, shown)


class Arrays:
    """A learner and its head; shards learn one after the other in this thread."""

    def __init__(self, settings: Settings) -> None:
        self.learner: Learner = new_learner(settings)
        self.head: Head = new_head(self.learner.model, settings)

    def run(self, tasks: Sequence[ShardTask]) -> list[ShardResult]:
        return [self.learner.model.learn(task) for task in tasks]

    def step(self, batch: Events, timer: Timer) -> Learned:
        """Learn a micro-batch and take its changes."""
        learned = self.learner.learn(self.head, batch, self.run, timer)
        with timer("apply"):
            self.head.apply(learned.changes, learned.digest)
            self.head.clock = int(batch.event_at.max())
        return learned


def fill(head: Head, users: int, items: int, seed: int, at_once: int = 500_000) -> None:
    """Give a head this many users (with a short history and a known id) and items, as if it had learned of them."""
    rng = np.random.default_rng(seed)
    at = 1_700_000_000 * SECOND
    for space, count in ((ITEM, items), (USER, users)):
        for start in range(0, count, at_once):
            key = keys(np.arange(start, min(start + at_once, count)), space)
            for name in {ITEM: (ITEM, POPULARITY), USER: (USER, HISTORY)}[space]:
                put(head, name, key, rng, items, at)
            rows = head.ids[space].insert(key)
            head.ids[space].column("check")[rows] = key ^ 7
    head.clock = at


def put(head: Head, name: str, key: np.ndarray, rng: np.random.Generator, items: int, at: int) -> None:
    """Rows of one block under new keys, with small random numbers and a few items in the links."""
    block, n = head.blocks[name], len(key)
    values = np.abs(rng.standard_normal((n, block.width + block.slots), np.float32)) * np.float32(0.1) + np.float32(0.001)
    links = np.zeros((n, block.links), np.int64)
    filled = np.zeros(n, np.int32)
    if block.links:
        filled[:] = 3
        links[:, :3] = keys(rng.integers(0, items, 3 * n), ITEM).reshape(n, 3)
    rows = Rows(key, values, links, filled, np.full(n, 3), np.full(n, at))
    head.put(name, rows)
