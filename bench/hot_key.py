"""A hot key: micro-batches in which one item has half of all events, against uniform ones; seconds to learn each, and their ratio.

    python bench/hot_key.py [model ...]

Eight shards, learned one after the other, no Spark; of five tries each the shortest stands.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext

import numpy as np
from arrays import SECOND, Arrays, chosen, events

EVENTS, USERS, ITEMS, TRIES = 50_000, 20_000, 5_000, 5


def seconds(model: str, hot: float) -> float:
    """The shortest time of a micro-batch of which item 0 has the share `hot`, after one that compiles and fills the tables."""
    one, best = Arrays(chosen(f"model.name={model}", "metrics.sample=0", "model.shards=8")), np.inf
    for batch in range(1 + TRIES):
        random = np.random.default_rng(batch)
        user, item = random.integers(USERS, size=EVENTS), random.integers(ITEMS, size=EVENTS)
        item[random.random(EVENTS) < hot] = 0
        value, first = random.integers(1, 6, EVENTS), batch * EVENTS
        given = events(user, item, value, 10**15 + (first + np.arange(EVENTS)) * SECOND, first)
        start = time.perf_counter()
        one.step(given, lambda stage: nullcontext())
        if batch:
            best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    for name in sys.argv[1:] or ["mf", "bpr", "blend"]:
        uniform, hot = seconds(name, 0.0), seconds(name, 0.5)
        print(f"{name:<14} uniform {uniform:.3f} s  half of it one item {hot:.3f} s  ratio {hot / uniform:.2f}")
