"""Top-K lists from a head: one exact path for every model that gives queries and an item matrix.

    score(user, item) = query . vector + bias + popularity_weight * log(decayed popularity)

Items the user already has are left out; a user the head does not know gets the popular items. Ties go to the smaller
natural id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from freshet.head import Head
from freshet.kernels.popularity import log_popularity
from freshet.kernels.topk import top_k
from freshet.models.contract import ITEM, USER, Model
from freshet.prequential import POPULARITY_FLOOR, history_items_of
from freshet.schema import POPULARITY

BY_MODEL, BY_POPULARITY = "model", "popularity"


@dataclass(frozen=True)
class Lists:
    """For each user K item keys int64[m, k] with scores float32[m, k]; `length` int64[m] how many there are; `known`
    bool[m], False where popularity answered."""

    items: np.ndarray
    scores: np.ndarray
    length: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Shelf:
    """All known items of a head, ready to be ranked: vectors, biases, log popularity, keys and their order of ties."""

    keys: np.ndarray
    vectors: np.ndarray
    bias: np.ndarray
    log_count: np.ndarray
    order: np.ndarray


def shelf(head: Head, model: Model, half_life: float, order: np.ndarray) -> Shelf:
    """The shelf of a head; order int64[n] ranks its items (rows of `popularity`) by natural id."""
    table = head.tables[POPULARITY]
    log_count = np.empty(len(table), np.float32)
    log_popularity(head.values(POPULARITY), table.column("last_at"), head.clock, half_life, POPULARITY_FLOOR, log_count)
    rows = head.item_rows()
    values = np.zeros((len(rows), head.blocks[ITEM].width + head.blocks[ITEM].slots), np.float32)
    values[rows >= 0] = head.values(ITEM)[rows[rows >= 0]]
    vectors, bias = model.item_matrix({ITEM: values})
    bias = (bias + np.float32(model.popularity_weight) * log_count).astype(np.float32)
    return Shelf(table.keys.copy(), vectors, bias, log_count, order)


def top_items(head: Head, model: Model, on: Shelf, users: np.ndarray, n: int, history_items: int) -> Lists:
    """The n best items of each user key, exactly."""
    row = head.lookup(USER, users)
    known = row >= 0
    values = np.zeros((len(users), head.blocks[USER].width + head.blocks[USER].slots), np.float32)
    values[known] = head.values(USER)[row[known]]
    queries = model.queries({USER: values}, {USER: known})
    offsets, seen = _seen(head, users, history_items)
    rows = np.full((len(users), n), -1, np.int32)
    scores = np.full((len(users), n), -np.inf, np.float32)
    for which, bias, matrix in ((known, on.bias, on.vectors), (~known, on.log_count, np.zeros_like(on.vectors))):
        at = np.flatnonzero(which)
        if len(at) and len(on.keys):
            rows[at], scores[at] = top_k(queries[at], matrix, bias, on.order, n, *_chosen(offsets, seen, at))
    items = np.zeros(rows.shape, np.int64)
    items[rows >= 0] = on.keys[rows[rows >= 0]]
    return Lists(items, scores, (rows >= 0).sum(axis=1), known)


def _seen(head: Head, users: np.ndarray, history_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, popularity rows) of what each user already has, each once."""
    number, keys = history_items_of(head, users, history_items)
    row = head.lookup(POPULARITY, keys)
    pairs = np.unique(number[row >= 0] * np.int64(2**32) + row[row >= 0])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=len(users)))]).astype(np.int64)
    return offsets, (pairs & np.int64(2**32 - 1)).astype(np.int32)


def _chosen(offsets: np.ndarray, seen: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = np.diff(offsets)
    kept = np.zeros(len(counts), bool)
    kept[at] = True
    return np.concatenate([[0], np.cumsum(counts[at])]).astype(np.int64), seen[np.repeat(kept, counts)]
