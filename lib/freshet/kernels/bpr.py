"""Bayesian personalized ranking: pairwise logistic loss, one sequential pass over a shard.

    score(u, i) = b_i + p_u . q_i
    loss        = weight * log(1 + exp(-(score(u, i) - score(u, j))))      for each drawn negative item j

Rows: user float32 [p_1 .. p_k | slots], item float32 [b, q_1 .. q_k | slots], the bias's slot before the factors'.
After Rendle, Freudenthaler, Gantner, Schmidt-Thieme, UAI 2009.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from freshet.kernels.dropout import mask
from freshet.kernels.lanes import AHEAD, LANES, load, prefetch, spread, store, total
from freshet.kernels.losses import logistic
from freshet.kernels.optimizers import Step, descend, descend_one, dot, slots_of
from freshet.kernels.pace import behind, paced, slower, trust_in


@njit(cache=True, nogil=True)
def _score_one(users: np.ndarray, items: np.ndarray, u: int, i: int, factors: int) -> float:
    if i < 0:
        return 0.0
    bias = float(items[i, 0])
    return bias + float(dot(users, u, 0, items, i, 1, factors)) if u >= 0 else bias


@njit(cache=True, nogil=True)
def score(
    users: np.ndarray, items: np.ndarray, user_ref: np.ndarray, item_ref: np.ndarray, weight: np.ndarray, factors: int,
    prediction: np.ndarray, loss: np.ndarray,
) -> None:
    """Fill prediction and loss float64[n] as `learn` does, with rows that stay as they are.

    A reference of -1 in user_ref, or for the positive, is an unknown row and contributes nothing; an unknown negative
    scores 0.
    """
    for e in range(user_ref.shape[0]):
        u, i = user_ref[e], item_ref[e, 0]
        prediction[e] = _score_one(users, items, u, i, factors)
        summed = 0.0
        for c in range(1, item_ref.shape[1]):
            margin = prediction[e] - _score_one(users, items, u, item_ref[e, c], factors)
            summed += logistic(margin, 1.0)[0]
        pairs = item_ref.shape[1] - 1
        loss[e] = float(weight[e]) * summed / pairs if pairs else np.nan


@njit(cache=True, nogil=True, forceinline=True)
def _learn_pair(
    users: np.ndarray, items: np.ndarray, u: int, i: int, j: int, at_u: int, at_i: int, at_j: int, weight: float, factors: int,
    bias_step: Step, step: Step, limit: float, dropout: float, seed: np.uint64, t: float, scratch: np.ndarray,
) -> tuple[float, float, float, float, int]:
    """One descent step on log(1 + exp(-margin)), of the items `t` times as long: (loss, contraction of the user row, of either
    item row, length of the items' steps, rows cut).

    The two item rows are of one block, whose rows other shards change too, so each counts what both take away; what the
    user's row takes away stays in the shard (see kernels.mf). at_u, at_i, at_j are the events behind the rows.
    """
    slot = 1 + factors
    factor_slot = slot + slots_of(bias_step, 1)
    # scratch: 0 the difference of the items' factors, 1 the user's factors as they were.
    products, squares_p, squares_d = spread(0.0), spread(0.0), spread(0.0)
    for k in range(0, factors, LANES):
        p, d = load(users, u, k, factors - k), load(items, i, 1 + k, factors - k) - load(items, j, 1 + k, factors - k)
        store(scratch, 0, k, factors - k, d)
        store(scratch, 1, k, factors - k, p)
        products += p * d
        squares_p += p * p
        squares_d += d * d
    margin = items[i, 0] - items[j, 0] + total(products)
    norm_p, norm_d = total(squares_p), total(squares_d)
    loss, gradient, curvature = logistic(margin, 1.0)
    if dropout > 0.0:
        for row in range(2):
            mask(scratch, row, factors, dropout, seed)
        margin = items[i, 0] - items[j, 0] + dot(users, u, 0, scratch, 0, 0, factors)
        norm_p, norm_d = dot(scratch, 1, 0, scratch, 1, 0, factors), dot(scratch, 0, 0, scratch, 0, 0, factors)
        _, gradient, curvature = logistic(margin, 1.0)
    g = np.float32(gradient * weight)
    rate_bi = descend_one(items, i, 0, slot, g, slower(paced(bias_step, at_i), t))
    rate_bj = descend_one(items, j, 0, slot, -g, slower(paced(bias_step, at_j), t))
    rate_u, cut_u = descend(users, u, 0, factors, factors, g, scratch, 0, 0, norm_d, paced(step, at_u), limit)
    own_i, own_j = slower(paced(step, at_i), t), slower(paced(step, at_j), t)
    rate_i, cut_i = descend(items, i, 1, factors, factor_slot, g, scratch, 1, 0, norm_p, own_i, limit)
    rate_j, cut_j = descend(items, j, 1, factors, factor_slot, -g, scratch, 1, 0, norm_p, own_j, limit)
    on_user = curvature * weight * rate_u * norm_d
    on_items = curvature * weight * ((rate_i + rate_j) * norm_p + rate_bi + rate_bj)
    way = abs(float(g)) * (rate_bi + rate_bj + (rate_i + rate_j) * math.sqrt(norm_p))
    return loss * weight, on_user, on_items, way, cut_u + cut_i + cut_j


@njit(cache=True, nogil=True, forceinline=True)
def _ask(rows: np.ndarray, a: np.ndarray, counts: np.ndarray, r: int) -> None:
    prefetch(rows, r)
    prefetch(a, r)
    prefetch(counts, r)


@njit(cache=True, nogil=True)
def learn(
    users: np.ndarray, items: np.ndarray, user_ref: np.ndarray, item_ref: np.ndarray, weight: np.ndarray, draws: np.ndarray,
    dropout: float, factors: int, bias_step: Step, step: Step, limit: float, user_a: np.ndarray, item_a: np.ndarray,
    user_n: np.ndarray, item_n: np.ndarray, trust: np.ndarray, prediction: np.ndarray, loss: np.ndarray, moved: np.ndarray,
) -> int:
    """Learn the examples one after the other, changing `users` and `items` in place.

    item_ref int32[n, 1 + negatives]: the positive, then the drawn negatives (-1 where none could be drawn). Fills
    prediction float64[n] (score of the positive just before) and loss float64[n] (mean over the negatives), adds each
    pair's contraction and count to the rows it touched: the counts of their events go on from where they stand. With
    `dropout` an event learns under the mask of its seed, draws uint64[n] (see kernels.dropout). Steps of items are trust[e] times
    as long (float32[n], or of no length: 1); their length, together, becomes moved[e]. Returns how often a row's norm was cut to
    `limit`.
    """
    scratch = np.empty((2, max(factors, 1)), np.float32)
    n, capped = user_ref.shape[0], 0
    for e in range(n):
        u, i, w = user_ref[e], item_ref[e, 0], float(weight[e])
        if e + AHEAD < n:
            _ask(users, user_a, user_n, user_ref[e + AHEAD])
            for c in range(item_ref.shape[1]):
                _ask(items, item_a, item_n, item_ref[e + AHEAD, c])
        prediction[e] = float(items[i, 0]) + float(dot(users, u, 0, items, i, 1, factors))
        summed, pairs = 0.0, 0
        seed = draws[e] if dropout > 0.0 else np.uint64(0)
        at_u, at_i = behind(step, user_n, u), behind(step, item_n, i)
        t, moved[e] = trust_in(trust, e), 0.0
        for c in range(1, item_ref.shape[1]):
            j = item_ref[e, c]
            if j < 0 or j == i:
                continue
            value, on_user, on_item, way, cut = _learn_pair(
                users, items, u, i, j, at_u, at_i, behind(step, item_n, j), w, factors, bias_step, step, limit, dropout, seed, t,
                scratch)
            summed += value
            pairs += 1
            capped += cut
            moved[e] += way
            user_a[u] += on_user
            item_a[i] += on_item
            item_a[j] += on_item
            item_n[j] += 1
        user_n[u] += 1
        item_n[i] += 1
        loss[e] = summed / pairs if pairs else np.nan
    return capped
