"""Optimizers as one step on a group of a row's coordinates.

A row is float32 [vector | slots]. A step changes `row[start:stop]` by the gradient d of its coordinates and keeps in the
group's slots what it needs of the gradients before:

    sgd       x -= rate d
    adagrad   n += d^2;                              x -= rate d / sqrt(n + epsilon)
    rms       n = decay n + (1 - decay) d^2;         x -= rate d / sqrt(n + epsilon)      (n = d^2 at the first touch)
    rmsprop   n = decay n + (1 - decay) d^2;         x -= rate d / sqrt(n + epsilon)      (n = 0 before the first touch)
    momentum  m = momentum m + d;                    x -= rate m
    adam      m = momentum m + (1 - momentum) d;     x -= rate (m / c) / sqrt(n / e + epsilon)
              n = decay n + (1 - decay) d^2;         c, e = the same means of ones: 1 - momentum^t, 1 - decay^t
    ftrl      z += d - (h' - h) x;                   x = -(z - sign(z) l1) / (h' + l2), 0 where |z| <= l1
              n += d^2;                              h = sqrt(n + epsilon) / rate, h' after the event

With a row-wise accumulator (default) a group has one n, of the mean of its squared gradients; with a per-coordinate one
every coordinate has its own. m and z are kept per coordinate. Slots of a group: m or z, n, c, e, as far as it has them.

A zero gradient changes nothing, slots included: a row sleeps between the events that move it, and t counts those. So a
row is after its own events where dense Adam is that met nothing else, its first step no longer than any row's first, and
no row changes without an event (docs/decisions/0013-optimizer-state.md). `rms` takes d^2 itself at the first touch where
the usual form starts from 0: the usual form, `rmsprop`, makes the first step 1 / sqrt(1 - decay) times as long, ten times
at .99: a new row is learned from one event, which suits rows that are seldom met, with rates that much smaller. `ftrl`
reads z only where x is 0; elsewhere it follows from x and n, which keeps the random weight of a new row, one cut to the norm
limit and one made with another rate. Without l1 and l2 it is adagrad.

L2 is part of the gradient, d = gradient + l2 x, and L1 a soft threshold after the step, x = sign(x) max(|x| - step l1, 0),
step being what d is multiplied by in the end (momentum: rate / (1 - momentum)); ftrl has its own of both. A schedule
multiplies the rate by what it makes of the row's own events n: 1 / sqrt(1 + n / horizon), or 2^(-n / horizon).

Sources: Duchi et al., JMLR 12 (2011) for adagrad, with L1 its section 5; Tieleman and Hinton, COURSERA lecture 6.5 (2012)
for rms; Polyak, USSR Comp. Math. 4(5) (1964) for momentum; Kingma and Ba, ICLR 2015 for adam; McMahan et al., KDD 2013,
algorithm 1, for ftrl.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba.extending
import numpy as np
from numba import njit

from freshet.kernels.lanes import LANES, load, spread, store, total
from freshet.kernels.moments import adam, ftrl, momentum, shrunk

SGD, ADAGRAD, RMS, RMSPROP, MOMENTUM, ADAM, FTRL = range(7)
CONSTANT, INVERSE_SQRT, EXPONENTIAL = range(3)

OPTIMIZERS: dict[str, int] = {
    "sgd": SGD, "adagrad": ADAGRAD, "rms": RMS, "rmsprop": RMSPROP, "momentum": MOMENTUM, "adam": ADAM, "ftrl": FTRL,
}
SCHEDULES: dict[str, int] = {"constant": CONSTANT, "inverse_sqrt": INVERSE_SQRT, "exponential": EXPONENTIAL}

overload: Any = numba.extending.overload  # numba's own annotations do not cover it

_ONE = np.ones((1, 1), np.float32)


class Step(NamedTuple):
    """What a step needs besides the row: plain numbers, so that a kernel can take it.

    `code` one of OPTIMIZERS, `rate` learning rate, `decay` and `epsilon` of the accumulators, `coordinates` 1 for an
    accumulator per coordinate, `l2` and `l1` the weights of L2 and L1, `momentum` of momentum and adam, `schedule` one of
    SCHEDULES and `horizon` its length in events of a row; of what an event tells the slots `share` is kept (kernels.pace.slower).
    """

    code: int
    rate: float
    decay: float
    epsilon: float
    coordinates: int
    l2: float
    momentum: float = 0.9
    l1: float = 0.0
    schedule: int = CONSTANT
    horizon: float = 1.0
    share: float = 1.0


class Plain(Step):
    """A step of sgd, adagrad, rms or rmsprop without L1 and schedule: a type of its own, so that kernels are compiled for it
    alone and spend nothing on what the others may need."""


def plain(step: Step) -> Step:
    """The step as the type that is fastest for it; the same bits."""
    return Plain(*step) if step.code <= RMSPROP and step.l1 == 0.0 and step.schedule == CONSTANT else step


def general(step: Step) -> bool:
    """Whether the step may be any; known when a kernel is compiled."""
    return not isinstance(step, Plain)


@overload(general)
def _general(step):  # type: ignore[no-untyped-def]
    return (lambda step: False) if step.instance_class is Plain else (lambda step: True)


class Group(NamedTuple):
    """Coordinates of a block's rows that one step moves: values[:, start : start + width], their slots from `slot` on."""

    start: int
    width: int
    slot: int
    step: Step


