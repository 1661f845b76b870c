"""What follows what: decayed counts between items that one user had one after the other.

Row of item i: links j_1 .. j_M and float32 [t, c_1 .. c_M], c_m the count of j_m, t the sum of all there ever were, both
decayed to the row's time. An event of item j by a user whose newest items were i_0 (newest), i_1, ... adds

    to (i_d, j):  w decay^d          to (j, i_d):  w reverse decay^d          w the event's weight, d < n, i_d != j

A row without a free place gives up its smallest count (of equals the first) and the newcomer starts from nothing:
starting from the count that was given up, as space-saving does (Metwally et al., ICDT 2005), keeps the sum and favours
newcomers over what was counted long and honestly.

A user's newest items i_0, i_1, ... give item j   c(j) = sum_d decay^d c_{i_d, j} / (t_{i_d} + shrink)
and the score                                      log(1 + c(j) / FLOOR)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from freshet.kernels.compiled import (
    IN_F4_2D,
    IN_I4,
    IN_I4_2D,
    IN_I8,
    IN_I8_2D,
    OUT_F4_2D,
    OUT_F8,
    OUT_I8,
    compiled,
    float64,
    int64,
    void,
)
from freshet.kernels.seeds import mix

FLOOR = 1e-3
_LARGEST = np.iinfo(np.int64).max


@njit(cache=True, nogil=True)
def _by_row(
    item_ref: np.ndarray, recent_ref: np.ndarray, weight: np.ndarray, decay: float, reverse: float, touched: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the events add, row by row and in their order: row r gets w[x] for the item met[x, 1] by event met[x, 0],
    stop[r] <= x < stop[r + 1]. touched int64[r] counts the events of each row."""
    stop = np.zeros(touched.shape[0] + 1, np.int64)
    for e in range(item_ref.shape[0]):
        j, others = item_ref[e], 0
        for d in range(recent_ref.shape[1]):
            i = recent_ref[e, d]
            if i >= 0 and i != j:
                stop[i + 1] += 1
                touched[i] += 1
                others += 1
        if reverse > 0.0:
            stop[j + 1] += others
            touched[j] += np.int64(others > 0)
    for r in range(touched.shape[0]):
        stop[r + 1] += stop[r]
    met, w, next_of = np.empty((stop[-1], 2), np.int32), np.empty(stop[-1]), stop[:-1].copy()
    for e in range(item_ref.shape[0]):
        j, own = item_ref[e], weight[e]
        for d in range(recent_ref.shape[1]):
            i = recent_ref[e, d]
            if i >= 0 and i != j:
                x = next_of[i]
                met[x, 0], met[x, 1], w[x] = e, j, own
                next_of[i] += 1
                if reverse > 0.0:
                    x = next_of[j]
                    met[x, 0], met[x, 1], w[x] = e, i, own * reverse
                    next_of[j] += 1
            own *= decay
    return stop, met, w


@njit(cache=True, nogil=True, forceinline=True)
def _place_of(links: np.ndarray, r: int, used: int, key: int) -> int:
    """Where the key stands among the used places of row r, -1 for nowhere."""
    place = -1
    for m in range(used):  # to the end, without a branch: eight places at a time
        place = max(place, m if links[r, m] == key else -1)
    return place


@njit(cache=True, nogil=True, forceinline=True)
def _faded(values: np.ndarray, r: int, used: int, factor: float) -> int:
    """Multiply the counts of row r by the factor; the place of the smallest, of equals the first."""
    least, place = _LARGEST, used
    for m in range(1, 1 + used):
        faded = values[r, m] * factor
        values[r, m] = faded
        # Of numbers from 0 on the bits are in the order of the numbers, and of integers a minimum takes eight at a time.
        least = min(least, np.float64(faded).view(np.int64))  # type: ignore[assignment]
    for m in range(used):
        place = min(place, m if np.float64(values[r, 1 + m]).view(np.int64) == least else used)
    return place


@njit(cache=True, nogil=True, forceinline=True)
def _add(
    values: np.ndarray, links: np.ndarray, filled: np.ndarray, last_at: np.ndarray, r: int, key: int, w: float, at: int,
    half_life: float,
) -> None:
    """Bring row r to the time `at` and add w to the count of the key; an event that comes late counts for less."""
    used, gap, factor = int(filled[r]), float(at - last_at[r]), 1.0
    if gap < 0.0 and values[r, 0] != 0.0:
        w *= 2.0 ** (gap / half_life)
    elif gap > 0.0:
        if values[r, 0] != 0.0 and half_life < math.inf:
            factor = 2.0 ** (-gap / half_life)
        last_at[r] = at
    values[r, 0] = values[r, 0] * factor + w
    known, smallest = _place_of(links, r, used, key), _faded(values, r, used, factor)
    if known >= 0:
        values[r, 1 + known] += w
        return
    place = used if used < links.shape[1] else smallest
    filled[r] += np.int32(place == used)
    links[r, place] = key
    values[r, 1 + place] = w


