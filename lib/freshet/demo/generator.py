"""Draws the events of a planted world, chunk by chunk, with numpy alone.

Chunk c of a stream holds events [c * CHUNK, (c + 1) * CHUNK) and is drawn from the seed (world.seed, c). A user clicks
an item once; what was clicked is the only state, so a stream is read from its beginning (`Stream`), and `events`
skips to `start` by drawing what lies before it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from freshet import schema
from freshet.demo.truth import CLICKS, Floats, Ints, Truth, World, expected_ratings, plant, sharpness
from freshet.demo.words import CATEGORIES, titles

Marks = npt.NDArray[np.bool_]  # of each pair of user and item: clicked

CHUNK = 4096
DEVICES = ("phone", "desktop", "tablet", "television")
_JITTER = 20  # events arrive up to this many gaps out of order
_SEEN_BITS = 26  # larger worlds share the marks of clicked pairs; a collision only hides an item from a user


@dataclass(frozen=True)
class Events:
    """Columns of drawn events, one value an event; `user` and `item` are numbers by birth."""

    ordinal: Ints
    user: Ints
    item: Ints
    value: npt.NDArray[np.float64]
    event_at: Ints  # µs since 1970
    device: npt.NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ordinal)

    def __getitem__(self, rows: slice | Ints) -> Events:
        return Events(*(getattr(self, field.name)[rows] for field in fields(self)))


def join(parts: list[Events]) -> Events:
    """The events of all parts, in order."""
    return Events(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Events)))


def events(world: World, start: int, stop: int) -> Events:
    """Events start .. stop - 1 of the world's stream; draws the ones before them too (a second per 200 thousand)."""
    stream = Stream(world)
    stream.take(start)
    return stream.take(stop - start)


class Stream:
    """The events of a world from the first on; `take(n)` gives the next n, however they are cut."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._chunk = 0
        self._rest = draw_nothing()
        self._seen = np.zeros(min(world.users * world.items, 1 << _SEEN_BITS), dtype=np.bool_)

    def take(self, count: int) -> Events:
        """The next `count` events."""
        parts, have = [self._rest], len(self._rest)
        while have < count:
            parts.append(_draw(self.world, plant(self.world), self._chunk, self._seen))
            self._chunk += 1
            have += CHUNK
        whole = join(parts)
        self._rest = whole[count:]
        return whole[:count]


def draw_nothing() -> Events:
    """No events, with the right types."""
    none = np.empty(0, dtype=np.int64)
    return Events(none, none, none, np.empty(0), none, np.empty(0, dtype=np.int8))


def _draw(world: World, truth: Truth, chunk: int, seen: Marks) -> Events:
    rng = np.random.default_rng((world.seed, chunk))
    ordinal = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
    born = np.searchsorted(truth.user_born, ordinal, side="right")
    drawn = np.searchsorted(truth.activity_sum, rng.random(CHUNK) * truth.activity_sum[born - 1], side="right")
    user = np.minimum(drawn, born - 1)
    item = _choose(world, truth, user, ordinal, rng, seen)
    jitter = (rng.random(CHUNK) * _JITTER * world.gap_us).astype(np.int64)
    noise = rng.standard_normal(CHUNK, dtype=np.float32) * np.float32(world.noise)
    device = rng.integers(len(DEVICES), size=CHUNK, dtype=np.int8)
    value = np.ones(CHUNK)
    if world.kind != CLICKS:
        rating = np.clip(expected_ratings(world, user, item, ordinal) + noise, 1, 5)
        value = np.round(rating * 2).astype(np.float64) / 2
    return Events(ordinal, user, item, value, world.start_at + ordinal * world.gap_us + jitter, device)


def _choose(
    world: World, truth: Truth, user: Ints, ordinal: Ints, rng: np.random.Generator, seen: Marks
) -> Ints:
    """argmax over candidates, drawn by popularity, of affinity + Gumbel noise: a softmax draw without the sum."""
    offered = truth.guide[rng.integers(len(truth.guide), size=(len(user), world.candidates))]
    gumbel = -np.log(np.maximum(rng.standard_exponential(offered.shape, dtype=np.float32), np.float32(1e-30)))
    era = (ordinal >= world.drift_event).astype(np.int64)
    tastes = truth.user_factors[era, user]
    affinity = np.einsum("nck,nk->nc", truth.item_factors[era[:, None], offered], tastes)
    utility = np.float32(sharpness(world)) * affinity + gumbel
    utility[truth.item_born[offered] > ordinal[:, None]] = -np.inf
    utility[:, 0][np.isneginf(utility).all(axis=1)] = 0
    return _once_each(world, user, offered, utility, seen)


def _once_each(
    world: World, user: Ints, offered: npt.NDArray[np.int32], utility: Floats, seen: Marks
) -> Ints:
    """The best item of each event that its user has not clicked before, earlier events of the chunk first.

    A user who has clicked all that is offered clicks the best again: rare, and legal.
    """
    pairs = (user[:, None] * world.items + offered) % len(seen)
    choice = np.zeros(len(user), dtype=np.int64)
    open_rows = np.arange(len(user))
    while len(open_rows):
        left = np.where(seen[pairs[open_rows]], -np.inf, utility[open_rows])
        exhausted = np.isneginf(left).all(axis=1)
        left[exhausted] = utility[open_rows[exhausted]]
        best = left.argmax(axis=1)
        choice[open_rows] = best
        chosen = pairs[open_rows, best]
        first = np.zeros(len(open_rows), dtype=np.bool_)
        first[np.unique(chosen, return_index=True)[1]] = True
        seen[chosen] = True
        open_rows = open_rows[~(first | exhausted)]
    return offered[np.arange(len(user)), choice].astype(np.int64)


def user_ids(numbers: Ints) -> pa.Array:
    """Natural ids of users: u7 for number 7."""
    return pc.binary_join_element_wise("u", pa.array(numbers).cast(pa.string()), "")


def item_ids(numbers: Ints) -> pa.Array:
    """Natural ids of items: i7 for number 7."""
    return pc.binary_join_element_wise("i", pa.array(numbers).cast(pa.string()), "")


def items_table(world: World) -> pa.Table:
    """Side information of every item of the world, with the columns of `schema.ITEMS`."""
    truth = plant(world)
    born = [[("born", str(ordinal))] for ordinal in truth.item_born.tolist()]
    columns = {
        "item_id": item_ids(np.arange(world.items)),
        "title": pa.array(titles(world.items, world.seed)),
        "category": pa.array(CATEGORIES).take(pa.array(truth.category)),
        "attributes": pa.array(born, pa.map_(pa.string(), pa.string())),
    }
    return pa.table({name: columns[name] for name in schema.ITEMS.names})
