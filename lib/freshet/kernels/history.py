"""Histories: each user's recent items, current event by event, and the negatives drawn against them.

A user's row holds his newest items, oldest first, at most OPEN of them. When it is full its oldest CHUNK items move to
an archive row and the newest OPEN - CHUNK stay, so a click rewrites one small row and the row always shows a user's last
16 items or more. Archive rows form a ring: chunk number n lies under key `archive_key(user, n mod ring)`, its links are
[user key, item 1 .. item CHUNK], and older chunks are overwritten: that is the bound of a history.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from freshet.kernels.seeds import combine, mix

OPEN = 32
CHUNK = 16


def ring_of(items: int) -> int:
    """Archive rows a user may have for a history of at most `items` items."""
    return max(1, (items - (OPEN - CHUNK)) // CHUNK)


@njit(cache=True, nogil=True)
def archive_key(user: int, slot: int) -> int:
    """int64 key of the archive row of a user in ring slot `slot`."""
    return np.int64(mix(np.uint64(user) + mix(np.uint64(slot) + np.uint64(1))))  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def archive_keys(users: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """int64[n] archive_key of each pair of int64 user key and int64 slot."""
    out = np.empty(users.shape[0], np.int64)
    for n in range(users.shape[0]):
        out[n] = archive_key(users[n], slots[n])
    return out


@njit(cache=True, nogil=True)
def _draw(pool: np.ndarray, cumulative: np.ndarray, random: int) -> int:
    """A pool entry: uniform, or by the cumulative weights where there are some."""
    if cumulative.shape[0] == 0:
        return pool[np.int64(random % np.uint64(pool.shape[0]))]
    point = float(random >> np.uint64(11)) * (2.0**-53) * cumulative[-1]
    return pool[min(np.searchsorted(cumulative, point, side="right"), pool.shape[0] - 1)]


@njit(cache=True, nogil=True)
def _contains(links: np.ndarray, filled: int, key: int) -> bool:
    found = False
    for j in range(filled):
        found |= links[j] == key
    return found


@njit(cache=True, nogil=True)
def _draw_for_event(
    links: np.ndarray, filled: int, item: int, pool: np.ndarray, cumulative: np.ndarray, seed: int, tries: int,
    keys: np.ndarray, found: np.ndarray,
) -> None:
    for c in range(keys.shape[0]):
        for t in range(tries):
            key = _draw(pool, cumulative, combine(seed, np.uint64(c * tries + t)))
            if key != item and not _contains(links, filled, key):
                keys[c] = key
                found[c] = True
                break


@njit(cache=True, nogil=True)
def _without(recent: np.ndarray, length: int, item: int) -> int:
    """Take the item out of recent[:length], the order kept; how many are left."""
    left = 0
    for d in range(length):
        if recent[d] != item:
            recent[left] = recent[d]
            left += 1
    recent[left:length] = 0
    return left


@njit(cache=True, nogil=True)
def walk(
    links: np.ndarray, filled: np.ndarray, count: np.ndarray, user_keys: np.ndarray, refs: np.ndarray,
    items: np.ndarray, positive: np.ndarray, again: np.ndarray, event_hash: np.ndarray, ring: int, pool: np.ndarray,
    cumulative: np.ndarray, seed: int, tries: int, drawn: np.ndarray, found: np.ndarray, archive_keys: np.ndarray,
    archive_links: np.ndarray, archive_counts: np.ndarray, archive_event: np.ndarray, recent: np.ndarray,
    length: np.ndarray,
) -> int:
    """Go through the events in order: note the newest items and draw negatives against the history as it stands, then
    append the item, but for an event that is here `again` (bool[n]): its item is in the history, and not what came before it.

    links int64[r, OPEN], filled int32[r], count int64[r] are the users' rows (changed in place), user_keys int64[r];
    refs int32[n] the user row of each event. Negatives are drawn for positive events from pool int64[p] with seed
    (seed, event_hash): drawn int64[n, c], found bool[n, c]. Archived chunks go to archive_* (archive_event: the event
    that filled the chunk); their number is returned. recent int64[n, w], w <= OPEN - CHUNK, and length int32[n] are filled
    with the user's newest items before the event, newest first.
    """
    archived = 0
    for e in range(refs.shape[0]):
        r = refs[e]
        length[e] = min(recent.shape[1], filled[r])
        for d in range(length[e]):
            recent[e, d] = links[r, filled[r] - 1 - d]
        if again[e]:
            length[e] = _without(recent[e], length[e], items[e])
        if positive[e] and pool.shape[0] > 0 and drawn.shape[1] > 0:
            own = combine(seed, np.uint64(event_hash[e]))
            _draw_for_event(links[r], filled[r], items[e], pool, cumulative, own, tries, drawn[e], found[e])
        if again[e]:
            continue
        if filled[r] == OPEN:
            chunk = (count[r] - filled[r]) // CHUNK
            archive_keys[archived] = archive_key(user_keys[r], chunk % ring)
            archive_links[archived, 0] = user_keys[r]
            archive_links[archived, 1:] = links[r, :CHUNK]
            archive_counts[archived] = (chunk + 1) * CHUNK
            archive_event[archived] = e
            archived += 1
            links[r, : OPEN - CHUNK] = links[r, CHUNK:]
            links[r, OPEN - CHUNK :] = 0
            filled[r] = OPEN - CHUNK
        links[r, filled[r]] = items[e]
        filled[r] += 1
        count[r] += 1
    return archived


@njit(cache=True, nogil=True)
def earlier_in_batch(
    order: np.ndarray, rank_in_order: np.ndarray, users: np.ndarray, items: np.ndarray, sampled: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(sample number, item key) of every earlier event of the same user, for each sampled event.

    `order` sorts the events by (user, event number), `rank_in_order` is its inverse; users, items int64[n].
    """
    total = 0
    for s in range(sampled.shape[0]):
        position = rank_in_order[sampled[s]]
        while position > 0 and users[order[position - 1]] == users[sampled[s]]:
            position -= 1
            total += 1
    number, keys = np.empty(total, np.int64), np.empty(total, np.int64)
    at = 0
    for s in range(sampled.shape[0]):
        position = rank_in_order[sampled[s]]
        while position > 0 and users[order[position - 1]] == users[sampled[s]]:
            position -= 1
            number[at], keys[at] = s, items[order[position]]
            at += 1
    return number, keys
