"""A table of rows under int64 keys: a hash index and columns that grow without copying and without long pauses.

The index holds row number + 1 (0: empty, so fresh memory needs no filling) at a bucket that starts with the top bits of
mix(key), its home, and goes on by linear probing; the key itself is compared in the key column. When it is 60 % full,
an index of twice the size is put beside it and every key added afterwards moves a few buckets over, in order. Moving
pauses behind an empty bucket only, so no run of occupied buckets is cut: a key whose home was passed is in the new
index, any other in the old one, and a look-up consults exactly one of the two.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_BOOL, IN_I8, OUT_I4, OUT_I8, boolean, compiled, int64, uint64, void
from freshet.kernels.memory import GrowingArray
from freshet.kernels.seeds import mix

_FIRST_ROWS = 1024
_FIRST_BITS = 11
_MOVED_PER_KEY = 6  # an index of c buckets has moved after c / 6 additions, when its rest is 77 % full
_BLOCK = 1024  # keys whose memory is touched together: the cache misses overlap instead of adding up

# Places in the state of a pair of indexes: rows in use; buckets of the old index passed, -1 without one; how far
# a hash is shifted right for either index; a place that keeps `_touch` from being optimized away.
_ROWS, _MOVED, _NEW_SHIFT, _OLD_SHIFT, _SINK = range(5)


@compiled(boolean(uint64, OUT_I8))
def _in_old(hashed, state):  # type: ignore[no-untyped-def]
    if state[_MOVED] < 0:
        return False
    home = np.int64(hashed >> np.uint64(state[_OLD_SHIFT]))
    return home >= state[_MOVED]


@compiled(int64(OUT_I4, OUT_I8, int64, int64))
def _find(index, column, key, home):  # type: ignore[no-untyped-def]
    """Return the bucket of the key, or -1 - the empty bucket that ended the search."""
    mask = index.shape[0] - 1
    at = home
    while True:
        entry = index[at]
        if entry == 0:
            return -1 - at
        if column[entry - 1] == key:
            return at
        at = (at + 1) & mask


@compiled(void(OUT_I4, OUT_I4, OUT_I8, OUT_I8, IN_I8, int64, int64))
def _touch(new, old, state, column, keys, start, stop):  # type: ignore[no-untyped-def]
    """Read the buckets and key cells that a search for keys[start:stop] begins at."""
    entries = np.empty(stop - start, np.int32)
    for i in range(start, stop):
        h = mix(np.uint64(keys[i]))
        if _in_old(h, state):
            entries[i - start] = old[np.int64(h >> np.uint64(state[_OLD_SHIFT]))]
        else:
            entries[i - start] = new[np.int64(h >> np.uint64(state[_NEW_SHIFT]))]
    total = np.int64(0)
    for i in range(stop - start):
        total ^= column[max(entries[i] - 1, 0)]
    state[_SINK] = total


@compiled(void(OUT_I4, OUT_I4, OUT_I8, OUT_I8, IN_I8, OUT_I4))
def _lookup(new, old, state, column, keys, out):  # type: ignore[no-untyped-def]
    for i in range(keys.shape[0]):
        if i % _BLOCK == 0:
            _touch(new, old, state, column, keys, i, min(i + _BLOCK, keys.shape[0]))
        h = mix(np.uint64(keys[i]))
        if _in_old(h, state):
            index, shift = old, state[_OLD_SHIFT]
        else:
            index, shift = new, state[_NEW_SHIFT]
        at = _find(index, column, keys[i], np.int64(h >> np.uint64(shift)))
        out[i] = index[at] - 1 if at >= 0 else -1


@compiled(void(OUT_I4, OUT_I4, OUT_I8, OUT_I8, int64))
def _move(new, old, state, column, buckets):  # type: ignore[no-untyped-def]
    """Pass at least `buckets` buckets of the old index and stop behind an empty one; at the end _MOVED becomes -1.

    The buckets stay as they are: probing may still run through them. Keys that ran over the end, into buckets passed
    at the beginning, are met on the way to the next empty bucket; one met twice is skipped.
    """
    size = old.shape[0]
    passed = 0
    empty = False
    while not (empty and (passed >= buckets or state[_MOVED] >= size)):
        entry = old[state[_MOVED] & (size - 1)]
        empty = entry == 0
        if not empty:
            key = column[entry - 1]
            at = _find(new, column, key, np.int64(mix(np.uint64(key)) >> np.uint64(state[_NEW_SHIFT])))
            if at < 0:
                new[-1 - at] = entry
        state[_MOVED] += 1
        passed += 1
    if state[_MOVED] >= size:
        state[_MOVED] = -1


@compiled(int64(OUT_I4, OUT_I4, OUT_I8, OUT_I8, IN_I8, IN_BOOL, OUT_I4, int64))
def _insert(new, old, state, column, keys, there, out, start):  # type: ignore[no-untyped-def]
    """Insert keys[start:], of `there` those that are (of none: all); return how many keys are done: fewer than all when the
    index is 60 % full."""
    full = new.shape[0] * 3 // 5
    for i in range(start, keys.shape[0]):
        if (i - start) % _BLOCK == 0:
            _touch(new, old, state, column, keys, i, min(i + _BLOCK, keys.shape[0]))
        if there.shape[0] > 0 and not there[i]:
            out[i] = -1
            continue
        h = mix(np.uint64(keys[i]))
        if _in_old(h, state):
            index, shift = old, state[_OLD_SHIFT]
        else:
            index, shift = new, state[_NEW_SHIFT]
        at = _find(index, column, keys[i], np.int64(h >> np.uint64(shift)))
        if at >= 0:
            out[i] = index[at] - 1
            continue
        row = state[_ROWS]
        if row >= full:
            return i
        column[row] = keys[i]
        index[-1 - at] = row + 1
        out[i] = row
        state[_ROWS] = row + 1
        if state[_MOVED] >= 0:
            _move(new, old, state, column, _MOVED_PER_KEY)
    return keys.shape[0]


class RowTable:
    """Rows under int64 keys, numbered from 0 in the order of insertion; no row is ever removed.

    `columns` maps a name to (dtype, width); width 0 is a scalar column.

    >>> table = RowTable({"values": (np.float32, 19), "count": (np.int64, 0)})
    >>> table.insert(np.array([7, 9, 7])).tolist()
    [0, 1, 0]
    >>> table.lookup(np.array([9, 8])).tolist()
    [1, -1]
    """

    def __init__(self, columns: Mapping[str, tuple[npt.DTypeLike, int]]) -> None:
        self._keys = GrowingArray(np.int64, 0, _FIRST_ROWS)
        self._columns = {name: GrowingArray(dtype, width, _FIRST_ROWS) for name, (dtype, width) in columns.items()}
        self._new = np.zeros(1 << _FIRST_BITS, np.int32)
        self._old = np.zeros(1, np.int32)
        self._state = np.zeros(5, np.int64)
        self._state[_MOVED] = -1
        self._state[_NEW_SHIFT] = 64 - _FIRST_BITS
        self._state[_OLD_SHIFT] = 63

    def __len__(self) -> int:
        return int(self._state[_ROWS])

    @property
    def keys(self) -> npt.NDArray[np.int64]:
        """int64[n] keys by row: a view under the same rule as `column`."""
        return self._keys.cells[: len(self)]

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use: rows, keys and index."""
        row = self._keys.row_bytes + sum(column.row_bytes for column in self._columns.values())
        return len(self) * row + self._new.nbytes + self._old.nbytes

    def column(self, name: str) -> npt.NDArray:
        """Writable view of the first n rows. Do not keep it across `insert`, which then may raise BufferError."""
        return self._columns[name].cells[: len(self)]

    def gather(self, name: str, rows: npt.NDArray[np.int32]) -> npt.NDArray:
        """Copy of the column's cells at `rows`; a row of -1 gives zeros."""
        cells = np.take(self._columns[name].cells, rows, axis=0, mode="clip")
        cells[rows < 0] = 0
        return cells

    def lookup(self, keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
        """int32[m] row of each key, -1 for one the table does not have."""
        keys = np.ascontiguousarray(keys, np.int64)
        out = np.empty(len(keys), np.int32)
        _lookup(self._new, self._old, self._state, self._keys.cells, keys, out)
        return out

    def insert(self, keys: npt.NDArray[np.int64], there: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.int32]:
        """int32[m] row of each key; unknown keys are added, each once, with cells of zero. `there` bool[m]: which keys are
        meant (None: all), the row of others is -1."""
        keys = np.ascontiguousarray(keys, np.int64)
        asked = np.empty(0, np.bool_) if there is None else np.ascontiguousarray(there, np.bool_)
        out = np.empty(len(keys), np.int32)
        self._make_room(len(self) + len(keys))
        done = 0
        while True:
            done = _insert(self._new, self._old, self._state, self._keys.cells, keys, asked, out, done)
            if self._state[_MOVED] < 0:
                self._old = np.zeros(1, np.int32)
            if done == len(keys):
                return out
            self._double_index()

    def _make_room(self, rows: int) -> None:
        room = len(self._keys.cells)
        if rows > room:
            rows = max(rows, room + room // 4)
            for column in (*self._columns.values(), self._keys):  # the keys last: they say how much room there is
                if len(column.cells) < rows:
                    column.grow(rows)

    def _double_index(self) -> None:
        if self._state[_MOVED] >= 0:  # cannot be: moving ends before the new index is full; kept so that it need not be
            _move(self._new, self._old, self._state, self._keys.cells, len(self._old))
        self._old, self._new = self._new, np.zeros(2 * len(self._new), np.int32)
        self._state[_OLD_SHIFT] = self._state[_NEW_SHIFT]
        self._state[_NEW_SHIFT] -= 1
        self._state[_MOVED] = 0
