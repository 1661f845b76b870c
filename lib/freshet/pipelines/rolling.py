"""Going back to an older version, and learning again what is still wanted of what came after it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.engine import predicate
from freshet.engine.batch import QUARANTINE_COLUMNS, CleanBatch, canonical
from freshet.errors import AlreadyRunning, BatchRefused, FreshetError
from freshet.failpoint import failpoint
from freshet.head import Head
from freshet.kernels.digest import as_hex
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.gating import BACK, ROLLS_BACK
from freshet.pipelines.items import check_items, take_again
from freshet.pipelines.learned_events import read_events
from freshet.pipelines.micro_batch import Prepared, as_quarantine, prepare, take
from freshet.pipelines.opening import Reading, load_head, load_memory, open_reading
from freshet.pipelines.pairing import batch_of
from freshet.pipelines.requesting import answer, ask
from freshet.pipelines.starting import Opened, changed_structure, new_run, open_learner, turn
from freshet.pipelines.stopwatch import Stopwatch
from freshet.pipelines.watching import last_change
from freshet.program import actor
from freshet.schema import ACCEPTED, CORRECTED, DECISIONS, MAIN, QUARANTINE
from freshet.settings import Settings
from freshet.store.decisions import GATE, STRATEGY, decision_row, decisions
from freshet.store.files import rows_of
from freshet.store.snapshots import ITEMS, LEARN, LEARNING, PROMOTE, PUBLISH, REFUSED, RELEARN, ROLLBACK, History, Snapshot

SKIP, AGAIN = "skip", "relearn"
EXCLUDED = "excluded"
FOR_EVER = 1e11  # seconds


def rollback(
    spark: SparkSession, settings: Settings, *, to: int, reason: str, events: str = SKIP, where: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """`roll_back`, by the learner where one runs, else by this process with the settings the model was learned with; what was
    done."""
    if where is not None:
        predicate.check(where)
    reading = open_reading(spark, settings)
    check_stands(reading.history, to)  # before a learner's start is written
    try:
        with open_learner(spark, as_learned(reading, settings), True, say, from_here=True) as opened:
            return roll_back(opened, to=to, actor=actor(), reason=reason, events=events, where=where, say=say)
    except AlreadyRunning:
        request_id = ask(reading.tables, ROLLBACK, {"to": to, "events": events, "where": where}, reason)
        return answer(reading.tables, request_id)


def as_learned(reading: Reading, settings: Settings) -> Settings:
    """The settings the model was last learned with, before a strategy changed them for a while and not frozen, here: where it is
    and where it runs is the given ones' to say."""
    recorded = Settings.from_json(History.settings_of(reading.tables, reading.version))
    changed = last_change(reading.tables, reading.history)
    if changed is not None:
        before = Settings.from_json(History.settings_of(reading.tables, changed[0]))
        if before.with_change(changed[1]) == recorded:  # and not those that somebody has given since
            recorded = before
    return here(recorded, settings)


def here(recorded: Settings, settings: Settings) -> Settings:
    """Recorded settings, not frozen, where the model is and where it runs as the given ones say."""
    there = {
        "store": settings.store, "stream": settings.stream, "spark": settings.spark, "sink": settings.sink,
        # Passwords are not recorded; where no topics are given there is nobody to ask for any.
        "source": recorded.source.model_copy(update={"kafka": settings.source.kafka} if settings.source.kafka.topics else {}),
    }
    return recorded.with_frozen(False).model_copy(update=there)


def roll_back(
    opened: Opened, *, to: int, actor: str, reason: str, events: str = SKIP, where: str | None = None,
    say: Callable[[str], None] = lambda _: None, **asked: Any,
) -> dict[str, Any]:
    """Go on from version `to` on a branch of its own; the head is that of then.

    With `events` "relearn" the micro-batches since are learned again, each as it was but for events for which `where` is not
    true: the digest is that of a run that never saw those. They stand in quarantine as `excluded`. With "skip" none is. `asked`
    stands in the decision's evidence. Raises FreshetError for a version that is not part of what the model stands on.
    """
    history = opened.history
    newest = check_stands(history, to, opened.writer.line)
    if where is not None:
        predicate.check(where)
    if events == AGAIN:
        _check_learns(opened)
    evidence = {"events": events, "where": where, **asked}
    decision = decision_row("roll back", to, reason, evidence, actor, newest.version)
    recorded, wanted = Settings.from_json(History.settings_of(opened.tables, to)), opened.given
    if changed_structure(recorded, wanted):  # before a challenger with other rows was promoted
        wanted = here(recorded, wanted)
    # Before anything is written: where rows it needs are gone the model stays where it is.
    learner = opened.learner if opened.settings == wanted else new_learner(wanted)
    head = head_at(replace(opened, settings=wanted, learner=learner), to)
    if events == AGAIN:
        check_items(opened.tables, history.commits(newest.version, above=to))
    # What a strategy has changed ends here, and the row says so.
    run = opened.run if opened.settings == wanted else new_run()
    row = opened.writer.rollback(to, reason, {DECISIONS.name: decision}, {"settings": wanted.to_json(), "run": run})
    failpoint("rolled_back", row.version)
    if opened.settings != wanted:
        opened.given = wanted
        turn(opened, wanted, run)
    opened.head = head
    done = {"version": row.version, "to": to, "left": newest.version, "branch": row.branch}
    return done | learn_again(opened, to, newest.version, where, say) if events == AGAIN else done


