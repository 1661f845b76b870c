"""Cutting a round into shards: which examples, which rows, under which local numbers."""

from __future__ import annotations

import numpy as np
from numba import njit


def shard_of(user_keys: np.ndarray, shards: int) -> np.ndarray:
    """int32[n] = pmod(user_key, shards): a user's events always learn in one place."""
    return np.mod(user_keys, shards).astype(np.int32)


def members(shard: np.ndarray, shards: int) -> list[np.ndarray]:
    """The positions of each shard's entries, in their order."""
    order = np.argsort(shard, kind="stable")
    bounds = np.searchsorted(shard[order], np.arange(shards + 1))
    return [order[bounds[s] : bounds[s + 1]] for s in range(shards)]


@njit(cache=True, nogil=True)
def kept(refs: np.ndarray, there: np.ndarray) -> np.ndarray:
    """int32 of the shape of refs int32[n, m]: each reference, -1 where there bool[r] says that its row is not."""
    out = np.empty_like(refs)
    for e in range(refs.shape[0]):
        for c in range(refs.shape[1]):
            r = refs[e, c]
            out[e, c] = r if r >= 0 and there[r] else -1
    return out


@njit(cache=True, nogil=True)
def localize(refs: np.ndarray, stamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the rows that refs int32[n, m] name from 0, in the order they first appear.

    Returns the local references int32[n, m] (-1 stays) and the row behind each local number int32[r]. stamp int32[rows]
    is scratch, all -1 before and after.
    """
    local = np.empty_like(refs)
    origin = np.empty(min(refs.size, stamp.shape[0]), np.int32)
    known = 0
    for e in range(refs.shape[0]):
        for c in range(refs.shape[1]):
            r = refs[e, c]
            if r >= 0 and stamp[r] < 0:
                stamp[r] = known
                origin[known] = r
                known += 1
            local[e, c] = stamp[r] if r >= 0 else -1
    for k in range(known):
        stamp[origin[k]] = -1
    return local, origin[:known].copy()


@njit(cache=True, nogil=True)
def latest(at: np.ndarray, refs: np.ndarray, last_at: np.ndarray) -> None:
    """last_at[r] = the latest of itself and of at int64[n] over the rows that refs int32[n, m] name (-1: none)."""
    for e in range(refs.shape[0]):
        for c in range(refs.shape[1]):
            r = refs[e, c]
            if r >= 0 and last_at[r] < at[e]:
                last_at[r] = at[e]
