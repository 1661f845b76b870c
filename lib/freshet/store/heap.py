"""Memory that is free in this process and still counted as its own, given back to the machine."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa


def give_back() -> None:
    """After work that took much for a moment: allocators keep what was freed, in pieces that a year of small ones never fills.

    Where the C library has no malloc_trim (glibc has), only Arrow's own is asked.
    """
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