@njit(cache=True, nogil=True)
def count(
    values: np.ndarray, links: np.ndarray, filled: np.ndarray, last_at: np.ndarray, touched: np.ndarray, keys: np.ndarray,
    item_ref: np.ndarray, recent_ref: np.ndarray, event_at: np.ndarray, weight: np.ndarray, decay: float, reverse: float,
    half_life: float,
) -> None:
    """Count events one after the other; rows change in place.

    values float64[r, 1 + M] from 0 on (small counts must not be lost beside large sums), links int64[r, M], filled int32[r],
    last_at and touched and keys int64[r]; item_ref int32[n] the row of each event's item, recent_ref int32[n, d] those of the
    user's newest items (-1: none). weight float64[n], decay and reverse are not below 0.
    """
    # A row hears nothing of the others, so each takes all of its events while it is at hand.
    stop, met, w = _by_row(item_ref, recent_ref, weight, decay, reverse, touched)
    for r in range(touched.shape[0]):
        for x in range(stop[r], stop[r + 1]):
            _add(values, links, filled, last_at, r, keys[met[x, 1]], w[x], event_at[met[x, 0]], half_life)


@njit(cache=True, nogil=True, forceinline=True)
def _share(values: np.ndarray, last_at: np.ndarray, r: int, w: float, clock: int, shrink: float, half_life: float) -> float:
    """What a count of row r is worth in c(j) where the row weighs w."""
    faded = 1.0 if half_life == math.inf else 2.0 ** (-max(float(clock - last_at[r]), 0.0) / half_life)
    whole = float(values[r, 0]) * faded + shrink
    return w * faded / whole if whole > 0.0 else 0.0  # what faded to nothing says nothing


@compiled(void(IN_F4_2D, IN_I8_2D, IN_I4, IN_I8, IN_I4_2D, IN_I8_2D, int64, float64, float64, float64, OUT_F4_2D))
def follow_ups_of(values, links, filled, last_at, refs, items, clock, decay, shrink, half_life, out):  # type: ignore[no-untyped-def]
    """out float32[m, c] = the scores of the items int64[m, c], as follow_ups has them; 0 for an item that follows nothing."""
    sums = np.empty(items.shape[1])
    for e in range(refs.shape[0]):
        sums[:] = 0.0
        w = 1.0
        for d in range(refs.shape[1]):
            r = refs[e, d]
            if r >= 0:
                share = _share(values, last_at, r, w, clock, shrink, half_life)
                for m in range(filled[r] if share > 0.0 else 0):
                    for a in range(items.shape[1]):
                        if items[e, a] == links[r, m]:
                            sums[a] += share * float(values[r, 1 + m])
            w *= decay
        for a in range(items.shape[1]):
            out[e, a] = np.float32(math.log1p(sums[a] / FLOOR))


@compiled(void(IN_F4_2D, IN_I8_2D, IN_I4, IN_I8, IN_I4_2D, int64, float64, float64, float64, OUT_I8, OUT_I8, OUT_F8))
def _follow_ups(values, links, filled, last_at, refs, clock, decay, shrink, half_life, offsets, keys, scores):  # type: ignore[no-untyped-def]
    most = 1
    while most < 2 * refs.shape[1] * links.shape[1]:
        most *= 2
    bucket = np.full(most, -1, np.int64)  # open addressing: place of a key among those of this asker
    for a in range(refs.shape[0]):
        start = offsets[a]
        size, w = np.int64(0), 1.0
        for d in range(refs.shape[1]):
            r = refs[a, d]
            if r >= 0:
                share = _share(values, last_at, r, w, clock, shrink, half_life)
                for m in range(filled[r] if share > 0.0 else 0):
                    key = links[r, m]
                    home = np.int64(mix(np.uint64(key)) & np.uint64(most - 1))
                    while bucket[home] >= 0 and keys[start + bucket[home]] != key:
                        home = (home + 1) & (most - 1)
                    if bucket[home] < 0:
                        bucket[home] = size
                        keys[start + size] = key
                        scores[start + size] = 0.0
                        size += 1
                    scores[start + bucket[home]] += share * float(values[r, 1 + m])
            w *= decay
        bucket[:] = -1
        for x in range(start, start + size):
            scores[x] = math.log1p(scores[x] / FLOOR)
        offsets[a + 1] = start + size


def follow_ups(
    values: npt.NDArray[np.float32], links: npt.NDArray[np.int64], filled: npt.NDArray[np.int32], last_at: npt.NDArray[np.int64],
    refs: npt.NDArray[np.int32], clock: int, decay: float, shrink: float, half_life: float,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """(offsets int64[m + 1], keys int64, scores float32) of all neighbours of each asker's newest items, each key once.

    refs int32[m, d] rows of the newest items, newest first, -1 for none; the row arrays as for `count`; clock microseconds.
    """
    offsets = np.zeros(len(refs) + 1, np.int64)
    most = int(filled[refs[refs >= 0]].sum()) if len(filled) else 0
    keys, scores = np.empty(most, np.int64), np.empty(most)
    if len(filled):
        _follow_ups(values, links, filled, last_at, refs, clock, decay, shrink, half_life, offsets, keys, scores)
    used = int(offsets[-1])
    return offsets, keys[:used], scores[:used].astype(np.float32)
