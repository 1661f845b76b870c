"""Optimizer steps written out in float64 from the formulas of kernels.optimizers, as the slow twin of its kernels."""

from __future__ import annotations

import numpy as np

from freshet.kernels.optimizers import OPTIMIZERS, Step

NAMES = {code: name for name, code in OPTIMIZERS.items()}


def shrink(x: np.ndarray, by: np.ndarray | float) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - by, 0.0)


def slow_step(step: Step, row: np.ndarray, at: slice, slot: int, gradient: np.ndarray) -> float:
    """Change row[at] and its slots from `slot` on, float64 and in place, by the gradient of the loss; the mean step taken."""
    name, x, width = NAMES[step.code], row[at], at.stop - at.start
    d = gradient + (0.0 if name == "ftrl" else step.l2 * x)
    d2 = d**2 if step.coordinates else np.array([np.mean(d**2)])
    if name == "sgd":
        row[at] = shrink(x - step.rate * d, step.rate * step.l1)
        return step.rate
    if not d.any():
        return 0.0
    if name == "momentum":
        m = row[slot : slot + width] = step.momentum * row[slot : slot + width] + d
        taken = step.rate / (1 - step.momentum)
        row[at] = shrink(x - step.rate * m, taken * step.l1)
        return taken
    if name in ("adam", "ftrl"):
        squares = slice(slot + width, slot + width + len(d2))
        return (slow_adam if name == "adam" else slow_ftrl)(step, row, at, slice(slot, slot + width), squares, d, d2)
    n = row[slot : slot + len(d2)]
    first = (n == 0) if name == "rms" else np.zeros(len(n), bool)
    moved = d2 > 0
    n[moved] = (n + d2 if name == "adagrad" else np.where(first, d2, step.decay * n + (1 - step.decay) * d2))[moved]
    taken = np.where(moved, step.rate / np.sqrt(n + step.epsilon), 0.0)
    row[at] = shrink(x - taken * d, taken * step.l1)
    return float(np.mean(taken))


def slow_adam(step: Step, row: np.ndarray, at: slice, first: slice, second: slice, d: np.ndarray, d2: np.ndarray) -> float:
    m = row[first] = step.momentum * row[first] + (1 - step.momentum) * d
    n = row[second] = step.decay * row[second] + (1 - step.decay) * d2
    c, e = row[second.stop : second.stop + 2]
    c, e = row[second.stop : second.stop + 2] = step.momentum * c + 1 - step.momentum, step.decay * e + 1 - step.decay
    taken = step.rate / np.sqrt(n / e + step.epsilon)
    row[at] = shrink(row[at] - taken * m / c, taken * step.l1)
    return float(np.mean(taken))


def slow_ftrl(step: Step, row: np.ndarray, at: slice, z: slice, n: slice, d: np.ndarray, d2: np.ndarray) -> float:
    x, h = row[at].copy(), np.sqrt(row[n] + step.epsilon) / step.rate
    row[n] += d2
    after = np.sqrt(row[n] + step.epsilon) / step.rate
    row[z] = np.where(x == 0, row[z], -x * (h + step.l2) - np.sign(x) * step.l1) + d - (after - h) * x
    row[at] = np.where(np.abs(row[z]) <= step.l1, 0.0, -(row[z] - np.sign(row[z]) * step.l1) / (after + step.l2))
    return float(np.mean(1 / (after + step.l2)))
