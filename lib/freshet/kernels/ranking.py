"""The place of the true item among all items, and what it is worth.

    rank = 1 + number of items j, not excluded and not the target, with score_j > score_t,
               or score_j = score_t and key_j < key_t;            0 when the target is unknown (not ranked)

A score that is not a number is below every number; a target with such a score gets the last place there is.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4, IN_F4_2D, IN_I4, IN_I8, OUT_I4, compiled, void
from freshet.kernels.scoring import TILE, load_tile, score_one, score_tile


@compiled(void(IN_F4_2D, IN_F4_2D, IN_F4, IN_I8, IN_I4, IN_I8, IN_I4, IN_F4, OUT_I4))
def _leave_out(queries, items, bias, item_keys, target, offsets, excluded, goal, out):  # type: ignore[no-untyped-def]
    """Take the excluded items out of the counts, each once; settle targets whose score is not a number."""
    counted = np.full(items.shape[0], -1, np.int32)  # the last event an item was taken out for
    for e in range(target.shape[0]):
        t = target[e]
        if t < 0:
            continue
        distinct = 0
        for at in range(offsets[e], offsets[e + 1]):
            row = excluded[at]
            if row < 0 or row == t or counted[row] == e:
                continue
            counted[row] = e
            distinct += 1
            s = score_one(queries, e, items, bias, row)
            if s > goal[e] or (s == goal[e] and item_keys[row] < item_keys[t]):
                out[e] -= 1
        if goal[e] != goal[e]:
            out[e] = items.shape[0] - distinct


@compiled(void(IN_F4_2D, IN_F4_2D, IN_F4, IN_I8, IN_I4, IN_I8, IN_I4, OUT_I4))
def _ranks(queries, items, bias, item_keys, target, offsets, excluded, out):  # type: ignore[no-untyped-def]
    m, n = queries.shape[0], items.shape[0]
    goal = np.zeros(m, np.float32)
    for e in range(m):
        out[e] = 0
        if target[e] >= 0:
            out[e] = 1
            goal[e] = score_one(queries, e, items, bias, target[e])
    tile = np.empty((queries.shape[1], TILE), np.float32)
    scores = np.empty(TILE, np.float32)
    for start in range(0, n, TILE):
        width = min(TILE, n - start)
        load_tile(items, start, start + width, tile)
        for e in range(m):
            if target[e] < 0:
                continue
            score_tile(queries, e, tile, bias, start, width, scores)
            g = goal[e]
            above, equal = np.int32(0), np.int32(0)
            for j in range(width):
                above += np.int32(scores[j] > g)
                equal += np.int32(scores[j] == g)
            out[e] += above
            if equal > 0:
                key = item_keys[target[e]]
                for j in range(width):
                    if scores[j] == g and item_keys[start + j] < key:
                        out[e] += 1
    _leave_out(queries, items, bias, item_keys, target, offsets, excluded, goal, out)


@compiled(void(IN_I4, IN_I4, IN_I8, IN_I4, OUT_I4))
def _ranks_shared(place, target, offsets, excluded, out):  # type: ignore[no-untyped-def]
    counted = np.full(place.shape[0], -1, np.int32)
    for e in range(target.shape[0]):
        out[e] = 0
        if target[e] < 0:
            continue
        own = place[target[e]]
        before = own
        for at in range(offsets[e], offsets[e + 1]):
            row = excluded[at]
            if row >= 0 and counted[row] != e:
                counted[row] = e
                before -= np.int32(place[row] < own)
        out[e] = 1 + before


def ranks(
    queries: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    item_bias: npt.NDArray[np.float32],
    item_keys: npt.NDArray[np.int64],
    target: npt.NDArray[np.int32],
    excluded_offsets: npt.NDArray[np.int64],
    excluded_rows: npt.NDArray[np.int32],
) -> npt.NDArray[np.int32]:
    """Return int32[m]: the rank (see the module) of each event's target by score = item_bias + query . item.

    queries float32[m, d]; items float32[n, d]; item_bias float32[n]; item_keys int64[n]; target int32[m] a row of items
    or -1. Event e leaves out excluded_rows[excluded_offsets[e] : excluded_offsets[e + 1]], int32, in any order,
    repeated or -1 (nothing); its own target is ranked even if named there.
    """
    out = np.empty(len(target), np.int32)
    _ranks(
        np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32),
        np.ascontiguousarray(item_bias, np.float32), np.ascontiguousarray(item_keys, np.int64),
        np.ascontiguousarray(target, np.int32), np.ascontiguousarray(excluded_offsets, np.int64),
        np.ascontiguousarray(excluded_rows, np.int32), out,
    )
    return out


def ranks_shared(
    scores: npt.NDArray[np.float32],
    item_keys: npt.NDArray[np.int64],
    target: npt.NDArray[np.int32],
    excluded_offsets: npt.NDArray[np.int64],
    excluded_rows: npt.NDArray[np.int32],
) -> npt.NDArray[np.int32]:
    """Return int32[m]: the ranks when all events share the scores float32[n]; an event costs its exclusions only."""
    place = np.empty(len(scores), np.int32)
    place[np.lexsort((item_keys, -scores))] = np.arange(len(scores), dtype=np.int32)
    out = np.empty(len(target), np.int32)
    _ranks_shared(
        place, np.ascontiguousarray(target, np.int32), np.ascontiguousarray(excluded_offsets, np.int64),
        np.ascontiguousarray(excluded_rows, np.int32), out,
    )
    return out


def recall_at(rank: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.float64]:
    """1 if 1 <= rank <= k, else 0, per event (one relevant item)."""
    return ((rank >= 1) & (rank <= k)).astype(np.float64)


def ndcg_at(rank: npt.NDArray[np.int32], k: int) -> npt.NDArray[np.float64]:
    """1 / log2(1 + rank) if 1 <= rank <= k, else 0, per event: rank 1 gives 1, rank 3 gives 0.5."""
    gain = np.array([0.0, *(1.0 / math.log2(1 + place) for place in range(1, k + 1))])
    return gain[np.where((rank >= 1) & (rank <= k), rank, 0)]


def reciprocal(rank: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """1 / rank, and 0 for rank 0, per event."""
    return np.where(rank >= 1, 1.0 / np.maximum(rank, 1), 0.0)


def pairs_won(score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> tuple[float, int]:
    """(pairs of a positive and a negative that the scores put in this order, a tie counting half; all such pairs).

    Their ratio is the area under the ROC curve (Hanley, McNeil, Radiology 143, 1982).
    """
    mine, others = score[positive], np.sort(score[~positive])
    won = np.searchsorted(others, mine, "left").sum() + np.searchsorted(others, mine, "right").sum()
    return 0.5 * float(won), len(mine) * len(others)
