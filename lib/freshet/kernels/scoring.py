"""Scores of one query against a tile of items: what ranks and lists are both made of, so they agree to the bit.

    score(q, x) = (((bias + q_1 x_1) + q_2 x_2) + ...) + q_d x_d        float32, in this order

The order of the sum is fixed for every item, and the loop runs across the items of a tile, which lie transposed:
strict arithmetic and vector instructions at once. A matrix product of a BLAS library sums in an order of its own, which
differs between machines and between places in the matrix, so that equal items would not always get equal scores.
"""

from __future__ import annotations

from freshet.kernels.compiled import IN_F4, IN_F4_2D, OUT_F4, OUT_F4_2D, compiled, float32, int64, void

TILE = 256  # items of a tile: with 32 factors it fills 32 KB


@compiled(void(IN_F4_2D, int64, int64, OUT_F4_2D))
def load_tile(items, start, stop, tile):  # type: ignore[no-untyped-def]
    """tile[c, j] = items[start + j, c]; tile float32[d, TILE]."""
    for j in range(stop - start):
        for c in range(items.shape[1]):
            tile[c, j] = items[start + j, c]


@compiled(void(IN_F4_2D, int64, OUT_F4_2D, IN_F4, int64, int64, OUT_F4))
def score_tile(queries, e, tile, bias, start, width, out):  # type: ignore[no-untyped-def]
    """out[j] = score of query e against item start + j, which is column j of the tile, for j < width."""
    d = queries.shape[1]
    for j in range(width):
        out[j] = bias[start + j]
    whole = d - d % 4
    for c in range(0, whole, 4):
        q0, q1, q2, q3 = queries[e, c], queries[e, c + 1], queries[e, c + 2], queries[e, c + 3]
        for j in range(width):
            s = out[j] + q0 * tile[c, j]
            s = s + q1 * tile[c + 1, j]
            s = s + q2 * tile[c + 2, j]
            out[j] = s + q3 * tile[c + 3, j]
    for c in range(whole, d):
        q = queries[e, c]
        for j in range(width):
            out[j] = out[j] + q * tile[c, j]


@compiled(float32(IN_F4_2D, int64, IN_F4_2D, IN_F4, int64))
def score_one(queries, e, items, bias, item):  # type: ignore[no-untyped-def]
    """Score of query e against one item."""
    s = bias[item]
    for c in range(queries.shape[1]):
        s = s + queries[e, c] * items[item, c]
    return s
