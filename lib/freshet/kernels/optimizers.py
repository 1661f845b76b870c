"""Optimizers as one step on a group of a row's coordinates.

A row is float32 [vector | slots]. A step changes `row[start:stop]` by `-rate * scale * gradient` and the slots the
optimizer keeps for that group:

    sgd       scale = 1
    adagrad   n += g2;                        scale = 1 / sqrt(n + epsilon)
    rms       n = decay n + (1 - decay) g2;   scale = 1 / sqrt(n + epsilon)      (n = g2 at the first touch)
    rmsprop   n = decay n + (1 - decay) g2;   scale = 1 / sqrt(n + epsilon)      (n = 0 before the first touch)

With a row-wise accumulator (default) a group has one slot and g2 is the mean of its squared gradients; with a
per-coordinate accumulator every coordinate has its own slot and g2 is its squared gradient. A zero gradient changes
nothing, the accumulator included. `rms` takes g2 itself at the first touch where the usual form starts from 0: the
usual form, `rmsprop`, makes the first step 1 / sqrt(1 - decay) times as long, ten times at .99: a new row is learned from
one event, which suits rows that are seldom met, with rates that much smaller.

Sources: Duchi et al., JMLR 12 (2011) for adagrad; Tieleman and Hinton, COURSERA lecture 6.5 (2012) for rms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from freshet.kernels.lanes import LANES, load, spread, store, total

SGD, ADAGRAD, RMS, RMSPROP = 0, 1, 2, 3

OPTIMIZERS: dict[str, int] = {"sgd": SGD, "adagrad": ADAGRAD, "rms": RMS, "rmsprop": RMSPROP}


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
    return -math.log(step.decay) if step.code in (RMS, RMSPROP) else -1.0


@njit(cache=True, nogil=True, forceinline=True)
def dot(a: np.ndarray, at: int, start_a: int, b: np.ndarray, bt: int, start_b: int, width: int) -> np.float32:
    """Sum over j of a[at, start_a + j] * b[bt, start_b + j] in float32, in the order of lanes.total."""
    products = spread(0.0)
    for j in range(0, width, LANES):
        products += load(a, at, start_a + j, width - j) * load(b, bt, start_b + j, width - j)
    return total(products)


@njit(cache=True, nogil=True, forceinline=True)
def _accumulate(n: float, g2: float, step: Step) -> float:
    if step.code == ADAGRAD:
        return n + g2
    if n == 0.0 and step.code == RMS:
        return g2
    return step.decay * n + (1.0 - step.decay) * g2


@njit(cache=True, nogil=True, forceinline=True)
def _rate(rows: np.ndarray, r: int, slot: int, g2: float, step: Step) -> float:
    """The step a group takes whose mean squared gradient is g2; its slot takes g2 in."""
    if step.code == SGD:
        return step.rate
    if g2 == 0.0:
        return 0.0
    n = _accumulate(np.float64(rows[r, slot]), g2, step)
    rows[r, slot] = np.float32(n)
    return step.rate / math.sqrt(n + step.epsilon)


@njit(cache=True, nogil=True, forceinline=True)
def descend_one(rows: np.ndarray, r: int, column: int, slot: int, gradient: np.float32, step: Step) -> float:
    """Change the single coordinate rows[r, column] and its slot by the gradient of the loss alone; the step it took."""
    gradient += np.float32(step.l2) * rows[r, column]
    rate = _rate(rows, r, slot, np.float64(gradient) * gradient, step)
    rows[r, column] -= np.float32(rate) * gradient
    return rate


@njit(cache=True, nogil=True, forceinline=True)
def descend(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, squares: float,
    step: Step, limit: float,
) -> tuple[float, int]:
    """x -= rate * (g * y + l2 * x) for x = rows[r, start:start + width] and its slots from rows[r, slot] on; then cap.

    g * y is the gradient of the loss alone, y = other[o, at:at + width], squares = |y|^2. Returns the step that was taken
    (the mean over coordinates), for the contraction, and 1 if the row was cut to the norm `limit`, else 0.
    """
    if step.coordinates and step.code != SGD:
        taken = _descend_coordinates(rows, r, start, width, slot, g, other, o, at, step)
        return taken, cap(rows, r, start, width, float(dot(rows, r, start, rows, r, start, width)), limit)
    g2: float = np.float64(g) * g * squares
    if step.l2 > 0.0:
        cross = np.float64(dot(rows, r, start, other, o, at, width))
        own = np.float64(dot(rows, r, start, rows, r, start, width))
        g2 = max(g2 + step.l2 * (2.0 * g * cross + step.l2 * own), 0.0)
    taken = _rate(rows, r, slot, g2 / width, step)
    rate, push, l2, norm2 = spread(taken), spread(g), spread(step.l2), spread(0.0)
    for j in range(0, width, LANES):
        x = load(rows, r, start + j, width - j)
        x = x - rate * (push * load(other, o, at + j, width - j) + l2 * x)
        store(rows, r, start + j, width - j, x)
        norm2 += x * x
    return taken, cap(rows, r, start, width, total(norm2), limit)


@njit(cache=True, nogil=True)
def _descend_coordinates(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, step: Step,
) -> float:
    whole = 0.0
    for j in range(width):
        d = np.float64(g * other[o, at + j] + np.float32(step.l2) * rows[r, start + j])
        taken = _rate(rows, r, slot + j, d * d, step)
        rows[r, start + j] -= np.float32(taken * d)
        whole += taken
    return whole / width


@njit(cache=True, nogil=True, forceinline=True)
def cap(rows: np.ndarray, r: int, start: int, width: int, norm2: float, limit: float) -> int:
    """Scale rows[r, start:start + width], whose squared norm is norm2, back to the norm `limit` if it is longer.

    Returns 1 if it was, else 0. NaN is left to the guard.
    """
    if norm2 > limit * limit:
        factor = np.float32(limit / math.sqrt(norm2))
        for j in range(start, start + width):
            rows[r, j] *= factor
        return 1
    return 0
