"""Random triples with the shape of a big public rating set, for benchmarks: 20 million in seconds, no truth inside.

    share of the r-th most popular item ~ 1 / (r + 20)        activity of a user ~ lognormal(0, 1.2)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_GUIDE = 1 << 22  # slots of the table an id is drawn from


@dataclass(frozen=True)
class Shaped:
    """Numbers of users and items and half-star values, one an event; 0 <= user < users."""

    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    value: npt.NDArray[np.float32]


def shaped(users: int = 138_493, items: int = 26_744, events: int = 20_000_000, seed: int = 1) -> Shaped:
    """`events` random triples; the defaults are the counts of MovieLens 20M."""
    rng = np.random.default_rng((seed, 0x5A))
    user = _drawn(rng, rng.lognormal(0, 1.2, users), events)
    item = _drawn(rng, rng.permutation(1 / (np.arange(items) + 20.0)), events)
    value = rng.integers(1, 11, size=events, dtype=np.int8).astype(np.float32) / np.float32(2)
    return Shaped(user, item, value)


def _drawn(rng: np.random.Generator, weight: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    places = (np.arange(_GUIDE) + .5) * (weight.sum() / _GUIDE)
    guide = np.minimum(np.searchsorted(np.cumsum(weight), places), len(weight) - 1)
    drawn: npt.NDArray[np.int64] = guide[rng.integers(_GUIDE, size=count, dtype=np.int32)]
    return drawn
