"""Exponentially decayed counts: popularity of items, and of everything together.

A row is [c, s, c_1, c_2, ...] with reference time t: decayed weight, decayed sum of weight * value, and the weight again
with other half-lives. An event at time e adds

    e >= t:  c = c 2^-((e - t) / H) + w,  t = e          e < t:  c = c + w 2^-((t - e) / H)

H is the half-life in microseconds (infinite: plain counts). Arithmetic in float64; the rows are rounded to float32 once
a micro-batch, after its last event.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def add_events(
    values: np.ndarray, last_at: np.ndarray, touched: np.ndarray, refs: np.ndarray, event_at: np.ndarray,
    weight: np.ndarray, value: np.ndarray, half_lives: np.ndarray,
) -> None:
    """Add events one after the other: values float64[r, 1 + h], last_at int64[r] and touched int64[r] change in place.

    refs int32[n] the row of each event, -1 to skip it; a row whose values are 0 is new; half_lives float64[h].
    """
    for e in range(refs.shape[0]):
        r = refs[e]
        if r < 0:
            continue
        gap = float(event_at[e] - last_at[r])
        if not values[r].any():
            gap = 0.0
            last_at[r] = event_at[e]
        for h in range(half_lives.shape[0]):
            column = h + 1 if h > 0 else 0
            w = weight[e]
            if gap >= 0.0:
                factor = 2.0 ** (-gap / half_lives[h])
                values[r, column] *= factor
                if h == 0:
                    values[r, 1] *= factor
            else:
                w *= 2.0 ** (gap / half_lives[h])
            values[r, column] += w
            if h == 0:
                values[r, 1] += w * value[e]
        last_at[r] = max(last_at[r], event_at[e])
        touched[r] += 1


@njit(cache=True, nogil=True)
def log_popularity(counts: np.ndarray, last_at: np.ndarray, clock: int, half_life: float, floor: float, out: np.ndarray) -> None:
    """out float32[r] = log(max(c(clock), floor)) of float32 counts, each decayed from its last_at to `clock`."""
    rate = np.log(2.0) / half_life
    lowest = np.log(floor)
    for r in range(counts.shape[0]):
        c = float(counts[r])
        level = lowest if c <= 0.0 else np.log(c) - rate * float(clock - last_at[r])
        out[r] = np.float32(max(level, lowest))


def count_column(number: int) -> int:
    """Column of a row's count with half-life `number`."""
    return number + 1 if number else 0
