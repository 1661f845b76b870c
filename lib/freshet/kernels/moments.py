"""Steps of the optimizers that keep a number for every coordinate; formulas and slots as in kernels.optimizers.

Each moves x = rows[r, start : start + width] by d = g * y + l2 * x, y = other[o, at : at + width], and returns what d is
multiplied by in the end, as the mean over the coordinates. `g2` is the mean of d^2, never 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from freshet.kernels.optimizers import Step


@njit(cache=True, nogil=True, forceinline=True)
def shrunk(x: float, by: float) -> np.float32:
    """sign(x) max(|x| - by, 0); NaN stays NaN, for the guard."""
    size = abs(x) - by
    return np.float32(0.0) if size <= 0.0 else np.float32(math.copysign(size, x))


@njit(cache=True, nogil=True)
def momentum(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, step: Step,
) -> float:
    """Slots: m of every coordinate."""
    taken = step.rate / (1.0 - step.momentum)
    for j in range(width):
        x = np.float64(rows[r, start + j])
        m = step.momentum * rows[r, slot + j] + np.float64(g) * other[o, at + j] + step.l2 * x
        rows[r, slot + j] = np.float32(m)
        rows[r, start + j] = shrunk(x - step.rate * m, taken * step.l1)
    return taken


@njit(cache=True, nogil=True)
def adam(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, g2: float,
    step: Step,
) -> float:
    """Slots: m of every coordinate, one n or one of each, c, e."""
    squares = slot + width
    ones = squares + (width if step.coordinates else 1)
    first = step.momentum * rows[r, ones] + (1.0 - step.momentum)
    second = step.decay * rows[r, ones + 1] + (1.0 - step.decay)
    rows[r, ones], rows[r, ones + 1] = np.float32(first), np.float32(second)
    whole, taken = 0.0, 0.0
    for j in range(width):
        x = np.float64(rows[r, start + j])
        d = np.float64(g) * other[o, at + j] + step.l2 * x
        if step.coordinates or j == 0:
            n = step.decay * rows[r, squares + j] + (1.0 - step.decay) * (d * d if step.coordinates else g2)
            rows[r, squares + j] = np.float32(n)
            taken = step.rate / math.sqrt(n / second + step.epsilon)
        m = step.momentum * rows[r, slot + j] + (1.0 - step.momentum) * d
        rows[r, slot + j] = np.float32(m)
        rows[r, start + j] = shrunk(x - taken * m / first, taken * step.l1)
        whole += taken
    return whole / width


@njit(cache=True, nogil=True)
def ftrl(
    rows: np.ndarray, r: int, start: int, width: int, slot: int, g: np.float32, other: np.ndarray, o: int, at: int, g2: float,
    step: Step,
) -> float:
    """Slots: z of every coordinate, one n or one of each; d without L2."""
    whole, before, after = 0.0, 0.0, 0.0
    for j in range(width):
        x, d = np.float64(rows[r, start + j]), np.float64(g) * other[o, at + j]
        if step.coordinates or j == 0:
            n = np.float64(rows[r, slot + width + j])
            before = math.sqrt(n + step.epsilon) / step.rate
            n += d * d if step.coordinates else g2
            rows[r, slot + width + j] = np.float32(n)
            after = math.sqrt(n + step.epsilon) / step.rate
        z = np.float64(rows[r, slot + j]) if x == 0.0 else -x * (before + step.l2) - math.copysign(step.l1, x)
        z += d - (after - before) * x
        rows[r, slot + j] = np.float32(z)
        rows[r, start + j] = shrunk(-z / (after + step.l2), step.l1 / (after + step.l2))
        whole += 1.0 / (after + step.l2)
    return whole / width
