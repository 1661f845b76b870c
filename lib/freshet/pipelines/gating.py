"""The gate beside a running learner: the published version in memory, scored with the head on the same events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from freshet.head import TOTALS, Head
from freshet.models.contract import Events, Rows
from freshet.paired import as_metrics, from_metrics, norm_growth, pair
from freshet.pipelines.opening import Reading, load_head
from freshet.pipelines.starting import Opened
from freshet.policy.gate import HOLD, PUBLISH, REFUSE, Paired, Verdict, judge
from freshet.report import Metric
from freshet.schema import DECISIONS, SNAPSHOTS
from freshet.store.decisions import GATE, decision_row, decisions
from freshet.store.files import all_rows
from freshet.store.snapshots import LEARN, REFUSED, RETRAIN, History, Snapshot
from freshet.store.snapshots import PUBLISH as PUBLISHED
from freshet.store.tables import Tables


@dataclass(frozen=True)
class Look:
    """What the gate has to say of a micro-batch: metrics, maybe a verdict on a version, with the row that records it."""

    metrics: tuple[Metric, ...] = ()
    verdict: Verdict | None = None
    version: int = -1
    parts: Mapping[str, pa.Table] = field(default_factory=dict)
    rolls_back: bool = False  # what was learned since the published version should not stay

    @property
    def fields(self) -> dict[str, int]:
        """Columns of the snapshot row."""
        return {"published": self.version} if self.verdict is not None and self.verdict.kind == PUBLISH else {}

    @property
    def note(self) -> str:
        """For people who watch."""
        return f"{self.verdict.kind} {self.version}: {self.verdict.reason}" if self.verdict is not None else ""


NO_LOOK = Look()
FORCED, BACK = "forced", "roll back"
ROLLS_BACK = "rolls_back"  # in the evidence of a refusal after which learning goes on from the published version
MOST_APART = 64  # micro-batches whose changed keys are kept apart


class Gate:
    """Champion and evidence. Loaded from the tables, so a restart goes on with what was committed."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self.load()

    def load(self) -> None:
        """Take the published version, and the evidence since it became it, from the tables."""
        opened = self._opened
        published = opened.history.published(opened.writer.line)
        assert published is not None
        self.version = published.version
        reading = Reading(opened.tables, opened.history, published.version, published)
        self.champion = load_head(reading, opened.settings, opened.learner)
        self._changed: list[Mapping[str, np.ndarray]] | None = None  # keys by block, each micro-batch; None: not known
        self.seen = evidence(opened.tables, opened.history, opened.writer.line)
        self._forced = forced(opened.tables, opened.history, opened.writer.line)

    def look(self, events: Events) -> Look:
        """Score head and published version on (some of) these events, before the head learns them, and decide about the version
        the head stands at, if it is time."""
        opened = self._opened
        newest, rules = opened.history.newest(opened.writer.line), opened.settings.gate
        assert newest is not None
        margins = rules.guards if rules.guards.any else None
        paired = pair(opened.learner, opened.head, self.champion, events, rules.sample, margins)
        if rules.publish != "judged":
            return Look(tuple(as_metrics(paired)))
        self.seen.append(paired)
        verdict = judge(
            self.seen, events_learned(self.champion), lambda: norm_growth(opened.learner.model, opened.head, self.champion), rules)
        if verdict is None:
            return Look(tuple(as_metrics(paired)))
        if verdict.kind == PUBLISH and self._forced is not None:
            verdict = held(verdict, self._forced, opened.history, rules.forced_for)
        back, wait = verdict.kind == REFUSE and rules.on_worse == "rollback", 0
        if back:
            wait = left_to_wait(opened.tables, opened.history, rules.cool_down)
        words = f"{verdict.rule}: {verdict.reason}"
        words += f"; rolled back before, {wait} micro-batches to wait" if wait else ""
        numbers = {**verdict.evidence, ROLLS_BACK: True} if back and not wait else verdict.evidence
        row = decision_row(verdict.kind, newest.version, words, numbers, GATE, self.version)
        return Look(tuple(as_metrics(paired)), verdict, newest.version, {DECISIONS.name: row}, back and not wait)

    def told_of_items(self) -> None:
        """The head has taken rows that no micro-batch changed: what differs is looked for when the head is next published."""
        self._changed = None

    def committed(self, look: Look, changes: Mapping[str, tuple[Rows, np.ndarray]]) -> None:
        """After the commit of the decision and before the head takes the changes: what is published is what the head is."""
        if look.verdict is not None and look.verdict.kind == PUBLISH:
            self._take(self._opened.head)
            self.version, self._forced = look.version, None
        if look.verdict is not None and look.verdict.kind != HOLD:
            self.seen = []
        if self._changed is not None:
            self._changed.append({name: rows.keys for name, (rows, _) in changes.items()})
            if len(self._changed) > MOST_APART:  # what a long hold leaves is never more than the rows there are
                self._changed = [{name: self._differing(self._opened.head, name) for name in self.champion.blocks}]

    def _take(self, head: Head) -> None:
        for name in head.blocks:
            rows, _ = head.gather(name, self._differing(head, name))
            self.champion.put(name, rows)
        self.champion.clock = head.clock
        self._changed = []

    def _differing(self, head: Head, block: str) -> np.ndarray:
        """Keys of the block whose rows the champion has not, or has otherwise."""
        if self._changed is not None:
            mine = [keys[block] for keys in self._changed if block in keys]
            return np.unique(np.concatenate(mine)) if mine else np.empty(0, np.int64)
        keys, digests = head.tables[block].keys, head.tables[block].column("digest")
        row = self.champion.lookup(block, keys)
        same = row >= 0
        same[same] = self.champion.tables[block].column("digest")[row[same]] == digests[same]
        return np.asarray(keys[~same])


