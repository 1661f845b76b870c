"""Challengers: learners with other settings beside the model, fed the same micro-batches, each with versions of its own.

    main                 v      v+3     kind `learn`
    challenger-NAME@N    v+1    v+4     kind `challenge`, in the same commit as the model's version of that micro-batch

Its first version holds the whole state it begins with and stands on nothing else. A challenger is in step when it has learned the
model's last micro-batch; where it is not, because the model was rolled back or it was left out for a while, or where its settings
are others than before, it begins anew on another branch. Events, quarantine and ids are the model's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from freshet.attributes import describe
from freshet.errors import BatchRefused
from freshet.head import Head
from freshet.kernels.digest import as_hex
from freshet.models.contract import Events, Rows
from freshet.paired import norm_growth
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.items import take_again
from freshet.pipelines.learned_events import read_events
from freshet.pipelines.opening import Reading, load_head
from freshet.pipelines.pairing import batch_of, paired, side_by_side
from freshet.pipelines.placing import Placement
from freshet.pipelines.replay import relearn
from freshet.pipelines.rows import to_arrow
from freshet.pipelines.starting import OnBranch, Opened, changed_structure, new_run
from freshet.policy.gate import HOLD, Verdict, weigh
from freshet.schema import DECISIONS, ITEM_ATTRIBUTES, PARAMETERS
from freshet.settings import OWN, Settings, over
from freshet.store.commit import Beside
from freshet.store.decisions import decision_row
from freshet.store.snapshots import CHALLENGE, ITEMS, LEARNING, MAINTAIN, PROMOTE, REBASE, ROLLBACK, History, Snapshot

LINE = "challenger-"
MOVES = (*LEARNING, REBASE, ROLLBACK, PROMOTE)  # kinds that change what the model has learned


@dataclass
class Challenger:
    """One that learns: its name, its rows in memory, how it learns."""

    name: str
    opened: Opened
    ready: tuple[Mapping[str, tuple[Rows, np.ndarray]], int] | None = None

    @property
    def line(self) -> str:
        """The line of its branches."""
        return LINE + self.name

    def learn(self, events: Events, batch: Mapping[str, Any]) -> Beside:
        """Learn a micro-batch; its version, for the model's commit. Raises BatchRefused. `committed` takes the changes."""
        mine = self.opened
        learned = mine.learner.learn(mine.head, events, mine.place)
        rows = {name: one for name, (one, _) in learned.changes.items()}
        self.ready = learned.changes, learned.digest
        fields = {
            **batch, "kind": CHALLENGE, "digest": as_hex(learned.digest), "row_counts": mine.head.rows_after(rows),
            "metrics": [vars(metric) for metric in learned.metrics], "settings": mine.settings.to_json(), "run": mine.run,
            "limited": learned.limited, "movers": [vars(mover) for mover in learned.movers],
        }
        return Beside(self.line, {PARAMETERS.name: to_arrow(mine.head.blocks, rows)}, fields)

    def committed(self, clock: int) -> None:
        """After the commit."""
        assert self.ready is not None
        self.opened.head.apply(*self.ready)
        self.opened.head.clock, self.ready = clock, None