def check_stands(history: History, version: int, line: str = MAIN) -> Snapshot:
    """The newest version of the line; raises FreshetError where that does not stand on `version`."""
    newest = history.newest(line)
    if newest is None or history.get(version) is None or not history.on_path(newest.version, version):
        raise FreshetError(
            f"Version {version} is not part of what the model stands on.",
            remedy=f"The newest version is {newest.version if newest else None}; see `freshet decisions`.",
            version=version)
    return newest


def head_at(opened: Opened, version: int) -> Head:
    """The state of a version, and what belongs to it in memory. Raises StateDamaged where rows it needs are gone."""
    row = opened.history.get(version)
    assert row is not None
    reading = Reading(opened.tables, opened.history, row.version, row)
    head = load_head(reading, opened.settings, opened.learner)
    load_memory(head, reading, opened.settings)
    return head


def go_on(opened: Opened, say: Callable[[str], None]) -> None:
    """Finish what a killed process had begun: to roll back as was decided, or to learn again after that."""
    found = _decided_back(opened)
    if found is not None:
        back, to = found
        say(f"version {back['snapshot_version']} was to be rolled back to {to} when its learner ended: {back['reason']}")
        roll_back(opened, to=to, actor=back["actor"], reason=back["reason"])
        return
    line = [row for row in opened.history.live() if row.kind == ROLLBACK]
    if not line:
        return
    last = line[-1]
    for row in decisions(opened.tables, opened.history, ("snapshot_version", "=", last.version), ("kind", "=", BACK)):
        evidence = json.loads(row["evidence"])
        if evidence["events"] == AGAIN and left_to_learn(opened, row["version"], row["from_version"]):
            _check_learns(opened)
            learn_again(opened, row["version"], row["from_version"], evidence["where"], say)


def _decided_back(opened: Opened) -> tuple[dict[str, Any], int] | None:
    """The decision of the last micro-batch to roll back and where to, where nothing was done after it."""
    history = opened.history
    newest = history.newest(opened.writer.line)
    if newest is None or newest.published is None:
        return None
    kinds = (*LEARNING, REFUSED, PUBLISH, PROMOTE, ROLLBACK)
    last = [row for row in history.live() if row.kind in kinds and history.on_path(newest.version, row.version)][-1:]
    if not last or last[0].kind not in (LEARN, REFUSED):
        return None
    for row in decisions(opened.tables, history, ("snapshot_version", "=", last[0].version), ("actor", "in", (GATE, STRATEGY))):
        evidence = json.loads(row["evidence"])
        if evidence.get(ROLLS_BACK) or BACK in evidence.get("done", ()):
            return row, newest.published
    return None


def _check_learns(opened: Opened) -> None:
    """Refuse to pass by, as learned again, what a frozen model would not learn."""
    if opened.given.model.frozen:
        raise FreshetError("model.frozen is true, so nothing would be learned again.", remedy="Set it to false.")


def left_to_learn(opened: Opened, after: int, last: int) -> list[Snapshot]:
    """The versions after `after` up to `last` that learned something which the line of `opened` has not learned, in order."""
    history = opened.history
    newest = history.newest(opened.writer.line)
    assert newest is not None
    done = {learned(row) for row in history.commits(newest.version) if row.kind in (*LEARNING, ITEMS)}
    return [row for row in history.commits(last, above=after) if row.kind in (*LEARNING, ITEMS) and learned(row) not in done]


def learn_again(
    opened: Opened, after: int, last: int, where: str | None, say: Callable[[str], None] = lambda _: None,
    most: int | None = None,
) -> dict[str, int]:
    """Learn the micro-batches of the versions after `after` up to `last` on the head, as far as that was not done; at most so
    many of them."""
    history = opened.history
    left = left_to_learn(opened, after, last)[:most]
    counts = {"relearned": 0, EXCLUDED: 0}
    events = read_events(opened.tables, history, left[0].version, left[-1].version) if left else iter(())
    for number, row in enumerate(left, 1):
        if row.kind == ITEMS:
            take_again(opened, row)
            continue
        kept, excluded = _batch_again(opened, row, _events_of(events, row), where)
        counts["relearned"] += kept
        counts[EXCLUDED] += excluded
        failpoint("relearned", number)
        if number & (number - 1) == 0 or number == len(left):
            say(f"learned again {number} of {len(left)} versions: {counts['relearned']:,} events, {counts[EXCLUDED]:,} excluded")
    return counts


