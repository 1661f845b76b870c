"""Every registered optimizer through the same checks, and against its formula written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit
from slow_steps import shrink, slow_step

from freshet.kernels.optimizers import INVERSE_SQRT, OPTIMIZERS, SCHEDULES, Plain, Step, cap, descend, descend_one, plain, slots_of
from freshet.kernels.pace import paced

LIMIT = 1e6
KINDS = [(name, coordinates) for name in OPTIMIZERS for coordinates in (0, 1)]


def make(name: str, coordinates: int = 0, rate: float = 0.1, l2: float = 0.0, **more: float) -> Step:
    return Step(OPTIMIZERS[name], rate, 0.9, 1e-6, coordinates, l2)._replace(**more)


def take(step: Step, row: np.ndarray, gradient: np.ndarray, width: int) -> float:
    """One step by descend: the gradient is g * y with g = 2, y half of it."""
    y = gradient.astype(np.float32).reshape(1, -1) / np.float32(2)
    return descend(row.reshape(1, -1), 0, 0, width, width, np.float32(2), y, 0, 0, np.float32(np.sum(y**2)), step, LIMIT)[0]


def fresh(step: Step, width: int, seed: int = 3) -> np.ndarray:
    """A row as it is born: random weights, empty slots."""
    row = np.zeros(width + slots_of(step, width), np.float32)
    row[:width] = np.random.default_rng(seed).normal(size=width)
    return row


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
@pytest.mark.parametrize(("l2", "l1"), [(0.01, 0.0), (0.0, 0.3), (0.02, 0.1)])
def test_equals_the_slow_formula(name, coordinates, l2, l1) -> None:
    random = np.random.default_rng(3)
    for width in (1, 3, 8, 21):
        step = make(name, coordinates, l2=l2, l1=l1, rate=0.02)
        row = fresh(step, width)
        wanted = row.astype(np.float64)
        for _ in range(12):
            gradient = (random.normal(size=width) * (random.random(width) < 0.7)).astype(np.float32)
            taken = slow_step(step, wanted, slice(0, width), width, gradient.astype(np.float64))
            assert take(step, row, gradient, width) == pytest.approx(taken, rel=1e-4)
            np.testing.assert_allclose(row, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rms", "rmsprop"])
@pytest.mark.parametrize("coordinates", [0, 1])
def test_what_is_compiled_for_plain_steps_gives_the_same_bits(name, coordinates) -> None:
    general, random = make(name, coordinates, l2=0.01), np.random.default_rng(1)
    assert type(plain(general)) is Plain
    one = fresh(general, 11)
    other = one.copy()
    for _ in range(5):
        gradient = random.normal(size=11)
        assert take(general, one, gradient, 11) == take(plain(general), other, gradient, 11)
        assert one.tobytes() == other.tobytes()
    assert all(type(plain(step)) is Step for step in (make("adam"), make(name, l1=0.1), make(name, schedule=INVERSE_SQRT)))


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
def test_reaches_a_known_minimum(name, coordinates) -> None:
    step, goal = make(name, coordinates, rate=0.5 if name == "ftrl" else 0.05), np.array([1.0, -2.0, 0.5], np.float32)
    row = np.zeros(3 + slots_of(step, 3), np.float32)
    for _ in range(2000):
        take(step, row, row[:3] - goal, 3)
    assert np.abs(row[:3] - goal).max() < 0.06


@pytest.mark.parametrize(("name", "coordinates"), [kind for kind in KINDS if kind[0] != "ftrl"])
def test_l1_reaches_the_minimum_with_zeros_in_it(name, coordinates) -> None:
    """(x - goal)^2 / 2 + .3 |x| is least at the goal shrunk by .3; ftrl's l1 is of the whole stream, not of each event."""
    goal = np.array([1.0, -0.2, 0.5, 0.1], np.float32)
    step = make(name, coordinates, rate=0.5 if name == "adagrad" else 0.02, l1=0.3)
    row = fresh(step, 4)
    for _ in range(2000):
        take(step, row, row[:4] - goal, 4)
    wanted = shrink(goal, 0.3)
    assert np.abs(row[:4] - wanted).max() < 0.06 and (row[:4][wanted == 0] == 0).all()
    bare = fresh(step, 4)
    for _ in range(2000):  # the subject that must fail
        take(step._replace(l1=0.0), bare, bare[:4] - goal, 4)
    assert np.abs(bare[:4] - wanted).max() > 0.15


@pytest.mark.parametrize(("name", "coordinates"), KINDS)
def test_zero_gradient_changes_nothing(name, coordinates) -> None:
    step = make(name, coordinates)
    row = np.linspace(0.5, 1.0, 4 + slots_of(step, 4)).astype(np.float32)
    before = row.copy()
    take(step, row, np.zeros(4), 4)
    np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("coordinates", [0, 1])
