"""Slices: users by what a snapshot had seen of them, items by how popular they were, anything by a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from freshet.evaluation.observations import Slices
from freshet.head import Head
from freshet.schema import HISTORY, POPULARITY

ACTIVITY = (5, 20, 100)  # positive events of a user at which the next slice begins
POPULAR, RARE = 0.5, 0.8  # share of all positive events that the most popular items have together
MOST_TEXTS = 20  # slices by a text, those of most events; the rest are one


def user_slices(head: Head, users: np.ndarray) -> tuple[Slices, ...]:
    """Of users int64[n]: new or known, and by their positive events so far."""
    row = head.lookup(HISTORY, users)
    known = row >= 0
    count = np.where(known, head.tables[HISTORY].column("count")[np.where(known, row, 0)], 0) if known.any() else row * 0
    cuts = [0, *ACTIVITY]
    names = [f"activity {low} to {high - 1}" for low, high in zip(cuts, ACTIVITY, strict=False)]
    activity = Slices((*names, f"activity {ACTIVITY[-1]} and more"), _codes(np.searchsorted(ACTIVITY, count, side="right")))
    return Slices(("new_user", "known_user"), _codes(known)), activity


def item_slices(head: Head, items: np.ndarray) -> tuple[Slices, ...]:
    """Of items int64[n]: new or known; of the known ones whether they are of the fewest that have half of all positive events,
    of the many that have the last fifth, or between."""
    row = head.lookup(POPULARITY, items)
    known = row >= 0
    counts = head.tables[POPULARITY].column("count").astype(np.float64)
    order = np.argsort(-counts, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(counts[order])[:-1]]) / max(counts.sum(), 1.0)
    level = np.empty(len(counts), np.int64)
    level[order] = np.searchsorted([POPULAR, RARE], before, side="right")
    popularity = np.full(len(items), -1)
    popularity[known] = level[row[known]]
    names = ("popular items", "middling items", "rare items")
    return Slices(("new_item", "known_item"), _codes(known)), Slices(names, _codes(popularity))


def text_slices(column: str, texts: Sequence[str], codes: np.ndarray) -> Slices:
    """"column=text" of observations whose text is texts[code], -1 for none; texts beyond the most frequent are one slice."""
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    order = np.argsort(-counts, kind="stable")
    kept = order[:MOST_TEXTS]
    place = np.full(len(texts) + 1, len(kept))
    place[kept] = np.arange(len(kept))
    place[-1] = -1
    others = (f"{column}: others",) if len(order) > len(kept) else ()
    return Slices((*(f"{column}={texts[number]}" for number in kept.tolist()), *others), _codes(place[codes]))


def _codes(numbers: np.ndarray) -> np.ndarray:
    return np.asarray(numbers, np.int32)
