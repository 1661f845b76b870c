"""Lists beyond the K best: diversity, caps per category, and places given by chance with their propensity.

Place after place, S being the items above it, the best of the candidates is

    argmax over c not in S, its category not full, of   (1 - D) r_c - D max over s in S of cos(c, s)

r_c the score, moved and stretched to [0, 1] over the asker's candidates: maximal marginal relevance with lambda = 1 - D
(Carbonell and Goldstein, SIGIR 1998; they leave open how the two scales compare, and scores of models have none). With
probability E the place goes instead to one of the N items that may still have it, each as likely. So item i gets it with

    (1 - E) [i is the best] + E / N          which sums to 1 over the N items

given the items above. Chance comes from the asker's seed and the place, so the same list comes out again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import (
    IN_BOOL,
    IN_F4,
    IN_F4_2D,
    IN_F8,
    IN_I4,
    IN_I4_2D,
    IN_I8,
    IN_U8,
    OUT_BOOL,
    OUT_BOOL_2D,
    OUT_F4_2D,
    OUT_F8,
    OUT_F8_2D,
    OUT_I4_2D,
    OUT_I8,
    boolean,
    compiled,
    float64,
    int64,
    uint64,
    void,
)
from freshet.kernels.scoring import score_one
from freshet.kernels.seeds import combine, mix

_11 = np.uint64(11)


class Offer(NamedTuple):
    """n items: vectors of length 1 (or 0) float32[n, d], category int32[n] (-1: none), whether each may be listed
    bool[n], and all of them in an order that does not change between runs, int32[n]."""

    unit: npt.NDArray[np.float32]
    category: npt.NDArray[np.int32]
    allowed: npt.NDArray[np.bool_]
    by_order: npt.NDArray[np.int32]


class Reranked(NamedTuple):
    """Items int32[m, k], -1 where none may follow; their propensity float64[m, k]; bool[m, k] whether chance put them where
    the best was another; bool[m] whether the candidates ended before the list did."""

    rows: npt.NDArray[np.int32]
    propensity: npt.NDArray[np.float64]
    drawn: npt.NDArray[np.bool_]
    short: npt.NDArray[np.bool_]


@compiled(boolean(IN_I4, IN_I8, int64, int64))
def _full(category, used, cap, row):  # type: ignore[no-untyped-def]
    return category[row] >= 0 and used[category[row]] >= cap


@compiled(int64(IN_I4, IN_F8, IN_F8, float64, IN_BOOL, IN_I4, IN_I8, int64))
def _best(rows, relevance, nearest, diversity, out, category, used, cap):  # type: ignore[no-untyped-def]
    """The candidate that the place goes to without chance, -1 for none."""
    found, most = np.int64(-1), -np.inf
    for c in range(rows.shape[0]):
        if rows[c] < 0:
            break
        value = (1.0 - diversity) * relevance[c] - diversity * nearest[c]
        if value > most and not out[rows[c]] and not _full(category, used, cap, rows[c]):
            found, most = np.int64(rows[c]), value
    return found


@compiled(int64(uint64, IN_I4, IN_BOOL, IN_I4, IN_I8, int64))
def _draw(seed, by_order, out, category, used, cap):  # type: ignore[no-untyped-def]
    """One of the items that may have the place, of which there is at least one: tried until it is one of them."""
    n, tries = np.uint64(by_order.shape[0]), np.uint64(0)
    while True:
        row = np.int64(by_order[np.int64(combine(seed, tries) % n)])
        if not out[row] and not _full(category, used, cap, row):
            return row
        tries += np.uint64(1)


@compiled(int64(IN_BOOL, IN_I4, IN_I4, OUT_BOOL, OUT_I8, boolean))
def _set_out(allowed, category, rows, out, left, value):  # type: ignore[no-untyped-def]
    """Set `out` of those rows that are allowed at all, count what is left of each category; how many were set."""
    changed = np.int64(0)
    for x in range(rows.shape[0]):
        row = rows[x]
        if row >= 0 and allowed[row] and out[row] != value:
            out[row] = value
            changed += 1
            if category[row] >= 0:
                left[category[row]] += -1 if value else 1
    return changed


@compiled(void(IN_F4, OUT_F8))
def _scale(scores, out):  # type: ignore[no-untyped-def]
    """Scores, best first and -inf for none, moved and stretched to [0, 1]; 1 where all are alike."""
    last = scores.shape[0] - 1
    while last > 0 and scores[last] == -np.inf:
        last -= 1
    low, span = float(scores[last]), float(scores[0]) - float(scores[last])
    for c in range(last + 1):
        out[c] = (float(scores[c]) - low) / span if span > 0.0 else 1.0


@compiled(void(IN_F4_2D, IN_I4, int64, OUT_F8))
def _approach(unit, rows, placed, nearest):  # type: ignore[no-untyped-def]
    """nearest[c] = max(nearest[c], cos(candidate c, placed))"""
    for c in range(rows.shape[0]):
        if rows[c] < 0:
            break
        cosine = 0.0
        for j in range(unit.shape[1]):
            cosine += float(unit[rows[c], j]) * float(unit[placed, j])
        nearest[c] = max(nearest[c], cosine)


@compiled(void(
    IN_I4_2D, IN_F4_2D, IN_F4_2D, IN_I4, IN_BOOL, IN_I4, float64, int64, float64, IN_U8, IN_I8, IN_I4,
    OUT_I4_2D, OUT_F8_2D, OUT_BOOL_2D, OUT_BOOL,
))
def _rerank(  # type: ignore[no-untyped-def]
    candidates, scores, unit, category, allowed, by_order, diversity, cap, exploration, seeds, offsets, left_out,
    rows, propensity, drawn, short,
):
    groups = category.max() + 1 if category.shape[0] else 0
    used, left = np.zeros(groups, np.int64), np.zeros(groups, np.int64)
    out = np.ones(allowed.shape[0], np.bool_)
    everything = _set_out(allowed, category, by_order, out, left, False)
    relevance, nearest = np.empty(candidates.shape[1], np.float64), np.empty(candidates.shape[1], np.float64)
    for e in range(candidates.shape[0]):
        mine = left_out[offsets[e] : offsets[e + 1]]
        able = everything - _set_out(allowed, category, mine, out, left, True)
        _scale(scores[e], relevance)
        nearest[:] = -1.0
        for place in range(rows.shape[1]):
            best = _best(candidates[e], relevance, nearest, diversity, out, category, used, cap)
            if able == 0 or best < 0:
                short[e] = able > 0
                break
            row, seed = best, combine(seeds[e], np.uint64(place))
            if float(mix(seed) >> _11) * 2.0**-53 < exploration:
                row = _draw(seed, by_order, out, category, used, cap)
            rows[e, place], drawn[e, place] = row, row != best
            propensity[e, place] = exploration / able + (1.0 - exploration if row == best else 0.0)
            able -= _set_out(allowed, category, rows[e, place : place + 1], out, left, True)
            if category[row] >= 0:
                used[category[row]] += 1
                if used[category[row]] == cap:
                    able -= left[category[row]]
            if diversity > 0.0:
                _approach(unit, candidates[e], row, nearest)
        _set_out(allowed, category, mine, out, left, False)
        _set_out(allowed, category, rows[e], out, left, False)
        for place in range(rows.shape[1]):
            if rows[e, place] >= 0 and category[rows[e, place]] >= 0:
                used[category[rows[e, place]]] = 0


def rerank(
    candidates: npt.NDArray[np.int32], scores: npt.NDArray[np.float32], k: int, offer: Offer, diversity: float, cap: int | None,
    exploration: float, seeds: npt.NDArray[np.uint64], left_out: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
) -> Reranked:
    """Lists of k from the candidates int32[m, c] of each asker with scores float32[m, c], as `top_k` gives them.

    D and E are `diversity` and `exploration`; `cap` most items of a category in a list, None for any number; seeds
    uint64[m]. Asker e gets none of left_out rows offsets[e] .. offsets[e + 1], as in top_k. A list that is `short` wants
    more candidates; with as many as are not left out none is.
    """
    m = len(candidates)
    made = Reranked(np.full((m, k), -1, np.int32), np.ones((m, k)), np.zeros((m, k), bool), np.zeros(m, bool))
    if k > 0 and candidates.shape[1]:
        _rerank(
            candidates, scores, offer.unit, offer.category, offer.allowed, offer.by_order, diversity, k if cap is None else cap,
            exploration, seeds, left_out[0], left_out[1], *made,
        )
    return made


@compiled(void(IN_I4_2D, IN_F4_2D, IN_F4_2D, IN_F4, IN_I8, IN_I4, IN_F4, OUT_F4_2D, OUT_BOOL_2D))
def _place_scores(rows, queries, items, bias, extra_offsets, extra_rows, extra_values, scores, with_extra):  # type: ignore[no-untyped-def]
    for e in range(rows.shape[0]):
        for place in range(rows.shape[1]):
            row = rows[e, place]
            if row < 0:
                continue
            scores[e, place] = score_one(queries, e, items, bias, row)
            for x in range(extra_offsets[e], extra_offsets[e + 1]):
                if extra_rows[x] == row:
                    scores[e, place] += extra_values[x]
                    with_extra[e, place] = extra_values[x] > 0.0
                    break


def place_scores(
    rows: npt.NDArray[np.int32], queries: npt.NDArray[np.float32], items: npt.NDArray[np.float32], bias: npt.NDArray[np.float32],
    extras: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """(scores float32[m, k], whether an extra is part of it bool[m, k]) of listed items, to the bit those of `top_k` and
    `with_extras`; -inf and False for a row of -1. Other arguments as theirs."""
    scores, with_extra = np.full(rows.shape, -np.inf, np.float32), np.zeros(rows.shape, bool)
    _place_scores(
        rows, np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32),
        np.ascontiguousarray(bias, np.float32), *extras, scores, with_extra,
    )
    return scores, with_extra