def test_adam_on_sparse_rows_is_adam_of_each_rows_own_events(coordinates) -> None:
    """The published algorithm, dense over what a row met: its own step number in both corrections, whenever it is born."""
    step, random = make("adam", coordinates, rate=0.01)._replace(decay=0.99), np.random.default_rng(7)
    rows = np.stack([fresh(step, 5, seed) for seed in range(3)])
    dense = rows[:, :5].astype(np.float64)
    m, v, t = np.zeros((3, 5)), np.zeros((3, 5)), np.zeros(3)
    for event in range(200):
        r = int(random.integers(0, 3 if event > 100 else 2))  # one is met late for the first time
        gradient = random.normal(size=5).astype(np.float32)
        before = rows.copy()
        take(step, rows[r], gradient, 5)
        assert (np.delete(rows, r, 0) == np.delete(before, r, 0)).all()
        t[r] += 1
        m[r] = 0.9 * m[r] + 0.1 * gradient
        v[r] = 0.99 * v[r] + 0.01 * (gradient**2 if coordinates else np.mean(gradient.astype(np.float64) ** 2))
        dense[r] -= 0.01 * (m[r] / (1 - 0.9 ** t[r])) / np.sqrt(v[r] / (1 - 0.99 ** t[r]) + 1e-6)
        if t[r] == 1:  # as long as any first step
            assert np.sqrt(np.mean((rows[r, :5] - before[r, :5]) ** 2)) == pytest.approx(0.01, rel=0.5 if coordinates else 1e-3)
    np.testing.assert_allclose(rows[:, :5], dense, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("coordinates", [0, 1])
def test_ftrl_keeps_a_random_weight_at_its_first_touch_and_is_adagrad_without_l1_and_l2(coordinates) -> None:
    adagrad, step = make("adagrad", coordinates), make("ftrl", coordinates)
    row, other = fresh(step, 4), fresh(adagrad, 4)
    gradient = np.array([1e-3, -1e-3, 1e-3, 1e-3])
    for _ in range(20):
        take(step, row, gradient, 4)
        take(adagrad, other, gradient, 4)
        np.testing.assert_allclose(row[:4], other[:4], rtol=1e-4, atol=1e-5)
    forgets = fresh(step, 4)
    forgets[4:8] = 1e-20  # z of a weight that began at 0: the subject that must fail
    forgets[:4] = 0.0
    take(step, forgets, gradient, 4)
    assert np.abs(forgets[:4] - fresh(step, 4)[:4]).max() > 0.3


def test_weights_of_ftrl_follow_from_z_and_n_and_are_cut_by_l1() -> None:
    """Textbook state at every event; a weight that began at 0 stays there until its evidence is more than l1."""
    step, random = make("ftrl", l1=1.5, l2=0.5), np.random.default_rng(2)
    row, zeros = fresh(step, 6), 0
    row[:3] = 0.0
    for _ in range(100):
        take(step, row, random.normal(size=6), 6)
        h = np.sqrt(row[12] + 1e-6) / 0.1 + 0.5
        np.testing.assert_allclose(row[:6], shrink(-row[6:12] / h, 1.5 / h), rtol=1e-4, atol=1e-6)
        assert (np.abs(row[6:12][row[:6] == 0]) <= 1.5).all()
        zeros += (row[:6] == 0).sum()
        assert (row[:3] != 0).sum() <= (np.abs(row[6:9]) > 1.5).sum()
    assert zeros > 3 and row[:3].any()


def paces(step: Step, counts: np.ndarray) -> np.ndarray:
    return np.array([_rate_at(step, int(count)) for count in counts])


@njit
def _rate_at(step, count):
    return paced(step, count).rate


def test_schedules_shorten_the_rate_by_the_rows_own_events() -> None:
    counts = np.array([0, 50, 100, 300])
    of = {name: paces(make("sgd", schedule=code, horizon=100.0), counts) / 0.1 for name, code in SCHEDULES.items()}
    np.testing.assert_allclose(of["constant"], 1.0)
    np.testing.assert_allclose(of["inverse_sqrt"], 1 / np.sqrt(1 + counts / 100))
    np.testing.assert_allclose(of["exponential"], 0.5 ** (counts / 100))


def test_a_step_touches_only_its_group() -> None:
    step = make("adagrad")
    row = np.ones(8, np.float32)
    descend(row.reshape(1, -1), 0, 2, 2, 6, np.float32(1), np.ones((1, 2), np.float32), 0, 0, np.float32(2), step, LIMIT)
    assert (np.flatnonzero(row != 1.0) == [2, 3, 6]).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_single_coordinate_is_a_group_of_one(name) -> None:
    step = make(name, l2=0.01)
    one = fresh(step, 1)
    group = one.copy()
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
