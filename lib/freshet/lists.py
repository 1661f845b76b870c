"""Top-K lists from a head: one exact path for every model that gives queries, an item matrix and extras.

    score(user, item) = dense * (query . vector + bias) + sparse * extra + popularity * log(decayed popularity)

with the weights of the mix that leads at that version (see freshet.leader). Items the user already has are left out; a
user of whom the head knows nothing gets the popular items. Ties go to the smaller natural id.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from freshet.asking import Items, ask, extra_rows, last_context, newest, on_offer
from freshet.head import Head
from freshet.kernels.topk import top_k, with_extras
from freshet.leader import Choice, choices, leader
from freshet.models.contract import Model
from freshet.prequential import history_items_of, mixed_bias
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
    """All known items of a head, ready to be ranked: what they are, their order of ties, the mix that leads."""

    items: Items
    order: np.ndarray
    choice: Choice


def shelf(head: Head, model: Model, half_lives: tuple[float, ...], order: np.ndarray) -> Shelf:
    """The shelf of a head; order int64[n] ranks its items (rows of `popularity`) by natural id."""
    among = choices(model.mixes, half_lives)
    every = np.arange(len(head.tables[POPULARITY]), dtype=np.int32)
    return Shelf(on_offer(head, model, every, half_lives), order, among[leader(head, among)])


def top_items(
    head: Head, model: Model, on: Shelf, users: np.ndarray, n: int, history_items: int, features: np.ndarray | None = None
) -> Lists:
    """The n best items of each user key, exactly; each in the context int64[m, F] he asks in, or else in his last one."""
    context = last_context(head, users) if features is None else features
    asked = ask(head, model, users, *newest(head, users, model.recent), context)
    known, mix = model.known(asked), on.choice.mix
    queries = model.queries(asked) * np.float32(mix.dense)
    extras = extra_rows(head, model.extras(asked), len(users), on.items.rows)
    offsets, seen = _seen(head, users, history_items)
    rows = np.full((len(users), n), -1, np.int32)
    scores = np.full((len(users), n), -np.inf, np.float32)
    log_count, vectors = on.items.log_count[on.choice.number], on.items.vectors
    for which, bias, matrix in ((known, mixed_bias(on.items, on.choice), vectors), (~known, log_count, np.zeros_like(vectors))):
        at = np.flatnonzero(which)
        if not len(at) or not len(on.items.keys):
            continue
        left_out = _chosen(offsets, seen, at)
        rows[at], scores[at] = top_k(queries[at], matrix, bias, on.order, n, *left_out)
        if which is known and len(extras[1]) and mix.sparse:
            mine = (*_chosen(extras[0], extras[1], at), _chosen(extras[0], extras[2], at)[1] * np.float32(mix.sparse))
            rows[at], scores[at] = with_extras(rows[at], scores[at], queries[at], matrix, bias, on.order, left_out, mine)
    items = np.zeros(rows.shape, np.int64)
    items[rows >= 0] = on.items.keys[rows[rows >= 0]]
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
