"""Integer hashing: the one source of everything that looks random, equal on every machine.

`mix` is one step of SplitMix64: the golden-ratio increment, then the finaliser "Mix13" of David Stafford (Steele, Lea
and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; constants as in Vigna's splitmix64.c). It is
a bijection of the 64-bit integers. All arithmetic is modulo 2**64.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_I8, IN_U8, OUT_F4_2D, OUT_U8, compiled, float64, int64, uint64, void

# uint64 constants: in numba a plain literal is int64, and uint64 with int64 gives float64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_27, _30, _31 = np.uint64(27), np.uint64(30), np.uint64(31)
_16, _32, _48 = np.uint64(16), np.uint64(32), np.uint64(48)
_LANE = np.uint64(0xFFFF)

# Sum of four uniform 16-bit integers: its mean, and its standard deviation sqrt(4 * (2**32 - 1) / 12).
_LANES_MEAN = 4 * 65535 // 2
_LANES_DEVIATION = math.sqrt((2**32 - 1) / 3)


@compiled([uint64(uint64), OUT_U8(IN_U8)])
def mix(x):  # type: ignore[no-untyped-def]
    """Return the 64-bit hash of `x`, an integer or uint64[m]: mix(0) = 0xE220A8397B1DCDAF."""
    z = x + _GOLDEN
    z = (z ^ (z >> _30)) * _FIRST
    z = (z ^ (z >> _27)) * _SECOND
    return z ^ (z >> _31)


@compiled(uint64(uint64, uint64))
def combine(a, b):  # type: ignore[no-untyped-def]
    """Return mix(mix(a) xor b): a hash of the ordered pair."""
    return mix(mix(a) ^ b)


@compiled(void(IN_I8, OUT_F4_2D, float64, uint64, int64))
def fill_initial_rows(keys, out, factor, seed, first):  # type: ignore[no-untyped-def]
    """Fill `out` (see `initial_rows`); `factor` multiplies the centred sum of the lanes."""
    for i in range(keys.shape[0]):
        state = combine(seed, np.uint64(keys[i]))
        for c in range(min(first, out.shape[1])):
            out[i, c] = np.float32(0.0)
        for c in range(first, out.shape[1]):
            h = mix(state + np.uint64(c) * _GOLDEN)
            lanes = (h & _LANE) + ((h >> _16) & _LANE) + ((h >> _32) & _LANE) + (h >> _48)
            out[i, c] = np.float32(np.float64(np.int64(lanes) - _LANES_MEAN) * factor)


def initial_rows(
    keys: npt.NDArray[np.int64], out: npt.NDArray[np.float32], scale: float, seed: int, first: int = 0,
) -> None:
    """out[i, c] = (sum of the four 16-bit lanes of hash(seed, keys[i], c), centred) * (scale / its deviation).

    Approximately normal with mean 0 and standard deviation `scale`, never beyond 3.5 `scale`; columns below `first` are
    0 (a bias). keys int64[m]; out float32[m, width], filled. `seed` is taken modulo 2**64. Integer arithmetic and one
    float64 product: the same bits on every machine, for any order or split of keys.
    """
    fill_initial_rows(keys, out, scale / _LANES_DEVIATION, seed & (2**64 - 1), first)
