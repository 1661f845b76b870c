"""How many events of a user, and of a user and an item, were accepted in each hour of event time.

    held = Rates(most_user=1000, most_pair=60)
    by_user, by_pair = held.over(user_key, item_key, event_at)     which of these events are too many, as if in this order
    held.note(user_key, item_key, event_at)                        after the commit: those that were accepted

Hours are those of the events' own time, so a replay counts as the stream did. An hour is let go once the dedup window has
passed it: an event of it would be late. Without a limit nothing is counted. Memory: an entry of about 30 bytes for each hour in
which a user came, and one for each pair of user and item in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from freshet.kernels.limits import BY_PAIR, BY_USER, PASSED, cap
from freshet.kernels.rows import RowTable
from freshet.kernels.seeds import mix

HOUR = 3_600_000_000  # microseconds
_FEWEST = 1 << 16  # entries, before it is worth while to look which hours are over
_NO_LIMIT = np.iinfo(np.int64).max


class Rates:
    """Accepted events by hour, against the most a user and a pair may have (None: any)."""

    def __init__(self, most_user: int | None = None, most_pair: int | None = None) -> None:
        self._most = (most_user, most_pair)
        self._tables = (_table(), _table())
        self._full, self._open = _FEWEST, False

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
        return self._most != (None, None)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(table.nbytes for table in self._tables)

    def over(self, user_key: np.ndarray, item_key: np.ndarray, event_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool[n], bool[n]): events beyond the limit of their user, of their pair; what is refused counts for neither."""
        n = len(event_at)
        if not self.limited or self._open or not n:
            return np.zeros(n, bool), np.zeros(n, bool)
        refs, counts = [], []
        for table, most, key in zip(self._tables, self._most, _keys(user_key, item_key, event_at), strict=True):
            index = RowTable({})
            refs.append(index.insert(key) if most is not None else np.zeros(n, np.int32))
            rows = table.lookup(index.keys) if most is not None else np.full(1, -1, np.int32)
            held = np.zeros(len(rows), np.int64)
            held[rows >= 0] = table.column("events")[rows[rows >= 0]]
            counts.append(held)
        limits = [_NO_LIMIT if most is None else most for most in self._most]
        found = np.full(n, PASSED, np.int32)
        cap(*refs, *counts, *limits, found)
        return found == BY_USER, found == BY_PAIR

    def note(self, user_key: np.ndarray, item_key: np.ndarray, event_at: np.ndarray) -> None:
        """Count accepted events."""
        if not self.limited or not len(event_at):
            return
        hour = event_at // HOUR
        for table, most, key in zip(self._tables, self._most, _keys(user_key, item_key, event_at), strict=True):
            if most is not None:
                rows = table.insert(key)
                np.add.at(table.column("events"), rows, 1)
                table.column("hour")[rows] = hour

    def forget(self, oldest: int) -> None:
        """Let go of the hours before that of `oldest` (microseconds), once half of what is held may be of them."""
        if max(map(len, self._tables)) <= self._full:
            return
        self._tables = (_since(self._tables[0], oldest // HOUR), _since(self._tables[1], oldest // HOUR))
        self._full = max(_FEWEST, 2 * max(map(len, self._tables)))


def _table() -> RowTable:
    return RowTable({"events": (np.int32, 0), "hour": (np.int32, 0)})


def _since(table: RowTable, hour: int) -> RowTable:
    kept = np.flatnonzero(table.column("hour") >= hour)
    left = _table()
    rows = left.insert(table.keys[kept])
    for name in ("events", "hour"):
        left.column(name)[rows] = table.column(name)[kept]
    return left


def _keys(user_key: np.ndarray, item_key: np.ndarray, event_at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int64[n] twice: what stands for user and hour, and for user, item and hour."""
    user = mix(mix(user_key.view(np.uint64)) ^ (event_at // HOUR).view(np.uint64))
    return user.view(np.int64), mix(user ^ mix(item_key.view(np.uint64))).view(np.int64)
