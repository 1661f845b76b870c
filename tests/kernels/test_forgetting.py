"""Rows that forget: against the formula, against themselves in two steps."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels.forgetting import earliest, forget


def rows() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.normal(size=(50, 9)).astype(np.float32), random.normal(size=(50, 6)).astype(np.float32)


def after(half_lives: np.ndarray) -> np.ndarray:
    values, start = rows()
    forget(values, start, half_lives)
    return values


def test_what_is_left_is_the_formula() -> None:
    values, start = rows()
    ages = np.linspace(0.0, 12.0, 50)
    left = 0.5 ** ages[:, None]
    wanted = np.concatenate([start + (values[:, :6] - start) * left, values[:, 6:] * left], axis=1)
    np.testing.assert_allclose(after(ages), wanted, rtol=1e-5, atol=1e-7)
    assert np.abs(after(ages + 1.0) - wanted).max() > 0.1


def test_no_age_forgets_nothing_and_a_great_one_leaves_a_new_row() -> None:
    values, start = rows()
    assert np.abs(after(np.zeros(50)) - values).max() < 1e-6
    assert np.array_equal(after(np.full(50, 2000.0)), np.concatenate([start, np.zeros((50, 3), np.float32)], axis=1))


def test_twice_half_a_time_is_the_whole_time() -> None:
    values, start = rows()
    for _ in range(2):
        forget(values, start, np.full(50, 0.7))
    np.testing.assert_allclose(values, after(np.full(50, 1.4)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_earliest_event_of_each_row(seed: int) -> None:
    random = np.random.default_rng(seed)
    refs, at = random.integers(-1, 12, size=(40, 3)).astype(np.int32), random.integers(0, 1000, size=40)
    first = np.full(14, 10**6)
    earliest(at, refs, first)
    wanted = [min([at[e] for e in range(40) if r in refs[e]], default=10**6) for r in range(14)]
    assert first.tolist() == wanted and wanted[13] == 10**6
