"""The strategy: what is seen in the stream, and what is done about it, as the settings map one to the other.

    monitor   series of the served metric and of what comes in (see `readings`), each with its detectors; lag
    choose    the actions the settings name for what was seen, unless it was answered within `cool_down` micro-batches
    update    a change of the learning rate, for so many micro-batches and one at a time; or what the caller does
    evaluate  `falling_metric`, where a loss is still there after a while: keep going, or the next answer

Pure: what it says follows from what it was given since it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from freshet.report import Metric
from freshet.settings import SEEN, StrategySettings, change

METRIC = "metric"
SIGNALS = {METRIC: "drift", "new_users": "new_users", "new_items": "new_items", "refusals": "refusals"}  # signal -> what is seen
ALARM, ADAPT, RETRAIN, ROLL_BACK, ALERT = "alarm", "adapt", "retrain", "roll back", "alert"
SMALLER_IS_BETTER = ("mae", "logloss", "hinge", "perceptron")
_STAYED = "settled"  # the detector that says a change is still there


class Raised(Protocol):
    """An alarm of a series: means before and now, the noise, larger is worse."""

    @property
    def detector(self) -> str: ...
    @property
    def before(self) -> float: ...
    @property
    def now(self) -> float: ...
    @property
    def noise(self) -> float: ...


class Watched(Protocol):
    """A signal with its detectors: takes the sum over the events of a micro-batch and how many they are."""

    def update(self, total: float, events: int) -> Any: ...


@dataclass(frozen=True)
class Decided:
    """A decision to be recorded, and the actions it leaves to the caller: alert, roll back."""

    kind: str
    reason: str
    evidence: Mapping[str, Any]
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """What came in with a micro-batch: events read, accepted, refused; users and items that were never seen."""

    read: int
    accepted: int
    refused: int
    users: int
    items: int


@dataclass
class State:
    """Micro-batches until something seen is answered again; what the learning rates are times, and for how many more."""

    waits: dict[str, int] = field(default_factory=dict)
    factor: float = 1.0
    left: int = 0
    lagging: bool = False


def readings(metrics: Sequence[Metric], judged_by: str, learner: str, counts: Counts) -> dict[str, tuple[float, int]]:
    """Signal -> (sum over events, events) of a micro-batch, larger is worse: the served metric that judges the learner (negative
    where more is better), the shares of new users, of new items and of refused events."""
    found = {"refusals": (float(counts.refused), counts.read)}
    if counts.accepted:
        found |= {"new_users": (float(counts.users), counts.accepted), "new_items": (float(counts.items), counts.accepted)}
    sign = 1.0 if judged_by in SMALLER_IS_BETTER else -1.0
    for one in metrics:
        served = (one.scoring, one.learner, one.slice) == ("served", learner, "all")
        if served and one.metric.partition("~")[0] == judged_by and one.events:
            found[METRIC] = sign * one.total, one.events
    return found


class Strategy:
    """Looks at one micro-batch after the other."""

    def __init__(self, rules: StrategySettings, series: Mapping[str, Watched], state: State | None = None) -> None:
        self.rules, self.series, self.state = rules, series, state or State()

    @property
    def factor(self) -> float:
        """What both learning rates of the next micro-batch are times."""
        return self.state.factor

    def look(self, read: Mapping[str, tuple[float, int]], lag: float | None = None) -> list[Decided]:
        """What is decided about a micro-batch with these `readings`, learned so many seconds after it arrived."""
        found = self._pass()
        for signal in self.series:
            alarm = self.series[signal].update(*read[signal]) if signal in read else None
            if alarm is None or (alarm.detector == _STAYED and signal != METRIC):
                continue
            seen = "falling_metric" if alarm.detector == _STAYED else SIGNALS[signal]
            found += self._answer(seen, in_words(signal, alarm), asdict(alarm))
        return found + self._late(lag)

    def _pass(self) -> list[Decided]:
        state = self.state
        state.waits = {seen: left - 1 for seen, left in state.waits.items() if left > 1}
        if not state.left:
            return []
        state.left -= 1
        if state.left:
            return []
        state.factor = 1.0
        return [Decided(ADAPT, "the learning rate is as set again", {"factor": 1.0, "batches": 0})]

    def _late(self, lag: float | None) -> list[Decided]:
        most = self.rules.max_lag
        if most is None or lag is None:
            return []
        if self.state.lagging:
            self.state.lagging = lag >= most / 2
            return []
        self.state.lagging = lag > most
        if not self.state.lagging:
            return []
        return self._answer("lag", f"{lag:.0f} seconds after its newest event arrived, most is {most:.0f}", {"lag": round(lag, 1)})

    def _answer(self, seen: str, words: str, evidence: Mapping[str, Any]) -> list[Decided]:
        """The alarm, and what is done of it."""
        assert seen in SEEN
        state, wanted = self.state, [action for action in getattr(self.rules, seen) if action != "go on"]
        held = ""
        if wanted and seen in state.waits:
            wanted, held = [], f"; answered before, {state.waits[seen]} micro-batches to wait"
        elif state.left and any(change(action) for action in wanted):
            wanted = [action for action in wanted if not change(action)]
            held = f"; the learning rate is changed already, for {state.left} more micro-batches"
        if wanted:
            state.waits[seen] = self.rules.cool_down
        actions = tuple(action for action in wanted if action in (ALERT, ROLL_BACK))
        if RETRAIN in wanted and self.rules.command and ALERT not in actions:
            actions = (ALERT, *actions)
        found = [Decided(ALARM, f"{seen}: {words}{held}", {"seen": seen, "done": wanted, **evidence}, actions)]
        for action in wanted:
            changed = change(action)
            if changed is not None:
                state.factor, state.left = changed
                reason = f"{seen}: learning rate times {changed.factor:g} for {changed.batches} micro-batches"
                found.append(Decided(ADAPT, reason, {"seen": seen, **changed._asdict()}))
            elif action == RETRAIN:
                found.append(Decided(RETRAIN, f"{seen}: a retrain is asked for", {"seen": seen}))
        return found


def in_words(signal: str, alarm: Raised) -> str:
    """The alarm as one clause: `metric from 0.31 to 0.22, 6.1 times its noise (adwin)`."""
    size = (alarm.now - alarm.before) / alarm.noise
    word = "still at" if alarm.detector == _STAYED else "to"
    return f"{signal} from {abs(alarm.before):.4g} {word} {abs(alarm.now):.4g}, {size:.1f} times its noise ({alarm.detector})"
