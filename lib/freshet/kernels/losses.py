"""Losses of one prediction, with gradient and curvature.

Conventions, once: `score` is the raw output of a model, `target` what it should have been; gradient and curvature are the
first and second derivative with respect to the score; weights multiply outside. All scalars, float64 in and out.

    half_squared(score, target) = (score - target)^2 / 2
    logistic(score, target)     = log(1 + exp(-s)),  s = score if target > 0 else -score
    hinge(score, target)        = max(0, 1 - s), of the support vector machine
    perceptron(score, target)   = max(0, -s); at s = 0, where it has a kink, the gradient is that of a mistake

The pairwise loss of BPR is `logistic` at the margin `score(positive) - score(negative)` with target 1
(Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, section 4.3). The perceptron's rule
is Rosenblatt's (Psychological Review 65, 1958): descent on its loss moves the weights after a mistake and only then.
"""

from __future__ import annotations

import math

from numba import njit


@njit(cache=True, nogil=True)
def half_squared(score: float, target: float) -> tuple[float, float, float]:
    """(loss, gradient, curvature) of (score - target)^2 / 2."""
    error = score - target
    return 0.5 * error * error, error, 1.0


@njit(cache=True, nogil=True)
def logistic(score: float, target: float) -> tuple[float, float, float]:
    """(loss, gradient, curvature) of log(1 + exp(-s)), s = score if target > 0 else -score."""
    s = score if target > 0.0 else -score
    e = math.exp(-abs(s))  # at most 1: neither it nor what is made of it overflows
    loss = math.log1p(e) + max(-s, 0.0)
    small, large = e / (1.0 + e), 1.0 / (1.0 + e)
    wrong = small if s >= 0.0 else large  # sigmoid(-s)
    return loss, -wrong if target > 0.0 else wrong, small * large


@njit(cache=True, nogil=True)
def hinge(score: float, target: float) -> tuple[float, float, float]:
    """(loss, gradient, curvature) of max(0, 1 - s), s = score if target > 0 else -score."""
    s = score if target > 0.0 else -score
    if s >= 1.0:
        return 0.0, 0.0, 0.0
    return 1.0 - s, -1.0 if target > 0.0 else 1.0, 0.0


@njit(cache=True, nogil=True)
def perceptron(score: float, target: float) -> tuple[float, float, float]:
    """(loss, gradient, curvature) of max(0, -s), s = score if target > 0 else -score."""
    s = score if target > 0.0 else -score
    if s > 0.0:
        return 0.0, 0.0, 0.0
    return -s, -1.0 if target > 0.0 else 1.0, 0.0


SQUARED, LOGISTIC, HINGE, PERCEPTRON = range(4)

LOSSES = {"squared": half_squared, "logistic": logistic, "hinge": hinge, "perceptron": perceptron}
CODES: dict[str, int] = {"squared": SQUARED, "logistic": LOGISTIC, "hinge": HINGE, "perceptron": PERCEPTRON}


@njit(cache=True, nogil=True)
def loss_of(code: int, score: float, target: float) -> tuple[float, float, float]:
    """(loss, gradient, curvature) of the loss with this code of CODES."""
    if code == SQUARED:
        return half_squared(score, target)
    if code == LOGISTIC:
        return logistic(score, target)
    if code == HINGE:
        return hinge(score, target)
    return perceptron(score, target)
