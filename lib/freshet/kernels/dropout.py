"""Dropout of factors: a mask of an event, from the event's own seed.

    m_j = 0 with probability p, else 1 / (1 - p)          score = b + sum_j m_j x_j y_j

while the event is learned; lists, metrics and what is said of its loss are without a mask, which is its mean (inverted dropout,
Srivastava et al., JMLR 15, 2014, sections 4 and 10).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from freshet.kernels.seeds import combine


@njit(cache=True, nogil=True)
def mask(rows: np.ndarray, r: int, factors: int, dropout: float, seed: np.uint64) -> None:
    """rows[r, j] *= m_j for j < factors."""
    kept = np.float32(1.0 / (1.0 - dropout))
    for j in range(factors):
        uniform = float(combine(seed, np.uint64(j)) >> np.uint64(11)) * 2.0**-53
        rows[r, j] *= np.float32(0.0) if uniform < dropout else kept
