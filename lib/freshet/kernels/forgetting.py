"""Rows that forget: what was learned is half as much after every half-life without an event.

    x = start + (x - start) 2^(-age / half_life)        slots = slots 2^(-age / half_life)

`start` is what a new row of the same key begins with, `age` the time from a row's last event to the one that meets it now. Because
2^(-a) 2^(-b) = 2^(-(a + b)), a row ends up the same however its events are cut into micro-batches, as long as none of them
changes it. Slots are sums or means of what its events were like (squared gradients, worth in values): at 0 they are those of a row
never met, whose first step is as long as any row's. A ratio of two of them, as adam's corrected means, stays what it is.

Exponential forgetting of evidence: West and Harrison, Bayesian Forecasting and Dynamic Models (1997), section 2.4.2 on
discount factors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from freshet.kernels.compiled import IN_F4_2D, IN_F8, OUT_F4_2D, compiled, void


@njit(cache=True, nogil=True)
def earliest(at: np.ndarray, refs: np.ndarray, first_at: np.ndarray) -> None:
    """first_at[r] = the earliest of itself and of at int64[n] over the rows that refs int32[n, m] name (-1: none)."""
    for e in range(refs.shape[0]):
        for c in range(refs.shape[1]):
            r = refs[e, c]
            if r >= 0 and first_at[r] > at[e]:
                first_at[r] = at[e]


@compiled(void(OUT_F4_2D, IN_F4_2D, IN_F8))
def forget(rows, start, half_lives):  # type: ignore[no-untyped-def]
    """Let rows float32[r, width + slots] forget over float64[r] half-lives; start float32[r, width]."""
    width = start.shape[1]
    for r in range(rows.shape[0]):
        left = np.float32(2.0 ** (-half_lives[r]))
        for j in range(width):
            rows[r, j] = start[r, j] + left * (rows[r, j] - start[r, j])
        for j in range(width, rows.shape[1]):
            rows[r, j] *= left
