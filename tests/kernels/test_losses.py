"""Every registered loss against its numerical derivatives, at ordinary scores and in the tails."""

from __future__ import annotations

import math

import pytest

from freshet.kernels.losses import CODES, LOSSES, loss_of

SCORES = [-30.0, -3.0, -0.5, 0.1, 0.7, 4.0, 30.0]  # none at the kink of a loss


def check_gradient(loss) -> None:
    for target in (1.0, -1.0):
        for score in SCORES:
            h = 1e-4
            numerical = (loss(score + h, target)[0] - loss(score - h, target)[0]) / (2 * h)
            assert loss(score, target)[1] == pytest.approx(numerical, rel=1e-5, abs=1e-7)


def check_curvature(loss) -> None:
    for score in SCORES:
        h = 1e-4
        numerical = (loss(score + h, 1.0)[1] - loss(score - h, 1.0)[1]) / (2 * h)
        assert loss(score, 1.0)[2] == pytest.approx(numerical, rel=1e-5, abs=1e-7)


def check_tails(loss) -> None:
    for score in (-1e3, 1e3):
        assert all(math.isfinite(part) for part in loss(score, 1.0))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("check", [check_gradient, check_curvature, check_tails])
def test_contract(name, check) -> None:
    check(LOSSES[name])


def wrong_gradient(score, target):
    loss, gradient, curvature = LOSSES["logistic"](score, target)
    return loss, -gradient, curvature


def wrong_curvature(score, target):
    loss, gradient, _ = LOSSES["logistic"](score, target)
    return loss, gradient, 0.25


def wrong_tail(score, target):
    return math.inf if abs(score) > 700 else math.log1p(math.exp(-score)), 0.0, 0.0


@pytest.mark.parametrize(
    ("check", "subject"),
    [(check_gradient, wrong_gradient), (check_curvature, wrong_curvature), (check_tails, wrong_tail)],
)
def test_each_check_can_fail(check, subject) -> None:
    with pytest.raises(AssertionError):
        check(subject)


def test_at_its_kink_the_perceptron_learns_and_the_hinge_rests() -> None:
    assert [LOSSES["perceptron"](0.0, target)[:2] for target in (1.0, 0.0)] == [(0.0, -1.0), (0.0, 1.0)]
    assert LOSSES["hinge"](1.0, 1.0)[:2] == (0.0, 0.0)


def test_a_loss_is_found_by_its_code() -> None:
    for name, loss in LOSSES.items():
        assert loss_of(CODES[name], 0.7, 0.0) == loss(0.7, 0.0)


def test_half_squared_has_no_gradient_at_its_optimum() -> None:
    assert LOSSES["squared"](3.5, 3.5)[:2] == (0.0, 0.0)
