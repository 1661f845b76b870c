"""Biases and factors of explicit values by Kalman updates, one sequential pass over a shard.

    score(u, i) = mean + b_u + b_i + sigma p_u . q_i           sigma the standard deviation of the values
    loss        = weight * (value - score)^2 / 2

Every row knows how sure it is: a variance of its bias and one of its factors, in units of the noise of one value. An event
first adds `drift` to the variance of its user's bias, because moods change; then, with v the variances, S that of the value
and e what the score lacks,

    S    = 1 / weight + v_u + v_i + v_p |q|^2 + v_q |p|^2       e = value - score
    b   += v e / S                                             v   = v (1 - v / S)                     of user and item
    p   += v_p q e / (sigma S)                                 v_p = v_p (1 - v_p |q|^2 / (k S))       and q alike

An item with attributes has for [b_i, q] what kernels.described says, and each of the m attributes takes its m^-1/2 of the step
of a row of its own, its variances times 1 / m in S.

Rows: user, item and attribute float32 [b, p_1 .. p_k | worth of the bias, worth of the factors]; without factors without
their slot. A slot is 1 / v - 1 / prior, how many values the row's knowledge is worth: 0 for a row never met, and what shards
learned of a row adds up. `mean` is float32 [mean, variance] of the values. Only ratios of variances matter, so the same
settings do for ratings from 1 to 5 and for percentages.

After Kalman, J. Basic Engineering 82 (1960), and for factors Gultekin and Paisley, "A Collaborative Kalman Filter for
Time-Evolving Dyadic Processes", ICDM 2014; here linearised at the rows as they stand, one variance in place of a k x k matrix.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from freshet.kernels.described import describe, share_of
from freshet.kernels.lanes import AHEAD
from freshet.kernels.mf import ask, products
from freshet.kernels.optimizers import SGD, Step, descend, plain
from freshet.kernels.pace import trust_in

FARTHEST = 4.0
_WHOLE_STEP = plain(Step(SGD, 1.0, 0.0, 0.0, 0, 0.0))


class Priors(NamedTuple):
    """Variances of new rows: a user's bias, an item's, the factors of both, bias and factors of an attribute; and what an
    event adds to that of its user's bias."""

    user: float
    item: float
    factors: float
    attribute: float
    drift: float


@njit(cache=True, nogil=True)
def deviation(mean: np.ndarray) -> float:
    """sigma of float32[r, 2] rows [mean, variance], r 0 or 1; 0 before the second value."""
    return math.sqrt(max(float(mean[0, 1]), 0.0)) if mean.shape[0] else 0.0


@njit(cache=True, nogil=True, forceinline=True)
def _take(mean: np.ndarray, value: float, sigma: float, count: int) -> None:
    """Mean and variance with one more value, the count-th (Welford, Technometrics 4(3), 1962).

    A value counts as FARTHEST sigmas from the mean at most: a single one of a million would move the scores of everybody.
    """
    old, variance = float(mean[0, 0]), float(mean[0, 1])
    off = value - old
    if sigma > 0.0:
        off = min(max(off, -FARTHEST * sigma), FARTHEST * sigma)
    mean[0, 0] = np.float32(old + off / count)
    mean[0, 1] = np.float32(variance + (off * (old + off - float(mean[0, 0])) - variance) / count)


@njit(cache=True, nogil=True, forceinline=True)
def _variance(rows: np.ndarray, r: int, slot: int, prior: float) -> float:
    return prior / (1.0 + prior * float(rows[r, slot]))


@njit(cache=True, nogil=True, forceinline=True)
def _know(rows: np.ndarray, r: int, slot: int, variance: float, square: float, whole: float, lost: float, t: float) -> None:
    """The slot after an event that lowered the variance to variance * (1 - variance * square / whole), of whose worth `t` counts;
    `lost` is what drift took before."""
    rows[r, slot] = np.float32(float(rows[r, slot]) - lost + t * (square / (whole - variance * square)))


@njit(cache=True, nogil=True, forceinline=True)
def _unsure(rows: np.ndarray, refs: np.ndarray, e: int, factors: int, prior: float, norm_p: float) -> float:
    """What the attributes refs[e] add to S."""
    share, added = share_of(refs, e, 0, refs.shape[1]), 0.0
    for f in range(refs.shape[1]):
        r = refs[e, f]
        if r >= 0:
            added += share * share * _variance(rows, r, 1 + factors, prior)
            if factors > 0:
                added += share * share * _variance(rows, r, 2 + factors, prior) * norm_p
    return added