class Challengers:
    """All of an opened model."""

    def __init__(self, opened: Opened, say: Callable[[str], None], given_up: set[str]) -> None:
        self._line, self._say, self._given_up = opened, say, given_up
        self._all: list[Challenger] = []
        for name in opened.settings.challengers.learners:
            if name not in given_up:
                found = in_step(opened, name) or self._begin(name)
                self._all += [] if found is None else [found]
        for one in self._all:
            self._describe(one)

    def learn(self, events: Events, fields: Mapping[str, Any]) -> tuple[list[Beside], list[pa.Table]]:
        """Versions for the model's commit of that micro-batch, whose columns are `fields`; decisions about those that could not
        learn it, which are given up."""
        batch = {name: fields[name] for name in ("checkpoint_id", "batch_id", "fingerprint", "event_clock")}
        found, told = [], []
        for one in list(self._all):
            try:
                found.append(one.learn(events, batch))
            except BatchRefused as refusal:
                self._all.remove(one)
                told.append(self._give_up(one, refusal))
        return found, told

    def _give_up(self, one: Challenger, refusal: BatchRefused) -> pa.Table:
        """The decision that says so."""
        one.opened.place.close()
        self._given_up.add(one.name)
        self._say(f"challenger {one.name} is given up: {refusal.what}")
        return decision_row("refuse", None, f"challenger {one.name}: {refusal.what}", {"challenger": one.name})

    def committed(self, clock: int) -> None:
        """After the commit: the heads take their changes."""
        for one in self._all:
            one.committed(clock)

    def take(self, snapshot: Snapshot | None) -> None:
        """What the model has taken of the table `items`, too."""
        if snapshot is not None:
            for one in self._all:
                take_again(one.opened, snapshot)

    def close(self) -> None:
        """End the threads."""
        for one in self._all:
            one.opened.place.close()

    def _begin(self, name: str) -> Challenger | None:
        """A new branch with the whole state to begin with, in one commit; None where it cannot learn what the model has."""
        line = self._line
        one = open_one(line, name)
        same, begin = not changed_structure(line.settings, one.opened.settings), line.settings.challengers.begin
        limited: Mapping[str, int] = {}
        if begin == "auto" and same:
            copy(line.head, one.opened.head)
            how = "as a copy of the model"
        elif begin == "nothing":
            how = "at nothing"
            self._tell_of_items(one)
        else:
            try:
                count, limited = self._learn_all(one)
                how = f"with the {count:,} events that the model has learned"
            except BatchRefused as refusal:
                told = {"kind": MAINTAIN, "reason": f"challenger {name} cannot begin"}
                line.writer.commit(line.writer.begin(), {DECISIONS.name: self._give_up(one, refusal)}, told)
                return None
            self._tell_of_items(one)
        newest, head = line.history.newest(line.writer.line), one.opened.head
        assert newest is not None
        rows = {block: head.gather(block, table.keys.copy())[0] for block, table in head.tables.items()}
        texts = ", ".join(line.settings.challengers.learners[name])
        fields = {
            "digest": head.hex_digest, "row_counts": head.row_counts, "settings": one.opened.settings.to_json(),
            "run": one.opened.run, "metrics": [], "limited": limited,
        }
        words = f"begins {how}: {texts}"
        row = line.writer.branch_off(
            CHALLENGE, newest.version, words, fields, {PARAMETERS.name: to_arrow(head.blocks, rows)}, one.line, alone=True)
        self._say(f"challenger {name} {words} (version {row.version})")
        return on_branch(one)

    def _learn_all(self, one: Challenger) -> tuple[int, Mapping[str, int]]:
        """(events, what the limits touched of them)"""
        line, mine, count = self._line, one.opened, 0
        limited: Counter[str] = Counter()
        newest = line.history.newest(line.writer.line)
        assert newest is not None
        learned = [row for row in line.history.commits(newest.version) if row.kind in LEARNING and row.accepted_count]
        events = read_events(line.tables, line.history, learned[0].version, learned[-1].version) if learned else ()
        mine.head.clock = 0  # as it was before the first of them
        for number, (snapshot, table) in enumerate(events, 1):
            again = relearn(mine.head, mine.learner, table, mine.settings, mine.place, snapshot.event_clock or 0)
            limited.update(again.limited)
            count += table.num_rows
            if number & (number - 1) == 0 or number == len(learned):
                self._say(f"challenger {one.name}: learned {number} of {len(learned)} versions, {count:,} events")
        mine.head.clock = line.head.clock
        return count, dict(limited)

    def _tell_of_items(self, one: Challenger) -> None:
        """What is said of items now: when it was said does not matter to what was learned of clicks."""
        line, mine = self._line, one.opened
        keys = line.head.tables[ITEM_ATTRIBUTES].keys if ITEM_ATTRIBUTES in line.head.blocks else np.empty(0, np.int64)
        if len(keys):
            told = line.head.gather(ITEM_ATTRIBUTES, keys.copy())[0]
            mine.head.apply(*describe(mine.head, told.keys, told.links))

    def _describe(self, one: Challenger) -> None:
        """What the model took of `items` after the challenger's newest version: a process may have ended in between."""
        line = self._line
        newest, mine = line.history.newest(line.writer.line), line.history.newest(one.line)
        assert newest is not None and mine is not None
        for row in line.history.commits(newest.version, above=mine.version):
            if row.kind == ITEMS:
                take_again(one.opened, row)


