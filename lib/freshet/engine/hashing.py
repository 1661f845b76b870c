"""xxHash64 as Spark computes it, for whole columns of numpy: what the driver must hash itself hashes like SQL.

    text32(bytes, seed) = xxhash64 of 32 bytes        long(value, seed) = xxhash64 of one bigint

Spark chains columns: xxhash64(text, number) = long(number, seed=text32(text, 42)).
"""

from __future__ import annotations

import numpy as np

SEED = 42
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
)


def text32(words: np.ndarray, seed: int = SEED) -> np.ndarray:
    """words uint64[n, 4], the 32 bytes of each text, little endian -> int64[n]."""
    with np.errstate(over="ignore"):
        start = np.uint64(seed)
        lanes = [
            _rotate(lane + words[:, i] * _P2, 31) * _P1
            for i, lane in enumerate((start + _P1 + _P2, start + _P2, start, start - _P1))
        ]
        value = _rotate(lanes[0], 1) + _rotate(lanes[1], 7) + _rotate(lanes[2], 12) + _rotate(lanes[3], 18)
        for lane in lanes:
            value = (value ^ (_rotate(lane * _P2, 31) * _P1)) * _P1 + _P4
        return _finish(value + np.uint64(32))


def long(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """values int64[n], seeds int64[n] -> int64[n]."""
    with np.errstate(over="ignore"):
        start = seeds.view(np.uint64) + _P5 + np.uint64(8)
        value = start ^ (_rotate(values.view(np.uint64) * _P2, 31) * _P1)
        return _finish(_rotate(value, 27) * _P1 + _P4)


def mix(values: np.ndarray) -> np.ndarray:
    """uint64[n] -> uint64[n], one to one, every bit in reaching every bit out (the finalizer alone)."""
    with np.errstate(over="ignore"):
        return _finish(values).view(np.uint64)


def _rotate(value: np.ndarray, bits: int) -> np.ndarray:
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


def _finish(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    signed: np.ndarray = (value ^ (value >> np.uint64(32))).view(np.int64)
    return signed
