"""Losses of a choice: the item that was taken, a = 0, against n drawn ones, from their scores s_a.

    softmax    log(sum_a exp(s_a)) - s_0
    bpr        1/n sum over a > 0 of log(1 + exp(-(s_0 - s_a)))
    logistic   log(1 + exp(-(s_0 - log n))) + sum over a > 0 of log(1 + exp(s_a - log n))

A score of 0 says nothing in any of them, so an item that was never met does not pass those that were: without log n logistic
would push whatever is drawn far below 0. Of each the derivative in s_a is chance_a, less 1 for the item that was taken: with
softmax its probability, with logistic that of having been taken, with bpr 1/n of that of the drawn one being put first (for the
taken one 1 less their sum).

Sampled softmax: Jean et al., ACL 2015; bpr: Rendle et al., UAI 2009, as a mean over the drawn ones as in Hidasi et al., ICLR 2016;
logistic: noise-contrastive estimation, Gutmann and Hyvarinen, AISTATS 2010; Mikolov et al., NIPS 2013, formula 4, leave out log n.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from freshet.kernels.losses import logistic
from freshet.kernels.optimizers import dot

SOFTMAX, BPR, LOGISTIC = range(3)

CHOICES: dict[str, int] = {"softmax": SOFTMAX, "bpr": BPR, "logistic": LOGISTIC}


@njit(cache=True, nogil=True, forceinline=True)
def softmax(scores: np.ndarray, refs: np.ndarray, e: int) -> float:
    """Turn the scores of the items refs[e] (-1: none) into chances; returns the loss."""
    highest = scores[0]
    for a in range(1, refs.shape[1]):
        if refs[e, a] != -1:
            highest = max(highest, scores[a])
    own, summed = scores[0], 0.0
    for a in range(refs.shape[1]):
        scores[a] = math.exp(scores[a] - highest) if refs[e, a] != -1 else 0.0
        summed += scores[a]
    for a in range(refs.shape[1]):
        scores[a] /= summed
    return math.log(summed) + highest - own


@njit(cache=True, nogil=True)
def one_by_one(loss: int, scores: np.ndarray, refs: np.ndarray, e: int, curves: np.ndarray) -> float:
    """As softmax for the losses that look at the drawn items one by one; curves[a] becomes the second derivative in s_a."""
    there = 0
    for a in range(1, refs.shape[1]):
        there += refs[e, a] >= 0
    if loss == BPR:
        border, share, summed = scores[0], 1.0 / max(there, 1), 0.0
        scores[0], curves[0] = 1.0, 0.0
    else:
        border, share = math.log(max(there, 1)), 1.0
        summed, slope, curves[0] = logistic(scores[0] - border, 1.0)
        scores[0] = 1.0 + slope
    for a in range(1, refs.shape[1]):
        if refs[e, a] < 0:
            scores[a], curves[a] = 0.0, 0.0
            continue
        value, slope, curve = logistic(border - scores[a], 1.0)
        summed += share * value
        scores[a], curves[a] = -share * slope, share * curve
        if loss == BPR:
            scores[0] += share * slope
            curves[0] += share * curve
    return summed


@njit(cache=True, nogil=True)
def bent(loss: int, items: np.ndarray, refs: np.ndarray, e: int, factors: int, curves: np.ndarray) -> float:
    """Trace of the loss's second derivative in q, s_a = b_a + q . y_a, given what one_by_one made of the curves."""
    own = float(dot(items, refs[e, 0], 1, items, refs[e, 0], 1, factors))
    whole = 0.0 if loss == BPR else curves[0] * own
    for a in range(1, refs.shape[1]):
        r = refs[e, a]
        if r >= 0:
            squares = float(dot(items, r, 1, items, r, 1, factors))
            if loss == BPR:
                squares += own - 2.0 * float(dot(items, r, 1, items, refs[e, 0], 1, factors))
            whole += curves[a] * max(squares, 0.0)
    return whole


@njit(cache=True, nogil=True, forceinline=True)
def loss_alone(loss: int, scores: np.ndarray, refs: np.ndarray, e: int, scratch: np.ndarray) -> float:
    """The loss of the scores, which are good for nothing afterwards; the first item is always among them."""
    if loss != SOFTMAX:
        return one_by_one(loss, scores, refs, e, scratch)
    highest = scores[0]
    for a in range(1, refs.shape[1]):
        if refs[e, a] >= 0:
            highest = max(highest, scores[a])
    summed = math.exp(scores[0] - highest)
    for a in range(1, refs.shape[1]):
        if refs[e, a] >= 0:
            summed += math.exp(scores[a] - highest)
    return math.log(summed) + highest - scores[0]
