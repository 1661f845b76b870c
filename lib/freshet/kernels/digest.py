"""The digest of a row and of a state, as any SQL reader of the tables can compute them.

    row digest   = Spark's xxhash64(block, key, vector, slots, links, count, last_event_at)
    state digest = XOR of the digests of all rows; the empty state is 0

Spark's xxhash64 starts from seed 42 and hands the hash of each column on as the seed of the next; an array does the
same with its elements, so null and the empty array both leave the seed as it is. A float is hashed by its bits as a
4-byte integer (-0.0 as 0.0, every NaN as one), a bigint and a timestamp (in microseconds) as 8 bytes, text by its UTF-8
bytes.
XXH64: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4_2D, IN_I4, IN_I8, IN_I8_2D, OUT_U8, compiled, uint32, uint64, void

SPARK_SEED = 42

_MASK = 2**64 - 1
_PRIMES = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)

# uint64 constants: in numba a plain literal is int64, and uint64 with int64 gives float64.
_P1, _P2, _P3, _P4, _P5 = (np.uint64(prime) for prime in _PRIMES)
_4, _8 = np.uint64(4), np.uint64(8)
_23, _27, _29, _31, _32, _33 = (np.uint64(bits) for bits in (23, 27, 29, 31, 32, 33))
_37, _41 = np.uint64(37), np.uint64(41)
_NAN_BITS = np.uint32(0x7FC00000)


@compiled(uint64(uint64))
def _avalanche(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> _33)) * _P2
    h = (h ^ (h >> _29)) * _P3
    return h ^ (h >> _32)


@compiled(uint64(uint32, uint64))
def hash_int(bits, seed):  # type: ignore[no-untyped-def]
    """XXH64 of the 4 little-endian bytes of `bits`."""
    h = (seed + _P5 + _4) ^ (np.uint64(bits) * _P1)
    h = ((h << _23) | (h >> _41)) * _P2 + _P3
    return _avalanche(h)


@compiled(uint64(uint64, uint64))
def hash_long(value, seed):  # type: ignore[no-untyped-def]
    """XXH64 of the 8 little-endian bytes of `value`."""
    k = value * _P2
    h = (seed + _P5 + _8) ^ (((k << _31) | (k >> _33)) * _P1)
    h = ((h << _27) | (h >> _37)) * _P1 + _P4
    return _avalanche(h)


@compiled(uint64(IN_F4_2D, uint64, uint64))
def _hash_floats(cells, row, h):  # type: ignore[no-untyped-def]
    for c in range(cells.shape[1]):
        value = cells[row, c]
        if value == np.float32(0.0):
            bits = np.uint32(0)
        elif value != value:
            bits = _NAN_BITS
        else:
            bits = np.float32(value).view(np.uint32)
        h = hash_int(bits, h)
    return h


@compiled(void(uint64, IN_I8, IN_F4_2D, IN_F4_2D, IN_I8_2D, IN_I4, IN_I8, IN_I8, OUT_U8))
def fill_digests(block, keys, vectors, slots, links, link_counts, counts, last_at, out):  # type: ignore[no-untyped-def]
    """Fill `out` (see `row_digests`)."""
    for i in range(keys.shape[0]):
        h = hash_long(np.uint64(keys[i]), block)
        h = _hash_floats(vectors, i, h)
        h = _hash_floats(slots, i, h)
        if links.shape[1] > 0:
            for c in range(link_counts[i]):
                h = hash_long(np.uint64(links[i, c]), h)
        h = hash_long(np.uint64(counts[i]), h)
        out[i] = hash_long(np.uint64(last_at[i]), h)


def row_digests(
    block: int,
    keys: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    slots: npt.NDArray[np.float32],
    links: npt.NDArray[np.int64],
    link_counts: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int64],
    last_at: npt.NDArray[np.int64],
) -> npt.NDArray[np.uint64]:
    """Return uint64[m]: the row digest (see the module) of each row.

    block: `block_seed` of its name; keys int64[m]; vectors float32[m, w]; slots float32[m, s]; links int64[m, L] of
    which the first link_counts int32[m] count; counts int64[m]; last_at int64[m] in microseconds since 1970. A width of
    0 stands for null.
    """
    out = np.empty(len(keys), np.uint64)
    fill_digests(block, keys, vectors, slots, links, link_counts, counts, last_at, out)
    return out


def block_seed(name: str) -> int:
    """Return the seed that stands for the block's name: XXH64 of its UTF-8 bytes with seed 42."""
    return hash_bytes(name.encode(), SPARK_SEED)


def fold(digests: npt.NDArray[np.uint64]) -> int:
    """Return the XOR of the digests: 0 for none. The digest of a state, or of what changed in one."""
    return int(np.bitwise_xor.reduce(digests))


def as_hex(digest: int) -> str:
    """Return the digest as the snapshots table has it: 16 lower-case hexadecimal digits."""
    return f"{digest:016x}"


def hash_bytes(data: bytes, seed: int) -> int:
    """Return XXH64 of `data` in plain Python: for the few short names a kernel needs as seeds."""
    one, two, three, four, five = _PRIMES
    length = len(data)
    whole = length - length % 32
    h = _stripes(data[:whole], seed) if whole else seed + five
    h = (h + length) & _MASK
    for at in range(whole, length - 7, 8):
        h = (_rotate(h ^ _round(0, int.from_bytes(data[at : at + 8], "little")), 27) * one + four) & _MASK
    at = length - length % 8
    if length - at >= 4:
        h = (_rotate(h ^ (int.from_bytes(data[at : at + 4], "little") * one & _MASK), 23) * two + three) & _MASK
        at += 4
    for byte in data[at:]:
        h = _rotate(h ^ (byte * five & _MASK), 11) * one & _MASK
    h = (h ^ (h >> 33)) * two & _MASK
    h = (h ^ (h >> 29)) * three & _MASK
    return h ^ (h >> 32)


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & _MASK


def _round(accumulator: int, lane: int) -> int:
    return _rotate((accumulator + lane * _PRIMES[1]) & _MASK, 31) * _PRIMES[0] & _MASK


def _stripes(data: bytes, seed: int) -> int:
    one, two, _, four, _ = _PRIMES
    lanes = [(seed + one + two) & _MASK, (seed + two) & _MASK, seed, (seed - one) & _MASK]
    for at in range(0, len(data), 32):
        for lane in range(4):
            word = int.from_bytes(data[at + 8 * lane : at + 8 * lane + 8], "little")
            lanes[lane] = _round(lanes[lane], word)
    h = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
    for lane in lanes:
        h = ((h ^ _round(0, lane)) * one + four) & _MASK
    return h
