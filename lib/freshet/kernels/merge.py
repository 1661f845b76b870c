"""Merging what several shards made of the same row.

Shard p hands in its private row; its change is d_p = row - base. With a weight w_p per shard and a factor per row

    merged = base + factor * sum_p w_p * d_p

| rule        | w_p                  | factor                  |
|-------------|----------------------|-------------------------|
| sum         | 1                    | 1                       |
| average     | 1                    | 1 / shards touching     |
| contraction | a_p / (1-exp(-a_p))  | (1-exp(-A)) / A, A = sum a_p |
| mean        | n_0 + n_p            | 1 / (n_0 + sum n_p)     |

a_p is how far the shard's own pass contracted the residual of the row: small a gives the sum, large a the a-weighted
average. n are counts of events, n_0 before the batch: a running mean comes out as if it had seen all events.

A row of one shard is that shard's row, bit for bit. Sums are float64 in the order given, which is the order of shards.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4_2D, IN_F8, IN_I4, IN_I8, OUT_F4_2D, OUT_F8, compiled, float64, int64, void
from freshet.registry import pick

SUM, AVERAGE, CONTRACTION, MEAN = range(4)

RULES: dict[str, int] = {"sum": SUM, "average": AVERAGE, "contraction": CONTRACTION, "mean": MEAN}


@compiled(float64(float64))
def decay(a):  # type: ignore[no-untyped-def]
    """Return 1 - exp(-a) for a >= 0: a short series, then u(2a) = u(a) * (2 - u(a)).

    Written out because exp of the mathematical library may differ by a bit between machines, and merged rows may not.
    """
    if a > 64.0:
        return 1.0
    halvings = 0
    x = a
    while x > 0.125:
        x *= 0.5
        halvings += 1
    u = 0.0
    for n in range(12, 0, -1):
        u = x / n * (1.0 - u)
    for _ in range(halvings):
        u = u * (2.0 - u)
    return u


@compiled(float64(int64, float64, int64, int64))
def _weight(rule, a, count, base_count):  # type: ignore[no-untyped-def]
    if rule == CONTRACTION and a > 0.0:
        return a / decay(a)
    if rule == MEAN:
        return np.float64(base_count + count)
    return 1.0


@compiled(float64(int64, float64, int64, int64, int64))
def _factor(rule, a, count, base_count, shards):  # type: ignore[no-untyped-def]
    if rule == CONTRACTION and a > 0.0:
        return decay(a) / a
    if rule == MEAN:
        return 1.0 / max(base_count + count, 1)
    if rule == AVERAGE:
        return 1.0 / shards
    return 1.0


@compiled(void(int64, IN_F4_2D, IN_I4, IN_F4_2D, IN_F8, IN_I8, IN_I8, OUT_F4_2D, OUT_F8))
def _merge(rule, base, rows, news, a, counts, base_counts, out, total):  # type: ignore[no-untyped-def]
    """Fill `out`, a copy of `base`, run by run of equal `rows`; `total` float64[w] is scratch."""
    start = 0
    while start < rows.shape[0]:
        row = rows[start]
        stop = start + 1
        while stop < rows.shape[0] and rows[stop] == row:
            stop += 1
        if stop == start + 1:
            out[row] = news[start]
        else:
            total[:] = 0.0
            all_a, all_counts = 0.0, 0
            for p in range(start, stop):
                all_a += a[p]
                all_counts += counts[p]
                weight = _weight(rule, a[p], counts[p], base_counts[row])
                for c in range(base.shape[1]):
                    total[c] += weight * (np.float64(news[p, c]) - np.float64(base[row, c]))
            factor = _factor(rule, all_a, all_counts, base_counts[row], stop - start)
            for c in range(base.shape[1]):
                out[row, c] = np.float32(np.float64(base[row, c]) + factor * total[c])
        start = stop


def merge_rows(
    rule: str,
    base: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int32],
    news: npt.NDArray[np.float32],
    a: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    base_counts: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Return float32[r, w]: the rows after the batch (formula in the module); a row without contribution is its base.

    base float32[r, w] rows before; base_counts int64[r] their events. The m contributions are sorted by (row, shard):
    rows int32[m] which row, news float32[m, w] the shard's row afterwards, a float64[m] its contraction,
    counts int64[m] its events. Raises UnknownName for a rule that is not in RULES, ValueError for rows out of order.
    """
    code = pick("merge rule", rule, RULES)
    rows = np.ascontiguousarray(rows, np.int32)
    if len(rows) and (np.any(rows[1:] < rows[:-1]) or rows[0] < 0 or rows[-1] >= len(base)):
        raise ValueError("contributions must be sorted by row, rows within the base")
    out = np.array(base, np.float32, order="C")
    _merge(code, base, rows, news, a, counts, base_counts, out, np.empty(base.shape[1]))
    return out
