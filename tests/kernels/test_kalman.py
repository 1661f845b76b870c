"""The Kalman kernel against a slow twin, the exact posterior, the gradient of its loss, and a change of scale."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels import kalman, mf
from freshet.kernels.kalman import Priors

PRIORS = Priors(0.2, 0.4, 0.3, 0.1, 0.02)
FACTORS = pytest.mark.parametrize("factors", [0, 13])  # none; eight lanes and five more
DESCRIBED = pytest.mark.parametrize("described", [0, 3])  # attributes of an item
NONE = np.empty((0, 15), np.float32)


def world(seed: int, factors: int, n: int = 60):
    """Rows of users and items, and events."""
    random = np.random.default_rng(seed)
    users, items = (np.zeros((rows, 2 + factors + (factors > 0)), np.float32) for rows in (7, 9))
    for rows in (users, items):
        rows[:, : 1 + factors] = random.normal(0, 0.5, (len(rows), 1 + factors))
        rows[:3, 1 + factors :] = random.gamma(1, 2, rows[:3, 1 + factors :].shape)
    u, i = random.integers(0, 7, n).astype(np.int32), random.integers(0, 9, n).astype(np.int32)
    target, weight = random.normal(3, 1, n).astype(np.float32), random.uniform(0.5, 2, n).astype(np.float32)
    weight[n // 2] = 0.0
    target[n // 3] = 30.0  # far from all others
    return users, items, u, i, target, weight


def attributes_of(i: np.ndarray, factors: int, described: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of attributes, and which each event's item has: from none to all of `described`."""
    random = np.random.default_rng(9)
    rows = random.normal(0, 0.5, (5, 2 + factors + (factors > 0))).astype(np.float32)
    rows[:, 1 + factors :] = random.gamma(1, 2, rows[:, 1 + factors :].shape)
    own = random.permuted(np.tile(np.arange(5), (9, 1)), axis=1)[:, :described]
    own[np.arange(described) >= np.arange(9)[:, None] % (described + 1)] = -1
    return rows, np.ascontiguousarray(own[i].astype(np.int32))


def run(users, items, u, i, target, weight, factors, priors=PRIORS, mean=(2.0, 1.5), count=3, limit=10.0, attributes=None):
    n = len(u)
    rows, refs = (NONE, np.empty((n, 0), np.int32)) if attributes is None else attributes
    means, prediction, loss = np.array([mean], np.float32), np.empty(n), np.empty(n)
    a = [np.zeros(len(part)) for part in (users, items, rows)]
    capped = kalman.learn(means, users, items, rows, count, u, i, refs, target, weight, factors, priors, limit, *a, np.empty(0, np.float32), prediction, loss, np.empty(n))
    return means, prediction, loss, a, capped


