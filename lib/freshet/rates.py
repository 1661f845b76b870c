"""How many events of a user were accepted in each hour of event time, and of a user who had many how many on each item.

    held = Rates(most_user=1000, most_pair=60)
    by_user, by_pair = held.over(events)     which of these events are too many, as if in this order
    held.note(events)                        after the commit: those that were accepted, in their order

An event is too much where its user had most_user in the hour; and where he had most_pair, and since then most_pair on that very
item. Who has fewer has no entry for his items, and nothing is asked of them. What corrects an event is one more of its user, and
none on an item: a player may tell every ten seconds how far somebody has watched. Hours are those of the events' own time, so a
replay counts as the stream did. An hour is let go once the dedup window has passed it: an event of it would be late. Without a
limit nothing is counted. Memory: an entry of about 30 bytes for each hour in which a user came, and for each of the items that were
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from freshet.kernels.limits import BY_PAIR, BY_USER, PASSED, cap
from freshet.kernels.rows import RowTable
from freshet.kernels.seeds import mix

HOUR = 3_600_000_000  # microseconds
_FEWEST = 1 << 16  # entries, before it is worth while to look which hours are over
_NO_LIMIT = np.iinfo(np.int64).max


class Asked(NamedTuple):
    """Events in their order: who, what, when, int64[n] each, and bool[n] which of them correct another."""

    user_key: np.ndarray
    item_key: np.ndarray
    event_at: np.ndarray
    corrects: np.ndarray

    def at(self, which: np.ndarray) -> Asked:
        """Some of them."""
        return Asked(*(column[which] for column in self))


class Accepted(NamedTuple):
    """Events that were accepted, int64[n] each: who, what, when, bool[n] which of them correct another, in which version, and what
    puts those of one time in order."""

    user_key: np.ndarray
    item_key: np.ndarray
    event_at: np.ndarray
    corrects: np.ndarray
    version: np.ndarray
    event_hash: np.ndarray
    revision: np.ndarray


Many = Callable[[np.ndarray, np.ndarray], np.ndarray]  # (user keys, event_at): bool of events whose users had many in their hour


class _Counted(NamedTuple):
    """What stands for user and hour of events; each once, its number for each event, its events here, those before."""

    user: np.ndarray
    keys: np.ndarray
    refs: np.ndarray
    totals: np.ndarray
    held: np.ndarray


class Rates:
    """Accepted events by hour, against the most a user and a pair may have (None: any)."""

    def __init__(self, most_user: int | None = None, most_pair: int | None = None) -> None:
        self._most = [_NO_LIMIT if most is None else most for most in (most_user, most_pair)]
        self._users, self._pairs = _table(), _table()
        self._full, self._open = _FEWEST, False
        self._told: _Counted | None = None

    @contextmanager
    def unlimited(self) -> Iterator[None]:
        """While open, all is counted and nothing is too much: of events that were accepted before and are learned again."""
        self._open = True
        try:
            yield
        finally:
            self._open = False

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return min(self._most) < _NO_LIMIT

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._users.nbytes + self._pairs.nbytes

    def over(self, events: Asked) -> tuple[np.ndarray, np.ndarray]:
        """(bool[n], bool[n]): events beyond the limit of their user, of their pair; what is refused counts for neither."""
        found = np.full(len(events.event_at), PASSED, np.int32)
        if self.limited and not self._open and len(found):
            told = self._counted(_hours(events.user_key, events.event_at))
            heavy = told.held + told.totals > min(self._most)
            if heavy.any():
                at = np.flatnonzero(heavy[told.refs])
                found[at], *_ = self._judged(told.user[at], events.at(at), self._most)
        return found == BY_USER, found == BY_PAIR

    def note(self, events: Asked) -> None:
        """Count accepted events."""
        if not self.limited or not len(events.event_at):
            return
        told = self._counted(_hours(events.user_key, events.event_at))
        heavy = told.held + told.totals > self._most[1]
        if heavy.any():
            at = np.flatnonzero(heavy[told.refs])
            some = events.at(at)
            _, keys, counts, pair = self._judged(told.user[at], some, [_NO_LIMIT, self._most[1]], refuse=False)
            asked = pair >= 0
            _put(self._pairs, keys, pair[asked], some.event_at[asked], counts, counts > 0)
        _put(self._users, told.keys, told.refs, events.event_at, told.held + told.totals)
        self._told = None

    def recall(
        self, users: Iterable[tuple[np.ndarray, np.ndarray]], every: Callable[[Many], Iterable[Accepted]]
    ) -> None:
        """Count what was accepted before, as if noted: who and when, in parts and in no order; and where items of some count
        `every` of these events."""
        for user_key, event_at in users:
            told = self._counted(_hours(user_key, event_at))
            _put(self._users, told.keys, told.refs, event_at, told.held + told.totals)
            self._told = None
        if not len(self._users) or self._users.column("events").max() <= self._most[1]:
            return
        kept = list(every(lambda user_key, event_at: _held(self._users, _hours(user_key, event_at)) > self._most[1]))
        found = Accepted(*(np.concatenate(column) for column in zip(*kept, strict=True)))
        # By version, and in it as they were learned.
        order = np.lexsort((found.revision, found.event_hash, found.event_at, found.version))
        again = Rates(None, self._most[1])
        again.note(Asked(*found[:4]).at(order))
        self._pairs = again._pairs

    def _counted(self, user: np.ndarray) -> _Counted:
        """The events by user and hour; what was asked of is noted next, mostly, and need not be counted twice."""
        if self._told is None or not np.array_equal(self._told.user, user):
            index = RowTable({})
            refs = index.insert(user)
            keys = index.keys.copy()
            self._told = _Counted(user, keys, refs, np.bincount(refs, minlength=len(keys)), _held(self._users, keys))
        return self._told

    def _judged(
        self, user: np.ndarray, events: Asked, most: list[int], refuse: bool = True
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(int32[n] as kernels.limits.cap, keys of pairs, their events after these, int32[n] the pair of each event or -1)."""
        users, pairs, pair = RowTable({}), RowTable({}), np.full(len(user), -1, np.int32)
        new = np.flatnonzero(~events.corrects)
        pair[new] = pairs.insert(mix(user[new].view(np.uint64) ^ mix(events.item_key[new].view(np.uint64))).view(np.int64))
        which = users.insert(user)
        counts = _held(self._users, users.keys), _held(self._pairs, pairs.keys)
        found = np.empty(len(user), np.int32)
        cap(which, pair, *counts, *most, refuse, found)
        return found, pairs.keys, counts[1], pair

    def forget(self, oldest: int) -> None:
        """Let go of the hours before that of `oldest` (microseconds), once half of what is held may be of them."""
        if len(self._users) + len(self._pairs) <= self._full:
            return
        self._users, self._pairs = (_since(table, oldest // HOUR) for table in (self._users, self._pairs))
        self._full, self._told = max(_FEWEST, 2 * (len(self._users) + len(self._pairs))), None


def _table() -> RowTable:
    return RowTable({"events": (np.int32, 0), "hour": (np.int32, 0)})


def _put(
    table: RowTable, keys: np.ndarray, refs: np.ndarray, event_at: np.ndarray, events: np.ndarray, kept: np.ndarray | None = None
) -> None:
    """Rows of the keys (of those `kept`, bool[keys]) with these counts, and with the hours of the events that refs int32[n] stand
    for."""
    hours = np.empty(len(keys), np.int32)
    hours[refs] = event_at // HOUR
    if kept is not None:
        keys, hours, events = keys[kept], hours[kept], events[kept]
    rows = table.insert(keys)
    table.column("hour")[rows] = hours
    table.column("events")[rows] = events


def _since(table: RowTable, hour: int) -> RowTable:
    kept = np.flatnonzero(table.column("hour") >= hour)
    left = _table()
    rows = left.insert(table.keys[kept])
    for name in ("events", "hour"):
        left.column(name)[rows] = table.column(name)[kept]
    return left


def _hours(user_key: np.ndarray, event_at: np.ndarray) -> np.ndarray:
    """int64[n]: what stands for a user and an hour."""
    return mix(user_key.view(np.uint64) ^ mix((event_at // HOUR).view(np.uint64))).view(np.int64)


def _held(table: RowTable, keys: np.ndarray) -> np.ndarray:
    """int64: events that were counted under each key."""
    rows = table.lookup(keys)
    held = np.zeros(len(rows), np.int64)
    held[rows >= 0] = table.column("events")[rows[rows >= 0]]
    return held
