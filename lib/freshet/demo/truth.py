"""What is planted: who likes what, how popular it is, when it appears, and what changes at the drift.

    P(user u clicks item i at event n)  ~  popularity_i * exp(concentration * <f_u(n), g_i(n)>),  i born, not clicked
    rating(u, i, n) = clip(mean + bias_u + bias_i + spread * <f_u(n), g_i(n)> + noise, 1, 5)

f and g have length 1; at the drift a share of the users and of the items gets new ones. Time is the ordinal of the
event in the stream, so nothing depends on how fast the stream is written. Users and items are numbered by birth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from freshet.demo.words import CATEGORIES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

CLICKS, RATINGS = "clicks", "ratings"
DAY = 86_400_000_000  # µs
_MEAN, _SPREAD = 3.3, 2.2  # of ratings
_GUIDE = 1 << 16  # least length of the table that candidates are drawn from


@dataclass(frozen=True)
class World:
    """The settings of a planted world; equal settings give equal bytes.

    `events` is the length of the stream that births (`born_later`, a share) and the drift (`drift_at`, a fraction of
    the stream; None: no drift) are spread over; a stream may be read further, with everybody born.
    """

    users: int = 2000
    items: int = 500
    factors: int = 8
    seed: int = 1
    events: int = 120_000
    kind: str = CLICKS
    drift_at: float | None = .5
    drift_users: float = .5
    drift_items: float = .15
    born_later: float = .3
    concentration: float = 12.0
    zipf: float = .75
    candidates: int = 64
    noise: float = .5
    start_at: int = 20_089 * DAY  # µs since 1970: 2025-01-01
    gap_us: int = 1_000_000  # mean time between two events

    def __post_init__(self) -> None:
        if self.kind not in (CLICKS, RATINGS):
            raise ValueError(f"kind is {self.kind!r}; wanted {CLICKS} or {RATINGS}")
        if min(self.users, self.items, self.factors, self.events, self.candidates) < 1:
            raise ValueError("users, items, factors, events and candidates must be at least 1")

    @property
    def drift_event(self) -> int:
        """Ordinal of the first event after the drift; past every stream when there is none."""
        return np.iinfo(np.int64).max if self.drift_at is None else int(self.drift_at * self.events)


@dataclass(frozen=True)
class Truth:
    """The planted arrays. Factors are [era, row, factor]: era 0 before the drift, 1 after it."""

    user_factors: Floats
    item_factors: Floats
    user_bias: Floats
    item_bias: Floats
    user_born: Ints  # ordinal of the event from which on the user may act, ascending
    item_born: Ints
    activity_sum: npt.NDArray[np.float64]  # running sum of the users' activity
    popularity: npt.NDArray[np.float64]  # share of each item, sums to 1
    category: Ints
    guide: npt.NDArray[np.int32]  # items repeated by popularity: a uniform place in it draws an item


@lru_cache(maxsize=8)
def plant(world: World) -> Truth:
    """The truth of a world; arrays are shared, do not write to them."""
    rng = np.random.default_rng((world.seed, 0xF0))
    centres = _unit(rng.standard_normal((len(CATEGORIES), world.factors)))
    category = rng.integers(len(CATEGORIES), size=world.items)
    items = np.stack([_near(rng, centres[category], .5)] * 2)
    users = np.stack([_tastes(rng, centres, world.users)] * 2)
    moved = np.flatnonzero(rng.random(world.items) < world.drift_items)
    items[1, moved] = _near(rng, centres[rng.integers(len(CATEGORIES), size=len(moved))], .5)
    moved = np.flatnonzero(rng.random(world.users) < world.drift_users)
    users[1, moved] = _tastes(rng, centres, len(moved))
    activity = np.minimum(rng.lognormal(-.32, .8, world.users), 2.5)
    popularity = rng.permutation(np.arange(1, world.items + 1, dtype=np.float64) ** -world.zipf)
    popularity /= popularity.sum()
    return Truth(
        user_factors=users.astype(np.float32), item_factors=items.astype(np.float32),
        user_bias=rng.normal(0, .3, world.users).astype(np.float32),
        item_bias=rng.normal(0, .4, world.items).astype(np.float32),
        user_born=_births(rng, world, world.users), item_born=_births(rng, world, world.items),
        activity_sum=np.cumsum(activity), popularity=popularity, category=category, guide=_guide(popularity),
    )


def scores(world: World, users: Ints, event: int) -> Floats:
    """What an oracle ranks by at `event`: [user, item] = affinity + log popularity, -inf for items not born yet."""
    truth = plant(world)
    era = int(event >= world.drift_event)
    affinity = np.einsum("uk,ik->ui", truth.user_factors[era, users], truth.item_factors[era])
    ranked: Floats = np.float32(sharpness(world)) * affinity + np.log(truth.popularity).astype(np.float32)
    ranked[:, truth.item_born > event] = -np.inf
    return ranked


def expected_ratings(world: World, users: Ints, items: Ints, events: Ints) -> Floats:
    """mean + biases + spread * affinity of each triple, before noise and clipping."""
    truth = plant(world)
    era = (events >= world.drift_event).astype(np.int64)
    affinity = np.einsum("nk,nk->n", truth.user_factors[era, users], truth.item_factors[era, items])
    biases = np.float32(_MEAN) + truth.user_bias[users] + truth.item_bias[items]
    expected: Floats = biases + np.float32(_SPREAD) * affinity
    return expected


def sharpness(world: World) -> float:
    """How strongly affinity steers the choice: ratings are given to disliked items too, so less there."""
    return world.concentration if world.kind == CLICKS else world.concentration * .1


def _unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    unit: npt.NDArray[np.float64] = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return unit


def _near(rng: np.random.Generator, centres: npt.NDArray[np.float64], spread: float) -> npt.NDArray[np.float64]:
    return _unit(centres + spread * _unit(rng.standard_normal(centres.shape)))


def _tastes(rng: np.random.Generator, centres: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    """A user likes one category and, half as much, another."""
    first, second = rng.integers(len(centres), size=(2, count))
    return _near(rng, _unit(centres[first] + .5 * centres[second]), .3)




def _births(rng: np.random.Generator, world: World, count: int) -> Ints:
    """Ascending births: most are there from the start, the rest appear evenly over nine tenths of the stream."""
    later = rng.random(count) < world.born_later
    later[0] = False  # the stream needs somebody to begin
    return np.sort(np.where(later, rng.random(count) * .9 * world.events, 0)).astype(np.int64)


def _guide(popularity: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    length = max(_GUIDE, 1 << int(np.ceil(np.log2(len(popularity) * 64))))
    places = (np.arange(length) + .5) / length
    return np.minimum(np.searchsorted(np.cumsum(popularity), places), len(popularity) - 1).astype(np.int32)
