"""Exponentially decayed counts: popularity of items, and of everything together.

A row is [c, s] with reference time t: decayed weight and decayed sum of weight * value. An event at time e adds

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
    weight: np.ndarray, value: np.ndarray, half_life: float,
) -> None:
    """Add events one after the other: values float64[r, 2], last_at int64[r] and touched int64[r] change in place.

    refs int32[n] the row of each event, -1 to skip it; a row whose touched and values are 0 is new.
    """
    for e in range(refs.shape[0]):
        r = refs[e]
        if r < 0:
            continue
        at, w = event_at[e], weight[e]
        gap = float(at - last_at[r])
        if values[r, 0] == 0.0 and values[r, 1] == 0.0:
            last_at[r] = at
        elif gap >= 0.0:
            factor = 2.0 ** (-gap / half_life)
            values[r, 0] *= factor
            values[r, 1] *= factor
            last_at[r] = at
        else:
            w *= 2.0 ** (gap / half_life)
        values[r, 0] += w
        values[r, 1] += w * value[e]
        touched[r] += 1


@njit(cache=True, nogil=True)
def log_popularity(values: np.ndarray, last_at: np.ndarray, clock: int, half_life: float, floor: float, out: np.ndarray) -> None:
    """out float32[r] = log(max(c(clock), floor)) of float32 rows [c, s], c decayed to `clock`."""
    rate = np.log(2.0) / half_life
    lowest = np.log(floor)
    for r in range(values.shape[0]):
        c = float(values[r, 0])
        level = lowest if c <= 0.0 else np.log(c) - rate * float(clock - last_at[r])
        out[r] = np.float32(max(level, lowest))
