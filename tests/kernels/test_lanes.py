"""Lanes against numpy: the parts of a row they read and write, their arithmetic, the fixed order of their sum; and on any machine."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import njit
from numba.core.errors import TypingError
from processes import LIB

from freshet.kernels.lanes import LANES, load, prefetch, spread, store, total

WIDTHS = (1, 3, 7, 8, 9, 16, 21, 32)


@njit
def moved(a, b, at, width, scale):
    """a[1, at:at + width] = a * scale + b - b * b, by lanes."""
    by = spread(scale)
    for j in range(0, width, LANES):
        x, y = load(a, 1, at + j, width - j), load(b, 0, j, width - j)
        store(a, 1, at + j, width - j, x * by + y - y * y)


@njit
def summed(a, width):
    whole = spread(0.0)
    for j in range(0, width, LANES):
        whole += load(a, 0, j, width - j)
    return total(whole)


@njit
def asked(table, column, r):
    prefetch(table, r)
    prefetch(column, r)


@pytest.mark.parametrize("width", WIDTHS)
def test_lanes_do_what_numpy_does_and_touch_nothing_else(width) -> None:
    random = np.random.default_rng(width)
    a, b = random.normal(size=(3, 40)).astype(np.float32), random.normal(size=(1, width)).astype(np.float32)
    wanted, part = a.copy(), slice(2, 2 + width)
    wanted[1, part] = wanted[1, part] * np.float32(0.3) + b[0] - b[0] * b[0]
    moved(a, b, 2, width, 0.3)
    np.testing.assert_array_equal(a, wanted)


@pytest.mark.parametrize("rows", [np.zeros((3, 40)), np.zeros((3, 40), np.float32)[:, ::2], np.zeros((40, 3), np.float32).T],
                         ids=["float64", "strided", "fortran"])
def test_arrays_of_another_kind_are_not_compiled(rows) -> None:
    with pytest.raises(TypingError, match="C-contiguous float32"):
        summed(rows, 8)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_sum_has_the_order_of_its_formula(width) -> None:
    row = (np.random.default_rng(width).normal(size=(1, width)) * 10.0 ** np.arange(width)).astype(np.float32)
    s = np.zeros(LANES, np.float32)
    for j in range(0, width, LANES):
        some = row[0, j : j + LANES]
        s[: len(some)] += some
    wanted = ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
    assert summed(row, width) == wanted


def test_asking_for_memory_changes_nothing() -> None:
    table, column = np.ones((3, 70), np.float32), np.ones(3)
    for r in range(3):
        asked(table, column, r)
    assert (table == 1).all() and (column == 1).all()


BITS = """
import numpy as np
from freshet.kernels import mf
from freshet.kernels.optimizers import ADAGRAD, Step

random, step = np.random.default_rng(1), Step(ADAGRAD, 0.05, 0.9, 1e-6, 0, 0.01)
users, items = (random.normal(0, 0.3, (40, 24)).astype(np.float32) ** 2 for _ in range(2))
u, i = (random.integers(0, 40, 500).astype(np.int32) for _ in range(2))
value, weight, a, b, c, d = random.normal(3, 1, 500).astype(np.float32), np.ones(500, np.float32), *np.zeros((4, 500))
counts = np.zeros((2, 500), np.int64)
none = np.empty(0, np.uint64)
mf.learn(np.ones((1, 1), np.float32), users, items, 1, u, i, value, weight, none, 0.0, 21, step, step, 10.0, *counts, a, b, np.empty(0, np.float32), c, d, np.empty(len(c)))
print(users.tobytes().hex(), items.tobytes().hex(), a.tobytes().hex(), b.tobytes().hex(), c.tobytes().hex())
"""


def test_bits_do_not_depend_on_the_vectors_of_the_machine(tmp_path) -> None:
    def learned(**more: str) -> str:
        env = {**os.environ, "PYTHONPATH": str(LIB), **more}
        return subprocess.run([sys.executable, "-c", BITS], env=env, capture_output=True, text=True, check=True).stdout

    # What is compiled for this machine lies in the cache of everything else; for the plain one a cache of its own.
    assert learned() == learned(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="", NUMBA_CACHE_DIR=str(tmp_path)) != ""
