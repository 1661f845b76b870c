"""The k best items of each query, exactly.

    score = bias + query . item (summed as kernels.scoring says); higher first, equal scores by smaller `order`

Tiles of items pass by blocks of queries; each query keeps a heap of its k best whose root is the worst of them. A tile
whose scores all lie under the root is left after one vectorized comparison, which is what nearly every tile is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import (
    IN_F4,
    IN_F4_2D,
    IN_I4,
    IN_I8,
    OUT_F4_2D,
    OUT_I4,
    OUT_I4_2D,
    boolean,
    compiled,
    float32,
    int32,
    int64,
    void,
)
from freshet.kernels.scoring import TILE, load_tile, score_one, score_tile

_QUERIES = 1024  # queries that share a loaded tile; their heaps and vectors stay in the cache


@compiled(boolean(float32, int64, float32, int64))
def _worse(score, order, than_score, than_order):  # type: ignore[no-untyped-def]
    return score < than_score or (score == than_score and order > than_order)


@compiled(void(OUT_I4_2D, OUT_F4_2D, int64, int64, int64, IN_I8))
def _sift_down(rows, scores, e, at, size, order):  # type: ignore[no-untyped-def]
    """Restore the heap of query e below place `at`: every entry is worse than its children."""
    row, score = rows[e, at], scores[e, at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and _worse(
            scores[e, child + 1], order[rows[e, child + 1]], scores[e, child], order[rows[e, child]]
        ):
            child += 1
        if not _worse(scores[e, child], order[rows[e, child]], score, order[row]):
            break
        rows[e, at], scores[e, at] = rows[e, child], scores[e, child]
        at = child
    rows[e, at], scores[e, at] = row, score


@compiled(void(OUT_I4_2D, OUT_F4_2D, int64, int64, int32, float32, IN_I8))
def _push(rows, scores, e, size, row, score, order):  # type: ignore[no-untyped-def]
    """Add an entry to the heap of query e, which has room."""
    at = size
    while at > 0:
        parent = (at - 1) // 2
        if not _worse(score, order[row], scores[e, parent], order[rows[e, parent]]):
            break
        rows[e, at], scores[e, at] = rows[e, parent], scores[e, parent]
        at = parent
    rows[e, at], scores[e, at] = row, score


@compiled(boolean(IN_I4, int64, int64, int64))
def _holds(sorted_rows, start, stop, row):  # type: ignore[no-untyped-def]
    while start < stop:
        middle = (start + stop) // 2
        if sorted_rows[middle] < row:
            start = middle + 1
        elif sorted_rows[middle] > row:
            stop = middle
        else:
            return True
    return False


@compiled(int64(OUT_I4_2D, OUT_F4_2D, int64, int64, IN_F4, int64, int64, IN_I8, IN_I8, IN_I4))
def _take(rows, scores, e, size, tile_scores, start, width, order, offsets, excluded):  # type: ignore[no-untyped-def]
    """Put what belongs there of a tile into the heap of query e; return the heap's new size."""
    k = rows.shape[1]
    if size == k:
        worst = scores[e, 0]
        hits = np.int32(0)
        for j in range(width):
            hits += np.int32(tile_scores[j] >= worst)
        if hits == 0:
            return size
    for j in range(width):
        score, row = tile_scores[j], np.int32(start + j)
        if score != score or (size == k and not _worse(scores[e, 0], order[rows[e, 0]], score, order[row])):
            continue
        if _holds(excluded, offsets[e], offsets[e + 1], row):
            continue
        if size < k:
            _push(rows, scores, e, size, row, score, order)
            size += 1
        else:
            rows[e, 0], scores[e, 0] = row, score
            _sift_down(rows, scores, e, 0, k, order)
    return size


@compiled(void(OUT_I4_2D, OUT_F4_2D, int64, int64, IN_I8))
def _best_first(rows, scores, e, size, order):  # type: ignore[no-untyped-def]
    """Turn the heap of query e into a list, best first: the worst goes to the end, again and again."""
    for last in range(size - 1, 0, -1):
        row, score = rows[e, last], scores[e, last]
        rows[e, last], scores[e, last] = rows[e, 0], scores[e, 0]
        rows[e, 0], scores[e, 0] = row, score
        _sift_down(rows, scores, e, 0, last, order)


