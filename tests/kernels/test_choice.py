"""Losses of a choice against their formulas and numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels.choice import BPR, CHOICES, LOGISTIC, SOFTMAX, bent, loss_alone, one_by_one, softmax

REFS = np.array([[3, 0, -1, 2, 1, -1, 0]], np.int32)
THERE = REFS[0] >= 0
FACTORS = 5


def formula(loss: int, scores: np.ndarray) -> float:
    own, drawn, border = scores[0], scores[1:][THERE[1:]], np.log(THERE[1:].sum())
    return {
        SOFTMAX: lambda: np.log(np.exp(scores[THERE]).sum()) - own,
        BPR: lambda: np.log1p(np.exp(drawn - own)).mean(),
        LOGISTIC: lambda: np.log1p(np.exp(border - own)) + np.log1p(np.exp(drawn - border)).sum(),
    }[loss]()


def judged(loss: int, scores: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """(loss, chances, curves) as learning has them."""
    chances, curves = scores.copy(), np.full(len(scores), np.nan)
    if loss != SOFTMAX:
        return one_by_one(loss, chances, REFS, 0, curves), chances, curves
    value = softmax(chances, REFS, 0)
    return value, chances, chances * (1 - chances)


def derivative(loss: int, scores: np.ndarray, a: int, h: float = 1e-5) -> float:
    step = h * (np.arange(len(scores)) == a)
    return (formula(loss, scores + step) - formula(loss, scores - step)) / (2 * h)


@pytest.mark.parametrize("loss", CHOICES.values(), ids=CHOICES)
def test_chances_and_curves_are_the_derivatives(loss) -> None:
    for seed in range(5):
        scores = np.random.default_rng(seed).normal(0, 2, REFS.shape[1])
        value, chances, curves = judged(loss, scores)
        assert value == pytest.approx(formula(loss, scores))
        assert loss_alone(loss, scores.copy(), REFS, 0, np.empty(len(scores))) == pytest.approx(value)
        slopes = chances - (np.arange(len(scores)) == 0)
        wanted = [derivative(loss, scores, a) for a in range(len(scores))]
        np.testing.assert_allclose(slopes, wanted, atol=1e-8)
        for a in range(len(scores)):
            step = 1e-4 * (np.arange(len(scores)) == a)
            second = (derivative(loss, scores + step, a) - derivative(loss, scores - step, a)) / 2e-4
            assert curves[a] == pytest.approx(second, abs=1e-5)
        others = [derivative(other, scores, a) for other in CHOICES.values() if other != loss for a in range(len(scores))]
        assert np.abs(np.reshape(others, (2, -1)) - slopes).max(axis=1).min() > 1e-3  # the other losses must fail


@pytest.mark.parametrize("loss", [BPR, LOGISTIC])
def test_the_trace_is_that_of_the_curvature_in_the_query(loss) -> None:
    random = np.random.default_rng(3)
    items, q, h = random.normal(0, 0.7, (4, 1 + FACTORS)).astype(np.float32), random.normal(0, 0.7, FACTORS), 1e-4

    def at(query: np.ndarray) -> float:
        return formula(loss, np.where(THERE, items[REFS[0], 0] + items[REFS[0], 1:] @ query, 0.0))

    wanted = sum((at(q + step) - 2 * at(q) + at(q - step)) / h**2 for step in h * np.eye(FACTORS))
    scores = np.where(THERE, items[REFS[0], 0] + items[REFS[0], 1:] @ q, 0.0)
    _, _, curves = judged(loss, scores)
    assert bent(loss, items, REFS, 0, FACTORS, curves) == pytest.approx(wanted, rel=1e-4)
    assert bent(loss, items, REFS, 0, FACTORS, curves / 2) != pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("loss", CHOICES.values(), ids=CHOICES)
def test_finite_at_the_ends_and_with_nothing_drawn(loss) -> None:
    for size in (1e3, -1e3):
        scores = size * (-1.0) ** np.arange(REFS.shape[1])
        value, chances, curves = judged(loss, scores)
        assert np.isfinite([value, *chances, *curves[THERE]]).all() and value >= 0.0
    alone = np.array([[2, -1, -1]], np.int32)
    value = loss_alone(loss, np.array([0.5, 0.0, 0.0]), alone, 0, np.empty(3))
    assert value == pytest.approx(np.log1p(np.exp(-0.5)) if loss == LOGISTIC else 0.0)
