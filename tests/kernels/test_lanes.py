"""Lanes against numpy: the parts of a row they read and write, their arithmetic, the fixed order of their sum."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

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
