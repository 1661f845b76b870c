"""Ranks of true items under several mixes of the same parts, with one pass over the products.

    score_c(e, j) = dense_c * (bias_j + query_e . item_j) + sparse_c * extra(e, j) + popularity_c * log_count[life_c, j]

Ranks are those of kernels.ranking: ties by key, excluded items left out, 0 for an unknown target.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4, IN_F4_2D, IN_I4, IN_I8, OUT_I4_2D, boolean, compiled, float32, int64, void
from freshet.kernels.scoring import TILE, load_tile, score_one, score_tile


@compiled(float32(float32, float32, float32, float32))
def _plain(dense, score, popularity, log_count):  # type: ignore[no-untyped-def]
    return dense * score + popularity * log_count


@compiled(boolean(float32, int64, float32, int64))
def _before(score, key, goal, goal_key):  # type: ignore[no-untyped-def]
    return score > goal or (score == goal and key < goal_key)


@compiled(void(IN_F4_2D, IN_F4_2D, IN_I4, IN_I8, int64, int64, IN_F4, IN_F4, OUT_I4_2D))
def _count_all(log_count, mixes, life, keys, t, e, scores, goal, out):  # type: ignore[no-untyped-def]
    """Add to out[e, c] the items before the goal, extras not looked at; scores float32[n] are the dense ones."""
    for c in range(mixes.shape[0]):
        dense, popularity, logs, g = mixes[c, 0], mixes[c, 2], log_count[life[c]], goal[c]
        above, equal = np.int32(0), np.int32(0)
        for j in range(keys.shape[0]):
            s = dense * scores[j] + popularity * logs[j]
            above += np.int32(s > g)
            equal += np.int32(s == g)
        out[e, c] += above
        if equal > 0:
            for j in range(keys.shape[0]):
                if dense * scores[j] + popularity * logs[j] == g and keys[j] < keys[t]:
                    out[e, c] += 1


@compiled(void(IN_F4_2D, IN_I4, IN_F4_2D, IN_F4, IN_F4, IN_I8, int64, IN_F4, IN_I4, IN_I4, int64, OUT_I4_2D))
def _correct(mixes, life, log_count, dense_scores, extra, keys, t, goal, rows, excluded, e, out):  # type: ignore[no-untyped-def]
    """Put right in out[e] what the items with extras (rows, each once) and the excluded ones (each once) change."""
    for c in range(mixes.shape[0]):
        logs, g = log_count[life[c]], goal[c]
        for x in range(rows.shape[0]):
            j = rows[x]
            if j == t:
                continue
            plain = _plain(mixes[c, 0], dense_scores[j], mixes[c, 2], logs[j])
            whole = plain + mixes[c, 1] * extra[j]
            out[e, c] += np.int32(_before(whole, keys[j], g, keys[t])) - np.int32(_before(plain, keys[j], g, keys[t]))
        for x in range(excluded.shape[0]):
            j = excluded[x]
            if j == t:
                continue
            whole = _plain(mixes[c, 0], dense_scores[j], mixes[c, 2], logs[j]) + mixes[c, 1] * extra[j]
            out[e, c] -= np.int32(_before(whole, keys[j], g, keys[t]))


@compiled(void(
    IN_F4_2D, IN_F4_2D, IN_F4, IN_F4_2D, IN_F4_2D, IN_I4, IN_I8, IN_I4, IN_I8, IN_I4, IN_I8, IN_I4, IN_F4, OUT_I4_2D,
))
def _ranks_mixed(  # type: ignore[no-untyped-def]
    queries, items, bias, log_count, mixes, life, keys, target, offsets, excluded, extra_offsets, extra_rows, extra_values, out,
):
    n, block = items.shape[0], 16
    tile = np.empty((queries.shape[1], TILE), np.float32)
    scores = np.empty((block, n), np.float32)
    part = np.empty(TILE, np.float32)
    extra = np.zeros(n, np.float32)
    goal = np.empty(mixes.shape[0], np.float32)
    for first in range(0, target.shape[0], block):
        stop = min(first + block, target.shape[0])
        for start in range(0, n, TILE):
            width = min(TILE, n - start)
            load_tile(items, start, start + width, tile)
            for e in range(first, stop):
                score_tile(queries, e, tile, bias, start, width, part)
                scores[e - first, start : start + width] = part[:width]
        for e in range(first, stop):
            out[e] = 0
            t = target[e]
            if t < 0:
                continue
            mine = extra_rows[extra_offsets[e] : extra_offsets[e + 1]]
            for x in range(mine.shape[0]):
                extra[mine[x]] = extra_values[extra_offsets[e] + x]
            own = score_one(queries, e, items, bias, t)
            for c in range(mixes.shape[0]):
                goal[c] = _plain(mixes[c, 0], own, mixes[c, 2], log_count[life[c], t]) + mixes[c, 1] * extra[t]
            out[e] = 1
            _count_all(log_count, mixes, life, keys, t, e, scores[e - first], goal, out)
            _correct(mixes, life, log_count, scores[e - first], extra, keys, t, goal, mine,
                     excluded[offsets[e] : offsets[e + 1]], e, out)
            for x in range(mine.shape[0]):
                extra[mine[x]] = 0.0


def ranks_mixed(
    queries: npt.NDArray[np.float32],
    items: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    log_count: npt.NDArray[np.float32],
    mixes: npt.NDArray[np.float32],
    life: npt.NDArray[np.int32],
    keys: npt.NDArray[np.int64],
    target: npt.NDArray[np.int32],
    excluded: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]],
    extras: tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32]],
) -> npt.NDArray[np.int32]:
    """Return int32[m, c]: the rank of each event's target under each mix.

    queries float32[m, d]; items float32[n, d]; bias float32[n]; log_count float32[h, n]; mixes float32[c, 3] (dense,
    sparse, popularity) with their half-life's row in log_count, life int32[c]; keys int64[n]; target int32[m] or -1.
    excluded (offsets int64[m + 1], rows int32) and extras (offsets, rows, values float32): each item at most once an event.
    """
    out = np.empty((len(target), len(mixes)), np.int32)
    _ranks_mixed(
        np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(items, np.float32),
        np.ascontiguousarray(bias, np.float32), np.ascontiguousarray(log_count, np.float32),
        np.ascontiguousarray(mixes, np.float32), np.ascontiguousarray(life, np.int32),
        np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(target, np.int32),
        np.ascontiguousarray(excluded[0], np.int64), np.ascontiguousarray(excluded[1], np.int32),
        np.ascontiguousarray(extras[0], np.int64), np.ascontiguousarray(extras[1], np.int32),
        np.ascontiguousarray(extras[2], np.float32), out,
    )
    return out
