"""A user as his newest items: a choice of the next one among drawn ones, one sequential pass over a shard.

    q     = sum_d w_d x_d / (sum_d w_d)^power + sum_f z_f,  w_d = decay^d
                                                                     d = 0 the newest item, over those that have a row
    s_a   = b_a + q . y_a + offset_a                                 a = 0 the item that was taken, then the drawn ones
    loss  = weight * loss of the choice (kernels.choice)

Rows: `past` float32 [x_1 .. x_k | slots] of an item as one a user had, `item` float32 [b, y_1 .. y_k | slots] as one to
come, the bias's slot before the factors'; `feature` float32 [z_1 .. z_k | slots] of what was known of the event itself, such
as the page that led to it; `attribute` as in kernels.described. Two vectors an item, because what comes after a thing is
seldom the thing; tied, `past` is the very array `item`, x_i the y of item i, and each of its touches a step of its own.

Contraction of an event: of an item's row the loss's curvature in s_a, with softmax p_a (1 - p_a), times step |q|^2 + bias
step, of an attribute's the same times the square of its weight in the item; of a row of `past` or `feature` its step times
the square of its weight in q times the trace of the loss's curvature in q, with softmax sum_a p_a |y_a|^2 - |sum_a p_a y_a|^2.

After Koren's item-item factorization (KDD 2008, section 5), decayed by place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from freshet.kernels.choice import SOFTMAX, bent, loss_alone, one_by_one, softmax
from freshet.kernels.described import descend_attributes, describe_all
from freshet.kernels.dropout import mask
from freshet.kernels.lanes import AHEAD, LANES, load, prefetch, spread, store, total
from freshet.kernels.optimizers import Step, descend, descend_one, dot, slots_of
from freshet.kernels.pace import paced, slower, trust_in
from freshet.kernels.query import join, query


class Form(NamedTuple):
    """How a query is made and what it learns by: length of a vector, decay and power of the formula, one of CHOICES; `start` is
    where x begins in rows of `past`: 0, or 1 where these are those of `item`; `dropout` as in kernels.dropout, of q;
    of the rows that join the query the last `own` are the user's, and always take their whole step."""

    factors: int
    decay: float
    power: float
    loss: int
    start: int = 0
    dropout: float = 0.0
    own: int = 0


@njit(cache=True, nogil=True)
def score(
    items: np.ndarray, past: np.ndarray, features: np.ndarray, attributes: np.ndarray, item_ref: np.ndarray,
    past_ref: np.ndarray, feature_ref: np.ndarray, attribute_ref: np.ndarray, weight: np.ndarray, offsets: np.ndarray,
    form: Form, prediction: np.ndarray, loss: np.ndarray,
) -> None:
    """Fill prediction (s_0) and loss float64[n] as `learn` does, with rows that stay as they are.

    A reference of -1 is an item the snapshot does not know or that was not drawn; it scores 0 and is left out of the sum,
    but for the first, which is always in it. offsets float32[n, 1 + negatives] stand in the scores; of no rows: none do.
    """
    factors = form.factors
    q = np.empty((1, max(factors, 1)), np.float32)
    scores, scratch = np.empty(item_ref.shape[1]), np.empty(item_ref.shape[1])
    whole, place = np.empty((item_ref.shape[1], 1 + factors), np.float32), np.zeros((1, item_ref.shape[1]), np.int32)
    described = attribute_ref.shape[1] > 0
    for e in range(item_ref.shape[0]):
        query(past, past_ref, e, factors, form.decay, form.power, form.start, q)
        join(features, feature_ref, e, factors, q)
        if described:
            describe_all(items, item_ref, attributes, attribute_ref, e, 1 + factors, whole, place)
            _score(whole, place, 0, factors, q, offsets, e, scores)
            prediction[e], loss[e] = scores[0], float(weight[e]) * loss_alone(form.loss, scores, place, 0, scratch)
        else:
            _score(items, item_ref, e, factors, q, offsets, e, scores)
            prediction[e], loss[e] = scores[0], float(weight[e]) * loss_alone(form.loss, scores, item_ref, e, scratch)


@njit(cache=True, nogil=True, forceinline=True)
def _score(
    items: np.ndarray, refs: np.ndarray, at: int, factors: int, q: np.ndarray, offsets: np.ndarray, e: int, scores: np.ndarray,
) -> None:
    for a in range(refs.shape[1]):
        r = refs[at, a]
        scores[a] = float(items[r, 0]) + float(dot(q, 0, 0, items, r, 1, factors)) if r >= 0 else 0.0
    if offsets.shape[0] > 0:
        for a in range(refs.shape[1]):
            scores[a] += float(offsets[e, a])


@njit(cache=True, nogil=True, forceinline=True)
def _ask(rows: np.ndarray, a: np.ndarray, counts: np.ndarray, refs: np.ndarray, e: int) -> None:
    for c in range(refs.shape[1]):
        r = refs[e, c]
        if r >= 0:
            prefetch(rows, r)
            prefetch(a, r)
            prefetch(counts, r)


