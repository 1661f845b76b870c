"""Events that are said again, corrected: the highest revision of each that was accepted, and what is learned of several.

    revision > accepted one    a correction: learned with what it says now, counted no more
    revision <= accepted one   a duplicate

Only revisions above 0 are held, so a source that never corrects anything costs nothing.
"""

from __future__ import annotations

import numpy as np

from freshet.kernels.rows import RowTable
from freshet.kernels.seen import SeenEvents

NEW = -1  # stands for the revision of an event that was not accepted before
_FEWEST = 1024  # keys, before it is worth while to look which are forgotten


class Revisions:
    """Event keys with their highest accepted revision, beside the memory that knows which events are remembered.

    >>> held = Revisions()
    >>> held.note(np.array([5]), np.array([3]))
    >>> held.before(np.array([5, 6, 7]), np.array([True, True, False])).tolist()
    [3, 0, -1]
    """

    def __init__(self) -> None:
        self._table = RowTable({"revision": (np.int64, 0)})
        self._most = _FEWEST

    def __len__(self) -> int:
        return len(self._table)

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._table.nbytes

    def before(self, keys: np.ndarray, remembered: np.ndarray) -> np.ndarray:
        """int64[n]: the accepted revision of each key of a remembered event (bool[n]), NEW of others."""
        found = np.where(remembered, 0, NEW)
        if len(self._table):
            rows = self._table.lookup(keys)
            held = remembered & (rows >= 0)
            found[held] = self._table.column("revision")[rows[held]]
        return found

    def note(self, keys: np.ndarray, revision: np.ndarray) -> None:
        """Accepted events, each key once: what they say goes before what was held."""
        new = revision > 0
        if len(self._table):  # one whose key was forgotten may begin at 0 again
            new |= self._table.lookup(keys) >= 0
        if new.any():
            rows = self._table.insert(keys[new])
            self._table.column("revision")[rows] = revision[new]

    def forget(self, seen: SeenEvents, oldest: int) -> None:
        """Let go of keys that are remembered no more, once half of them may be."""
        if len(self._table) <= self._most:
            return
        keys, revision = self._table.keys.copy(), self._table.column("revision").copy()
        kept = seen.contains(keys, oldest)
        self._table = RowTable({"revision": (np.int64, 0)})
        self.note(keys[kept], revision[kept])
        self._most = max(_FEWEST, 2 * len(self._table))


def newest(keys: np.ndarray, version: np.ndarray) -> np.ndarray:
    """Position of the row of the latest version of each key int64[n]."""
    order = np.lexsort((version, keys))
    last = np.ones(len(order), bool)
    last[:-1] = keys[order[1:]] != keys[order[:-1]]
    return np.asarray(order[last])


def last_said(keys: np.ndarray, version: np.ndarray, corrects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions, bool): of events of several versions the last row of each, in their order, and whether the event was
    accepted before the first of them. `corrects` bool[n] of the rows.

    >>> last_said(np.array([7, 8, 7]), np.array([1, 1, 2]), np.array([False, True, True]))[0].tolist()
    [1, 2]
    """
    if not corrects.any():
        return np.arange(len(keys)), corrects
    order = np.lexsort((version, keys))
    first = ~corrects[order]
    first[:1] = True
    first[1:] |= keys[order[1:]] != keys[order[:-1]]
    last = np.append(first[1:], True)
    at = order[last]
    before = corrects[order[first]]
    back = np.argsort(at)
    return at[back], before[back]
