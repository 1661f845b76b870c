"""Optimizers as one step on a group of a row's coordinates.

A row is float32 [vector | slots]. A step changes `row[start:stop]` by `-rate * scale * gradient` and the slots the
optimizer keeps for that group:

    sgd       scale = 1
    adagrad   n += g2;                        scale = 1 / sqrt(n + epsilon)
    rms       n = decay n + (1 - decay) g2;   scale = 1 / sqrt(n + epsilon)      (n = g2 at the first touch)

With a row-wise accumulator (default) a group has one slot and g2 is the mean of its squared gradients; with a
per-coordinate accumulator every coordinate has its own slot and g2 is its squared gradient. A zero gradient changes
nothing, the accumulator included. `rms` takes g2 itself at the first touch where the usual form starts from 0: the
usual form's first step is 1 / sqrt(1 - decay) times too long, ten times at .99.

Sources: Duchi et al., JMLR 12 (2011) for adagrad; Tieleman and Hinton, COURSERA lecture 6.5 (2012) for rms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

SGD, ADAGRAD, RMS = 0, 1, 2

OPTIMIZERS: dict[str, int] = {"sgd": SGD, "adagrad": ADAGRAD, "rms": RMS}


class Step(NamedTuple):
    """What a step needs besides the row: plain numbers, so that a kernel can take it.

    `code` one of OPTIMIZERS, `rate` learning rate, `decay` and `epsilon` of the accumulators, `coordinates` 1 for an
    accumulator per coordinate, `l2` the weight of L2 (gradient + l2 * weight).
    """

    code: int
    rate: float
    decay: float
    epsilon: float
    coordinates: int
    l2: float


def slots_of(step: Step, width: int) -> int:
    """Slots a group of `width` coordinates needs."""
    if step.code == SGD:
        return 0
    return width if step.coordinates else 1


def slot_contraction(step: Step) -> float:
    """How far one event contracts the accumulator towards its target, in units of the vector's contraction.

    -1 means: in units of the vector's own contraction, twice (squared residuals decay twice as fast); a value >= 0 is
    the contraction per event itself (-log decay for a moving average, exactly).
    """
    return -math.log(step.decay) if step.code == RMS else -1.0


@njit(cache=True, nogil=True, inline="always")
def _accumulate(n: float, g2: float, step: Step) -> float:
    if step.code == ADAGRAD:
        return n + g2
    if n == 0.0:
        return g2
    return step.decay * n + (1.0 - step.decay) * g2


@njit(cache=True, nogil=True, inline="always")
def dot(a: np.ndarray, at: int, start_a: int, b: np.ndarray, bt: int, start_b: int, width: int) -> np.float32:
    """Sum over j of a[at, start_a + j] * b[bt, start_b + j] in float32: eight partial sums in a fixed order.

    Eight, because then one vector instruction serves all of them without any change of the order of additions.
    """
    s0, s1, s2, s3 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    s4, s5, s6, s7 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    whole = width - width % 8
    for j in range(0, whole, 8):
        x, y = start_a + j, start_b + j
        s0 += a[at, x] * b[bt, y]
        s1 += a[at, x + 1] * b[bt, y + 1]
        s2 += a[at, x + 2] * b[bt, y + 2]
        s3 += a[at, x + 3] * b[bt, y + 3]
        s4 += a[at, x + 4] * b[bt, y + 4]
        s5 += a[at, x + 5] * b[bt, y + 5]
        s6 += a[at, x + 6] * b[bt, y + 6]
        s7 += a[at, x + 7] * b[bt, y + 7]
    for j in range(whole, width):
        s0 += a[at, start_a + j] * b[bt, start_b + j]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit(cache=True, nogil=True, inline="always")
def descend(rows: np.ndarray, r: int, start: int, stop: int, slot: int, gradient: np.ndarray, g: int, step: Step) -> float:
    """Change rows[r, start:stop] and its slots from rows[r, slot] on, by gradient[g, :stop - start] of the loss alone.

    rows float32[n, w]; gradient float32[m, >= stop - start], whose line g is scratch afterwards. Returns the step that
    was taken (the mean over coordinates), for the contraction.
    """
    width = stop - start
    l2 = np.float32(step.l2)
    if l2 > np.float32(0.0):
        for j in range(width):
            gradient[g, j] += l2 * rows[r, start + j]
    if step.code == SGD:
        rate = np.float32(step.rate)
        for j in range(width):
            rows[r, start + j] -= rate * gradient[g, j]
        return step.rate
    if step.coordinates:
        return _descend_coordinates(rows, r, start, width, slot, gradient, g, step)
    g2 = float(dot(gradient, g, 0, gradient, g, 0, width))
    if g2 == 0.0:
        return 0.0
    n = _accumulate(float(rows[r, slot]), g2 / width, step)
    rows[r, slot] = np.float32(n)
    taken = step.rate / math.sqrt(n + step.epsilon)
    rate = np.float32(taken)
    for j in range(width):
        rows[r, start + j] -= rate * gradient[g, j]
    return taken


@njit(cache=True, nogil=True)
def _descend_coordinates(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, gradient: np.ndarray, g: int, step: Step
) -> float:
    total = 0.0
    for j in range(width):
        d = float(gradient[g, j])
        if d != 0.0:
            n = _accumulate(float(rows[r, slot + j]), d * d, step)
            rows[r, slot + j] = np.float32(n)
            taken = step.rate / math.sqrt(n + step.epsilon)
            rows[r, start + j] -= np.float32(taken * d)
            total += taken
    return total / width


@njit(cache=True, nogil=True, inline="always")
def cap(rows: np.ndarray, r: int, start: int, stop: int, limit: float) -> int:
    """Scale rows[r, start:stop] back to the norm `limit` if it is longer; 1 if it was, else 0. NaN is left to the guard."""
    total = float(dot(rows, r, start, rows, r, start, stop - start))
    if total > limit * limit:
        factor = np.float32(limit / math.sqrt(total))
        for j in range(start, stop):
            rows[r, j] *= factor
        return 1
    return 0
