"""How every kernel is compiled, and the names of the array types their signatures are made of.

    @compiled(void(IN_I8, OUT_F4_2D))     # int64[m] that is read, float32[m, w] that is filled
    def kernel(keys, out): ...

A kernel has one explicit signature: it is compiled once, cached on disk, and a call can never compile it again. All
arrays are C-contiguous. An `IN_` type is read-only inside the kernel and takes read-only arrays too (Arrow's are);
an `OUT_` type must be writable. Floating point is strict (no fastmath): same bits in every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types


def compiled(signature: object) -> Callable[[Callable[..., Any]], Any]:
    """Return the decorator that compiles a kernel for `signature`, cached on disk and without the GIL."""
    decorator: Callable[[Callable[..., Any]], Any] = numba.njit(signature, cache=True, nogil=True, fastmath=False)
    return decorator


def _array(dtype: object, dimensions: int, writable: bool) -> Any:
    return types.Array(dtype, dimensions, "C", readonly=not writable)


void, boolean, uint8 = types.void, types.boolean, types.uint8
int32, int64, uint32, uint64 = types.int32, types.int64, types.uint32, types.uint64
float32, float64 = types.float32, types.float64

IN_BOOL, OUT_BOOL = _array(boolean, 1, False), _array(boolean, 1, True)
IN_U1 = _array(uint8, 1, False)
IN_I4, OUT_I4 = _array(int32, 1, False), _array(int32, 1, True)
IN_I8, OUT_I8 = _array(int64, 1, False), _array(int64, 1, True)
IN_U8, OUT_U8 = _array(uint64, 1, False), _array(uint64, 1, True)
IN_F4, OUT_F4 = _array(float32, 1, False), _array(float32, 1, True)
IN_F8, OUT_F8 = _array(float64, 1, False), _array(float64, 1, True)
IN_I4_2D, OUT_I4_2D = _array(int32, 2, False), _array(int32, 2, True)
IN_I8_2D, OUT_I8_2D = _array(int64, 2, False), _array(int64, 2, True)
IN_F4_2D, OUT_F4_2D = _array(float32, 2, False), _array(float32, 2, True)
IN_F8_2D, OUT_F8_2D = _array(float64, 2, False), _array(float64, 2, True)
OUT_BOOL_2D = _array(boolean, 2, True)
