"""A user's query as the sum of vectors: of his newest items, and of what is known of the event (formula in kernels.session)."""

from __future__ import annotations

import numpy as np
from numba import njit

from freshet.kernels.compiled import IN_F4_2D, IN_F8, IN_I4_2D, OUT_F4_2D, compiled, float64, int64, void
from freshet.kernels.lanes import LANES, load, spread, store


@njit(cache=True, nogil=True)
def query(
    past: np.ndarray, refs: np.ndarray, e: int, factors: int, decay: float, power: float, start: int, out: np.ndarray,
) -> float:
    """out[0, :k] = q of the rows refs[e] (-1: none); returns 1 / (sum of w)^power, or 0 without a row."""
    for j in range(0, factors, LANES):
        store(out, 0, j, factors - j, spread(np.float32(0.0)))
    summed, w = 0.0, 1.0
    for d in range(refs.shape[1]):
        r = refs[e, d]
        if r >= 0:
            summed += w
            weight = spread(np.float32(w))
            for j in range(0, factors, LANES):
                store(out, 0, j, factors - j, load(out, 0, j, factors - j) + weight * load(past, r, start + j, factors - j))
        w *= decay
    if summed == 0.0:
        return 0.0
    scale = summed ** (-power)
    by = spread(np.float32(scale))
    for j in range(0, factors, LANES):
        store(out, 0, j, factors - j, by * load(out, 0, j, factors - j))
    return scale


@njit(cache=True, nogil=True, forceinline=True)
def join(features: np.ndarray, refs: np.ndarray, e: int, factors: int, out: np.ndarray) -> None:
    """out[0, :k] += z of the rows refs[e] (-1: none)."""
    for f in range(refs.shape[1]):
        r = refs[e, f]
        if r >= 0:
            for j in range(0, factors, LANES):
                store(out, 0, j, factors - j, load(out, 0, j, factors - j) + load(features, r, j, factors - j))


@compiled(void(IN_F4_2D, IN_I4_2D, IN_F4_2D, IN_I4_2D, int64, IN_F8, float64, int64, OUT_F4_2D))
def queries(past, refs, features, feature_refs, factors, decay, power, start, out):  # type: ignore[no-untyped-def]
    """out float32[m, k] = q of each row of refs int32[m, r], by decay float64[m], and of feature_refs int32[m, F]."""
    one = np.empty((1, factors), np.float32)
    for e in range(refs.shape[0]):
        query(past, refs, e, factors, decay[e], power, start, one)
        join(features, feature_refs, e, factors, one)
        out[e] = one[0]