def slow(users, items, u, i, target, weight, k, priors=PRIORS, mean=(2.0, 1.5), count=3, attributes=None):
    """Straight from the formulas, float64, variances kept as variances."""
    extra, refs = (NONE, np.empty((len(u), 0), np.int32)) if attributes is None else attributes
    rows = [part.astype(np.float64) for part in (users, items, extra)]
    own = [[priors.user, priors.factors], [priors.item, priors.factors], [priors.attribute, priors.attribute]]
    v = [[1 / (1 / prior + column) for prior, column in zip(of, part[:, 1 + k :].T, strict=False)] for of, part in zip(own, rows, strict=True)]
    a, prediction, f = [np.zeros(len(part)) for part in rows], [], slice(1, 1 + k)
    mean, variance = mean
    for at, (row, item, value, w) in enumerate(zip(u, i, target.astype(np.float64), weight, strict=True)):
        there = refs[at][refs[at] >= 0]
        share = max(len(there), 1) ** -0.5
        sigma, x, y = np.sqrt(variance), rows[0][row], rows[1][item, : 1 + k] + share * rows[2][there, : 1 + k].sum(axis=0)
        prediction.append(mean + x[0] + y[0] + sigma * x[f] @ y[f])
        e = value - prediction[-1]
        n = count + at + 1
        near = np.clip(value, mean - 4 * sigma, mean + 4 * sigma)
        before, mean = mean, mean + (near - mean) / n
        variance += ((near - before) * (near - mean) - variance) / n
        if w == 0:
            continue
        v[0][0][row] += priors.drift
        # (block, row, how often its bias is in the score, what its factors meet)
        met = [(0, row, 1.0, y[f].copy()), (1, item, 1.0, x[f].copy()), *((2, r, share, share * x[f]) for r in there)]
        gains = [(b, r, 0, h**2) for b, r, h, _ in met] + [(b, r, 1, g @ g) for b, r, _, g in met if k]
        whole = 1 / w + sum(v[b][group][r] * square for b, r, group, square in gains)
        for b, r, h, g in met:
            rows[b][r, 0] += v[b][0][r] * h * e / whole
            if k:
                rows[b][r, f] += v[b][1][r] * g * e / (sigma * whole)
        for b, r, group, square in gains:
            a[b][r] += v[b][group][r] * square / whole
            v[b][group][r] *= 1 - v[b][group][r] * square / (whole * (k if group else 1))
    for of, part, known in zip(own, rows, v, strict=True):
        for group in range(1 + (k > 0)):
            part[:, 1 + k + group] = 1 / known[group] - 1 / of[group]
    return np.array([[mean, variance]]), np.array(prediction), a, rows


def same(found, rows, wanted) -> None:
    means, prediction, _, a, _ = found
    for got, want in zip((means, prediction, *a, *rows), (*wanted[:2], *wanted[2], *wanted[3]), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=5e-5)


@FACTORS
@DESCRIBED
def test_equals_the_slow_twin(factors, described) -> None:
    users, items, u, i, *rest = world(1, factors)
    attributes = attributes_of(i, factors, described)
    wanted = slow(users, items, u, i, *rest, factors, attributes=attributes)
    same(run(users, items, u, i, *rest, factors, attributes=attributes), (users, items, attributes[0]), wanted)


@pytest.mark.parametrize("wrong", [{"user": 0.3}, {"item": 0.3}, {"factors": 0.2}, {"attribute": 0.2}, {"drift": 0.0}], ids=str)
def test_a_twin_that_believes_something_else_is_noticed(wrong) -> None:
    users, items, u, i, *rest = world(1, 13)
    attributes = attributes_of(i, 13, 3)
    wanted = slow(users, items, u, i, *rest, 13, PRIORS._replace(**wrong), attributes=attributes)
    with pytest.raises(AssertionError):
        same(run(users, items, u, i, *rest, 13, attributes=attributes), (users, items, attributes[0]), wanted)


def test_a_bias_is_the_exact_posterior_where_nothing_else_is_unsure() -> None:
    """Ridge regression: the sum of what the mean leaves over (n + 1 / prior), worth n values."""
    target = np.random.default_rng(2).normal(3, 1, 40).astype(np.float32)
    users, items, one = np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32), np.zeros(40, np.int32)
    sure = Priors(0.5, 1e-12, 1.0, 1.0, 0.0)
    run(users, items, one, one, target, np.ones(40, np.float32), 0, sure, mean=(2.0, 1.0), count=10**9)
    np.testing.assert_allclose(users[0], [(target - 2.0).sum() / (40 + 1 / 0.5), 40], rtol=1e-4)


