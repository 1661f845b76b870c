"""What a benchmark hands back: figures measured as ratios inside one run, tables of context, and how they are made.

    median of pairs [low .. high]      (the interval holds the true median with 95 % confidence, whatever the distribution)
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Figure:
    """One row of the report: `value` with its interval, or `missing`, the reason why there is none.

    `name` is the key of its bar in bars.yaml; a figure without a bar there is context. `beside` says what it was made of.
    """

    name: str
    what: str
    value: float | None
    low: float | None = None
    high: float | None = None
    beside: str = ""
    missing: str = ""
    digits: int = 3


@dataclass(frozen=True)
class Table:
    """Context under the figures: a title and rows of text, the first one the heading."""

    title: str
    rows: Sequence[Sequence[str]]


@dataclass
class Result:
    """Everything one benchmark found, and how it was measured."""

    protocol: str
    figures: list[Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Options:
    """How to run: `quick` takes few pairs, `data` is the folder of the public sets or None, `scratch` is emptied."""

    quick: bool
    scratch: Path
    data: Path | None = None
    seed: int = 1

    def folder(self, name: str) -> Path:
        """An empty folder for one part of a benchmark."""
        folder = self.scratch / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def pairs(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def middle(values: Sequence[float]) -> tuple[float, float, float]:
    """(median, low, high): low and high are the order statistics that hold the median with 95 % confidence.

    >>> middle([5, 1, 4, 2, 3, 6, 7])
    (4.0, 1.0, 7.0)
    """
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if not n:
        return math.nan, math.nan, math.nan
    tail, below = 0.0, 0
    while below < n // 2 and tail + math.comb(n, below) / 2**n <= 0.025:
        tail += math.comb(n, below) / 2**n
        below += 1
    low = max(below - 1, 0)
    return float(np.median(ordered)), float(ordered[low]), float(ordered[n - 1 - low])


def ratio(name: str, what: str, ours: Sequence[float], theirs: Sequence[float], beside: str = "", unit: str = "s") -> Figure:
    """ours / theirs, pair by pair."""
    value, low, high = middle([a / b for a, b in zip(ours, theirs, strict=True)])
    seen = f"{shown(np.median(ours))} {unit} / {shown(np.median(theirs))} {unit}, {len(ours)} pairs"
    return Figure(name, what, value, low, high, f"{seen}; {beside}" if beside else seen)


def missing(name: str, what: str, why: str) -> Figure:
    """A row that could not be measured here."""
    return Figure(name, what, None, missing=why)


def shown(value: float | None, matter: int = 3) -> str:
    """The digits that matter: 0.0123, 1.23, 12.3, 1,234."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else str(value)
    if value != 0 and abs(value) < 0.001:
        return f"{value:.2e}"
    digits = max(0, matter - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(digits, matter + 1)}f}"


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def core_seconds(call: Callable[[], object]) -> float:
    """Processor seconds of a call on one core: what else runs on the machine does not count."""
    start = time.process_time()
    call()
    return time.process_time() - start


class Stages:
    """Seconds of named stages, one list entry for each pass: `with stages("gather"): ...`, then `lap()`.

    `clock` is time.perf_counter for wall seconds, time.process_time for seconds of the processor.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.laps: list[dict[str, float]] = []
        self._now: dict[str, float] = {}

    def __call__(self, stage: str) -> AbstractContextManager[None]:
        return self._timed(stage)

    @contextmanager
    def _timed(self, stage: str):  # type: ignore[no-untyped-def]
        start = self._clock()
        try:
            yield
        finally:
            self._now[stage] = self._now.get(stage, 0.0) + self._clock() - start

    def lap(self) -> dict[str, float]:
        """End a pass; its seconds by stage."""
        done, self._now = self._now, {}
        self.laps.append(done)
        return done


def stage_table(title: str, columns: Mapping[str, Sequence[Mapping[str, float]]], scale: float = 1e3, unit: str = "ms") -> Table:
    """Median of each stage, one column for each run."""
    names = list(dict.fromkeys(stage for laps in columns.values() for lap in laps for stage in lap))
    rows = [["stage", *(f"{name}, {unit}" for name in columns)]]
    for stage in names:
        cells = [shown(float(np.median([lap.get(stage, 0.0) for lap in laps])) * scale) if laps else "-" for laps in columns.values()]
        rows.append([stage, *cells])
    return Table(title, rows)
