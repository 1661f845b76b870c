"""The gate beside a running learner: the published version in memory, scored with the head on the same events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from freshet.head import TOTALS, Head
from freshet.models.contract import Events, Rows
from freshet.paired import as_metrics, from_metrics, norm_growth, pair
from freshet.pipelines.opening import Reading, load_head
from freshet.pipelines.starting import Opened
from freshet.policy.gate import HOLD, PUBLISH, REFUSE, Paired, Verdict, judge
from freshet.report import Metric
from freshet.schema import DECISIONS, SNAPSHOTS
from freshet.store.decisions import GATE, decision_row, decisions
from freshet.store.snapshots import PUBLISH as PUBLISHED
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables


@dataclass(frozen=True)
class Look:
    """What the gate has to say of a micro-batch: metrics, maybe a verdict on a version, with the row that records it."""

    metrics: tuple[Metric, ...] = ()
    verdict: Verdict | None = None
    version: int = -1
    parts: Mapping[str, pa.Table] = field(default_factory=dict)

    @property
    def fields(self) -> dict[str, int]:
        """Columns of the snapshot row."""
        return {"published": self.version} if self.verdict is not None and self.verdict.kind == PUBLISH else {}

    @property
    def note(self) -> str:
        """For people who watch."""
        return f"{self.verdict.kind} {self.version}: {self.verdict.reason}" if self.verdict is not None else ""

    @property
    def rolls_back(self) -> bool:
        """Whether what was learned since the published version should not stay."""
        return self.verdict is not None and self.verdict.kind == REFUSE


NO_LOOK = Look()
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

    def look(self, events: Events) -> Look:
        """Score head and published version on (some of) these events, before the head learns them, and decide about the version
        the head stands at, if it is time."""
        opened = self._opened
        newest = opened.history.newest(opened.writer.line)
        assert newest is not None
        paired = pair(opened.learner, opened.head, self.champion, events, opened.settings.gate.sample)
        self.seen.append(paired)
        if opened.settings.gate.publish != "judged":
            return Look(tuple(as_metrics(paired)))
        growth = norm_growth(opened.learner.model, opened.head, self.champion)
        verdict = judge(self.seen, events_learned(self.champion), growth, opened.settings.gate)
        if verdict is None:
            return Look(tuple(as_metrics(paired)))
        words = f"{verdict.rule}: {verdict.reason}"
        row = decision_row(verdict.kind, newest.version, words, verdict.evidence, GATE, self.version)
        return Look(tuple(as_metrics(paired)), verdict, newest.version, {DECISIONS.name: row})

    def committed(self, look: Look, changes: Mapping[str, tuple[Rows, np.ndarray]]) -> None:
        """After the commit of the decision and before the head takes the changes: what is published is what the head is."""
        if look.verdict is not None and look.verdict.kind == PUBLISH:
            self._take(self._opened.head)
            self.version = look.version
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


def events_learned(head: Head) -> int:
    """Events that a state has counted."""
    table = head.tables[TOTALS]
    return int(table.column("count").sum()) if len(table) else 0


def evidence(tables: Tables, history: History, line: str) -> list[Paired]:
    """What was scored since the published version became it, and since it was last refused, micro-batch by micro-batch."""
    since = history.published_since(line)
    newest = history.newest(line)
    if since is None or newest is None:
        return []
    commits = [row for row in history.commits(newest.version, above=since) if row.accepted_count]
    refused = last_refusal(tables, history, since)
    wanted = {row.version for row in commits if row.version > refused}
    if not wanted:
        return []
    frame = tables.read(SNAPSHOTS.name).where(f"version between {min(wanted)} and {max(wanted)}")
    frame = frame.select("version", "commit_id", "metrics")
    table = tables.collect(SNAPSHOTS.name, frame).sort_by("version")
    ids = {row.commit_id for row in commits}
    found = [
        from_metrics([Metric(**metric) for metric in row["metrics"] or ()]) for row in table.to_pylist() if row["commit_id"] in ids
    ]
    return [paired for paired in found if paired is not None]


def last_refusal(tables: Tables, history: History, since: int) -> int:
    """The version whose commit holds the gate's last refusal after `since`, -1 without one."""
    rows = tables.collect(DECISIONS.name, decisions(tables, history).where(f"snapshot_version > {int(since)}"))
    mine = rows.filter(pc.and_(pc.equal(rows.column("actor"), GATE), pc.equal(rows.column("kind"), REFUSE)))
    return max(mine.column("snapshot_version").to_pylist(), default=-1)


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