@njit(cache=True, nogil=True, forceinline=True)
def _move_items(
    items: np.ndarray, attributes: np.ndarray, item_ref: np.ndarray, attribute_ref: np.ndarray, e: int, chances: np.ndarray,
    curves: np.ndarray, w: float, factors: int, bias_step: Step, step: Step, limit: float, scratch: np.ndarray, norm_q: float,
    t: float, item_a: np.ndarray, attribute_a: np.ndarray, item_n: np.ndarray, attribute_n: np.ndarray,
) -> tuple[float, int]:
    """One step, `t` times as long, of every item of the event and of its attributes, from chances, curves and q as they were
    before it; returns the length of the steps and the rows cut."""
    slot, capped, most = 1 + factors, 0, attribute_ref.shape[1] // item_ref.shape[1]
    length_q, way = math.sqrt(norm_q), 0.0
    factor_slot = slot + slots_of(bias_step, 1)
    for a in range(item_ref.shape[1]):
        r = item_ref[e, a]
        if r < 0:
            continue
        g = np.float32(w * (chances[a] - (1.0 if a == 0 else 0.0)))
        rate_b = descend_one(items, r, 0, slot, g, slower(paced(bias_step, item_n[r]), t))
        now = slower(paced(step, item_n[r]), t)
        rate, cut = descend(items, r, 1, factors, factor_slot, g, scratch, 0, 0, norm_q, now, limit)
        way += abs(float(g)) * (rate_b + rate * length_q)
        item_a[r] += curves[a] * (rate * norm_q + rate_b)
        item_n[r] += 1
        capped += cut
        if most:
            more, cut = descend_attributes(attributes, attribute_ref, e, a * most, most, g, curves[a], factors, bias_step, step,
                                           limit, scratch, norm_q, length_q, t, attribute_a, attribute_n)
            way += more
            capped += cut
    return way, capped


@njit(cache=True, nogil=True, forceinline=True)
def _move_query(
    rows: np.ndarray, refs: np.ndarray, e: int, begin: int, end: int, w: float, factors: int, start: int, slot: int, step: Step,
    limit: float, scratch: np.ndarray, norm_g: float, first: float, decay: float, spread_y: float, t: float, a: np.ndarray,
    n: np.ndarray,
) -> tuple[float, int]:
    """One step, `t` times as long, of the rows refs[e, begin:end], which count `first`, then each `decay` times the one before,
    in q: of the vectors from column `start` on, with slots from `slot` on; returns the length of the steps and the rows cut."""
    share, capped, way = first, 0, 0.0
    for d in range(begin, end):
        r = refs[e, d]
        if r >= 0:
            now = slower(paced(step, n[r]), t)
            rate, cut = descend(rows, r, start, factors, slot, np.float32(share), scratch, 1, 0, norm_g, now, limit)
            a[r] += w * rate * share * share * spread_y
            way += rate * share
            n[r] += 1
            capped += cut
        share *= decay
    return way * math.sqrt(norm_g), capped


@njit(cache=True, nogil=True)
def learn(
    items: np.ndarray, past: np.ndarray, features: np.ndarray, attributes: np.ndarray, item_ref: np.ndarray,
    past_ref: np.ndarray, feature_ref: np.ndarray, attribute_ref: np.ndarray, weight: np.ndarray, offsets: np.ndarray,
    draws: np.ndarray, form: Form, bias_step: Step, step: Step, limit: float, item_a: np.ndarray, past_a: np.ndarray,
    feature_a: np.ndarray, attribute_a: np.ndarray, item_n: np.ndarray, past_n: np.ndarray, feature_n: np.ndarray,
    attribute_n: np.ndarray, trust: np.ndarray, prediction: np.ndarray, loss: np.ndarray, moved: np.ndarray,
) -> int:
    """Learn the examples one after the other, changing the rows in place.

    item_ref int32[n, 1 + negatives], past_ref int32[n, r], feature_ref int32[n, F], attribute_ref int32[n, (1 + negatives) A]
    (-1: none); offsets as for `score`, draws uint64[n] the seeds of masks, looked at with dropout only. Fills prediction (s_0)
    and loss float64[n], adds each event's contraction and count to the rows it touched: the counts of their events go on from
    where they stand. Steps are trust[e] times as long (float32[n], or of no length: 1); their length, together, becomes moved[e].
    Returns how often a row's norm was cut to `limit`.
    """
    factors, shared = form.factors, feature_ref.shape[1] - form.own
    past_slot = 1 + factors + slots_of(bias_step, 1) if form.start else factors
    scratch = np.empty((2, max(factors, 1)), np.float32)  # q, then the gradient of the loss in q
    chances, curves = np.empty(item_ref.shape[1]), np.empty(item_ref.shape[1])
    whole, place = np.empty((item_ref.shape[1], 1 + factors), np.float32), np.zeros((1, item_ref.shape[1]), np.int32)
    described = attribute_ref.shape[1] > 0
    rows, refs = (whole, place) if described else (items, item_ref)
    n, capped = item_ref.shape[0], 0
    for e in range(n):
        if e + AHEAD < n:
            _ask(items, item_a, item_n, item_ref, e + AHEAD)
            _ask(past, past_a, past_n, past_ref, e + AHEAD)
        w = float(weight[e])
        scale = query(past, past_ref, e, factors, form.decay, form.power, form.start, scratch)
        join(features, feature_ref, e, factors, scratch)
        if described:
            describe_all(items, item_ref, attributes, attribute_ref, e, 1 + factors, whole, place)
        at, said = 0 if described else e, (0.0, 0.0)
        if form.dropout > 0.0:
            said = _unmasked(rows, refs, at, form, scratch, offsets, e, chances, curves)
            mask(scratch, 0, factors, form.dropout, draws[e])
        norm_q = float(dot(scratch, 0, 0, scratch, 0, 0, factors))
        spread_y = _choose(rows, refs, at, w, form, scratch, offsets, chances, curves, e, prediction, loss)
        if form.dropout > 0.0:
            prediction[e], loss[e] = said[0], w * said[1]
            mask(scratch, 1, factors, form.dropout, draws[e])
            spread_y /= 1.0 - form.dropout  # a mask's mean square
        norm_g = float(dot(scratch, 1, 0, scratch, 1, 0, factors))
        t = trust_in(trust, e)
        of_items, cut = _move_items(items, attributes, item_ref, attribute_ref, e, chances, curves, w, factors, bias_step, step,
                                    limit, scratch, norm_q, t, item_a, attribute_a, item_n, attribute_n)
        of_past, more = _move_query(past, past_ref, e, 0, past_ref.shape[1], w, factors, form.start, past_slot, step, limit,
                                    scratch, norm_g, scale, form.decay, spread_y, t, past_a, past_n)
        of_rest, rest = _move_query(features, feature_ref, e, 0, shared, w, factors, 0, factors, step, limit, scratch, norm_g, 1.0,
                                    1.0, spread_y, t, feature_a, feature_n)
        _, his = _move_query(features, feature_ref, e, shared, shared + form.own, w, factors, 0, factors, step, limit, scratch,
                             norm_g, 1.0, 1.0, spread_y, 1.0, feature_a, feature_n)
        moved[e] = of_items + of_past + of_rest
        capped += cut + more + rest + his
    return capped


