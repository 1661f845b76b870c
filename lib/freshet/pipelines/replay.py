"""Learning again from the `events` table: the same events in the same micro-batches must give the same digests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from freshet import __version__
from freshet.errors import CheckFailed, FreshetError
from freshet.head import Head
from freshet.intake import events_of
from freshet.learner import Learned, Learner
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.items import retake
from freshet.pipelines.learned_events import read_events
from freshet.pipelines.micro_batch import columns_of, settle_labels
from freshet.pipelines.opening import Reading, load_head, load_waiting, open_reading
from freshet.pipelines.placing import Placement
from freshet.settings import Settings
from freshet.store.snapshots import ITEMS, LEARNING, PROMOTE, RETRAIN, History, Snapshot


def replay(
    spark: SparkSession, settings: Settings, *, verify: bool = False, from_version: int | None = None,
    to_version: int | None = None,
) -> dict[str, Any]:
    """Learn versions from_version .. to_version (default: all) again from `events`, on the state before the first.

    With `verify` every digest is compared with its snapshot's, and CheckFailed names the first version that differs.
    Settings of the model are those recorded with each run, so a changed file cannot spoil the check.
    """
    reading = open_reading(spark, settings, to_version)
    replayed = [snapshot for snapshot in reading.commits if snapshot.kind in LEARNING]
    taken = [snapshot for snapshot in reading.commits if snapshot.kind in (ITEMS, RETRAIN, PROMOTE)]
    if from_version is not None:
        replayed = [snapshot for snapshot in replayed if snapshot.version >= from_version]
    if not replayed:
        raise FreshetError("There is nothing to replay: no learned version in that range.", remedy="See `freshet status`.")
    runs = _settings_of_runs(reading, replayed, settings)
    first = runs[replayed[0].run]
    head = state_before(reading, replayed[0].version, first, new_learner(first))
    taken = [snapshot for snapshot in taken if replayed[0].version < snapshot.version < replayed[-1].version]
    events, run = 0, ""
    with ExitStack() as stack:
        for snapshot, table in read_events(reading.tables, reading.history, replayed[0].version, replayed[-1].version):
            if snapshot.run != run:
                run, learner = snapshot.run, new_learner(runs[snapshot.run])
                place = Placement(spark, learner.model, runs[run])
                stack.callback(place.close)
            while taken and taken[0].version < snapshot.version:
                head = _retaken(reading, head, taken.pop(0))
            events += table.num_rows
            relearn(head, learner, table, runs[run], place, snapshot.event_clock or 0)
            if verify and head.hex_digest != snapshot.digest:
                raise _differs(snapshot, head.hex_digest)
    return {
        "versions": len(replayed), "first": replayed[0].version, "last": replayed[-1].version, "events": events,
        "digest": head.hex_digest, "verified": verify,
    }


def _retaken(reading: Reading, head: Head, snapshot: Snapshot) -> Head:
    """The head after a version that learned no micro-batch: what was said of items once more, a candidate as it was made, or a
    challenger as it was when it was promoted."""
    if snapshot.kind in (RETRAIN, PROMOTE):
        settings = Settings.from_json(History.settings_of(reading.tables, snapshot.version))
        there = Reading(reading.tables, reading.history, snapshot.version, snapshot)
        made = load_head(there, settings, new_learner(settings))
        made.waiting = head.waiting
        return made
    retake(reading.tables, head, snapshot)
    return head


def _settings_of_runs(reading: Reading, replayed: Sequence[Snapshot], settings: Settings) -> dict[str, Settings]:
    """Run -> what it learned with; where it runs today is not part of that."""
    firsts = {snapshot.run: snapshot.version for snapshot in reversed(replayed)}
    recorded = History.settings_by_version(reading.tables, list(firsts.values()))
    here = {"stream": settings.stream, "spark": settings.spark}
    return {run: Settings.from_json(recorded[version]).model_copy(update=here) for run, version in firsts.items()}


def _differs(snapshot: Snapshot, found: str) -> CheckFailed:
    other = snapshot.code_version != __version__
    code = f" It was learned by Freshet {snapshot.code_version}, this is {__version__}." if other else ""
    return CheckFailed(
        f"Version {snapshot.version} does not replay: learned again its digest is {found}, recorded is {snapshot.digest}."
        f"{code}",
        remedy="Its events or its parent's rows were changed after the commit, or the code learns differently.",
        version=snapshot.version, found=found, wanted=snapshot.digest,
    )


def state_before(reading: Reading, version: int, settings: Settings, learner: Learner) -> Head:
    """The head as it stood on the path of `reading` before a version; an empty one before the first."""
    before = [snapshot for snapshot in reading.commits if snapshot.version < version]
    if not before:
        return new_head(learner.model, settings)
    earlier = Reading(reading.tables, reading.history, before[-1].version, before[-1])
    head = load_head(earlier, settings, learner)
    load_waiting(head, earlier, settings)
    return head


def relearn(
    head: Head, learner: Learner, table: pa.Table, settings: Settings, place: Placement, clock: int
) -> Learned:
    """Learn accepted events once more, with the settings they were learned with, and take the result. `clock`: after them."""
    columns = columns_of(table, settings.model.features)
    order = np.lexsort((columns["revision"], columns["event_hash"], columns["event_at"]))
    settled = settle_labels(head, settings, events_of(columns, order), table, order, clock)
    learned = learner.learn(head, settled.events, place)
    head.apply(learned.changes, learned.digest)
    head.clock, head.waiting = clock, settled.waiting
    return learned
