"""Hashes of whole columns of text, as Spark's xxhash64 gives them.

    text_hashes(texts, seed=42) = xxhash64(text)        text_hashes(texts, seed=number_seed(7)) = xxhash64(7, text)
    then_long(hashes, value) = xxhash64(..., value), value a bigint

XXH64 of the UTF-8 bytes; Spark hands the hash of a column on as the seed of the next (see freshet.kernels.digest).
XXH64: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_I8, IN_U1, IN_U8, OUT_U8, compiled, int64, uint64, void
from freshet.kernels.digest import (
    _P1,
    _P2,
    _P3,
    _P4,
    _P5,
    SPARK_SEED,
    _23,
    _27,
    _31,
    _33,
    _37,
    _41,
    _avalanche,
    hash_int,
    hash_long,
)

_1, _7, _11, _12, _18, _32, _46, _52, _53, _57, _63 = (np.uint64(bits) for bits in (1, 7, 11, 12, 18, 32, 46, 52, 53, 57, 63))


@compiled(uint64(IN_U1, int64, int64))
def _word(data, at, count):  # type: ignore[no-untyped-def]
    """The little-endian number of `count` bytes."""
    word = np.uint64(0)
    for i in range(count):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@compiled(uint64(uint64, uint64))
def _round(lane, word):  # type: ignore[no-untyped-def]
    lane = lane + word * _P2
    return ((lane << _31) | (lane >> _33)) * _P1


@compiled(uint64(IN_U1, int64, int64, uint64))
def _stripes(data, at, whole, seed):  # type: ignore[no-untyped-def]
    """The hash so far, after `whole` bytes, a multiple of 32."""
    a, b, c, d = seed + _P1 + _P2, seed + _P2, seed, seed - _P1
    for i in range(at, at + whole, 32):
        a, b = _round(a, _word(data, i, 8)), _round(b, _word(data, i + 8, 8))
        c, d = _round(c, _word(data, i + 16, 8)), _round(d, _word(data, i + 24, 8))
    h = ((a << _1) | (a >> _63)) + ((b << _7) | (b >> _57)) + ((c << _12) | (c >> _52)) + ((d << _18) | (d >> _46))
    for lane in (a, b, c, d):
        h = (h ^ _round(np.uint64(0), lane)) * _P1 + _P4
    return h


@compiled(void(IN_I8, IN_U1, uint64, OUT_U8))
def fill_text_hashes(offsets, data, seed, out):  # type: ignore[no-untyped-def]
    """Fill out[i] with XXH64 of data[offsets[i] : offsets[i + 1]]."""
    for i in range(len(out)):
        at, end = offsets[i], offsets[i + 1]
        whole = (end - at) // 32 * 32
        h = (_stripes(data, at, whole, seed) if whole else seed + _P5) + np.uint64(end - at)
        at += whole
        while at + 8 <= end:
            h ^= _round(np.uint64(0), _word(data, at, 8))
            h = ((h << _27) | (h >> _37)) * _P1 + _P4
            at += 8
        if at + 4 <= end:
            h ^= _word(data, at, 4) * _P1
            h = ((h << _23) | (h >> _41)) * _P2 + _P3
            at += 4
        while at < end:
            h ^= np.uint64(data[at]) * _P5
            h = ((h << _11) | (h >> _53)) * _P1
            at += 1
        out[i] = _avalanche(h)


@compiled(void(IN_U8, uint64, OUT_U8))
def _fill_then_long(hashes, value, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i] = hash_long(value, hashes[i])


def text_hashes(
    offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], seed: int = SPARK_SEED
) -> npt.NDArray[np.int64]:
    """Return int64[n]: XXH64 of each text; offsets int64[n + 1] into data uint8[m], the UTF-8 bytes one after the other."""
    out = np.empty(len(offsets) - 1, np.uint64)
    fill_text_hashes(offsets, data, np.uint64(seed), out)
    return out.view(np.int64)


def then_long(hashes: npt.NDArray[np.int64], value: int) -> npt.NDArray[np.int64]:
    """Return int64[n]: the hash of one more column, a bigint of this value in every row."""
    out = np.empty(len(hashes), np.uint64)
    _fill_then_long(hashes.view(np.uint64), np.uint64(value), out)
    return out.view(np.int64)


def number_seed(number: int) -> int:
    """Return the hash of a first column, an int of this value: the seed of what comes after it."""
    return int(hash_int(np.uint32(number), np.uint64(SPARK_SEED)))
