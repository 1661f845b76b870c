"""Factorization machine over the rows an example touches, one sequential pass over a shard; linear when k = 0.

    score = w_0 + sum_i w_i + sum_{i < j} v_i . v_j      over the rows i that are there
    loss  = weight * loss(score, target)                 one of kernels.losses

Rows: float32 [w, v_1 .. v_k | slots] of users, items, features and attributes alike, the weight's slot before those of the factors;
w_0 is a row of its own, [w_0 | slot]. After Rendle, "Factorization Machines", ICDM 2010; the pairs in O(k n) as the sum of
v_i . (v_1 + .. + v_{i-1}), which unlike his |sum v|^2 - sum |v|^2 takes no difference of large numbers.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from freshet.kernels.lanes import AHEAD, LANES, load, prefetch, spread, store, total
from freshet.kernels.losses import loss_of
from freshet.kernels.optimizers import CONSTANT, Step, descend, descend_one, general, slots_of
from freshet.kernels.pace import paced, slower, trust_in


@njit(cache=True, nogil=True, forceinline=True)
def _score(base: np.ndarray, base_ref: int, rows: np.ndarray, refs: np.ndarray, e: int, factors: int, scratch: np.ndarray) -> float:
    """The score of example e; scratch[0] becomes the sum of its rows' factors."""
    summed = float(base[base_ref, 0]) if base_ref >= 0 else 0.0
    pairs = spread(0.0)
    for j in range(0, factors, LANES):
        store(scratch, 0, j, factors - j, spread(0.0))
    for c in range(refs.shape[1]):
        r = refs[e, c]
        if r < 0:
            continue
        summed += float(rows[r, 0])
        for j in range(0, factors, LANES):
            before, v = load(scratch, 0, j, factors - j), load(rows, r, 1 + j, factors - j)
            pairs += before * v
            store(scratch, 0, j, factors - j, before + v)
    return summed + float(total(pairs))


@njit(cache=True, nogil=True)
def score(
    base: np.ndarray, rows: np.ndarray, base_ref: np.ndarray, refs: np.ndarray, target: np.ndarray, weight: np.ndarray,
    factors: int, code: int, prediction: np.ndarray, loss: np.ndarray,
) -> None:
    """Fill prediction and loss float64[n] as `learn` does, with rows that stay as they are; a reference of -1 is an unknown
    row and contributes nothing."""
    scratch = np.empty((1, max(factors, 1)), np.float32)
    for e in range(refs.shape[0]):
        prediction[e] = _score(base, base_ref[e], rows, refs, e, factors, scratch)
        loss[e] = float(weight[e]) * loss_of(code, prediction[e], float(target[e]))[0]


@njit(cache=True, nogil=True, forceinline=True)
def _others(rows: np.ndarray, r: int, factors: int, scratch: np.ndarray) -> float:
    """scratch[1] = sum of the factors of the example's other rows; returns its squared norm."""
    squares = spread(0.0)
    for j in range(0, factors, LANES):
        other = load(scratch, 0, j, factors - j) - load(rows, r, 1 + j, factors - j)
        store(scratch, 1, j, factors - j, other)
        squares += other * other
    return float(total(squares))


@njit(cache=True, nogil=True)
def learn(
    base: np.ndarray, rows: np.ndarray, refs: np.ndarray, target: np.ndarray, weight: np.ndarray, factors: int, code: int,
    base_step: Step, bias_step: Step, step: Step, limit: float, base_n: np.ndarray, rows_n: np.ndarray, base_a: np.ndarray,
    rows_a: np.ndarray, trust: np.ndarray, prediction: np.ndarray, loss: np.ndarray, moved: np.ndarray,
) -> int:
    """Learn the examples one after the other, changing `base` (its one row) and `rows` in place.

    refs int32[n, m]: the user's row first, then those of the item, features and attributes (-1: none). Fills prediction and loss
    float64[n] and adds each event's contraction to base_a and rows_a. base_n and rows_n int64 are the events behind each row;
    only a schedule asks for them and counts on. Steps of all rows but the user's are trust[e] times as long (float32[n], or of no
    length: 1); their length, together, becomes moved[e]. Returns how often a row's norm was cut to `limit`.

    Contraction of an event: weight * curvature * sum over the rows that shards share, all but the user's, of
    (bias step + step |others|^2): other shards see on a shared row what all shared rows took away. Hinge and perceptron
    have no curvature; while they pull they count as squared error does, or steps over the kink would be summed.
    """
    scratch = np.empty((2, max(factors, 1)), np.float32)
    factor_slot = 1 + factors + slots_of(bias_step, 1)
    scheduled = general(bias_step) and bias_step.schedule != CONSTANT
    n, m, capped = refs.shape[0], refs.shape[1], 0
    for e in range(n):
        if e + AHEAD < n:
            for c in range(m):
                prefetch(rows, refs[e + AHEAD, c])
                prefetch(rows_a, refs[e + AHEAD, c])
        w = float(weight[e])
        prediction[e] = _score(base, 0, rows, refs, e, factors, scratch)
        lost, gradient, curvature = loss_of(code, prediction[e], float(target[e]))
        loss[e] = w * lost
        g = np.float32(w * gradient)
        t = trust_in(trust, e)
        taken = descend_one(base, 0, 0, 1, g, slower(paced(base_step, base_n[0]), t))
        way = taken
        base_n[0] += scheduled
        for c in range(m):
            r = refs[e, c]
            if r < 0:
                continue
            norm = _others(rows, r, factors, scratch)
            own = t if c > 0 else 1.0
            share = descend_one(rows, r, 0, 1 + factors, g, slower(paced(bias_step, rows_n[r]), own))
            length = share
            if factors > 0:
                now = slower(paced(step, rows_n[r]), own)
                rate, cut = descend(rows, r, 1, factors, factor_slot, g, scratch, 1, 0, norm, now, limit)
                share += rate * norm
                length += rate * math.sqrt(norm)
                capped += cut
            if c > 0:
                taken += share
                way += length
            rows_n[r] += scheduled
        moved[e] = abs(float(g)) * way
        if curvature == 0.0 and gradient != 0.0:
            curvature = 1.0
        base_a[0] += w * curvature * taken
        for c in range(m):
            if refs[e, c] >= 0:
                rows_a[refs[e, c]] += w * curvature * taken
    return capped