def test_drift_keeps_a_bias_moving() -> None:
    """Ever the same surprise moves a bias that is sure of itself ever less, and one that drifts by the steady share."""
    moved = []
    for drift in (0.0, 0.01):
        users, items = np.array([[0.0, 3000.0]], np.float32), np.zeros((1, 2), np.float32)
        n = 400
        run(users, items, *np.zeros((2, n), np.int32), np.full(n, 3.0, np.float32), np.ones(n, np.float32), 0,
            Priors(0.15, 1e-12, 1.0, 1.0, drift), count=10**9)
        moved.append(float(users[0, 0]))
    assert moved[0] < 0.2 and moved[1] > 0.95
    v = 1 / (1 / 0.15 + float(users[0, 1]))
    assert v == pytest.approx((v + 0.01) * (1 - (v + 0.01) / (1 + v + 0.01)), rel=1e-3)


def test_one_event_moves_rows_down_the_numerical_gradient() -> None:
    """Every group of a row moves against the gradient of the loss, as far as its variance says."""
    users, items, u, i, target, _ = world(3, 13, n=1)
    before, refs = (users.copy(), items.copy()), (np.zeros(1, np.int32), u, i)
    weight = np.ones(1, np.float32)

    def loss(p: np.ndarray, q: np.ndarray) -> float:
        out = np.empty(1)
        mf.score(np.full((1, 2), 2.0, np.float32), p, q, *refs, 13, np.sqrt(1.5), out)
        return float((target[0] - out[0]) ** 2 / 2)

    run(users, items, u, i, target, weight, 13, count=10**9)
    for number, (rows, at) in enumerate(((users, u[0]), (items, i[0]))):
        moved, numerical = rows[at] - before[number][at], np.empty(14)
        for j in range(14):
            up, down = [[part.copy() for part in before] for _ in range(2)]
            up[number][at, j] += 1e-2
            down[number][at, j] -= 1e-2
            numerical[j] = (loss(*up) - loss(*down)) / 2e-2
        share = -moved[:14] / numerical
        assert share[0] > 0.01 and share[1] > 0.01 and np.abs(numerical).min() > 1e-3
        np.testing.assert_allclose(share[1:], share[1], rtol=2e-2)


@FACTORS
def test_values_four_times_as_large_give_scores_four_times_as_large(factors) -> None:
    """To the bit: nothing but ratios of variances matters."""
    found = []
    for scale in (1, 4):
        users, items, u, i, target, weight = world(4, factors)
        users[:, 0] *= scale
        items[:, 0] *= scale
        found.append((run(users, items, u, i, target * scale, weight, factors, mean=(2.0 * scale, 1.5 * scale**2))[1], users, items))
    assert np.array_equal(4 * found[0][0], found[1][0])
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert np.array_equal(one[:, 1:], other[:, 1:]) and np.array_equal(4 * one[:, 0], other[:, 0])


def test_values_that_never_differ_leave_factors_alone() -> None:
    users, items, u, i, _, weight = world(5, 13)
    before = users[:, 1:14].copy()
    means, prediction, *_ = run(users, items, u, i, np.full(60, 3.0, np.float32), weight, 13, mean=(0.0, 0.0), count=0)
    assert means.tolist() == [[3.0, 0.0]] and np.array_equal(users[:, 1:14], before) and np.isfinite(prediction).all()


def test_one_value_of_a_million_leaves_mean_and_scale_of_the_others() -> None:
    found = []
    for far in (3.0, 1e6):
        users, items, u, i, target, weight = world(7, 0, n=1000)
        target[500] = far
        means = run(users, items, u, i, target, weight, 0, mean=(0.0, 0.0), count=0)[0]
        found.append((float(means[0, 0]), kalman.deviation(means)))
    np.testing.assert_allclose(found[0], (target.mean(where=np.abs(target) < 10), target.std(where=np.abs(target) < 10)), rtol=0.05)
    np.testing.assert_allclose(found[1], found[0], rtol=0.03)


def test_norms_are_capped_and_counted() -> None:
    users, items, u, i, target, weight = world(6, 13)
    *_, capped = run(users, items, u, i, target, weight, 13, limit=0.5)
    touched = np.unique(u[weight > 0])
    assert capped > 0 and np.linalg.norm(users[touched, 1:14], axis=1).max() <= 0.5 + 1e-5