@njit(cache=True, nogil=True, forceinline=True)
def slots_of(step: Step, width: int) -> int:
    """Slots a group of `width` coordinates needs."""
    squares = width if step.coordinates else 1
    if step.code == SGD:
        return 0
    if step.code == MOMENTUM:
        return width
    if step.code == ADAM:
        return width + squares + 2
    return width + squares if step.code == FTRL else squares


def slot_contractions(step: Step, width: int) -> list[float]:
    """How far one event contracts each slot of a group towards its target.

    -1 means: in units of the vector's own contraction, twice (squared residuals decay twice as fast); a value >= 0 is
    the contraction per event itself (-log decay for a moving average, exactly).
    """
    first, second = -math.log(step.momentum), -math.log(step.decay)
    count = slots_of(step, width)
    if step.code == MOMENTUM:
        return [first] * count
    if step.code == ADAM:
        return [*[first] * width, *[second] * (count - width - 2), first, second]
    return [second if step.code in (RMS, RMSPROP) else -1.0] * count


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
    before = np.float64(rows[r, slot])
    n = _accumulate(before, g2, step)
    rows[r, slot] = np.float32(n if step.share >= 1.0 else before + step.share * (n - before))
    return step.rate / math.sqrt(n + step.epsilon)


@njit(cache=True, nogil=True, forceinline=True)
def descend_one(rows: np.ndarray, r: int, column: int, slot: int, gradient: np.float32, step: Step) -> float:
    """Change the single coordinate rows[r, column] and its slots by the gradient of the loss alone; the step it took."""
    if general(step) and step.code > RMSPROP:
        return _carry(rows, r, column, 1, slot, gradient, _ONE, 0, 0, step)
    gradient += np.float32(step.l2) * rows[r, column]
    rate = _rate(rows, r, slot, np.float64(gradient) * gradient, step)
    rows[r, column] -= np.float32(rate) * gradient
    if general(step) and step.l1 > 0.0:
        rows[r, column] = shrunk(rows[r, column], rate * step.l1)
    return rate


@njit(cache=True, nogil=True, forceinline=True)
def descend(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, squares: float,
    step: Step, limit: float,
) -> tuple[float, int]:
    """One step of x = rows[r, start:start + width] and its slots, from rows[r, slot] on, by d = g * y + l2 * x; then cap.

    g * y is the gradient of the loss alone, y = other[o, at:at + width], squares = |y|^2. Returns the step that was taken
    (the mean over coordinates), for the contraction, and 1 if the row was cut to the norm `limit`, else 0.
    """
    carried = general(step) and step.code > RMSPROP
    if carried or (step.coordinates and step.code != SGD):
        if carried:
            taken = _carry(rows, r, start, width, slot, g, other, o, at, step)
        else:
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
    if general(step) and step.l1 > 0.0:
        for j in range(start, start + width):
            rows[r, j] = shrunk(rows[r, j], taken * step.l1)
        return taken, cap(rows, r, start, width, float(dot(rows, r, start, rows, r, start, width)), limit)
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
        if step.l1 > 0.0:
            rows[r, start + j] = shrunk(rows[r, start + j], taken * step.l1)
        whole += taken
    return whole / width


@njit(cache=True, nogil=True)
def _carry(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, step: Step,
) -> float:
    """The step of an optimizer that keeps a number for every coordinate; returns the mean over them of what d is multiplied
    by in the end."""
    l2 = 0.0 if step.code == FTRL else step.l2
    squares = 0.0
    for j in range(width):
        d = np.float64(g) * other[o, at + j] + l2 * rows[r, start + j]
        squares += d * d
    if squares == 0.0:
        return 0.0
    if step.share < 1.0:
        return _carry_some(rows, r, start, width, slot, g, other, o, at, squares / width, step)
    if step.code == MOMENTUM:
        return momentum(rows, r, start, width, slot, g, other, o, at, step)
    if step.code == ADAM:
        return adam(rows, r, start, width, slot, g, other, o, at, squares / width, step)
    return ftrl(rows, r, start, width, slot, g, other, o, at, squares / width, step)


@njit(cache=True, nogil=True)
def _carry_some(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, g2: float,
    step: Step,
) -> float:
    """A whole step, of which the row keeps `share`, slots and all: its shortened rate would stand in the slots of ftrl."""
    share, count = np.float32(step.share), slots_of(step, width)
    whole = Step(
        step.code, step.rate / step.share, step.decay, step.epsilon, step.coordinates, step.l2, step.momentum, step.l1,
        step.schedule, step.horizon, 1.0,
    )
    x, slots = rows[r, start : start + width].copy(), rows[r, slot : slot + count].copy()
    if step.code == MOMENTUM:
        taken = momentum(rows, r, start, width, slot, g, other, o, at, whole)
    elif step.code == ADAM:
        taken = adam(rows, r, start, width, slot, g, other, o, at, g2, whole)
    else:
        taken = ftrl(rows, r, start, width, slot, g, other, o, at, g2, whole)
    for j in range(width):
        rows[r, start + j] = x[j] + share * (rows[r, start + j] - x[j])
    for j in range(count):
        rows[r, slot + j] = slots[j] + share * (rows[r, slot + j] - slots[j])
    return taken * step.share


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
