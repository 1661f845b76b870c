"""What a retraining learns: the events of some versions of the table, or events of elsewhere, and the state before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.errors import FreshetError
from freshet.head import Head
from freshet.intake import admit, events_of
from freshet.labels import IMPRESSION, at_once
from freshet.learner import Learner
from freshet.models.contract import Events
from freshet.pipelines.assembly import dedup_window, label_wait, new_head
from freshet.pipelines.judged_events import of_files
from freshet.pipelines.learned_events import read_events
from freshet.pipelines.micro_batch import columns_of, kinds_of, new_ids
from freshet.pipelines.opening import Reading, load_ids
from freshet.pipelines.replay import state_before
from freshet.revisions import last_said
from freshet.schema import IDS, ITEM_ATTRIBUTES
from freshet.settings import Settings
from freshet.store.snapshots import LEARNING, Snapshot


@dataclass(frozen=True)
class Material:
    """Events in canonical order, the state before the first, rows of tables to be committed with what is learned of them, and
    where they are from."""

    events: Events
    start: Head
    parts: dict[str, pa.Table]
    origin: dict[str, Any]


def of_table(parent: Reading, chosen: Sequence[Snapshot], settings: Settings, learner: Learner, online: Head) -> Material:
    """The events of these versions."""
    start = state_before(parent, chosen[0].version, settings, learner)
    _describe(start, online)
    return Material(_events(parent, chosen, settings, start), start, {}, {"versions": [chosen[0].version, chosen[-1].version]})


def of_elsewhere(
    spark: SparkSession, path: str, parent: Reading, settings: Settings, learner: Learner, online: Head
) -> Material:
    """The events at a path, through the source's mapping and cleaning, instead of those of the table; with the ids that are met
    there for the first time. An id whose key another id has is left out."""
    judged, features = of_files(spark, settings, path), settings.model.features
    known, columns = new_head(learner.model, settings), columns_of(judged.table, features)
    load_ids(known, parent)
    with known.rates.unlimited():  # who chooses these events has seen them
        admitted = admit(known, columns, dedup_window(settings), judged.refused)
    events, wait = admitted.events, label_wait(settings)
    if wait is not None:
        events, _ = at_once(events, kinds_of(judged.table, settings)[admitted.accepted], wait, admitted.clock)
    start = new_head(learner.model, settings)
    _describe(start, online)
    ids = new_ids(judged.table, columns, admitted, features)
    return Material(events, start, {IDS.name: ids}, {"path": path, **admitted.counts, "repeated": judged.repeated})


def _describe(start: Head, online: Head) -> None:
    """Put in what is known of items by now: it was not learned from events."""
    if ITEM_ATTRIBUTES in start.blocks:
        start.put(ITEM_ATTRIBUTES, online.gather(ITEM_ATTRIBUTES, online.tables[ITEM_ATTRIBUTES].keys.copy())[0])


def between(commits: Sequence[Snapshot], first: str | None, last: str | None) -> list[Snapshot]:
    """The versions that learned something from `first` to `last`, each a version's number or a time of the event clock (ISO
    8601, UTC where it names no zone). Raises FreshetError where there are none, or the text is neither."""
    learned = [one for one in commits if one.kind in LEARNING and one.accepted_count]
    low, high = (None if text is None else _bound(text) for text in (first, last))
    found = [
        one for one in learned
        if (low is None or _of(one, low) >= low) and (high is None or _of(one, high) <= high)
    ]
    if not found:
        there = f"Versions {learned[0].version} to {learned[-1].version} did." if learned else "Learn from a stream first."
        raise FreshetError("No version of that range has learned events.", remedy=there, first=first, last=last)
    return found


def _bound(text: str) -> int | datetime:
    if text.strip().lstrip("-").isdigit():
        return int(text)
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError as error:
        what, remedy = f"{text!r} is neither a version nor a time.", 'Such as 120 or "2026-11-21 10:00".'
        raise FreshetError(what, remedy=remedy, given=text) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _of(one: Snapshot, bound: int | datetime) -> Any:
    """What of a version is compared with such a bound."""
    return one.version if isinstance(bound, int) else datetime.fromtimestamp((one.event_clock or 0) / 1e6, UTC)


def _events(parent: Reading, chosen: Sequence[Snapshot], settings: Settings, start: Head) -> Events:
    """The events of these versions as they were said last, in canonical order."""
    parts = []
    clocks = parent.clocks_before()
    for snapshot, table in read_events(parent.tables, parent.history, chosen[0].version, chosen[-1].version):
        version, before = (np.full(table.num_rows, number) for number in (snapshot.version, clocks[snapshot.version]))
        more = {"version": version, "before": before, "kind": kinds_of(table, settings)}
        parts.append(columns_of(table, settings.model.features) | more)
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    wait = label_wait(settings)
    if wait is not None:  # a correction of an impression changes nothing of it
        kept = ~((columns["kind"] == IMPRESSION) & columns["corrects"])
        columns = {name: values[kept] for name, values in columns.items()}
    at, before = last_said(columns["dedup_key"], columns["version"], columns["corrects"])
    columns = {name: values[at] for name, values in columns.items()} | {"corrects": before}
    order = np.lexsort((columns["revision"], columns["event_hash"], columns["event_at"]))
    if wait is None:
        return events_of(columns, order)
    # As the stream had it: what had expired when it was accepted is not learned now either.
    expired = (columns["kind"] == IMPRESSION) & (columns["event_at"] < columns["before"] - wait)
    order = order[~expired[order]]
    clock = chosen[-1].event_clock or 0
    return at_once(events_of(columns, order), columns["kind"][order], wait, clock, start.waiting)[0]
