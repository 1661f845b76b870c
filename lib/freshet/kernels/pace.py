"""How long a step is for this row and this event: its schedule, and how far the event is trusted. For kernels only."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from freshet.kernels.optimizers import CONSTANT, INVERSE_SQRT, Plain, Step, general, overload


@njit(cache=True, nogil=True, forceinline=True)
def _slowed(step: Step, count: int) -> Step:
    if step.schedule == CONSTANT:
        return step
    n = count / step.horizon
    pace = 1.0 / math.sqrt(1.0 + n) if step.schedule == INVERSE_SQRT else 2.0 ** (-n)
    return Step(
        step.code, step.rate * pace, step.decay, step.epsilon, step.coordinates, step.l2, step.momentum, step.l1, step.schedule,
        step.horizon, step.share,
    )


@njit(cache=True, nogil=True, forceinline=True)
def behind(step: Step, counts: np.ndarray, r: int) -> int:
    """counts[r] for `paced`; not looked up for a step that never asks."""
    return counts[r] if general(step) else 0


def paced(step: Step, count: int) -> Step:
    """The step at the rate its schedule gives a row with so many events behind it; for kernels only."""
    raise NotImplementedError


@overload(paced)
def _paced(step, count):  # type: ignore[no-untyped-def]
    return (lambda step, count: step) if step.instance_class is Plain else (lambda step, count: _slowed(step, count))


def slower(step: Step, trust: float) -> Step:
    """The step at `trust` times its rate, 0 to 1, of which slots keep as much; for kernels only."""
    raise NotImplementedError


@overload(slower)
def _slower(step, trust):  # type: ignore[no-untyped-def]
    kind = step.instance_class

    def made(step, trust):  # type: ignore[no-untyped-def]
        return kind(
            step.code, step.rate * trust, step.decay, step.epsilon, step.coordinates, step.l2, step.momentum, step.l1,
            step.schedule, step.horizon, trust,
        )
    return made


@njit(cache=True, nogil=True, forceinline=True)
def trust_in(trust: np.ndarray, e: int) -> float:
    """How far event e may move what users share: trust float32[n], or of no length where all may in full."""
    return float(trust[e]) if trust.shape[0] > 0 else 1.0