@njit(cache=True, nogil=True)
def _unmasked(
    items: np.ndarray, refs: np.ndarray, at: int, form: Form, q: np.ndarray, offsets: np.ndarray, e: int, scores: np.ndarray,
    scratch: np.ndarray,
) -> tuple[float, float]:
    """(score, loss) of the event as it is without dropout."""
    _score(items, refs, at, form.factors, q, offsets, e, scores)
    return scores[0], loss_alone(form.loss, scores, refs, at, scratch)


@njit(cache=True, nogil=True, forceinline=True)
def _choose(
    items: np.ndarray, refs: np.ndarray, at: int, w: float, form: Form, scratch: np.ndarray, offsets: np.ndarray,
    chances: np.ndarray, curves: np.ndarray, e: int, prediction: np.ndarray, loss: np.ndarray,
) -> float:
    """The event's chances, w times the loss's curvature in each score, score and loss from the items refs[at]; scratch[1] as
    _gradient, and returns the trace of the curvature in q."""
    _score(items, refs, at, form.factors, scratch, offsets, e, chances)
    prediction[e] = chances[0]
    trace = 0.0
    if form.loss == SOFTMAX:
        loss[e] = w * softmax(chances, refs, at)
        for a in range(refs.shape[1]):
            curves[a] = w * chances[a] * (1.0 - chances[a])
    else:
        loss[e] = w * one_by_one(form.loss, chances, refs, at, curves)
        trace = bent(form.loss, items, refs, at, form.factors, curves)
        for a in range(refs.shape[1]):
            curves[a] *= w
    of_softmax = _gradient(items, refs, at, chances, w, form.factors, scratch)
    return of_softmax if form.loss == SOFTMAX else trace


@njit(cache=True, nogil=True, forceinline=True)
def _gradient(
    items: np.ndarray, item_ref: np.ndarray, e: int, chances: np.ndarray, w: float, factors: int, scratch: np.ndarray,
) -> float:
    """scratch[1] = w * (sum_a p_a y_a - y_0), the gradient in q; returns sum_a p_a |y_a|^2 - |sum_a p_a y_a|^2, the trace of
    softmax's curvature in q."""
    squares, middle = 0.0, 0.0
    for a in range(item_ref.shape[1]):
        r = item_ref[e, a]
        if r >= 0:
            squares += chances[a] * float(dot(items, r, 1, items, r, 1, factors))
    own = spread(np.float32(-1.0))
    by = spread(np.float32(w))
    for j in range(0, factors, LANES):
        mean = spread(np.float32(0.0))
        for a in range(item_ref.shape[1]):
            r = item_ref[e, a]
            if r >= 0:
                mean += spread(np.float32(chances[a])) * load(items, r, 1 + j, factors - j)
        middle += float(total(mean * mean))
        store(scratch, 1, j, factors - j, by * (mean + own * load(items, item_ref[e, 0], 1 + j, factors - j)))
    return max(squares - middle, 0.0)
