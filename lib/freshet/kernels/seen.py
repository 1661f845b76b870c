"""Which event keys were already seen, and how old they are: the memory of deduplication.

An open-addressing table of (key, event_at), home at the top bits of mix(key), linear probing. Keys that were forgotten
stay until a sweep: a second table is put beside the first and every addition moves some buckets over, in order, leaving
the forgotten behind. A sweep pauses behind an empty bucket only, so a key whose home was passed is in the new table,
any other in the old one. No call ever touches the whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_I8, OUT_BOOL, OUT_I8, OUT_I8_2D, boolean, compiled, int64, uint64, void
from freshet.kernels.seeds import mix

_FIRST_BITS = 10
_SWEPT_PER_KEY = 8  # buckets: a table of c buckets is swept after c / 8 additions
_SWEPT_PER_FORGET = 4096
_SAMPLE = 4096  # buckets that are looked at to estimate how many keys are still remembered

# A table is int64[c, 2] of (key, stamp), stamp = event_at with its sign bit flipped: 0 (the earliest time there is) is
# an empty bucket, so fresh memory needs no filling.
_FLIP = np.int64(-(2**63))

# Places in the state: keys in the new table, in the old table; buckets of the old table passed, -1 without one; shifts
# of the hash; everything before this event_at is forgotten.
_NEW_KEYS, _OLD_KEYS, _SWEPT, _NEW_SHIFT, _OLD_SHIFT, _FLOOR = range(6)


@compiled(boolean(uint64, OUT_I8))
def _in_old(hashed, state):  # type: ignore[no-untyped-def]
    return state[_SWEPT] >= 0 and np.int64(hashed >> np.uint64(state[_OLD_SHIFT])) >= state[_SWEPT]


@compiled(int64(OUT_I8_2D, int64, int64))
def _find(table, key, home):  # type: ignore[no-untyped-def]
    """Return the bucket of the key, or the empty bucket where it belongs."""
    mask = table.shape[0] - 1
    at = home
    while table[at, 1] != 0 and table[at, 0] != key:
        at = (at + 1) & mask
    return at


@compiled(void(OUT_I8_2D, OUT_I8_2D, OUT_I8, IN_I8, int64, OUT_BOOL))
def _contains(new, old, state, keys, oldest, out):  # type: ignore[no-untyped-def]
    oldest = max(oldest, state[_FLOOR])
    for i in range(keys.shape[0]):
        h = mix(np.uint64(keys[i]))
        if _in_old(h, state):
            table, shift = old, state[_OLD_SHIFT]
        else:
            table, shift = new, state[_NEW_SHIFT]
        at = _find(table, keys[i], np.int64(h >> np.uint64(shift)))
        stamp = table[at, 1]
        out[i] = stamp != 0 and (stamp ^ _FLIP) >= oldest


@compiled(void(OUT_I8_2D, OUT_I8_2D, OUT_I8, int64))
def _sweep(new, old, state, buckets):  # type: ignore[no-untyped-def]
    """Pass at least `buckets` buckets of the old table and stop behind an empty one; at the end _SWEPT becomes -1.

    Buckets stay as they are: probing may still run through them. Keys that ran over the end, into buckets passed at the
    beginning, are met on the way to the next empty bucket; one met twice keeps its later time.
    """
    size = old.shape[0]
    passed = 0
    empty = False
    while not (empty and (passed >= buckets or state[_SWEPT] >= size)):
        bucket = state[_SWEPT] & (size - 1)
        stamp = old[bucket, 1]
        empty = stamp == 0
        if not empty and (stamp ^ _FLIP) >= state[_FLOOR]:
            key = old[bucket, 0]
            at = _find(new, key, np.int64(mix(np.uint64(key)) >> np.uint64(state[_NEW_SHIFT])))
            if new[at, 1] == 0:
                new[at, 0] = key
                new[at, 1] = stamp
                state[_NEW_KEYS] += 1
            elif (stamp ^ _FLIP) > (new[at, 1] ^ _FLIP):
                new[at, 1] = stamp
        state[_SWEPT] += 1
        passed += 1
    if state[_SWEPT] >= size:
        state[_SWEPT] = -1
        state[_OLD_KEYS] = 0


@compiled(int64(OUT_I8_2D, OUT_I8_2D, OUT_I8, IN_I8, IN_I8, int64))
def _add(new, old, state, keys, event_at, start):  # type: ignore[no-untyped-def]
    """Add keys[start:]; return how many are done: fewer than all when the table is 60 % full."""
    full = new.shape[0] * 3 // 5
    for i in range(start, keys.shape[0]):
        if event_at[i] < state[_FLOOR]:
            continue
        h = mix(np.uint64(keys[i]))
        in_old = _in_old(h, state)
        if in_old:
            table, shift = old, state[_OLD_SHIFT]
        else:
            table, shift = new, state[_NEW_SHIFT]
        at = _find(table, keys[i], np.int64(h >> np.uint64(shift)))
        stamp = max(event_at[i], _FLIP + 1) ^ _FLIP
        if table[at, 1] != 0:
            if (table[at, 1] ^ _FLIP) < event_at[i]:
                table[at, 1] = stamp
            continue
        if state[_NEW_KEYS] >= full:
            return i
        table[at, 0] = keys[i]
        table[at, 1] = stamp
        state[_OLD_KEYS if in_old else _NEW_KEYS] += 1
        if state[_SWEPT] >= 0:
            _sweep(new, old, state, _SWEPT_PER_KEY)
    return keys.shape[0]


class SeenEvents:
    """Event keys with the latest event_at they were added with.

    `window` (microseconds) is about how far back callers ask: what was forgotten leaves memory after a fraction of it.

    >>> seen = SeenEvents(window=1_000)
    >>> seen.add(np.array([5]), np.array([70]))
    >>> seen.contains(np.array([5, 6]), 70).tolist(), seen.contains(np.array([5]), 71).tolist()
    ([True, False], [False])
    """

    def __init__(self, window: int) -> None:
        self._new = np.zeros((1 << _FIRST_BITS, 2), np.int64)
        self._old = np.zeros((1, 2), np.int64)
        self._state = np.array([0, 0, -1, 64 - _FIRST_BITS, 63, -(2**63)], np.int64)
        self._window = window
        self._swept_at = -(2**63)  # floor when the last sweep began

    def __len__(self) -> int:
        """Keys in memory: those remembered, and those forgotten but not yet swept out."""
        return int(self._state[_NEW_KEYS] + self._state[_OLD_KEYS])

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        return self._new.nbytes + self._old.nbytes

    def contains(self, keys: npt.NDArray[np.int64], oldest: int) -> npt.NDArray[np.bool_]:
        """bool[m]: the key was added with an event_at >= oldest (and >= what `forget` was last told)."""
        keys = np.ascontiguousarray(keys, np.int64)
        out = np.empty(len(keys), np.bool_)
        _contains(self._new, self._old, self._state, keys, oldest, out)
        return out

    def add(self, keys: npt.NDArray[np.int64], event_at: npt.NDArray[np.int64]) -> None:
        """Remember the keys, int64[m], with their times, int64[m] microseconds; of several times the latest stands."""
        keys, event_at = np.ascontiguousarray(keys, np.int64), np.ascontiguousarray(event_at, np.int64)
        done = 0
        while True:
            done = _add(self._new, self._old, self._state, keys, event_at, done)
            self._drop_old()
            if done == len(keys):
                return
            self._begin_sweep()

    def forget(self, oldest: int) -> None:
        """Forget every key whose event_at is before `oldest`, at once; memory follows bit by bit."""
        self._state[_FLOOR] = max(int(self._state[_FLOOR]), oldest)
        floor = int(self._state[_FLOOR])
        if self._state[_SWEPT] < 0 and floor - self._swept_at > self._window // 4:
            self._begin_sweep()
        if self._state[_SWEPT] >= 0:
            _sweep(self._new, self._old, self._state, _SWEPT_PER_FORGET)
            self._drop_old()

    def _begin_sweep(self) -> None:
        if self._state[_SWEPT] >= 0:  # additions outran the estimate below: end the sweep under way first
            _sweep(self._new, self._old, self._state, len(self._old))
        bits = _FIRST_BITS
        while self._expected() > 0.6 * (1 << bits):
            bits += 1
        self._state[_OLD_KEYS], self._state[_NEW_KEYS] = self._state[_NEW_KEYS], 0
        self._state[_OLD_SHIFT], self._state[_NEW_SHIFT] = self._state[_NEW_SHIFT], 64 - bits
        self._old, self._new = self._new, np.zeros((1 << bits, 2), np.int64)
        self._state[_SWEPT] = 0
        self._swept_at = int(self._state[_FLOOR])

    def _expected(self) -> float:
        """Keys the next table should have room for: those remembered, and the additions of one sweep twice over."""
        step = max(1, len(self._new) // _SAMPLE)
        stamps = self._new[::step, 1]
        remembered = np.count_nonzero((stamps != 0) & ((stamps ^ _FLIP) >= self._state[_FLOOR])) * step
        return 1.1 * remembered + 2 * len(self._new) / _SWEPT_PER_KEY

    def _drop_old(self) -> None:
        if self._state[_SWEPT] < 0 and len(self._old) > 1:
            self._old = np.zeros((1, 2), np.int64)
