"""Losses of one prediction, with gradient and curvature.

Conventions, once: `score` is the raw output of a model, `target` what it should have been; gradient and curvature are the
first and second derivative with respect to the score; weights multiply outside. All scalars, float64 in and out.

    half_squared(score, target) = (score - target)^2 / 2
    logistic(score, target)     = log(1 + exp(-s)),  s = score if target > 0 else -score

The pairwise loss of BPR is `logistic` at the margin `score(positive) - score(negative)` with target 1
(Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, section 4.3).
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


LOSSES = {"half_squared": half_squared, "logistic": logistic}
