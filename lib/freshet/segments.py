"""Popularity by segment: what is taken in a context, for those who ask in it and of whom the model knows nothing else.

    p(i | s) = (c_s(i) + m p(i)) / (n_s + m)        p(i) = c(i) / N

c_s(i) is the decayed count of item i in segment s, n_s of all items in it; c(i) and N are those of all events, and m events
of these stand beside the segment's own. So log p(i | s) is log c(i) + log(1 + c_s(i) N / (m c(i))) and a number that is the same
for all items: to popularity a segment adds the second term, to its own items only. Dirichlet prior smoothing: Zhai and
Lafferty, ACM TOIS 22 (2004), section 3.

A row of block `segment` has the key of its feature, its most popular items as links and [n_s, c_s of each link] as vector,
counted as in kernels.neighbours: the smallest count gives way to a newcomer, so the row is bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from freshet.asking import POPULARITY_FLOOR, Items, extra_rows
from freshet.head import TOTALS, Head
from freshet.kernels.mixing import ranks_mixed
from freshet.kernels.neighbours import count
from freshet.kernels.popularity import count_column, log_popularity
from freshet.leader import Choice
from freshet.models.contract import Events, Extras, Mix, Rows
from freshet.schema import SEGMENT


@dataclass(frozen=True)
class SegmentSpec:
    """The column of the events' features that makes segments, the half-life of their counts in microseconds (infinite:
    never), and m."""

    column: int
    half_life: float
    prior: float


def count_segments(head: Head, events: Events, positive: np.ndarray, spec: SegmentSpec) -> Rows:
    """The rows of the segments of the positive events, after these."""
    chosen = np.flatnonzero(positive & (events.features[:, spec.column] != 0))
    keys, segment = np.unique(events.features[chosen, spec.column], return_inverse=True)
    items, item = np.unique(events.item_key[chosen], return_inverse=True)
    rows, _ = head.gather(SEGMENT, keys)
    # Items stand behind the segments in what the kernel takes for the keys of rows; without a way back it touches none.
    values, touched = rows.values.astype(np.float64), np.zeros(len(keys) + len(items), np.int64)
    count(
        values, rows.links, rows.filled, rows.last_at, touched, np.concatenate([keys, items]),
        (len(keys) + item).astype(np.int32), segment.astype(np.int32)[:, None], events.event_at[chosen], events.weight[chosen],
        1.0, 0.0, spec.half_life,
    )
    return Rows(keys, values.astype(np.float32), rows.links, rows.filled, rows.count + touched[: len(keys)], rows.last_at)


def segment_extras(
    head: Head, on: Items, choice: Choice, features: np.ndarray, spec: SegmentSpec, local: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As asking.extra_rows: what the segments of askers in the contexts int64[m, F] add to log c(i), c(i) and N being of the
    half-life of the choice."""
    rows, _ = head.gather(SEGMENT, features[:, spec.column])
    offsets = np.concatenate([[0], np.cumsum(rows.filled)]).astype(np.int64)
    asker, place = np.nonzero(np.arange(rows.links.shape[1]) < rows.filled[:, None])
    own = rows.values[asker, 1 + place].astype(np.float64)
    faded = (head.clock - rows.last_at[asker]) * (math.log(2.0) / spec.half_life)
    counts = Extras(offsets, rows.links[asker, place], np.log(np.maximum(own, 1e-30)) - faded)
    offsets, numbers, level = extra_rows(head, counts, len(features), local)
    level += _log_total(head, choice) - math.log(spec.prior) - on.log_count[choice.number, numbers]
    return offsets, numbers, np.logaddexp(0.0, level).astype(np.float32)


def segment_ranks(
    head: Head, on: Items, features: np.ndarray, target: np.ndarray, seen: tuple[np.ndarray, np.ndarray], spec: SegmentSpec,
    local: np.ndarray,
) -> np.ndarray:
    """int32[m, 1]: rank of each asker's target by the popularity of his segment, the counts of all by the segments' half-life."""
    extras = segment_extras(head, on, Choice(Mix(0.0, 1.0, 1.0), 0, spec.half_life), features, spec, local)
    nothing, zeros = np.zeros((len(target), 0), np.float32), np.zeros(len(on.rows), np.float32)
    weights = np.array([[0.0, 1.0, 1.0]], np.float32)
    return ranks_mixed(
        nothing, on.vectors[:, :0], zeros, on.log_count, weights, np.zeros(1, np.int32), on.keys, target, seen, extras)


def _log_total(head: Head, choice: Choice) -> float:
    table, out = head.tables[TOTALS], np.zeros(len(head.tables[TOTALS]), np.float32)
    counts = np.ascontiguousarray(head.values(TOTALS)[:, count_column(choice.number)])
    log_popularity(counts, table.column("last_at"), head.clock, choice.half_life, POPULARITY_FLOOR, out)
    return float(out.sum())
