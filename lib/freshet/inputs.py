"""What came in with a micro-batch, as counts of events by bucket: small enough to stand in its snapshot row.

    items         hash of the item's key, modulo 32: whether the same things are asked for, whatever there is of them
    values        0, or the sign and the nearest power of the square root of 2: 4 and 5 are apart, 100 and 101 are not
    event types   the type; the 15 most frequent of the micro-batch, all others together

As rows of `metrics` their scoring is `inputs` and their slice the bucket. Hours of the day are in none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from freshet.kernels.seeds import mix
from freshet.report import Metric

INPUTS, EVENTS = "inputs", "events"  # scoring and learner of their metrics
ITEMS, VALUES, TYPES = "items", "values", "event types"
BUCKETS, MOST_TYPES, OTHERS = 32, 15, "others"
_SMALLEST, _LARGEST = -20, 40  # half powers of 2


def input_metrics(item_key: np.ndarray, value: np.ndarray, types: Mapping[str, int]) -> list[Metric]:
    """The rows of events with item keys int64[n] and values float64[n], so many of each type."""
    n = len(item_key)
    if not n:
        return []
    found = {ITEMS: _items(item_key), VALUES: _values(value), TYPES: _types(types)}
    return [
        Metric(signal, INPUTS, EVENTS, bucket, float(count), n)
        for signal, counts in found.items() for bucket, count in counts.items()
    ]


def counts_of(metrics: Sequence[Metric]) -> dict[str, tuple[dict[str, float], int]]:
    """Signal -> (events by bucket, events) of what `input_metrics` made, found among other metrics."""
    found: dict[str, tuple[dict[str, float], int]] = {}
    for one in metrics:
        if one.scoring == INPUTS:
            found.setdefault(one.metric, ({}, one.events))[0][one.slice] = one.total
    return found


def _items(keys: np.ndarray) -> dict[str, int]:
    counts = np.bincount((mix(keys.view(np.uint64)) % np.uint64(BUCKETS)).astype(np.int64), minlength=BUCKETS)
    return {str(bucket): int(counts[bucket]) for bucket in np.flatnonzero(counts).tolist()}


def _values(value: np.ndarray) -> dict[str, int]:
    size = np.where(value == 0.0, 1.0, np.abs(value))
    power = np.clip(np.rint(2.0 * np.log2(size)), _SMALLEST, _LARGEST)
    powers, counts = np.unique(np.stack([np.sign(value), np.where(value == 0.0, 0.0, power)]), axis=1, return_counts=True)
    return {f"{sign * 2.0 ** (half / 2):.3g}": int(count) for (sign, half), count in zip(powers.T.tolist(), counts, strict=True)}


def _types(types: Mapping[str, int]) -> dict[str, int]:
    order = sorted(types, key=lambda name: (-types[name], name))
    found = {name: types[name] for name in order[:MOST_TYPES]}
    rest = sum(types[name] for name in order[MOST_TYPES:])
    return found | ({OTHERS: found.get(OTHERS, 0) + rest} if rest else {})
