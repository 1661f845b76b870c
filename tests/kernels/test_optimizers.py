"""Every registered optimizer through the same checks, and against its formula written out slowly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from freshet.kernels.optimizers import OPTIMIZERS, Step, cap, descend, descend_one, slots_of

LIMIT = 1e6
KINDS = [(name, coordinates) for name in OPTIMIZERS for coordinates in (0, 1)]


def make(name: str, coordinates: int = 0, rate: float = 0.1, l2: float = 0.0) -> Step:
    return Step(OPTIMIZERS[name], rate, 0.9, 1e-6, coordinates, l2)


def take(step: Step, row: np.ndarray, gradient: np.ndarray, width: int) -> None:
    """One step by descend: the gradient is g * y with g = 2, y half of it."""
    y = gradient.astype(np.float32).reshape(1, -1) / np.float32(2)
    descend(row.reshape(1, -1), 0, 0, width, width, np.float32(2), y, 0, 0, np.float32(np.sum(y**2)), step, LIMIT)


def slow(step: Step, name: str, row: np.ndarray, gradient: np.ndarray, width: int) -> np.ndarray:
    """The formulas of the module, in float64, one coordinate after the other."""
    row = row.astype(np.float64)
    gradient = gradient + step.l2 * row[:width]
    groups = [[j] for j in range(width)] if step.coordinates else [list(range(width))]
    for number, group in enumerate(groups):
        g2 = np.mean(gradient[group] ** 2)
        scale = 1.0
        if name != "sgd":
            if g2 == 0:
                continue
            slot = width + number
            n = row[slot]
            row[slot] = n + g2 if name == "adagrad" else (g2 if n == 0 and name == "rms" else step.decay * n + (1 - step.decay) * g2)
            scale = 1 / math.sqrt(row[slot] + step.epsilon)
        row[group] -= step.rate * scale * gradient[group]
    return row


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
def test_equals_the_slow_formula(name, coordinates) -> None:
    random = np.random.default_rng(3)
    for width in (1, 3, 8, 21):
        step = make(name, coordinates, l2=0.01)
        row = np.zeros(width + slots_of(step, width), np.float32)
        row[:width] = random.normal(size=width)
        for _ in range(5):
            gradient = random.normal(size=width).astype(np.float32)
            wanted = slow(step, name, row, gradient.astype(np.float64), width)
            take(step, row, gradient, width)
            np.testing.assert_allclose(row, wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
def test_reaches_a_known_minimum(name, coordinates) -> None:
    step, goal = make(name, coordinates, rate=0.05), np.array([1.0, -2.0, 0.5], np.float32)
    row = np.zeros(3 + slots_of(step, 3), np.float32)
    for _ in range(2000):
        take(step, row, row[:3] - goal, 3)
    assert np.abs(row[:3] - goal).max() < 0.06


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
def test_zero_gradient_changes_nothing(name, coordinates) -> None:
    step = make(name, coordinates)
    row = np.linspace(0.5, 1.0, 4 + slots_of(step, 4)).astype(np.float32)
    before = row.copy()
    take(step, row, np.zeros(4), 4)
    np.testing.assert_array_equal(row, before)


def test_a_step_touches_only_its_group() -> None:
    step = make("adagrad")
    row = np.ones(8, np.float32)
    descend(row.reshape(1, -1), 0, 2, 2, 6, np.float32(1), np.ones((1, 2), np.float32), 0, 0, np.float32(2), step, LIMIT)
    assert (np.flatnonzero(row != 1.0) == [2, 3, 6]).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_single_coordinate_is_a_group_of_one(name) -> None:
    step = make(name, l2=0.01)
    one, group = np.array([0.7, 0.2], np.float32), np.array([0.7, 0.2], np.float32)
    for gradient in (1.0, -0.3, 0.0):
        descend_one(one.reshape(1, -1), 0, 0, 1, np.float32(gradient), step)
        take(step, group, np.array([gradient]), 1)
        np.testing.assert_allclose(one, group, rtol=1e-6)


def test_steps_of_rms_do_not_vanish_and_those_of_adagrad_do() -> None:
    taken = {}
    for name in ("rms", "adagrad"):
        step, row = make(name), np.zeros(2, np.float32)
        for _ in range(500):
            taken[name] = descend_one(row.reshape(1, -1), 0, 0, 1, np.float32(1), step)
    assert taken["rms"] > 0.09 > 0.01 > taken["adagrad"]


def test_cap_cuts_long_rows_and_only_those() -> None:
    row = np.array([[3.0, 4.0, 7.0]], np.float32)
    assert cap(row, 0, 0, 2, np.float32(25), 1.0) == 1
    np.testing.assert_allclose(row[0], [0.6, 0.8, 7.0], rtol=1e-6)
    assert cap(row, 0, 0, 2, np.float32(1), 1.01) == 0
