"""A retrained candidate beside the line that learns: it catches up on what the line has learned since, is held against it on
those same micro-batches, and takes its place in one commit, or does not.

    retrain@N    parent v; then one version of kind `relearn` for each micro-batch the line learned after v
    main@M       kind `rebase`, on the candidate's path: nothing that was learned online is lost

Both have scored each of these micro-batches before they learned it, so the evidence is in the metrics that stand in the
tables. The rules are the gate's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from freshet.errors import FreshetError
from freshet.failpoint import failpoint
from freshet.paired import norm_growth
from freshet.pipelines.gating import forced, held
from freshet.pipelines.opening import Reading, load_head, load_memory
from freshet.pipelines.pairing import paired, side_by_side
from freshet.pipelines.rolling import learn_again, learned, left_to_learn
from freshet.pipelines.starting import OnBranch, Opened, changed_structure
from freshet.policy.gate import HOLD, PUBLISH, REFUSE, Paired, Verdict, weigh
from freshet.schema import DECISIONS
from freshet.settings import Settings
from freshet.store.decisions import GATE, decision_row, decisions
from freshet.store.snapshots import ITEMS, LEARNING, MAINTAIN, REBASE, RELEARN, RETRAIN, ROLLBACK, History, Snapshot
from freshet.store.snapshots import line as line_of

AHEAD = 2  # micro-batches a candidate learns for each of the line: it gets nearer, and the stream hardly waits


def newest_candidate(history: History, line: str) -> Snapshot | None:
    """The newest candidate that was made from what the line stands on; None without one."""
    newest = history.newest(line)
    made = [row for row in history.live() if row.kind == RETRAIN]
    if not made or newest is None or made[-1].parent is None or not history.on_path(newest.version, made[-1].parent):
        return None
    return made[-1]


def overtaken(history: History, line: str, made: Snapshot) -> bool:
    """Whether a candidate has learned, on its way, what the line went back from since: that would come back with it."""
    after = [row for row in history.live() if row.branch == made.branch and row.kind in (RELEARN, ITEMS)]
    for back in (row for row in history.live() if row.kind == ROLLBACK and line_of(row.branch) == line_of(line)):
        if back.version > made.version and back.parent is not None:
            kept = {learned(row) for row in history.commits(back.parent) if row.kind in (*LEARNING, ITEMS)}
            if any(row.version < back.version and learned(row) not in kept for row in after):
                return True
    return False


def is_candidate(history: History, version: int) -> bool:
    """Whether a version was made by a batch retrain."""
    row = history.get(version)
    return row is not None and row.kind == RETRAIN


class Candidate:
    """A candidate in memory, on its way after the line."""

    def __init__(self, opened: Opened, made: Snapshot) -> None:
        assert made.parent is not None
        self.made, self._line = made, opened
        newest = opened.history.newest(made.branch)
        assert newest is not None
        reading = Reading(opened.tables, opened.history, newest.version, newest)
        head = load_head(reading, opened.settings, opened.learner)
        load_memory(head, reading, opened.settings)
        self.opened = replace(opened, head=head, writer=OnBranch(opened.writer, made.branch))  # type: ignore[arg-type]

    def catch_up(self, most: int | None = None) -> int:
        """Learn at most so many of the micro-batches that the line has learned since; how many are left."""
        line, mine = self._line, self.opened
        # As the line learns now, which a strategy may have changed.
        mine.settings, mine.learner, mine.place, mine.run = line.settings, line.learner, line.place, line.run
        newest = line.history.newest(line.writer.line)
        assert newest is not None and self.made.parent is not None
        learn_again(self.opened, self.made.parent, newest.version, None, most=most)
        return len(left_to_learn(self.opened, self.made.parent, newest.version))

    def evidence(self) -> list[Paired]:
        """What both scored before they learned it, micro-batch by micro-batch."""
        line, history = self._line, self._line.history
        newest = history.newest(line.writer.line)
        assert newest is not None
        mine = [row for row in history.live() if row.branch == self.made.branch and row.kind == RELEARN]
        pairs = side_by_side(history, mine, newest.version)
        return paired(line.tables, pairs, line.learner.judged_by, {line.learner.model.name})

    def take_over(self, verdict: Verdict, actor: str, asked: Mapping[str, Any]) -> Snapshot:
        """Put the candidate in the place of the line: one commit, which holds the decision; then its head is the head."""
        line, history = self._line, self._line.history
        here, there = history.newest(line.writer.line), history.newest(self.made.branch)
        assert here is not None and there is not None
        number = history.next_version()
        words = f"{verdict.rule}: {verdict.reason}"
        decision = decision_row(PUBLISH, self.made.version, words, {**verdict.evidence, **asked}, actor, here.version)
        fields = {
            "digest": there.digest, "row_counts": there.row_counts, "event_clock": there.event_clock,
            "published": None if here.published is None else number,
        }
        failpoint("before_rebase", self.made.version)
        row = line.writer.branch_off(REBASE, there.version, words, fields, {DECISIONS.name: decision}, line.writer.line)
        line.head = self.opened.head
        return row


class Follower:
    """The newest open candidate of an opened model, followed between micro-batches."""

    def __init__(self, opened: Opened, say: Callable[[str], None]) -> None:
        self._opened, self._say = opened, say
        self._looked = 0  # events scored by both at the last look
        self._met = -1  # version of the line up to which all was learned and weighed
        self._made = self._open()
        self._candidate: Candidate | None = None

    def _open(self) -> Snapshot | None:
        opened = self._opened
        made = newest_candidate(opened.history, opened.writer.line)
        if made is None:
            return None
        if decisions(opened.tables, opened.history, ("version", "=", made.version), ("kind", "in", (PUBLISH, REFUSE))):
            return None
        if overtaken(opened.history, opened.writer.line, made):
            self._say(f"candidate {made.version} learned what was rolled back since; it is left alone: retrain again")
            return None
        recorded = Settings.from_json(History.settings_of(opened.tables, made.version))
        if changed_structure(recorded, opened.settings):
            self._say(f"candidate {made.version} was made with other settings of the model; it is left alone")
            return None
        return made

    def step(self, most: int | None = AHEAD) -> bool:
        """Let the candidate learn, and decide about it when it has caught up and enough was scored; whether it took over."""
        # What is learned again while nothing is learned would be passed by, though the line did learn it.
        if self._made is None or self._opened.settings.model.frozen:
            return False
        if self._candidate is None:
            self._candidate = Candidate(self._opened, self._made)
            self._say(f"candidate {self._made.version} is catching up")
        opened, rules = self._opened, self._opened.settings.gate
        newest = opened.history.newest(opened.writer.line)
        assert newest is not None
        if newest.version == self._met or self._candidate.catch_up(most):
            return False
        self._met = newest.version
        seen = self._candidate.evidence()
        events = sum(one.sums["all"][2] for one in seen)
        if events < max(rules.min_events, 2 * self._looked):
            return False
        self._looked = events
        growth = norm_growth(opened.learner.model, self._candidate.opened.head, opened.head)
        verdict = weigh(seen, rules.min_events, growth, rules)
        stands = forced(opened.tables, opened.history, opened.writer.line) if verdict.kind == PUBLISH else None
        if stands is not None:
            verdict = held(verdict, stands, opened.history, rules.forced_for)
        self._say(f"candidate {self._made.version}: {verdict.kind}, {verdict.rule}: {verdict.reason}")
        if verdict.kind == PUBLISH:
            self._candidate.take_over(verdict, GATE, {})
            return True
        self._record(verdict)
        return False

    def _record(self, verdict: Verdict) -> None:
        opened, made = self._opened, self._made
        assert made is not None
        words = f"{verdict.rule}: {verdict.reason}"
        row = decision_row(verdict.kind, made.version, words, verdict.evidence, GATE, made.parent)
        opened.writer.commit(opened.writer.begin(), {DECISIONS.name: row}, {"kind": MAINTAIN, "reason": words})
        if verdict.kind != HOLD:
            self._made = self._candidate = None


def publish_candidate(opened: Opened, version: int, *, actor: str, reason: str, **asked: Any) -> dict[str, Any]:
    """Let a candidate take over without asking the rules, once it has caught up. Raises FreshetError for what is no candidate of
    this line."""
    made = opened.history.get(version)
    newest = opened.history.newest(opened.writer.line)
    assert newest is not None
    if made is None or made.kind != RETRAIN or made.parent is None or not opened.history.on_path(newest.version, made.parent):
        what = f"Version {version} is no candidate of what the model stands on."
        raise FreshetError(what, remedy="Retrain again.", version=version)
    if overtaken(opened.history, opened.writer.line, made):
        what = f"Candidate {version} learned what was rolled back since."
        raise FreshetError(what, remedy="Retrain again.", version=version)
    if opened.settings.model.frozen:
        raise FreshetError(
            f"Nothing is learned now, and candidate {version} would have to catch up first.",
            remedy="Publish it when the model learns again; see `freshet decisions`.", version=version)
    candidate = Candidate(opened, made)
    candidate.catch_up()
    row = candidate.take_over(Verdict(PUBLISH, "forced", reason), actor, asked)
    return {"published": row.version, "candidate": version, "before": newest.version}

