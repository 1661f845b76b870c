"""The kernel of bpr against a slow twin and against the numerical gradient of its loss."""

from __future__ import annotations

import numpy as np
import pytest
from slow_steps import slow_step

from freshet.kernels import bpr
from freshet.kernels.optimizers import OPTIMIZERS, Step, slots_of

FACTORS = 13  # eight lanes and five more
NO_DRAWS = np.empty(0, np.uint64)
NO_TRUST = np.empty(0, np.float32)  # all are trusted


def world(seed: int, optimizer: str, n: int = 50, negatives: int = 2):
    random = np.random.default_rng(seed)
    step = Step(OPTIMIZERS[optimizer], 0.05, 0.9, 1e-6, 0, 0.01)
    bias = step._replace(rate=0.03, l2=0.0)
    users = np.zeros((6, FACTORS + slots_of(step, FACTORS)), np.float32)
    items = np.zeros((12, 1 + FACTORS + slots_of(bias, 1) + slots_of(step, FACTORS)), np.float32)
    users[:, :FACTORS] = random.normal(0, 0.5, (6, FACTORS))
    items[:, : 1 + FACTORS] = random.normal(0, 0.5, (12, 1 + FACTORS))
    u = random.integers(0, 6, n).astype(np.int32)
    i = random.integers(0, 12, (n, 1 + negatives)).astype(np.int32)
    i[random.random((n, 1 + negatives)) < 0.1] = -1
    i[:, 0] = random.integers(0, 12, n)
    return users, items, u, i, random.uniform(0.5, 2, n).astype(np.float32), bias, step


def run(users, items, u, i, weight, bias, step, limit=10.0):
    n = len(u)
    prediction, loss = np.empty(n), np.empty(n)
    user_a, item_a = np.zeros(len(users)), np.zeros(len(items))
    user_n, item_n = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    capped = bpr.learn(
        users, items, u, i, weight, NO_DRAWS, 0.0, FACTORS, bias, step, limit, user_a, item_a, user_n, item_n, NO_TRUST,
        prediction, loss, np.empty(n))
    return prediction, loss, user_a, item_a, user_n, item_n, capped


def slow(users, items, u, i, weight, bias, step):
    users, items = users.astype(np.float64), items.astype(np.float64)
    user_a, item_a, loss = np.zeros(len(users)), np.zeros(len(items)), np.full(len(u), np.nan)

    f, g, slot = slice(1, 1 + FACTORS), slice(0, FACTORS), 1 + FACTORS + slots_of(bias, 1)
    for e in range(len(u)):
        losses = []
        for other in i[e, 1:]:
            if other < 0 or other == i[e, 0]:
                continue
            p, a, b = users[u[e]], items[i[e, 0]], items[other]
            margin = a[0] - b[0] + p[g] @ (a[f] - b[f])
            s = 1 / (1 + np.exp(margin))
            losses.append(np.log1p(np.exp(-margin)) * weight[e])
            push = -s * weight[e]
            gp, ga = push * (a[f] - b[f]), push * p[g]
            pp, dd = p[g] @ p[g], (a[f] - b[f]) @ (a[f] - b[f])
            rates = [
                slow_step(step, p, g, FACTORS, gp), slow_step(bias, a, slice(0, 1), 1 + FACTORS, np.array([push])),
                slow_step(step, a, f, slot, ga), slow_step(bias, b, slice(0, 1), 1 + FACTORS, np.array([-push])),
                slow_step(step, b, f, slot, -ga),
            ]
            c = s * (1 - s) * weight[e] * ((rates[2] + rates[4]) * pp + rates[1] + rates[3])
            user_a[u[e]] += s * (1 - s) * weight[e] * rates[0] * dd
            item_a[i[e, 0]] += c
            item_a[other] += c
        if losses:
            loss[e] = np.mean(losses)
    return users, items, user_a, item_a, loss


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_the_slow_twin(optimizer) -> None:
    users, items, *rest = world(1, optimizer)
    wanted = slow(users, items, *rest)
    _, loss, user_a, item_a, _, _, _ = run(users, items, *rest)
    for got, want in zip((users, items, user_a, item_a, loss), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=5e-4, atol=5e-5)


def test_counts_touches_and_ignores_missing_negatives() -> None:
    users, items, u, i, weight, bias, step = world(2, "sgd")
    i[0, 1:] = -1
    _, loss, _, _, user_n, item_n, _ = run(users, items, u, i, weight, bias, step)
    assert np.isnan(loss[0])
    assert user_n.sum() == len(u)
    negatives = i[:, 1:]
    learned = (negatives >= 0) & (negatives != i[:, :1])
    assert item_n.sum() == len(u) + learned.sum()


def test_one_step_follows_the_numerical_gradient() -> None:
    users, items, *_ = world(3, "sgd", n=1)
    step = Step(OPTIMIZERS["sgd"], 1e-3, 0.9, 1e-6, 0, 0.0)
    u, i, weight = np.array([1], np.int32), np.array([[2, 5]], np.int32), np.array([1.5], np.float32)

    def loss(p: np.ndarray, q: np.ndarray) -> float:
        out, value = np.empty(1), np.empty(1)
        bpr.score(p, q, u, i, weight, FACTORS, out, value)
        return float(value[0])

    before = users.copy(), items.copy()
    run(users, items, u, i, weight, step, step)
    for rows, start, at, width in ((users, before[0], 1, FACTORS), (items, before[1], 2, 1 + FACTORS), (items, before[1], 5, 1 + FACTORS)):
        for j in range(width):
            up, down = start.copy(), start.copy()
            up[at, j] += 1e-2
            down[at, j] -= 1e-2
            pair = ((up, before[1]), (down, before[1])) if rows is users else ((before[0], up), (before[0], down))
            numerical = (loss(*pair[0]) - loss(*pair[1])) / 2e-2
            assert (start[at, j] - rows[at, j]) / 1e-3 == pytest.approx(numerical, rel=2e-2, abs=2e-3)


def test_score_is_what_learn_reports_for_its_first_example() -> None:
    users, items, u, i, weight, bias, step = world(4, "rms", n=1)
    prediction, loss = np.empty(1), np.empty(1)
    i[0, 1:] = [3, 4]
    i[0, 0] = 2
    bpr.score(users, items, u, i[:, :2].copy(), weight, FACTORS, prediction, loss)
    learned, learned_loss, *_ = run(users, items, u, i[:, :2].copy(), weight, bias, step)
    assert prediction[0] == learned[0]
    assert loss[0] == pytest.approx(learned_loss[0], rel=1e-6)
