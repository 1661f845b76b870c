"""Decayed counts against the closed form: sum of w 2^-((t - e) / H)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from freshet.kernels.popularity import add_events, log_popularity

HALF_LIFE = 1000.0


def add(refs, at, weight, value, half_life=HALF_LIFE, rows=3):
    values, last, touched = np.zeros((rows, 2)), np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    add_events(values, last, touched, np.array(refs, np.int32), np.array(at), np.array(weight), np.array(value), np.array([half_life]))
    return values, last, touched


@pytest.mark.parametrize("half_life", [HALF_LIFE, math.inf])
def test_equals_the_closed_form_in_any_order(half_life) -> None:
    random = np.random.default_rng(1)
    n = 200
    refs, at = random.integers(0, 3, n), random.integers(5000, 20000, n)
    weight, value = random.uniform(0.5, 2, n), random.normal(3, 1, n)
    values, last, touched = add(refs, at, weight, value, half_life)
    for row in range(3):
        mine = refs == row
        decay = weight[mine] * 2.0 ** (-(at[mine].max() - at[mine]) / half_life)
        np.testing.assert_allclose(values[row], [decay.sum(), (decay * value[mine]).sum()], rtol=1e-9)
        assert (last[row], touched[row]) == (at[mine].max(), mine.sum())


def test_skipped_events_leave_no_trace() -> None:
    values, last, touched = add([-1, 0], [10, 20], [1.0, 1.0], [5.0, 5.0])
    assert (values[0, 0], last[0], touched.sum()) == (1.0, 20, 1)


def test_log_popularity_decays_to_its_floor() -> None:
    values, last = np.array([8.0, 8.0, 0.0], np.float32), np.array([2000, 0, 0])
    out = np.empty(3, np.float32)
    log_popularity(values, last, 3000, HALF_LIFE, 0.5, out)
    np.testing.assert_allclose(out, np.log([4.0, 1.0, 0.5]), rtol=1e-6, atol=1e-6)
