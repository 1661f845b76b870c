"""The kernel of fm and linear against a slow twin, against the numerical gradient of every loss, and against hand."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from slow_steps import slow_step

from freshet.kernels import fm
from freshet.kernels.losses import CODES, LOSSES
from freshet.kernels.optimizers import OPTIMIZERS, Step, slots_of

FACTORS = 13  # eight lanes and five more
PLAIN = Step(OPTIMIZERS["sgd"], 0.1, 0.9, 1e-6, 0, 0.0)


def world(seed: int, optimizer: str, factors: int, n: int = 60):
    """Rows of 4 users, 5 items and 6 features; two in ten references to a feature are none."""
    random = np.random.default_rng(seed)
    pace = 0.1 if optimizer == "momentum" else 1.0  # its steps add up to ten
    step = Step(OPTIMIZERS[optimizer], 0.05 * pace, 0.9, 1e-6, 0, 0.01)
    bias = step._replace(rate=0.03 * pace, l2=0.0)
    width = 1 + factors
    rows = np.zeros((15, width + slots_of(bias, 1) + (slots_of(step, factors) if factors else 0)), np.float32)
    rows[:, :width] = random.normal(0, 0.3, (15, width))
    base = np.zeros((1, 1 + slots_of(bias, 1)), np.float32)
    base[0, 0] = 0.2
    refs = np.stack([random.integers(*part, n) for part in ((0, 4), (4, 9), (9, 12), (12, 15))], axis=1).astype(np.int32)
    refs[random.random(refs.shape) * [0, 0, 1, 1] > 0.8] = -1
    target, weight = random.choice([0.0, 1.0], n).astype(np.float32), random.uniform(0.5, 2, n).astype(np.float32)
    return base, rows, refs, target, weight, bias, step


def learned(base, rows, refs, target, weight, bias, step, factors, loss, limit=10.0):
    """(base, rows, contraction of base, of rows, prediction, loss, rows cut) after the kernel has learned on copies."""
    base, rows, counts = base.copy(), rows.copy(), (np.zeros(1, np.int64), np.zeros(len(rows), np.int64))
    base_a, rows_a, prediction, lost = np.zeros(1), np.zeros(len(rows)), np.empty(len(refs)), np.empty(len(refs))
    capped = fm.learn(
        base, rows, refs, target, weight, factors, CODES[loss], bias, bias, step, limit, *counts, base_a, rows_a,
        np.empty(0, np.float32), prediction, lost, np.empty(len(refs)))
    return base, rows, base_a, rows_a, prediction, lost, capped


def scored(base, rows, refs, target, weight, factors, loss):
    prediction, lost = np.empty(len(refs)), np.empty(len(refs))
    fm.score(base, rows, np.zeros(len(refs), np.int32), refs, target, weight, factors, CODES[loss], prediction, lost)
    return prediction, lost


def slow_score(base, rows, mine, factors):
    pairs = sum(float(rows[i, 1 : 1 + factors] @ rows[j, 1 : 1 + factors]) for i, j in combinations(mine, 2))
    return base[0, 0] + sum(rows[i, 0] for i in mine) + pairs


def slow(base, rows, refs, target, weight, bias, step, factors, loss):
    """Straight from the formulas, float64, one example after the other."""
    base, rows, base_a, rows_a, predictions = base.astype(float), rows.astype(float), np.zeros(1), np.zeros(len(rows)), []

    for e in range(len(refs)):
        mine = [int(r) for r in refs[e] if r >= 0]
        score = slow_score(base, rows, mine, factors)
        predictions.append(score)
        _, gradient, curvature = LOSSES[loss](score, float(target[e]))
        curvature = 1.0 if loss in ("hinge", "perceptron") and gradient else curvature
        g = weight[e] * gradient
        whole = rows[mine, 1 : 1 + factors].sum(axis=0)
        taken = slow_step(bias, base[0], slice(0, 1), 1, np.array([g]))
        for r in mine:
            others = whole - rows[r, 1 : 1 + factors]
            share = slow_step(bias, rows[r], slice(0, 1), 1 + factors, np.array([g]))
            if factors:
                share += slow_step(step, rows[r], slice(1, 1 + factors), 1 + factors + slots_of(bias, 1), g * others) * (others @ others)
            taken += share if r != refs[e, 0] else 0.0
        base_a[0] += weight[e] * curvature * taken
        rows_a[mine] += weight[e] * curvature * taken
    return base, rows, base_a, rows_a, np.array(predictions)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("factors", [FACTORS, 0])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_equals_the_slow_twin(optimizer, factors, loss) -> None:
    given = world(1, optimizer, factors)
    for got, want in zip(learned(*given, factors, loss), slow(*given, factors, loss), strict=False):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("factors", [FACTORS, 0])
def test_one_step_follows_the_numerical_gradient(factors, loss) -> None:
    base, rows, refs, target, weight, *_ = world(2, "sgd", factors, n=8)
    small = PLAIN._replace(rate=1e-3)
    pulled = 0
    for e in range(8):
        one = refs[e : e + 1], target[e : e + 1], weight[e : e + 1]
        after = learned(base, rows, *one, small, small, factors, loss)
        for number, start in enumerate((base, rows)):
            for cell in np.ndindex(start.shape):
                pair = [base.copy(), rows.copy()], [base.copy(), rows.copy()]
                for moved, h in zip(pair, (1e-3, -1e-3), strict=True):
                    moved[number][cell] += h
                up, down = (scored(*moved, *one, factors, loss)[1][0] for moved in pair)
                found = (start[cell] - after[number][cell]) / 1e-3
                assert found == pytest.approx((up - down) / 2e-3, rel=2e-2, abs=2e-3)
                pulled += abs(found) > 0.01
    assert pulled > 20


def test_references_to_nothing_contribute_nothing() -> None:
    base, rows, refs, target, weight, *_ = world(3, "sgd", FACTORS)
    narrow = refs[:, :2].copy()
    wide = np.concatenate([narrow, np.full((len(refs), 3), -1, np.int32)], axis=1)
    one, other = (learned(base, rows, chosen, target, weight, PLAIN, PLAIN, FACTORS, "logistic") for chosen in (narrow, wide))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    unknown = np.empty(2), np.empty(2)
    none = np.full((2, 4), -1, np.int32)
    fm.score(base, rows, np.array([-1, 0], np.int32), none, target[:2], weight[:2], FACTORS, CODES["logistic"], *unknown)
    np.testing.assert_allclose(unknown[0], [0.0, base[0, 0]])


def test_norms_are_capped_and_counted() -> None:
    base, rows, refs, target, weight, bias, step = world(4, "sgd", FACTORS)
    _, after, *_, capped = learned(base, rows, refs, target, weight * 30, bias, step, FACTORS, "logistic", 0.5)
    assert capped > 0
    assert np.linalg.norm(after[np.unique(refs[refs >= 0]), 1 : 1 + FACTORS], axis=1).max() <= 0.5 + 1e-5


def by_hand(weights: tuple[float, float, float], target: float, loss: str) -> tuple[list[float], float]:
    """(weights afterwards, score before) of the constant, a user and an item, learned with a step of .1."""
    base, rows = np.array([weights[:1]], np.float32), np.array([weights[1:]], np.float32).T.copy()
    refs, ones = np.array([[0, 1]], np.int32), np.ones(1, np.float32)
    base, rows, *_, prediction, _, _ = learned(base, rows, refs, ones * target, ones, PLAIN, PLAIN, 0, loss)
    return [float(base[0, 0]), float(rows[0, 0]), float(rows[1, 0])], float(prediction[0])


def test_one_step_of_gradient_descent_on_a_score_of_two_features() -> None:
    """s = 0 + .5 - .2 = .3; the value is 1, so the gradient of (s - 1)^2 / 2 in each weight is -.7, and each grows by .07."""
    after, before = by_hand((0.0, 0.5, -0.2), 1.0, "squared")
    assert before == pytest.approx(0.3)
    assert after == pytest.approx([0.07, 0.57, -0.13])
    assert 1 - sum(after) == pytest.approx(0.7 * (1 - 3 * 0.1))  # what three weights with a step of .1 leave of the error


def test_one_weight_update_after_a_click_and_one_after_none() -> None:
    """Nothing known: p = 1/2. The click moves each weight by .1 (1 - p) = .05, so s = .15; no click then by -.1 sigmoid(.15)."""
    clicked, before = by_hand((0.0, 0.0, 0.0), 1.0, "logistic")
    assert before == 0.0 and clicked == pytest.approx([0.05, 0.05, 0.05])
    passed, before = by_hand(tuple(clicked), 0.0, "logistic")
    chance = 1 / (1 + math.exp(-0.15))
    assert before == pytest.approx(0.15) and passed == pytest.approx([0.05 - 0.1 * chance] * 3)


def test_the_perceptron_moves_after_a_mistake_only_and_the_machine_inside_its_margin() -> None:
    assert by_hand((0.0, 0.1, 0.1), 1.0, "perceptron")[0] == pytest.approx([0.0, 0.1, 0.1])
    assert by_hand((0.0, 0.1, 0.1), 0.0, "perceptron")[0] == pytest.approx([-0.1, 0.0, 0.0])
    assert by_hand((0.0, 0.1, 0.1), 1.0, "hinge")[0] == pytest.approx([0.1, 0.2, 0.2])
    assert by_hand((0.0, 1.1, 0.1), 1.0, "hinge")[0] == pytest.approx([0.0, 1.1, 0.1])
