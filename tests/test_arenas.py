"""Where memory goes that short threads have freed."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

# Threads that live at once, each with something small: glibc tells (malloc_info) in how many arenas.
ARENAS = """
import ctypes, sys, threading
if sys.argv[1] == "one":
    from freshet.arenas import one_arena
    one_arena()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
together = threading.Barrier(12)
def take():
    libc.malloc(1000)
    together.wait()
threads = [threading.Thread(target=take) for _ in range(12)]
[one.start() for one in threads]
[one.join() for one in threads]
libc.fdopen.restype, libc.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
out = libc.fdopen(1, b"w")
libc.malloc_info(0, out)
libc.fflush(None)
"""


def arenas(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", ARENAS, how], capture_output=True, text=True, check=True)
    return len(re.findall(r"<heap nr=", done.stdout))


@pytest.mark.skipif(not hasattr(__import__("ctypes").CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_threads_share_an_arena_where_that_was_asked_for() -> None:
    assert arenas("one") < arenas("default")