@dataclass(frozen=True)
class Forced:
    """What a person published without asking the rules: the version, why, and the version whose commit says so."""

    version: int
    reason: str
    since: int


def forced(tables: Tables, history: History, line: str) -> Forced | None:
    """What stands by force; None where the last that was published was not forced."""
    since = history.published_since(line)
    if since is None:
        return None
    newest = history.newest(line)
    assert newest is not None
    told = decisions(tables, history, ("kind", "=", PUBLISH), ("snapshot_version", ">=", since))
    mine = [row for row in told if history.on_path(newest.version, row["snapshot_version"])]
    last = max(mine, key=lambda row: row["snapshot_version"], default=None)
    if last is None or last["version"] != newest.published or not json.loads(last["evidence"]).get(FORCED):
        return None
    return Forced(last["version"], last["reason"], last["snapshot_version"])


def held(verdict: Verdict, stands: Forced, history: History, most: int | None) -> Verdict:
    """The verdict where a version stands by force, for so many micro-batches (None: until a person says otherwise)."""
    passed = micro_batches_since(history, stands.since)
    if most is not None and passed >= most:
        return verdict
    until = "until a person says otherwise" if most is None else f"for {most - passed} more micro-batches"
    words = f"version {stands.version} stands {until} ({stands.reason}); the rules say {verdict.rule}: {verdict.reason}"
    return Verdict(HOLD, FORCED, words, verdict.evidence)


def left_to_wait(tables: Tables, history: History, cool_down: int) -> int:
    """Micro-batches until the gate may roll back again, counted on all branches: the rollback left its own behind."""
    done = [row["snapshot_version"] for row in decisions(tables, history, ("kind", "=", BACK), ("actor", "=", GATE))]
    return max(0, cool_down - micro_batches_since(history, max(done))) if done else 0


def micro_batches_since(history: History, version: int) -> int:
    """Micro-batches of the stream that were committed after a version, on whatever branch."""
    return sum(row.kind in (LEARN, REFUSED) for row in history.since(version + 1))


def events_learned(head: Head) -> int:
    """Events that a state has counted."""
    table = head.tables[TOTALS]
    return int(table.column("count").sum()) if len(table) else 0


def evidence(tables: Tables, history: History, line: str, upto: int | None = None) -> list[Paired]:
    """What was scored since the published version became it, and since it was last refused, micro-batch by micro-batch; of heads
    up to version `upto` alone."""
    since = history.published_since(line)
    newest = history.newest(line)
    if since is None or newest is None:
        return []
    commits = [row for row in history.commits(newest.version, above=since) if row.accepted_count]
    if upto is not None:
        commits = [row for row in commits if row.parent is not None and row.parent <= upto]
    refused = last_refusal(tables, history, since)
    wanted = {row.version for row in commits if row.version > refused}
    if not wanted:
        return []
    span = (("version", ">=", min(wanted)), ("version", "<", max(wanted) + 1))
    table = all_rows(tables, SNAPSHOTS.name, ("version", "commit_id", "metrics"), *span).sort_by("version")
    ids = {row.commit_id for row in commits}
    found = [
        from_metrics([Metric(**metric) for metric in row["metrics"] or ()]) for row in table.to_pylist() if row["commit_id"] in ids
    ]
    return [paired for paired in found if paired is not None]


def last_refusal(tables: Tables, history: History, since: int) -> int:
    """The version whose commit holds the gate's last refusal of a head after `since`, -1 without one."""
    told = decisions(tables, history, ("snapshot_version", ">=", since + 1), ("actor", "=", GATE), ("kind", "=", REFUSE))
    about = [(row["snapshot_version"], history.get(row["version"])) for row in told]
    # Of a candidate it says nothing of the line that learns.
    return max((version for version, row in about if row is not None and row.kind != RETRAIN), default=-1)


def settle_published(opened: Opened) -> Snapshot | None:
    """Make what is published fit `gate.publish` at a start: with `head` every version is, else one is named; the row that
    says so, None where nothing changes."""
    history, writer = opened.history, opened.writer
    newest = history.newest(writer.line)
    assert newest is not None
    follows = opened.settings.gate.publish == "head"
    if follows == (newest.published is None):
        return None
    version = None if follows else newest.version
    reason = f"gate.publish is {opened.settings.gate.publish}"
    decision = decision_row(PUBLISH, version, reason, None, "freshet", newest.published)
    fields = {"kind": PUBLISHED, "published": version, "reason": reason}
    return writer.commit(writer.begin(), {DECISIONS.name: decision}, fields)