def in_step(opened: Opened, name: str) -> Challenger | None:
    """The challenger as it stands in the tables; None where there is none, or where it would have to begin anew."""
    history = opened.history
    newest, line = history.newest(LINE + name), history.newest(opened.writer.line)
    if newest is None or line is None or not stands(history, newest, line.version):
        return None
    one = open_one(opened, name)
    recorded = Settings.from_json(History.settings_of(opened.tables, newest.version))
    if any(getattr(recorded, section) != getattr(one.opened.settings, section) for section in OWN):
        one.opened.place.close()
        return None
    head = load_head(Reading(opened.tables, history, newest.version, newest), one.opened.settings, one.opened.learner)
    head.share_memory(opened.head)
    one.opened.head, one.opened.run = head, newest.run
    return on_branch(one)


def stands(history: History, newest: Snapshot, version: int) -> bool:
    """Whether a challenger's newest version has learned what `version` of the model has, and nothing else."""
    mine = [row for row in history.live() if row.branch == newest.branch]
    learned = [row for row in mine if row.batch_id is not None]
    moves = [row for row in history.commits(version) if row.kind in MOVES]
    if not moves:
        return True
    if learned:
        return batch_of(learned[-1]) == batch_of(moves[-1]) and learned[-1].version > moves[-1].version
    return mine[0].version > moves[-1].version


def open_one(opened: Opened, name: str) -> Challenger:
    """The challenger with an empty head, not yet in the tables."""
    texts = opened.settings.challengers.learners[name]
    settings = over(opened.given, texts)
    learner = new_learner(settings)
    head = new_head(learner.model, settings)
    # The model admits events, for all.
    head.share_memory(opened.head)
    head.clock = opened.head.clock
    place = Placement(opened.spark, learner.model, settings)
    mine = replace(opened, settings=settings, given=settings, learner=learner, head=head, place=place, run=new_run())
    return Challenger(name, mine)


def on_branch(one: Challenger) -> Challenger:
    """The same, whose commits go to its branch, with its settings."""
    mine = one.opened
    told = {"settings": mine.settings.to_json(), "run": mine.run}
    mine.writer = OnBranch(mine.writer, one.line, told)  # type: ignore[assignment]
    return one


def copy(source: Head, into: Head) -> None:
    """Put every row of a head into an empty one of the same blocks."""
    for name, table in source.tables.items():
        into.put(name, source.gather(name, table.keys.copy())[0])
    into.clock = source.clock


def pairs(history: History, name: str, version: int) -> list[tuple[Snapshot, Snapshot]]:
    """The versions of a challenger's newest branch, each with that of the model of the same micro-batch."""
    newest = history.newest(LINE + name)
    mine = [row for row in history.live() if newest is not None and row.branch == newest.branch]
    return side_by_side(history, mine, version)


def weighed(opened: Opened, one: Challenger) -> Verdict:
    """What the gate's rules say of putting the challenger in the place of the model."""
    newest = opened.history.newest(opened.writer.line)
    assert newest is not None
    learners, rules = {opened.learner.model.name, one.opened.learner.model.name}, opened.settings.gate
    both = pairs(opened.history, one.name, newest.version)
    seen = paired(opened.tables, both, opened.learner.judged_by, learners)
    same = not changed_structure(opened.settings, one.opened.settings)
    growth = norm_growth(opened.learner.model, one.opened.head, opened.head) if same else 1.0
    return weigh(seen, rules.min_events, growth, rules) if seen else Verdict(HOLD, "sample", "nothing was scored by both yet")