@compiled(void(IN_F4_2D, IN_F4_2D, IN_F4, IN_I8, IN_I8, IN_I4, OUT_I4_2D, OUT_F4_2D))
def _top_k(queries, items, bias, order, offsets, excluded, rows, scores):  # type: ignore[no-untyped-def]
    m, n = queries.shape[0], items.shape[0]
    tile = np.empty((queries.shape[1], TILE), np.float32)
    tile_scores = np.empty(TILE, np.float32)
    sizes = np.zeros(m, np.int64)
    for first in range(0, m, _QUERIES):
        stop = min(first + _QUERIES, m)
        for start in range(0, n, TILE):
            width = min(TILE, n - start)
            load_tile(items, start, start + width, tile)
            for e in range(first, stop):
                score_tile(queries, e, tile, bias, start, width, tile_scores)
                sizes[e] = _take(rows, scores, e, sizes[e], tile_scores, start, width, order, offsets, excluded)
        for e in range(first, stop):
            _best_first(rows, scores, e, sizes[e], order)


@compiled(void(IN_I8, OUT_I4))
def _sort_each(offsets, rows):  # type: ignore[no-untyped-def]
    for e in range(offsets.shape[0] - 1):
        rows[offsets[e] : offsets[e + 1]].sort()


def top_k(
    queries: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    k: int,
    excluded_offsets: npt.NDArray[np.int64],
    excluded_rows: npt.NDArray[np.int32],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return (rows int32[m, k], scores float32[m, k]), best first; where fewer than k items remain -1 and -inf.

    queries float32[m, d]; items float32[n, d]; bias float32[n]; order int64[n] settles equal scores, the smaller first.
    Query e leaves out excluded_rows[excluded_offsets[e] : excluded_offsets[e + 1]], int32, in any order. A score that
    is not a number is never listed. Runs without the GIL; a slice of queries with its slice of offsets gives the
    same lists, so threads can share the work.
    """
    excluded = np.array(excluded_rows, np.int32)  # a copy: it is sorted in place
    offsets = np.ascontiguousarray(excluded_offsets, np.int64)
    _sort_each(offsets, excluded)
    rows = np.full((len(queries), k), -1, np.int32)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    if k > 0:
        _top_k(
            np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32),
            np.ascontiguousarray(bias, np.float32), np.ascontiguousarray(order, np.int64), offsets, excluded,
            rows, scores,
        )
    return rows, scores


@compiled(void(OUT_I4_2D, OUT_F4_2D, IN_F4_2D, IN_F4_2D, IN_F4, IN_I8, IN_I8, IN_I4, IN_I8, IN_I4, IN_F4))
def _with_extras(rows, scores, queries, items, bias, order, offsets, excluded, extra_offsets, extra_rows, extra_values):  # type: ignore[no-untyped-def]
    m, k = rows.shape
    has = np.zeros(items.shape[0], np.bool_)
    one = np.empty(1, np.float32)
    old_rows, old_scores = np.empty(k, np.int32), np.empty(k, np.float32)
    for e in range(m):
        for x in range(extra_offsets[e], extra_offsets[e + 1]):
            has[extra_rows[x]] = True
        size, length = np.int64(0), np.int64(0)
        for j in range(k):
            if rows[e, j] >= 0 and not has[rows[e, j]]:
                old_rows[length], old_scores[length] = rows[e, j], scores[e, j]
                length += 1
        rows[e], scores[e] = np.int32(-1), np.float32(-np.inf)
        for j in range(length):
            _push(rows, scores, e, size, old_rows[j], old_scores[j], order)
            size += 1
        for x in range(extra_offsets[e], extra_offsets[e + 1]):
            row = extra_rows[x]
            has[row] = False
            one[0] = score_one(queries, e, items, bias, row) + extra_values[x]
            size = _take(rows, scores, e, size, one, row, 1, order, offsets, excluded)
        _best_first(rows, scores, e, size, order)


def with_extras(
    rows: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float32],
    queries: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    order: npt.NDArray[np.int64],
    excluded: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
    extras: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The lists of `top_k`, put right for items whose score is higher by an extra.

    Arguments as those of top_k, with its own result for `rows` and `scores`. Query e gives item extra_rows[x] a further
    extra_values[x] >= 0 for extra_offsets[e] <= x < extra_offsets[e + 1], each item at most once. Exact: an item without
    an extra that belongs on the new list was on the old one.
    """
    rows, scores = rows.copy(), scores.copy()
    without = np.array(excluded[1], np.int32)
    offsets = np.ascontiguousarray(excluded[0], np.int64)
    _sort_each(offsets, without)
    if rows.shape[1]:
        _with_extras(
            rows, scores, np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32),
            np.ascontiguousarray(bias, np.float32), np.ascontiguousarray(order, np.int64), offsets, without,
            np.ascontiguousarray(extras[0], np.int64), np.ascontiguousarray(extras[1], np.int32),
            np.ascontiguousarray(extras[2], np.float32),
        )
    return rows, scores
