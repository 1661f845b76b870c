"""The strategy: what is seen in the stream, and what is done about it, as the settings map one to the other.

    monitor   series of the served metric and of what comes in (see `readings`), each with its detectors; lag
    choose    the actions the settings name for what was seen, unless it was answered within `cool_down` micro-batches
    update    a change of learning, for so many micro-batches and one at a time; or what the caller does
    evaluate  `falling_metric`, where a loss is still there after a while: keep going, or the next answer

Pure: what it says follows from what it was given since it was made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from freshet.growth import GROWTH, LEARNED
from freshet.inputs import ITEMS, TYPES, VALUES, counts_of
from freshet.report import Metric
from freshet.settings import FORGET, FREEZE, RATES, SEEN, Change, StrategySettings, change

METRIC = "metric"
MEANS = {  # signal -> what is seen
    METRIC: "drift", "new_users": "new_users", "new_items": "new_items", "refusals": "refusals", GROWTH: "divergence",
}  # fmt: skip
SHARES = {ITEMS: "inputs", VALUES: "inputs", TYPES: "inputs"}
SIGNALS = MEANS | SHARES
ALARM, ADAPT, RECOVERED, RETRAIN, ROLL_BACK, ALERT = "alarm", "adapt", "recovered", "retrain", "roll back", "alert"
LAG = "lag"
SMALLER_IS_BETTER = ("mae", "logloss", "hinge", "perceptron")
_STAYED = "settled"  # the detector that says a change is still there
_AS_SET = {RATES: "the learning rate is as set again", FREEZE: "it is learned again", FORGET: "half-lives are as set again"}


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
    """A signal with its detectors: takes the sum over the events of a micro-batch, or their counts by bucket, and how many they
    are; and is told now and then that what is long past need not be known."""

    def update(self, total: Any, events: int) -> Any: ...
    def turn(self) -> None: ...
    @property
    def recovered(self) -> bool: ...


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
    """Micro-batches until something seen is answered again; the change of learning that is in force, for how many more, and the
    signal it answers."""

    waits: dict[str, int] = field(default_factory=dict)
    change: Change | None = None
    left: int = 0
    signal: str = ""
    lagging: bool = False


def readings(metrics: Sequence[Metric], judged_by: str, learner: str, counts: Counts) -> dict[str, tuple[Any, int]]:
    """Signal -> (sum over events, events) of a micro-batch, larger is worse: the served metric that judges the learner (negative
    where more is better), the shares of new users, of new items and of refused events, how fast rows grow; and of what comes in
    (events by bucket, events)."""
    found: dict[str, tuple[Any, int]] = {**counts_of(metrics), "refusals": (float(counts.refused), counts.read)}
    if counts.accepted:
        found |= {"new_users": (float(counts.users), counts.accepted), "new_items": (float(counts.items), counts.accepted)}
    sign = 1.0 if judged_by in SMALLER_IS_BETTER else -1.0
    for one in metrics:
        served = (one.scoring, one.learner, one.slice) == ("served", learner, "all")
        if (one.metric, one.scoring) == (GROWTH, LEARNED):
            found[GROWTH] = one.total, one.events
        if served and one.metric.partition("~")[0] == judged_by and one.events:
            found[METRIC] = sign * one.total, one.events
    return found


class Strategy:
    """Looks at one micro-batch after the other."""

    def __init__(self, rules: StrategySettings, series: Mapping[str, Watched], state: State | None = None) -> None:
        self.rules, self.series, self.state = rules, series, state or State()

    @property
    def change(self) -> Change | None:
        """How the next micro-batch is learned otherwise than is set."""
        return self.state.change

    def look(self, read: Mapping[str, tuple[Any, int]], lag: float | None = None, turn: bool = False) -> list[Decided]:
        """What is decided about a micro-batch with these `readings`, learned so many seconds after it arrived; after it series
        may `turn`."""
        found = self._pass()
        standing = self.state.change is not None
        for signal in self.series:
            alarm = self.series[signal].update(*read[signal]) if signal in read else None
            if alarm is None or (alarm.detector == _STAYED and signal != METRIC):
                continue
            seen = "falling_metric" if alarm.detector == _STAYED else SIGNALS[signal]
            found += self._answer(seen, signal, in_words(signal, alarm), asdict(alarm))
        if turn:
            for watched in self.series.values():
                watched.turn()
        found += self._late(lag)
        return found + (self._thawed() if standing else [])

    def _pass(self) -> list[Decided]:
        state = self.state
        state.waits = {seen: left - 1 for seen, left in state.waits.items() if left > 1}
        if not state.left:
            return []
        state.left -= 1
        return [] if state.left else [self._as_set("")]

    def _as_set(self, why: str) -> Decided:
        """The end of a change of learning."""
        assert self.state.change is not None
        kind = self.state.change.kind
        self.state.change, self.state.left = None, 0
        return Decided(ADAPT, f"{why}{_AS_SET[kind]}", {"factor": 1.0, "batches": 0, "kind": kind})

    def _thawed(self) -> list[Decided]:
        """The end of a freeze before its time: what was lost is regained by more than half, while nothing was learned."""
        state = self.state
        if state.change is None or state.change.kind != FREEZE:
            return []
        watched = self.series.get(state.signal)
        well = not state.lagging if state.signal == LAG else watched is not None and watched.recovered
        return [self._as_set(f"{state.signal} has recovered: ")] if well else []

    def _late(self, lag: float | None) -> list[Decided]:
        most, state = self.rules.max_lag, self.state
        if most is None or lag is None:
            return []
        words, evidence = f"{lag:.0f} seconds after its newest event arrived, most is {most:.0f}", {"lag": round(lag, 1)}
        if state.lagging:
            state.lagging = lag >= most / 2
            return [] if state.lagging else [Decided(RECOVERED, f"lag: {words}", {"seen": LAG, **evidence})]
        state.lagging = lag > most
        return self._answer(LAG, LAG, words, evidence) if state.lagging else []

    def _answer(self, seen: str, signal: str, words: str, evidence: Mapping[str, Any]) -> list[Decided]:
        """The alarm, and what is done of it."""
        assert seen in SEEN
        state, wanted = self.state, [action for action in getattr(self.rules, seen) if action != "go on"]
        held = ""
        if wanted and seen in state.waits:
            wanted, held = [], f"; answered before, {state.waits[seen]} micro-batches to wait"
        elif state.left and any(change(action) for action in wanted):
            wanted = [action for action in wanted if not change(action)]
            held = f"; learning is changed already, for {state.left} more micro-batches"
        if wanted:
            state.waits[seen] = self.rules.cool_down
        actions = tuple(action for action in wanted if action in (ALERT, ROLL_BACK))
        if RETRAIN in wanted and self.rules.command and ALERT not in actions:
            actions = (ALERT, *actions)
        found = [Decided(ALARM, f"{seen}: {words}{held}", {"seen": seen, "done": wanted, **evidence}, actions)]
        for action in wanted:
            changed = change(action)
            if changed is not None:
                state.change, state.left, state.signal = changed, changed.batches, signal
                found.append(Decided(ADAPT, f"{seen}: {_told(changed)}", {"seen": seen, "of": signal, **changed._asdict()}))
            elif action == RETRAIN:
                found.append(Decided(RETRAIN, f"{seen}: a retrain is asked for", {"seen": seen}))
        return found


def _told(changed: Change) -> str:
    if changed.kind == FREEZE:
        return f"nothing is learned for {changed.batches} micro-batches at most"
    what = "half-lives divided by" if changed.kind == FORGET else "learning rate times"
    return f"{what} {changed.factor:g} for {changed.batches} micro-batches"


def in_words(signal: str, alarm: Raised) -> str:
    """The alarm as one clause: `metric from 0.31 to 0.22, 6.1 times its noise (adwin)`."""
    if signal in SHARES:
        signal = f"PSI of {signal}"
    size = (alarm.now - alarm.before) / alarm.noise
    word = "still at" if alarm.detector == _STAYED else "to"
    return f"{signal} from {abs(alarm.before):.4g} {word} {abs(alarm.now):.4g}, {size:.1f} times its noise ({alarm.detector})"