def learned(row: Snapshot) -> tuple[object, ...]:
    """What a version learned: a micro-batch, or what the table `items` said, by the reason that names its version."""
    return (ITEMS, row.reason) if row.kind == ITEMS else batch_of(row)


def _events_of(events: Iterator[tuple[Snapshot, pa.Table]], row: Snapshot) -> pa.Table | None:
    """The events of a version, None where it learned none; versions come in order."""
    if not row.accepted_count:
        return None
    return next(table for snapshot, table in events if snapshot.version == row.version)


def _batch_again(opened: Opened, row: Snapshot, events: pa.Table | None, where: str | None) -> tuple[int, int]:
    """Learn and commit one micro-batch once more; (events learned, events excluded)."""
    head, watch = opened.head, Stopwatch()
    parts = {QUARANTINE.name: _quarantined(opened, row)}
    fields: dict[str, Any] = {
        "kind": RELEARN, "checkpoint_id": row.checkpoint_id, "batch_id": row.batch_id, "fingerprint": row.fingerprint,
        "read_count": row.read_count, "quarantined_count": row.quarantined_count, "duplicate_count": row.duplicate_count,
        "late_count": row.late_count, "reasons": row.reasons, "metrics": [], "reason": f"version {row.version} again",
        "stage_seconds": watch.seconds,
    }
    if events is None:
        opened.writer.commit(opened.writer.begin(), parts, fields)
        return 0, 0
    kept = np.ones(events.num_rows, bool) if where is None else predicate.holds(where, events)
    again, out = (events.filter(pa.array(mask)) for mask in (kept, ~kept))
    nothing = parts[QUARANTINE.name].slice(0, 0)
    batch = CleanBatch(canonical(again), nothing, again.num_rows)
    prepared = _prepared(opened, row, batch, watch)
    learned, admitted = prepared.learned, prepared.admitted
    refused = as_quarantine(canonical(out), EXCLUDED).select(QUARANTINE_COLUMNS)
    parts = prepared.parts | {QUARANTINE.name: pa.concat_tables([parts[QUARANTINE.name], refused.cast(nothing.schema)])}
    fields |= {
        "accepted_count": again.num_rows, "quarantined_count": row.quarantined_count + out.num_rows,
        "reasons": {**row.reasons, **({EXCLUDED: out.num_rows} if out.num_rows else {})}, "event_clock": admitted.clock or None,
        "digest": as_hex(learned.digest), "metrics": [vars(metric) for metric in learned.metrics],
        "row_counts": head.rows_after({name: rows for name, (rows, _) in learned.changes.items()}),
        "corrected_count": admitted.counts[CORRECTED], "impressions": prepared.settled.counts, "limited": learned.limited,
        "movers": [vars(mover) for mover in learned.movers],
    }
    opened.writer.commit(opened.writer.begin(), parts, fields)
    take(head, prepared, opened.settings)
    return again.num_rows, out.num_rows


def _prepared(opened: Opened, row: Snapshot, batch: CleanBatch, watch: Stopwatch) -> Prepared:
    """The micro-batch learned once more: all of its events were accepted, so none is late now."""
    newest = opened.history.newest(opened.writer.line)
    assert newest is not None
    out = f"To leave it and what came after it behind: freshet rollback --to {newest.version} --reason ..."
    cleaning = opened.settings.clean.model_copy(update={"dedup_window": FOR_EVER})
    settings = opened.settings.model_copy(update={"clean": cleaning})
    try:
        with opened.head.rates.unlimited():
            prepared = prepare(opened.head, opened.learner, batch, settings, opened.place, watch)
    except BatchRefused as refusal:
        what = f"{refusal.what} (version {row.version} again)"
        raise BatchRefused(what, remedy=f"{refusal.remedy} {out}", **refusal.facts) from refusal
    if prepared.admitted.counts[ACCEPTED] != batch.read:
        lost = batch.read - prepared.admitted.counts[ACCEPTED]
        raise FreshetError(
            f"{lost} of {batch.read} events of version {row.version} count as repeats of others, which they did not when they were "
            "learned.", remedy=f"Set clean.dedup_window to what it was then. {out}", version=row.version, lost=lost)
    return prepared


def _quarantined(opened: Opened, row: Snapshot) -> pa.Table:
    """What the version put into quarantine, to stand on this path too."""
    return rows_of(opened.tables, QUARANTINE.name, [row], QUARANTINE_COLUMNS)
