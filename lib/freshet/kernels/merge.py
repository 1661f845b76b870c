"""Merging what several shards made of the same row.

Shard p hands in its private row; its change is d_p = row - base. With a weight w_p per shard and a factor per row

    merged = base + factor * sum_p w_p * d_p

| rule        | w_p                  | factor                  |
|-------------|----------------------|-------------------------|
| sum         | 1                    | 1                       |
| average     | 1                    | 1 / shards touching     |
| contraction | a_p / (1-exp(-a_p))  | (1-exp(-A)) / A, A = sum a_p |
| mean        | n_0 + n_p            | 1 / (n_0 + sum n_p)     |
| clipped     | as contraction, of changes no longer than twice their median (kernels.robust) |
| trimmed     | as contraction, without the farthest changes of each coordinate               |

a_p is how far the shard's own pass contracted the residual of the row: small a gives the sum, large a the a-weighted
average. n are counts of events, n_0 before the batch: a running mean comes out as if it had seen all events.

A row of one shard is that shard's row, bit for bit. Sums are float64 in the order of the parts, which is the order of shards:
each part is added to the sums of the rows that several shards touched, which are as many as there are such rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import (
    IN_F4_2D,
    IN_F8,
    IN_F8_2D,
    IN_I4,
    IN_I8,
    IN_I8_2D,
    OUT_F4_2D,
    OUT_F8,
    OUT_F8_2D,
    OUT_I4,
    OUT_I8,
    OUT_I8_2D,
    compiled,
    float64,
    int64,
    void,
)
from freshet.kernels.robust import merge_vectors
from freshet.registry import pick

SUM, AVERAGE, CONTRACTION, MEAN, CLIPPED, TRIMMED = range(6)

RULES: dict[str, int] = {
    "sum": SUM, "average": AVERAGE, "contraction": CONTRACTION, "mean": MEAN, "clipped": CLIPPED, "trimmed": TRIMMED,
}


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


class Part(NamedTuple):
    """What one shard hands in: `rows` int32[m] which rows, `news` float32[m, w] what it made of them, `a` float64[m] their
    contractions, `counts` int64[m] their events; a row without an event of the shard says nothing."""

    rows: npt.NDArray[np.int32]
    news: npt.NDArray[np.float32]
    a: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


class Span(NamedTuple):
    """Columns start .. stop - 1, merged with the contraction by_a * a or, where that is 0, by_count * count."""

    start: int
    stop: int
    by_a: float
    by_count: float


@compiled(void(IN_I4, IN_I8, OUT_I4))
def _touch(rows, counts, shards):  # type: ignore[no-untyped-def]
    """Count the part into shards int32[r], those that touched each row."""
    for k in range(rows.shape[0]):
        shards[rows[k]] += counts[k] > 0


@compiled(int64(OUT_I4))
def _number(shards):  # type: ignore[no-untyped-def]
    """Turn shards into numbers from 0 of the rows that several touched, -1 for the others; return how many there are."""
    met = 0
    for r in range(shards.shape[0]):
        several = shards[r] > 1
        shards[r] = met if several else -1
        met += several
    return met


@compiled(float64(float64, float64, float64, int64))
def _contraction(by_a, by_count, a, count):  # type: ignore[no-untyped-def]
    return by_a * a if by_a > 0.0 else by_count * count


@compiled(void(int64, IN_I8_2D, IN_F8_2D, IN_I4, IN_I4, IN_F4_2D, IN_F8, IN_I8, IN_I8, OUT_F4_2D, OUT_F8_2D, OUT_F8_2D, OUT_I8_2D))
def _add(rule, columns, by, number, rows, news, a, counts, before, values, total, all_a, all_counts):  # type: ignore[no-untyped-def]
    """Add a part to total float64[met, w], all_a float64[met, spans] and all_counts int64[met, 2], events and shards; a row of
    one shard goes to values as it is."""
    for k in range(rows.shape[0]):
        if counts[k] <= 0:
            continue
        row, met = rows[k], number[rows[k]]
        if met < 0:
            for c in range(values.shape[1]):
                values[row, c] = news[k, c]
            continue
        all_counts[met, 0] += counts[k]
        all_counts[met, 1] += 1
        for s in range(columns.shape[0]):
            own = _contraction(by[s, 0], by[s, 1], a[k], counts[k])
            all_a[met, s] += own
            weight = _weight(rule, own, counts[k], before[row])
            for c in range(columns[s, 0], columns[s, 1]):
                total[met, c] += weight * (np.float64(news[k, c]) - np.float64(values[row, c]))


@compiled(void(int64, IN_I8_2D, IN_I4, IN_I8, OUT_F4_2D, IN_F8_2D, IN_F8_2D, IN_I8_2D))
def _settle(rule, columns, number, before, values, total, all_a, all_counts):  # type: ignore[no-untyped-def]
    for row in range(number.shape[0]):
        met = number[row]
        for s in range(columns.shape[0] if met >= 0 else 0):
            factor = _factor(rule, all_a[met, s], all_counts[met, 0], before[row], all_counts[met, 1])
            for c in range(columns[s, 0], columns[s, 1]):
                values[row, c] = np.float32(np.float64(values[row, c]) + factor * total[met, c])


def merge_parts(
    rule: str, values: npt.NDArray[np.float32], parts: Sequence[Part], spans: Sequence[Span], before: npt.NDArray[np.int64],
) -> None:
    """Change values float32[r, w] in place to what the parts, in the order of shards, make of them; `before` int64[r] are the
    events of the rows until then. Raises UnknownName for a rule that is not in RULES, ValueError for a row outside of values."""
    code = pick("merge rule", rule, RULES)
    number = np.zeros(len(values), np.int32)
    for part in parts:
        if len(part.rows) and (part.rows.min() < 0 or part.rows.max() >= len(values)):
            raise ValueError(f"rows of a part must lie within the {len(values)} of the block")
        _touch(part.rows, part.counts, number)
    met = _number(number)
    columns = np.array([span[:2] for span in spans], np.int64).reshape(-1, 2)
    by = np.array([span[2:] for span in spans], np.float64).reshape(-1, 2)
    total, all_a, all_counts = np.zeros((met, values.shape[1])), np.zeros((met, len(spans))), np.zeros((met, 2), np.int64)
    robust = code in (CLIPPED, TRIMMED)
    own = CONTRACTION if robust else code
    base = values.copy() if robust else values
    for part in parts:
        _add(own, columns, by, number, *part, before, values, total, all_a, all_counts)
    _settle(own, columns, number, before, values, total, all_a, all_counts)
    if robust and met and spans and spans[0].start == 0:  # slots alone have no vector to be pulled
        several = np.flatnonzero(number >= 0)
        several = several[all_counts[number[several], 1] > 2]
        _robust(code == TRIMMED, values, base, parts, spans[0], several, all_a[number[several], 0])


def _robust(
    trim: bool, values: npt.NDArray[np.float32], base: npt.NDArray[np.float32], parts: Sequence[Part], span: Span,
    at: npt.NDArray[np.int64], all_a: npt.NDArray[np.float64],
) -> None:
    """The vectors of the rows `at`, of more than two shards, anew from `base`, by a rule of kernels.robust."""
    number = np.full(len(values), -1, np.int32)
    number[at] = np.arange(len(at))
    vectors = np.ascontiguousarray(base[at, : span.stop])
    rows, news, weights = [], [], []
    for part in parts:
        mine = np.flatnonzero((part.counts > 0) & (number[part.rows] >= 0))
        a = span.by_a * part.a[mine] if span.by_a > 0.0 else span.by_count * part.counts[mine]
        rows.append(number[part.rows[mine]])
        news.append(part.news[mine])
        weights.append(_weights(a))
    merge_vectors(trim, vectors, span.stop, rows, news, weights, 1.0 / _weights(all_a))
    values[at, : span.stop] = vectors


@compiled(OUT_F8(IN_F8))
def _weights(a):  # type: ignore[no-untyped-def]
    """float64[n] = a / (1 - exp(-a)), 1 at 0."""
    out = np.empty(a.shape[0])
    for k in range(a.shape[0]):
        out[k] = _weight(CONTRACTION, a[k], 0, 0)
    return out


@compiled(void(IN_I4, IN_I8, OUT_I8, OUT_I8))
def add_counts(rows, counts, to, also):  # type: ignore[no-untyped-def]
    """Add a part's counts to those of its rows, int64[r], in both."""
    for k in range(rows.shape[0]):
        to[rows[k]] += counts[k]
        also[rows[k]] += counts[k]
