"""Whether a figure that was sampled while a learner ran stays where it was, or grows with the number of micro-batches.

    trend([20, 40, ...], [311, 309, ...]).high <= 10        at most ten more in every 1,000 micro-batches

The slope is the median of the slopes between any two samples (Theil and Sen), so that one slow moment is nothing. Its interval
comes from leaving out one stretch of the run after the other: samples beside each other are alike, and an interval that took
them for independent would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

UNIT = 1000  # micro-batches
WARM = 0.1  # share of the run that is left out: compilers, caches, the first rows
STRETCHES = 10
FAR = 6.0  # median distances from the line: 4 standard deviations of normal noise
# Student's t, two sides, 95 %, by degrees of freedom.
_T = (math.nan, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)


@dataclass(frozen=True)
class Trend:
    """Medians of the second and of the last tenth of the run; the slope per 1,000 micro-batches and its 95 % interval; how much more
    there was in the last tenth, per 1,000 micro-batches between the two: what begins late has no part in a median slope."""

    early: float
    late: float
    slope: float
    low: float
    high: float
    rise: float = math.nan

    def relative(self) -> Trend:
        """The same with the slope as a share of what there was in the second tenth."""
        level = abs(self.early) or math.nan
        return Trend(self.early, self.late, self.slope / level, self.low / level, self.high / level, self.rise / level)

    def flat(self, limit: float) -> bool:
        """Whether it surely grows by no more than the limit: the whole interval has to say so, and the end of the run."""
        return self.most <= limit

    @property
    def most(self) -> float:
        """What it may grow by, at most."""
        return self.high if math.isnan(self.rise) else max(self.high, self.rise)


def trend(at: Sequence[float], values: Sequence[float], run: float | None = None) -> Trend:
    """The trend of samples, each with the number of micro-batches there were; `run`: how many there were in the end."""
    end = float(run if run is not None else max(at, default=0))
    kept = np.array([(x, y) for x, y in zip(at, values, strict=True) if x >= WARM * end and math.isfinite(y)]).reshape(-1, 2)
    x, y = kept.T
    early, late = (middle(y[(x >= begin * end) & (x <= (begin + WARM) * end)]) for begin in (WARM, 1 - WARM))
    slope = sen(x, y)
    aside = error(x, y, slope)
    rise = (late - early) / ((1 - 2 * WARM) * end) if end else math.nan
    return Trend(early, late, slope * UNIT, (slope - aside) * UNIT, (slope + aside) * UNIT, rise * UNIT)


def middle(values: np.ndarray) -> float:
    """The median; not a number where there is nothing."""
    return float(np.median(values)) if len(values) else math.nan


def sen(x: np.ndarray, y: np.ndarray) -> float:
    """Median of the slopes between any two points."""
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] != x[first]
    first, second = first[apart], second[apart]
    return middle((y[second] - y[first]) / (x[second] - x[first]))


def error(x: np.ndarray, y: np.ndarray, slope: float) -> float:
    """Half of the 95 % interval of the slope: the jackknife over stretches of the run."""
    groups = min(STRETCHES, len(x))
    if groups < 4:
        return math.nan
    # A jackknife of medians is itself all noise; least squares are smooth, once single far ones are brought near.
    off = y - slope * x
    off = off - np.median(off)
    far = FAR * np.median(np.abs(off))
    off = np.clip(off, -far, far)
    stretch = np.arange(len(x)) * groups // len(x)
    slopes = np.array([np.polyfit(x[stretch != one], off[stretch != one], 1)[0] for one in range(groups)])
    return float(_T[groups - 1] * math.sqrt((groups - 1) / groups * np.square(slopes - slopes.mean()).sum()))


def blocks(at: Sequence[float], values: Sequence[float], size: float) -> tuple[list[float], list[float], list[float]]:
    """Where blocks of so many micro-batches lie, their medians, their means."""
    x, y = np.asarray(at, float), np.asarray(values, float)
    number = np.floor(x / size)
    parts = [(x[number == one], y[number == one]) for one in np.unique(number)]
    return [float(a.mean()) for a, _ in parts], [middle(b) for _, b in parts], [float(b.mean()) for _, b in parts]
