"""What a model is told of users who want lists and of the items there are: rows of one snapshot, for metrics and lists alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from freshet.head import Head
from freshet.kernels.history import CHUNK, archive_keys, ring_of
from freshet.kernels.popularity import count_column, log_popularity
from freshet.leader import interest
from freshet.models.contract import ATTRIBUTE, FEATURE, ITEM, MOST_RECENT, USER, Asked, Extras, Model
from freshet.schema import HISTORY, HISTORY_ARCHIVE, LAST_CONTEXT, POPULARITY

POPULARITY_FLOOR = 1e-3  # decayed count below which an item counts as forgotten


@dataclass(frozen=True)
class Items:
    """Items to be ranked: their rows of `popularity` int32[n], keys int64[n], vectors float32[n, d], biases float32[n] and
    the logs of their decayed counts float32[h, n], one row for each half-life."""

    rows: np.ndarray
    keys: np.ndarray
    vectors: np.ndarray
    bias: np.ndarray
    log_count: np.ndarray


def ask(
    head: Head, model: Model, users: np.ndarray, recent: np.ndarray, length: np.ndarray, features: np.ndarray
) -> Asked:
    """The users int64[m], each with his newest items int64[m, r], newest first, `length` int32[m] of them, and the context
    he asks in, features int64[m, F] (0: none)."""
    there = np.arange(recent.shape[1]) < length[:, None]
    own, items, context = {}, {}, {}
    for block in model.blocks():
        if block.ids == USER:
            own[block.name] = head.lookup(block.name, users)
        elif block.ids == ITEM:
            found = head.lookup(block.name, recent.ravel()).reshape(recent.shape)
            items[block.name] = np.where(there, found, -1).astype(np.int32)
        elif block.ids == FEATURE:
            context[block.name] = head.lookup(block.name, features.ravel()).reshape(features.shape)
    views = {block.name: head.view(block.name) for block in model.blocks()}
    return Asked(views, own, items, context, head.clock, interest(head, model, users))


def newest(head: Head, users: np.ndarray, count: int, history_items: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(int64[m, at most count], int32[m]): the newest items of each user's history, newest first, and how many there are; those
    of his archive as well in a history of at most `history_items` items."""
    rows, _ = head.gather(HISTORY, users)
    length = np.minimum(rows.filled, count).astype(np.int32)
    place = np.maximum(rows.filled[:, None] - 1 - np.arange(count), 0)
    found = np.take_along_axis(rows.links, place, axis=1)
    if count <= MOST_RECENT or not history_items:
        return found, length
    chunks, ring = (rows.count - rows.filled) // CHUNK, ring_of(history_items)
    for back in range(min(int(chunks.max(initial=0)), ring, -(-count // CHUNK))):
        who = np.flatnonzero((chunks > back) & (length < count))
        archive, there = head.gather(HISTORY_ARCHIVE, archive_keys(users[who], (chunks[who] - 1 - back) % ring))
        at = length[who[there], None] + np.arange(CHUNK)
        row, place = np.nonzero(at < count)
        found[who[there][row], at[row, place]] = archive.links[there][row, CHUNK - place]
        length[who[there]] = np.minimum(length[who[there]] + CHUNK, count)
    return found[:, : length.max(initial=1)], length


def last_context(head: Head, users: np.ndarray) -> np.ndarray:
    """int64[m, F]: the features of each user's newest event, 0 where there are none."""
    if LAST_CONTEXT not in head.blocks:
        return np.empty((len(users), 0), np.int64)
    return head.gather(LAST_CONTEXT, users)[0].links


def on_offer(head: Head, model: Model, rows: np.ndarray, half_lives: Sequence[float]) -> Items:
    """The items in these rows of `popularity`."""
    table = head.tables[POPULARITY]
    counts, last_at = head.values(POPULARITY)[rows], table.column("last_at")[rows]
    log_count = np.empty((len(half_lives), len(rows)), np.float32)
    for number, half_life in enumerate(half_lives):
        column = np.ascontiguousarray(counts[:, count_column(number)])
        log_popularity(column, last_at, head.clock, half_life, POPULARITY_FLOOR, log_count[number])
    vectors, bias = model.item_matrix({block.name: head.view(block.name) for block in model.blocks()}, item_rows(head, model, rows))
    return Items(rows, table.keys[rows], vectors, bias, log_count)


def item_rows(head: Head, model: Model, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What item_matrix is told of the items in these rows of `popularity`: theirs in each block of items and attributes."""
    own = {block.name: head.item_rows(block.name)[rows] for block in model.blocks() if block.ids == ITEM}
    described = [block.name for block in model.blocks() if block.ids == ATTRIBUTE]
    attributes = head.attributes(head.tables[POPULARITY].keys[rows]) if described else rows
    return own | {name: head.lookup(name, attributes.ravel()).reshape(attributes.shape) for name in described}


def extra_rows(head: Head, extras: Extras | None, askers: int, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(offsets int64[m + 1], item numbers int32, values): extras by number of the item on offer; local int32 maps rows of
    `popularity` to it, -1 for an item that is not."""
    if extras is None:
        return np.zeros(askers + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32)
    row = head.lookup(POPULARITY, extras.keys)
    number = np.where(row >= 0, local[row], -1).astype(np.int32)
    kept = number >= 0
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return before[extras.offsets], number[kept], extras.values[kept]
