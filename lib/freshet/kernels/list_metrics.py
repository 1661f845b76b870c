"""What a ranked list is worth to a user who wanted some items, and how alike the items of a list are.

    hit_j  = 1 if the item at place j = 1 .. K was wanted, else 0         R = number of items wanted

    recall    = sum_j hit_j / R                    precision = sum_j hit_j / K            hit = 1 if any hit_j is 1
    ndcg      = sum_j hit_j / log2(1 + j)  over  sum_{j <= min(R, K)} 1 / log2(1 + j)
    map       = sum_j hit_j (hits among the first j) / j  over  R
    mrr       = 1 / (smallest j with hit_j = 1), 0 without

Cut at K and with R below as trec_eval has them (Voorhees and Harman, TREC, MIT Press 2005, chapter 3); ndcg after Jarvelin and
Kekalainen, ACM TOIS 20 (2002). A list that is shorter than K has no hits at the places it lacks.

    diversity = mean over pairs of places of 1 - cosine of their vectors          Ziegler et al., WWW 2005
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4_2D, IN_I4, IN_I4_2D, IN_I8, OUT_F8, OUT_F8_2D, compiled, int64, void

MEASURES = ("recall", "precision", "ndcg", "map", "mrr", "hit")


@compiled(void(IN_I4_2D, IN_I8, IN_I4, int64, OUT_F8_2D))
def _worth(lists, offsets, wanted, items, out):  # type: ignore[no-untyped-def]
    k = lists.shape[1]
    wanted_by = np.full(items, -1, np.int64)  # the last user who wanted an item: nothing to clear between users
    for u in range(lists.shape[0]):
        size = offsets[u + 1] - offsets[u]
        if size == 0:
            out[u] = np.nan
            continue
        for at in range(offsets[u], offsets[u + 1]):
            if wanted[at] >= 0:
                wanted_by[wanted[at]] = u
        hits, first, gain, ideal, precisions = 0, 0, 0.0, 0.0, 0.0
        for j in range(k):
            discount = 1.0 / math.log2(2.0 + j)
            if j < size:
                ideal += discount
            row = lists[u, j]
            if row >= 0 and wanted_by[row] == u:
                hits += 1
                gain += discount
                precisions += hits / (j + 1.0)
                if hits == 1:
                    first = j + 1
        out[u, 0], out[u, 1], out[u, 2] = hits / size, hits / k, gain / ideal
        out[u, 3], out[u, 4], out[u, 5] = precisions / size, 1.0 / first if first else 0.0, 1.0 if hits else 0.0


def worth(
    lists: npt.NDArray[np.int32], offsets: npt.NDArray[np.int64], wanted: npt.NDArray[np.int32], items: int
) -> npt.NDArray[np.float64]:
    """float64[m, 6]: MEASURES of each user's list; not a number for a user who wanted nothing.

    lists int32[m, k] item numbers below `items`, best first, each once, -1 at places without an item. User u wanted
    wanted[offsets[u] : offsets[u + 1]], each once; -1 is an item that no list can have, and counts in R.
    """
    out = np.empty((len(lists), len(MEASURES)))
    if lists.shape[1]:
        _worth(np.ascontiguousarray(lists, np.int32), np.ascontiguousarray(offsets, np.int64),
               np.ascontiguousarray(wanted, np.int32), items, out)
    return out


@compiled(void(IN_I4_2D, IN_F4_2D, OUT_F8))
def _spread(lists, unit, out):  # type: ignore[no-untyped-def]
    total = np.empty(unit.shape[1])
    for u in range(lists.shape[0]):
        total[:] = 0.0
        own, size = 0.0, 0
        for j in range(lists.shape[1]):
            row = lists[u, j]
            if row >= 0:
                size += 1
                for c in range(unit.shape[1]):
                    total[c] += unit[row, c]
                    own += float(unit[row, c]) * float(unit[row, c])
        both = 0.0
        for c in range(unit.shape[1]):
            both += total[c] * total[c]
        # Of all ordered pairs: the square of the sum is all products, those of an item with itself taken off.
        out[u] = 1.0 - (both - own) / (size * (size - 1.0)) if size > 1 else np.nan


def spread(lists: npt.NDArray[np.int32], unit: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """float64[m]: diversity of lists int32[m, k] of rows of `unit` float32[n, d], vectors of length 1 (or 0: like nothing);
    not a number for a list of fewer than two items."""
    out = np.empty(len(lists))
    _spread(np.ascontiguousarray(lists, np.int32), np.ascontiguousarray(unit, np.float32), out)
    return out


def gini(shown: npt.NDArray[np.int64]) -> float:
    """sum_i (2 i - n - 1) x_i / (n sum_i x_i), x ascending, i = 1 .. n: 0 where all n items are shown alike often, nearly 1
    where one item has every place; shown int64[n]. Not a number where nothing was shown."""
    x, n = np.sort(shown).astype(np.float64), len(shown)
    return float(((2 * np.arange(1, n + 1) - n - 1) * x).sum() / (n * x.sum())) if x.any() else math.nan
