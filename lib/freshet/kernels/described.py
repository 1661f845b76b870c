"""Items with attributes: what an item is to a query, its own row and those of its attributes together.

    [b, y]_a = row of a + (number of its attributes)^-1/2 * sum_f row of f        [b, y] = columns 0 .. k

Rows `item` and `attribute` float32 [b, y_1 .. y_k | slots]. The root keeps an item of many attributes from being nothing
else. An item without a row of its own is its attributes, one without attributes its row.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from freshet.kernels.compiled import IN_F4_2D, IN_I4_2D, OUT_F4_2D, compiled, int64, void
from freshet.kernels.lanes import LANES, load, spread, store
from freshet.kernels.optimizers import Step, descend, descend_one, slots_of
from freshet.kernels.pace import paced, slower


@njit(cache=True, nogil=True, forceinline=True)
def share_of(refs: np.ndarray, e: int, start: int, most: int) -> float:
    """(attributes there are among refs[e, start:start + most])^-1/2, 0 without one."""
    there = 0
    for f in range(start, start + most):
        there += refs[e, f] >= 0
    return 1.0 / math.sqrt(there) if there else 0.0


@njit(cache=True, nogil=True)
def describe(
    items: np.ndarray, r: int, attributes: np.ndarray, refs: np.ndarray, e: int, start: int, most: int, width: int,
    out: np.ndarray, o: int,
) -> bool:
    """out[o, :width] = the item of row r (-1: none) with the attributes refs[e, start:start + most]; False for nothing."""
    share = share_of(refs, e, start, most)
    by = spread(np.float32(share))
    for j in range(0, width, LANES):
        whole = load(items, r, j, width - j) if r >= 0 else spread(np.float32(0.0))
        for f in range(start, start + most):
            if refs[e, f] >= 0:
                whole += by * load(attributes, refs[e, f], j, width - j)
        store(out, o, j, width - j, whole)
    return r >= 0 or share > 0.0


@njit(cache=True, nogil=True)
def describe_all(
    items: np.ndarray, item_ref: np.ndarray, attributes: np.ndarray, refs: np.ndarray, e: int, width: int, out: np.ndarray,
    place: np.ndarray,
) -> None:
    """The items of an event, item_ref int32[n, c] with attributes refs int32[n, c * A], as rows of out; place[0, a] is where
    item a stands, -1 for nothing."""
    most = refs.shape[1] // item_ref.shape[1]
    for a in range(item_ref.shape[1]):
        there = describe(items, item_ref[e, a], attributes, refs, e, a * most, most, width, out, a)
        place[0, a] = a if there else -1


@njit(cache=True, nogil=True, forceinline=True)
def descend_attributes(
    attributes: np.ndarray, refs: np.ndarray, e: int, start: int, most: int, g: np.float32, p: float, factors: int,
    bias_step: Step, step: Step, limit: float, scratch: np.ndarray, norm_q: float, length_q: float, t: float, a: np.ndarray,
    n: np.ndarray,
) -> tuple[float, int]:
    """One step, `t` times as long, of the attributes of an item whose gradient is g * [1, q], q = scratch[0], and whose chance is
    worth p in contraction; returns the length of the steps and the rows cut."""
    share, slot, capped, way = share_of(refs, e, start, most), 1 + factors, 0, 0.0
    factor_slot = slot + slots_of(bias_step, 1)
    own = np.float32(g * np.float32(share))
    for f in range(start, start + most):
        r = refs[e, f]
        if r >= 0:
            rate_b = descend_one(attributes, r, 0, slot, own, slower(paced(bias_step, n[r]), t))
            now = slower(paced(step, n[r]), t)
            rate, cut = descend(attributes, r, 1, factors, factor_slot, own, scratch, 0, 0, norm_q, now, limit)
            way += abs(float(own)) * (rate_b + rate * length_q)
            a[r] += p * share * share * (rate * norm_q + rate_b)
            n[r] += 1
            capped += cut
    return way, capped


@compiled(void(IN_F4_2D, IN_I4_2D, IN_F4_2D, IN_I4_2D, int64, OUT_F4_2D))
def item_vectors(items, item_ref, attributes, refs, width, out):  # type: ignore[no-untyped-def]
    """out float32[n, width] = items item_ref int32[n, 1] with their attributes refs int32[n, A]."""
    for i in range(out.shape[0]):
        describe(items, item_ref[i, 0], attributes, refs, i, 0, refs.shape[1], width, out, i)
