"""The strategy beside a running learner: looks at each micro-batch before its commit, acts after it.

Nothing of it is kept but rows: at a start the series are made anew from the committed metrics of two spans at most, and what is
still in force is found in the decisions. A change of learning is a run of its own, whose settings stand with its versions: so it
replays.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from freshet.detectors import PSI, SETTLED, Alarm, Relay, Series, Shares
from freshet.growth import LEARNED, growth_metric
from freshet.inputs import INPUTS, input_metrics
from freshet.intake import CAPS
from freshet.pipelines.gating import micro_batches_since
from freshet.pipelines.micro_batch import Prepared
from freshet.pipelines.starting import Opened, turn
from freshet.policy.strategy import (
    ADAPT,
    ALARM,
    ALERT,
    LAG,
    METRIC,
    RECOVERED,
    ROLL_BACK,
    SHARES,
    SIGNALS,
    Counts,
    Decided,
    State,
    Strategy,
    readings,
)
from freshet.prequential import SERVED
from freshet.report import Metric
from freshet.schema import EVENTS, HISTORY, POPULARITY
from freshet.settings import RATES, Change, StrategySettings
from freshet.store.decisions import STRATEGY, decision_row, decisions
from freshet.store.scores import metrics_of
from freshet.store.snapshots import LEARNING, PROMOTE, REFUSED, ROLLBACK, History, Snapshot
from freshet.store.tables import Tables

ALERT_SECONDS = 60.0
SPAN = 20  # times `settle` values
_ALARM = [one.name for one in fields(Alarm)]


@dataclass(frozen=True)
class Sight:
    """What was decided about a micro-batch, as rows that go with its commit."""

    decided: Sequence[Decided] = ()
    rows: Sequence[pa.Table] = ()

    @property
    def note(self) -> str:
        """For people who watch."""
        return "; ".join(f"{one.kind} {one.reason}" for one in self.decided)

    @property
    def rolls_back(self) -> bool:
        """Whether learning should go on from the published version."""
        return any(ROLL_BACK in one.actions for one in self.decided)


NO_SIGHT = Sight()


class Watch:
    """Strategy and learner. Made from the tables, so a restart goes on with what was committed."""

    def __init__(self, opened: Opened, say: Callable[[str], None]) -> None:
        self._opened, self._say = opened, say
        self._strategy = restored(opened)
        self._spans = Spans(opened)
        for row in _looked_at(opened):
            self._spans.take(row.accepted_count)
        self._follow()

    def noted(self, prepared: Prepared) -> tuple[Metric, ...]:
        """How fast rows grow and what came in, as rows of the metrics, where that is watched."""
        opened, detectors = self._opened, self._opened.settings.strategy.detectors
        grown = growth_metric(opened.learner.model, opened.head, prepared.learned.changes) if set(detectors) - {PSI} else []
        if PSI not in detectors:
            return tuple(grown)
        events, types = prepared.admitted.events, prepared.parts[EVENTS.name].column("event_type").value_counts().to_pylist()
        named = {one["values"] or "": one["counts"] for one in types}
        return (*grown, *input_metrics(events.item_key, events.value, named))

    def look(self, fields: Mapping[str, Any], metrics: Sequence[Metric], lag: float | None) -> Sight:
        """Decide about the micro-batch that is about to be committed with these columns of its snapshot row."""
        opened = self._opened
        newest = opened.history.newest(opened.writer.line)
        assert newest is not None
        learner = opened.learner
        counts = _counts(fields, newest.row_counts)
        read = readings(metrics, learner.judged_by, learner.model.name, counts)
        decided = self._strategy.look(read, lag, self._spans.take(fields["accepted_count"]))
        rows = [decision_row(one.kind, newest.version, one.reason, one.evidence, STRATEGY) for one in decided]
        return Sight(decided, rows)

    def act(self, sight: Sight) -> None:
        """After the commit: learn as decided from here on, run the command."""
        self._follow()
        for one in sight.decided:
            if ALERT in one.actions:
                alert(self._opened.settings.strategy.command, {"reason": one.reason, **one.evidence}, self._say)

    def _follow(self) -> None:
        wanted = self._opened.given.with_change(self._strategy.change)
        if wanted != self._opened.settings:
            turn(self._opened, wanted)


class Spans:
    """Cuts a line into spans of SPAN * settle values, as far as micro-batches tell without their metrics: each has one value at
    most, and fewer events than make one only a part of it."""

    def __init__(self, opened: Opened) -> None:
        rules, sample = opened.settings.strategy, opened.settings.metrics.sample
        self._most = min(rules.events, sample) if sample else rules.events
        self._length = SPAN * rules.settle * self._most
        self._events = 0

    def take(self, accepted: int) -> bool:
        """Take a micro-batch; whether a span ends with it."""
        before, self._events = self._events, self._events + min(accepted, self._most)
        return self._events // self._length > before // self._length


def _looked_at(opened: Opened) -> list[Snapshot]:
    """The micro-batches that the newest version stands on."""
    newest = opened.history.newest(opened.writer.line)
    assert newest is not None
    return [row for row in opened.history.commits(newest.version) if row.kind in (*LEARNING, REFUSED)]


def _watcher(signal: str, rules: StrategySettings) -> Callable[[Alarm | None], Series | Shares] | None:
    """How a signal is watched, given the alarm it begins after; None where it is not."""
    means = [name for name in rules.detectors if name != PSI]
    if signal in SHARES:
        shares = PSI in rules.detectors
        return (lambda since: Shares(signal, rules.events, rules.settle, rules.psi)) if shares else None
    return (lambda since: Series(signal, means, rules.events, rules.settle, since)) if means else None


def restored(opened: Opened) -> Strategy:
    """The strategy as it stands after what was committed."""
    rules, history, looked = opened.settings.strategy, opened.history, _looked_at(opened)
    taken, spans = _own(opened.tables, history), Spans(opened)
    turns = [-1, -1, *(row.version for row in looked if spans.take(row.accepted_count))]
    series: dict[str, Relay] = {}
    after: dict[str, int] = {}
    for signal in SIGNALS:
        make = _watcher(signal, rules)
        if make is not None:
            version, alarm = _last_alarm(taken, signal, history, looked[-1].version) if looked else (-1, None)
            after[signal] = max(version, turns[-2])
            series[signal] = Relay(make, alarm if version >= turns[-2] else None)
            if after[signal] in turns[2:]:
                series[signal].turn()
    _fed(opened, series, after, [row for row in looked if row.version > min(after.values(), default=row.version)], turns)
    return Strategy(rules, series, _state(taken, history, rules.cool_down))


def _fed(
    opened: Opened, series: Mapping[str, Relay], after: Mapping[str, int], looked: Sequence[Snapshot], turns: Sequence[int]
) -> None:
    """Give each series what was committed after its version."""
    history, learner, read, ends = opened.history, opened.learner, _metrics(opened, looked), set(turns)
    for row in looked:
        before = history.get(row.parent) if row.parent is not None else None
        counts = _counts(vars(row), before.row_counts if before is not None else {})
        found = readings(read.get(row.commit_id, ()), learner.judged_by, learner.model.name, counts)
        for signal, watched in series.items():
            if row.version > after[signal]:
                if signal in found:
                    watched.update(*found[signal])
                if row.version in ends:
                    watched.turn()


def _counts(row: Mapping[str, Any], before: Mapping[str, int]) -> Counts:
    """What came in, from the columns of a snapshot row and the row counts before it."""
    after = row["row_counts"]
    users, items = (after.get(name, 0) - before.get(name, 0) for name in (HISTORY, POPULARITY))
    capped = sum(dict(row["reasons"]).get(reason, 0) for reason in CAPS)  # one account must not raise an alarm for all
    return Counts(row["read_count"] - capped, row["accepted_count"], row["quarantined_count"] - capped, users, items)


def _own(tables: Tables, history: History) -> list[dict[str, Any]]:
    """What the strategy has decided, the oldest first."""
    rows = decisions(tables, history, ("actor", "=", STRATEGY))
    own = [row | {"evidence": json.loads(row["evidence"])} for row in rows if row["kind"] in (ALARM, ADAPT, RECOVERED)]
    return sorted(own, key=lambda row: (row["snapshot_version"], row["evidence"].get("batches", 0)))


def _last_alarm(taken: Sequence[Mapping[str, Any]], signal: str, history: History, version: int) -> tuple[int, Alarm | None]:
    """The last alarm of a signal that `version` stands on, and the version it was committed with; (-1, None) without one."""
    for row in reversed(taken):
        known = row["evidence"]
        if known.get("signal") == signal and known["detector"] != SETTLED and history.on_path(version, row["snapshot_version"]):
            return row["snapshot_version"], Alarm(**{name: known[name] for name in _ALARM})
    return -1, None


def _metrics(opened: Opened, commits: Sequence[Snapshot]) -> dict[str, list[Metric]]:
    """Commit -> the served metrics of the learner over all events, how fast rows grew, and what came in."""
    if not commits:
        return {}
    all_of_mine = (pc.field("slice") == "all") & (pc.field("learner") == opened.learner.model.name)
    wanted = (pc.field("scoring") == INPUTS) | (pc.field("scoring").isin([SERVED, LEARNED]) & all_of_mine)
    found = metrics_of(opened.tables, commits[0].version, commits[-1].version, wanted)
    return {commit_id: [Metric(**metric) for metric in metrics] for commit_id, metrics in found.items()}


def _state(taken: Sequence[Mapping[str, Any]], history: History, cool_down: int) -> State:
    """What is still in force, counted in micro-batches on whatever branch: a roll back must not make the same answer possible at
    once. It ends a change of learning, as a promotion does."""
    def since(row: Mapping[str, Any]) -> int:
        return micro_batches_since(history, row["snapshot_version"])

    state = State()
    for row in taken:
        if row["kind"] == ALARM and row["evidence"]["done"] and since(row) < cool_down:
            state.waits[row["evidence"]["seen"]] = cool_down - since(row)
    late = [row["kind"] for row in taken if row["evidence"].get("seen") == LAG and row["kind"] != ADAPT]
    state.lagging = late[-1:] == [ALARM]
    last = in_force(taken, history)
    left = 0 if last is None else last["evidence"]["batches"] - since(last)
    if last is not None and left > 0:
        state.change, state.left = _change(last), left
        state.signal = last["evidence"].get("of", METRIC)
    return state


def in_force(taken: Sequence[Mapping[str, Any]], history: History) -> Mapping[str, Any] | None:
    """The decision that changed learning, where nothing has ended that."""
    changes = [row for row in taken if row["kind"] == ADAPT]
    back = max((row.version for row in history.live() if row.kind in (ROLLBACK, PROMOTE)), default=-1)
    ended = not changes or not changes[-1]["evidence"]["batches"] or changes[-1]["snapshot_version"] < back
    return None if ended else changes[-1]


def last_change(tables: Tables, history: History) -> tuple[int, Change] | None:
    """The last change of learning, maybe over by now, and the version whose commit holds the decision: it was still learned with
    the settings from before it."""
    made = [row for row in _own(tables, history) if row["kind"] == ADAPT and row["evidence"]["batches"]]
    return (int(made[-1]["snapshot_version"]), _change(made[-1])) if made else None


def _change(row: Mapping[str, Any]) -> Change:
    known = row["evidence"]
    return Change(known["factor"], known["batches"], known.get("kind", RATES))


def alert(command: Sequence[str], told: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """Run the command with the alarm as JSON on its standard input, beside the stream; that it failed is said."""

    def run() -> None:
        try:
            subprocess.run(list(command), input=json.dumps(told), text=True, capture_output=True, timeout=ALERT_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            say(f"strategy.command failed: {error}")

    threading.Thread(target=run, name="alert").start()
