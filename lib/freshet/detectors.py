"""Detectors of change in a series of means, behind one interface: a value in, an alarm or None out. Larger is worse.

    sigma^2 = sum_t (x_t - x_(t-1))^2 / (2 (n - 1)), t = 1 .. n - 1     noise of the first n = `settle` values, whatever their trend
    sigma  >= 1 / mean events of a value                                 one event more or less is no change
    seen_t  = x_t / sigma                                                what a detector gets: a change counts in units of noise

The noise from successive differences: von Neumann, Annals of Mathematical Statistics 12 (1941). A series that was constant,
such as a share of refused events that was 0, keeps its floor. How what comes in is distributed has no better or worse: of that
the newest window is held against the one before it.

    PSI = sum_b (q_b - p_b) ln(q_b / p_b)                    p, q: shares of bucket b in the two windows, of n and m events
    (k - 1) (1/n + 1/m), sqrt(2 (k - 1)) (1/n + 1/m)         its mean and deviation over k buckets where nothing has changed

Population stability index: Siddiqi, Credit Risk Scorecards (2006), where .1 is some and .25 a large change; its distribution:
Yurdakul, Statistical Properties of Population Stability Index, Western Michigan University (2018).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, Protocol

SETTLED, PSI = "settled", "psi"
CERTAIN = 6.0  # deviations above its mean that a PSI must be, for micro-batches are no independent draws
MOVED = 3  # buckets that an alarm names
SHORTEST = 5  # values that a change must have
FALSE_ALARM = 0.002  # delta of ADWIN
SLACK, THRESHOLD = 0.5, 12.0  # of Page-Hinkley, in units of noise: half of the change looked for, and what is too much


@dataclass(frozen=True)
class Alarm:
    """A signal became worse: who says so, its mean before and now, its noise, values since it was last begun anew.

    Of detector `settled`: so many values after an alarm it is still worse, by more than half of what it had lost.
    """

    signal: str
    detector: str
    before: float
    now: float
    noise: float
    values: int


@dataclass(frozen=True)
class Shift(Alarm):
    """An alarm of shares: `before` and `noise` are mean and deviation of a PSI where nothing changes, `now` is what it is; `moved`
    the buckets that make most of it, with their shares before and now."""

    moved: tuple[tuple[str, float, float], ...] = ()


class Detector(Protocol):
    """Sees a series in units of its noise."""

    def update(self, value: float) -> bool:
        """Take the next value; whether the series has become larger."""


class Adwin:
    """ADWIN, checked at every value; a fall is no alarm. Bifet and Gavalda, SIAM International Conference on Data Mining (2007).

    Its bound is made for values between 0 and 1: on means in units of noise only its term of the variance counts.
    """

    def __init__(self) -> None:
        from river.drift import ADWIN  # a second or two, which only who watches pays

        self._window = ADWIN(delta=FALSE_ALARM, clock=1, min_window_length=SHORTEST, grace_period=2 * SHORTEST)

    def update(self, value: float) -> bool:
        before = self._window.estimation
        self._window.update(value)
        return bool(self._window.drift_detected) and self._window.estimation > before


class PageHinkley:
    """Page-Hinkley, one-sided: m_t = m_(t-1) + x_t - mean - SLACK, an alarm where m_t - min m > THRESHOLD.

    Page, Biometrika 41 (1954).
    """

    def __init__(self) -> None:
        from river.drift import PageHinkley

        self._sums = PageHinkley(min_instances=2 * SHORTEST, delta=SLACK, threshold=THRESHOLD, alpha=1.0, mode="up")

    def update(self, value: float) -> bool:
        self._sums.update(value)
        return bool(self._sums.drift_detected)


DETECTORS: Mapping[str, Callable[[], Detector]] = {"adwin": Adwin, "page_hinkley": PageHinkley}


class Series:
    """One signal. Micro-batches are gathered into values of `events` events at least; after `settle` values its noise is known
    and the detectors look; after an alarm all of that begins anew, and `settle` values later it says whether it is as bad still.

    A function of what it was given since `since`, the alarm it began with: whoever gives it the same finds the same alarms.
    """

    def __init__(self, signal: str, detectors: Sequence[str], events: int, settle: int, since: Alarm | None = None) -> None:
        self.signal, self._names, self._events, self._settle = signal, tuple(detectors), events, settle
        self._begin(since)

    def _begin(self, since: Alarm | None) -> None:
        self._since = since
        self._total, self._count = 0.0, 0
        self._values = 0
        self._recent: deque[float] = deque(maxlen=2 * self._settle)
        self._all_events = 0
        self._noise = 0.0
        self._detectors: dict[str, Detector] = {}

    @property
    def recovered(self) -> bool:
        """Whether the newest values say that more than half of what was lost at the last alarm is regained."""
        since = self._since
        if since is None or self._values < SHORTEST:
            return False
        return _regained(since, fmean(list(self._recent)[-SHORTEST:]))

    def update(self, total: float, events: int) -> Alarm | None:
        """Take a micro-batch: the sum over its events, and how many they are."""
        self._total, self._count = self._total + total, self._count + events
        if self._count < self._events:
            return None
        value, self._all_events = self._total / self._count, self._all_events + self._count
        self._total, self._count = 0.0, 0
        self._values += 1
        self._recent.append(value)
        if self._values < self._settle:
            return None
        return self._settled() if self._values == self._settle else self._looked_at(value)

    def _settled(self) -> Alarm | None:
        squares = fmean((b - a) ** 2 for a, b in pairwise(self._recent))
        self._noise = max((squares / 2) ** 0.5, self._values / self._all_events)
        self._detectors = {name: DETECTORS[name]() for name in self._names}
        for value in self._recent:
            for detector in self._detectors.values():
                detector.update(value / self._noise)
        since, now = self._since, fmean(list(self._recent)[-(self._settle // 2) :])
        if since is None or _regained(since, now):
            return None
        return Alarm(self.signal, SETTLED, since.before, now, self._noise, self._values)

    def _looked_at(self, value: float) -> Alarm | None:
        found = [name for name, detector in self._detectors.items() if detector.update(value / self._noise)]
        if not found:
            return None
        recent = list(self._recent)
        alarm = Alarm(self.signal, found[0], fmean(recent[:-SHORTEST]), fmean(recent[-SHORTEST:]), self._noise, self._values)
        self._begin(alarm)
        return alarm


def _regained(since: Alarm, now: float) -> bool:
    return since.now - now > (since.now - since.before) / 2


class Shares:
    """One signal of shares: micro-batches are gathered into values of `events` events at least, and the last `settle` values are
    held against the `settle` before them. An alarm where their PSI is above `most`, and for certain; then all begins anew."""

    recovered = False  # what came before the alarm is not kept

    def __init__(self, signal: str, events: int, settle: int, most: float) -> None:
        self.signal, self._events, self._settle, self._most = signal, events, settle, most
        self._begin()

    def _begin(self) -> None:
        self._gathered: Counter[str] = Counter()
        self._count, self._values = 0, 0
        self._recent: deque[Counter[str]] = deque(maxlen=2 * self._settle)

    def update(self, total: Mapping[str, float], events: int) -> Shift | None:
        """Take a micro-batch: its events by bucket, and how many they are."""
        self._gathered.update({name: round(count) for name, count in total.items()})
        self._count += events
        if self._count < self._events:
            return None
        self._recent.append(self._gathered)
        self._gathered, self._count, self._values = Counter(), 0, self._values + 1
        if len(self._recent) < 2 * self._settle:
            return None
        alarm = self._compared()
        if alarm is not None:
            self._begin()
        return alarm

    def _compared(self) -> Shift | None:
        windows = list(self._recent)
        before, now = (sum(part, Counter()) for part in (windows[: self._settle], windows[self._settle :]))
        n, m, names = before.total(), now.total(), sorted(before | now)
        k = len(names)
        if k < 2:
            return None
        # Half an event in each bucket: an empty one would make it infinite.
        p, q = ({name: (part[name] + 0.5) / (part.total() + 0.5 * k) for name in names} for part in (before, now))
        parts = {name: (q[name] - p[name]) * math.log(q[name] / p[name]) for name in names}
        psi, mean, noise = sum(parts.values()), (k - 1) * (1 / n + 1 / m), math.sqrt(2 * (k - 1)) * (1 / n + 1 / m)
        if psi <= self._most or psi <= mean + CERTAIN * noise:
            return None
        most = sorted(names, key=lambda name: (-parts[name], name))[:MOVED]
        moved = tuple((name, round(before[name] / n, 4), round(now[name] / m, 4)) for name in most)
        return Shift(self.signal, PSI, mean, psi, noise, self._values, moved)


class Watching(Protocol):
    """What takes micro-batches of a signal and raises alarms."""

    @property
    def recovered(self) -> bool: ...
    def update(self, total: Any, events: int) -> Alarm | None: ...


class Relay:
    """One signal, watched by one after the other: at each `turn` another begins beside the one that speaks, which gives way at the
    next but one. So what is said never rests on more than two turns, and whoever is given what came since the last but one, or
    since the last alarm after it, says the same."""

    def __init__(self, make: Callable[[Alarm | None], Watching], since: Alarm | None = None) -> None:
        self._make = make
        self.now: Watching = make(since)
        self._next: Watching | None = None

    @property
    def recovered(self) -> bool:
        """As the one that speaks says."""
        return self.now.recovered

    def update(self, total: Any, events: int) -> Alarm | None:
        """Take a micro-batch."""
        alarm = self.now.update(total, events)
        if alarm is not None and alarm.detector != SETTLED:
            self._next = None  # the one that speaks has begun anew, and knows since what
        elif self._next is not None:
            self._next.update(total, events)
        return alarm

    def turn(self) -> None:
        """The next one speaks, if there is one; another begins."""
        self.now, self._next = self._next or self.now, self._make(None)
