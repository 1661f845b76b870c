"""The kernel of mf against a slow twin and against the numerical gradient of its loss."""

from __future__ import annotations

import numpy as np
import pytest
from slow_steps import slow_step

from freshet.kernels import mf
from freshet.kernels.optimizers import OPTIMIZERS, Step, slots_of

FACTORS = 13  # eight lanes and five more
NO_DRAWS = np.empty(0, np.uint64)


def world(seed: int, optimizer: str, n: int = 60):
    random = np.random.default_rng(seed)
    step = Step(OPTIMIZERS[optimizer], 0.05, 0.9, 1e-6, 0, 0.01)
    bias = step._replace(rate=0.03, l2=0.0)
    width = 1 + FACTORS + slots_of(step, FACTORS) + slots_of(bias, 1)
    users, items = np.zeros((7, width), np.float32), np.zeros((9, width), np.float32)
    for rows in (users, items):
        rows[:, : 1 + FACTORS] = random.normal(0, 0.5, (len(rows), 1 + FACTORS))
    u, i = random.integers(0, 7, n).astype(np.int32), random.integers(0, 9, n).astype(np.int32)
    target, weight = random.normal(3, 1, n).astype(np.float32), random.uniform(0.5, 2, n).astype(np.float32)
    return users, items, u, i, target, weight, bias, step


def run(users, items, u, i, target, weight, bias, step, limit=10.0, mean=2.0, count=3):
    n = len(u)
    counts = [np.zeros(len(rows), np.int64) for rows in (users, items)]
    means, prediction, loss = np.full((1, 1), mean, np.float32), np.empty(n), np.empty(n)
    user_a, item_a = np.zeros(len(users)), np.zeros(len(items))
    capped = mf.learn(
        means, users, items, count, u, i, target, weight, NO_DRAWS, 0.0, FACTORS, bias, step, limit, *counts, user_a, item_a,
        np.empty(0, np.float32), prediction, loss, np.empty(n))
    return means, prediction, loss, user_a, item_a, capped


def slow(users, items, u, i, target, weight, bias, step, mean=2.0, count=3):
    """Straight from the formulas, float64, one example after the other."""
    users, items = users.astype(np.float64), items.astype(np.float64)
    user_a, item_a, prediction = np.zeros(len(users)), np.zeros(len(items)), []

    f = slice(1, 1 + FACTORS)
    for e in range(len(u)):
        p, q = users[u[e]], items[i[e]]
        score = mean + p[0] + q[0] + p[f] @ q[f]
        prediction.append(score)
        error = (score - target[e]) * weight[e]
        mean += (target[e] - mean) / (count + e + 1)
        gp, gq = error * q[f], error * p[f]
        pp, qq = p[f] @ p[f], q[f] @ q[f]
        for row, gradient, other, total, at in ((p, gp, qq, user_a, u[e]), (q, gq, pp, item_a, i[e])):
            total[at] += weight[e] * slow_step(bias, row, slice(0, 1), 1 + FACTORS, np.array([error]))
            total[at] += weight[e] * slow_step(step, row, f, 1 + FACTORS + slots_of(bias, 1), gradient) * other
    return mean, users, items, np.array(prediction), user_a, item_a


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_the_slow_twin(optimizer) -> None:
    users, items, *rest = world(1, optimizer)
    wanted = slow(users, items, *rest)
    means, prediction, _, user_a, item_a, _ = run(users, items, *rest)
    for got, want in ((means[0, 0], wanted[0]), (users, wanted[1]), (items, wanted[2]), (prediction, wanted[3]),
                      (user_a, wanted[4]), (item_a, wanted[5])):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)


def test_one_step_follows_the_numerical_gradient() -> None:
    users, items, u, i, target, weight, _, _ = world(2, "sgd", n=1)
    step = Step(OPTIMIZERS["sgd"], 1e-3, 0.9, 1e-6, 0, 0.0)
    refs = (np.zeros(1, np.int32), u, i)

    def loss(p: np.ndarray, q: np.ndarray) -> float:
        out = np.empty(1)
        mf.score(np.full((1, 1), 2.0, np.float32), p.astype(np.float32), q.astype(np.float32), *refs, FACTORS, 1.0, out)
        return float(weight[0] * (target[0] - out[0]) ** 2 / 2)

    before = users.copy(), items.copy()
    run(users, items, u, i, target, weight, step, step, mean=2.0, count=10**9)
    for rows, start, at in ((users, before[0], u[0]), (items, before[1], i[0])):
        for j in range(1 + FACTORS):
            h = 1e-2
            up, down = start.copy(), start.copy()
            up[at, j] += h
            down[at, j] -= h
            pair = ((up, before[1]), (down, before[1])) if rows is users else ((before[0], up), (before[0], down))
            numerical = (loss(*pair[0]) - loss(*pair[1])) / (2 * h)
            assert (start[at, j] - rows[at, j]) / 1e-3 == pytest.approx(numerical, rel=2e-2, abs=2e-3)


def test_norms_are_capped_and_counted() -> None:
    users, items, u, i, target, weight, bias, step = world(3, "sgd")
    *_, capped = run(users, items, u, i, target * 10, weight, bias, step, limit=0.5)
    assert capped > 0
    # Both rows of an example are cut after their step, so every row that was touched is inside.
    assert np.linalg.norm(users[np.unique(u), 1 : 1 + FACTORS], axis=1).max() <= 0.5 + 1e-5


def test_unknown_rows_contribute_nothing() -> None:
    users, items, *_ = world(4, "sgd")
    out = np.empty(3)
    refs = np.array([0, 0, -1], np.int32), np.array([-1, 2, -1], np.int32), np.array([4, -1, -1], np.int32)
    mf.score(np.full((1, 1), 2.0, np.float32), users, items, *refs, FACTORS, 1.0, out)
    np.testing.assert_allclose(out, [2.0 + items[4, 0], 2.0 + users[2, 0], 0.0], rtol=1e-6)