@njit(cache=True, nogil=True, forceinline=True)
def _move(
    rows: np.ndarray, r: int, factors: int, v_b: float, v_f: float, share: float, error: float, sigma: float, whole: float,
    lost: float, other: np.ndarray, o: int, at: int, norm: float, limit: float, t: float, a: np.ndarray,
) -> tuple[float, int]:
    """The step, `t` times as long, of row r, whose bias counts `share` times in the score and whose factors meet `share` times
    other[o, at:], with |other|^2 = norm; the length of the step, and 1 if the factors were cut, else 0."""
    worth, cut, square = 1 + factors, 0, share * share
    by = t * (v_b * share * error / whole)
    rows[r, 0] += np.float32(by)
    way = abs(by)
    _know(rows, r, worth, v_b, square, whole, lost, t)
    a[r] += t * (square * (v_b + v_f * norm) / whole)
    if factors > 0 and sigma > 0.0:
        g = np.float32(t * (-v_f * share * error / (sigma * whole)))
        way += abs(float(g)) * math.sqrt(norm)
        _, cut = descend(rows, r, 1, factors, 0, g, other, o, at, norm, _WHOLE_STEP, limit)
        _know(rows, r, worth + 1, v_f, square * norm / factors, whole, 0.0, t)
    return way, cut


@njit(cache=True, nogil=True)
def _move_attributes(
    rows: np.ndarray, refs: np.ndarray, e: int, factors: int, prior: float, error: float, sigma: float, whole: float,
    p: np.ndarray, norm_p: float, limit: float, t: float, a: np.ndarray,
) -> tuple[float, int]:
    """The steps of the attributes refs[e] of an item; returns their length and the rows cut."""
    share, capped, way = share_of(refs, e, 0, refs.shape[1]), 0, 0.0
    for f in range(refs.shape[1]):
        r = refs[e, f]
        if r >= 0:
            v_b, v_f = _variance(rows, r, 1 + factors, prior), _variance(rows, r, 2 + factors, prior) if factors > 0 else 0.0
            one, cut = _move(rows, r, factors, v_b, v_f, share, error, sigma, whole, 0.0, p, 0, 0, norm_p, limit, t, a)
            way += one
            capped += cut
    return way, capped


@njit(cache=True, nogil=True)
def learn(
    mean: np.ndarray, users: np.ndarray, items: np.ndarray, attributes: np.ndarray, mean_count: int, user_ref: np.ndarray,
    item_ref: np.ndarray, attribute_ref: np.ndarray, target: np.ndarray, weight: np.ndarray, factors: int, priors: Priors,
    limit: float, user_a: np.ndarray, item_a: np.ndarray, attribute_a: np.ndarray, trust: np.ndarray, prediction: np.ndarray,
    loss: np.ndarray, moved: np.ndarray,
) -> int:
    """Learn the examples one after the other, changing `mean`, `users`, `items` and `attributes` in place.

    As kernels.mf.learn, with attribute_ref int32[n, A] (-1: none): fills prediction (score just before the example was
    learned) and loss float64[n], adds each event's contraction to user_a, item_a and attribute_a, returns how often factors
    were cut to the norm `limit`. Of an event trusted by less than 1, trust[e], items and attributes take that share of the step
    and of what it is worth. The contraction of a row is the share of e that its own change takes away.
    """
    p_before, described = np.empty((1, max(factors, 1)), np.float32), np.empty((1, 1 + factors), np.float32)
    worth, most = 1 + factors, attribute_ref.shape[1]
    n, capped = user_ref.shape[0], 0
    for e in range(n):
        u, i, value, w = user_ref[e], item_ref[e], float(target[e]), float(weight[e])
        if e + AHEAD < n:
            ask(users, items, user_ref[e + AHEAD], item_ref[e + AHEAD], user_a, item_a)
        rows, r = items, int(i)
        if most > 0:
            describe(items, i, attributes, attribute_ref, e, 0, most, 1 + factors, described, 0)
            rows, r = described, 0
        product, norm_p, norm_q = products(users, u, rows, r, factors, p_before)
        sigma = deviation(mean)
        prediction[e] = float(mean[0, 0]) + float(users[u, 0]) + float(rows[r, 0]) + sigma * product
        error = value - prediction[e]
        loss[e] = 0.5 * error * error * w
        _take(mean, value, sigma, mean_count + e + 1)
        t, moved[e] = trust_in(trust, e), 0.0
        if w <= 0.0:
            continue
        v_u, v_i = _variance(users, u, worth, priors.user), _variance(items, i, worth, priors.item)
        lost = priors.drift / (v_u * (v_u + priors.drift))
        v_u += priors.drift
        whole = 1.0 / w + v_u + v_i
        if most > 0:
            whole += _unsure(attributes, attribute_ref, e, factors, priors.attribute, norm_p)
        v_p = _variance(users, u, worth + 1, priors.factors) if factors > 0 else 0.0
        v_q = _variance(items, i, worth + 1, priors.factors) if factors > 0 else 0.0
        whole += v_p * norm_q + v_q * norm_p
        _, cut = _move(users, u, factors, v_u, v_p, 1.0, error, sigma, whole, lost, rows, r, 1, norm_q, limit, 1.0, user_a)
        way, more = _move(items, i, factors, v_i, v_q, 1.0, error, sigma, whole, 0.0, p_before, 0, 0, norm_p, limit, t, item_a)
        capped += cut + more
        if most > 0:
            further, more = _move_attributes(
                attributes, attribute_ref, e, factors, priors.attribute, error, sigma, whole, p_before, norm_p, limit, t,
                attribute_a)
            way += further
            capped += more
        moved[e] = way
    return capped
