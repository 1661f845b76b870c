"""A hot key: micro-batches of 50,000 events of which one item has half, and uniform ones, learned in turn over arrays, in eight shards
one after the other. Seconds of the one over those of the other.
"""

from __future__ import annotations

import time

import numpy as np
from arrays import SECOND, Arrays, chosen, events
from figures import Options, Result, Stages, ratio

EVENTS, USERS, ITEMS = 50_000, 20_000, 5_000


def measure(options: Options) -> Result:
    """A model of values, one of pairs, and the default."""
    result = Result(" ".join((__doc__ or "").split()))
    for model in ("mf", "bpr", "blend"):
        sides = {hot: Arrays(chosen(f"model.name={model}", "metrics.sample=0")) for hot in (0.5, 0.0)}
        seconds: dict[float, list[float]] = {hot: [] for hot in sides}
        for number in range(1 + options.pairs(10, 3)):  # the first compiles and fills the tables
            for hot, arrays in sides.items():
                seconds[hot].append(_seconds(arrays, hot, number))
        what = f"{model}: seconds of a micro-batch of which one item has half, over a uniform one"
        result.figures.append(ratio(f"hot.{model}", what, seconds[0.5][1:], seconds[0.0][1:]))
    return result


def _seconds(arrays: Arrays, hot: float, number: int) -> float:
    """Of micro-batch `number`, of which item 0 has the share `hot`."""
    random, first = np.random.default_rng(number), number * EVENTS
    user, item = random.integers(USERS, size=EVENTS), random.integers(ITEMS, size=EVENTS)
    item[random.random(EVENTS) < hot] = 0
    given = events(user, item, random.integers(1, 6, EVENTS), 10**15 + (first + np.arange(EVENTS)) * SECOND, first)
    start = time.perf_counter()
    arrays.step(given, Stages())
    return time.perf_counter() - start
