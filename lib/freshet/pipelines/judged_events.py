"""The events a snapshot is judged on: those learned after it, those of a span of time, or some from elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from freshet.engine import sources
from freshet.engine.batch import collect
from freshet.engine.checkpoint import Fingerprint
from freshet.engine.clean import clean
from freshet.errors import FreshetError, SourceRefused
from freshet.evaluation.observations import Slices
from freshet.evaluation.parting import text_slices
from freshet.head import TOTALS
from freshet.intake import events_of, repeats
from freshet.labels import at_once
from freshet.models.contract import Events
from freshet.pipelines import learned_events as stored
from freshet.pipelines.assembly import label_wait
from freshet.pipelines.micro_batch import columns_of, kinds_of, numbers_of
from freshet.pipelines.opening import Reading
from freshet.pipelines.pairing import Batch, batch_of
from freshet.revisions import last_said
from freshet.settings import Settings
from freshet.store.snapshots import CHALLENGE, LEARNING

EVENT_TYPE = "event_type"


@dataclass(frozen=True)
class Judged:
    """The events as a table of `events` with keys, where they are from in words, how many of them a judged version had
    learned itself, how many were refused by cleaning and how many were repeats."""

    table: pa.Table
    origin: str
    learned: int = 0
    refused: int = 0
    repeated: int = 0

    def arrays(self, settings: Settings) -> tuple[Events, np.ndarray]:
        """The events in canonical order, with the features of these settings; and where each stands in the table. Where impressions
        wait, those without an answer by the last of the events count as negative, and others are no events to judge by."""
        columns = columns_of(self.table, settings.model.features)
        order = np.lexsort((columns["revision"], columns["event_hash"], columns["event_at"]))
        events, wait = events_of(columns, order), label_wait(settings)
        if wait is None:
            return events, order
        found, place = at_once(events, kinds_of(self.table, settings)[order], wait, int(events.event_at.max()))
        if not len(found):
            what = f"Of the {len(events)} events {self.origin} all are impressions that still wait for an answer."
            raise FreshetError(what, remedy="Wait for more.", events=len(events))
        return found, order[place]


def learned_after(readings: Sequence[Reading]) -> Judged:
    """What the newest version's path learned that none of these versions had. Raises FreshetError where that is nothing."""
    tables, history = readings[0].tables, readings[0].history
    newest = history.newest()
    every = history.commits(newest.version) if newest is not None else []
    known = _learned(readings)
    later = [commit for commit in every if batch_of(commit) not in known and commit.accepted_count]
    names = " and ".join(str(reading.version) for reading in readings)
    if not later:
        older = [f" (--version {commit.version})" for commit in every if commit.kind in LEARNING][-2:-1]
        raise FreshetError(
            f"No event was learned after version {names}: there is nothing to judge it by yet.",
            remedy=f"Judge an older one{''.join(older)}, give events of elsewhere (--events PATH), or wait for more. A span "
            "(--from, --to) may be of events it has learned itself, and those it knows too well.",
            versions=[reading.version for reading in readings],
        )
    return Judged(_said(stored.events_of(tables, later)), f"learned after version {names}")


def of_span(readings: Sequence[Reading], since: datetime | None, until: datetime | None) -> Judged:
    """The events from `since` to before `until`, of event time, on the newest version's path; None is open."""
    tables, history = readings[0].tables, readings[0].history
    newest = history.newest()
    commits = [commit for commit in history.commits(newest.version) if commit.accepted_count] if newest is not None else []
    ends = [None if at is None else round(at.timestamp() * 1e6) for at in (since, until)]
    table = _said(stored.events_of(tables, commits, *ends)) if commits else None
    if table is None or not table.num_rows:
        raise FreshetError("The model has no events in that span.", remedy="Times are UTC, of event_at; see `freshet status`.")
    batches = _learned(readings)
    known = pa.array(sorted(commit.version for commit in commits if batch_of(commit) in batches), pa.int64())
    learned = int(pc.sum(pc.is_in(table.column("snapshot_version"), value_set=known)).as_py())
    words = [f"{word} {at:%Y-%m-%d %H:%M:%S}" for word, at in (("from", since), ("to", until)) if at is not None]
    return Judged(table, " ".join(words), learned)


def _learned(readings: Sequence[Reading]) -> set[Batch]:
    """The micro-batches that any of these versions has learned, on whatever branch: a challenger stands on nothing but its own
    rows, and what is learned again stands in other versions."""
    commits = [commit for reading in readings for commit in reading.commits]
    for reading in readings:
        for row in reading.commits:
            begun = row.kind == CHALLENGE and row.batch_id is None
            if begun and row.parent is not None and row.row_counts.get(TOTALS):
                commits += reading.history.commits(row.parent)
    return {batch_of(commit) for commit in commits if commit.batch_id is not None}


def _said(table: pa.Table) -> pa.Table:
    """Each event as it was said last; corrections of events that are not among these are of no interest: those had their turn."""
    corrects = table.column("corrects").is_valid().to_numpy()
    at, before = last_said(table.column("dedup_key").to_numpy(), table.column("snapshot_version").to_numpy(), corrects)
    found = table if len(at) == table.num_rows and not before.any() else table.take(pa.array(at[~before]))
    return found.set_column(found.column_names.index("corrects"), "corrects", pa.nulls(found.num_rows, pa.int64()))


def of_files(spark: SparkSession, settings: Settings, path: str) -> Judged:
    """Events from files, or a Delta table, through the source's mapping and cleaning; of repeated events the first."""
    source = settings.source.model_copy(update={"path": path})
    try:
        records = sources.files(spark, source, [path])
    except AnalysisException as error:
        what, remedy = f"There is nothing to read at {path}.", "Name a file, a folder or a Delta table."
        raise SourceRefused(what, remedy=remedy, path=path, wanted=source.format, found="nothing") from error
    # Files have times of their own; what has none arrives now.
    planned = Fingerprint("", [], time.time_ns() // 1000, [] if source.format == "delta" else records.inputFiles())
    made = collect(clean(records, source, settings.clean), planned)
    if not made.accepted.num_rows:
        what = f"No event at {path} can be used: {made.quarantined.num_rows} of {made.read} were refused."
        remedy = "The settings under `source` and `clean` say how they are read."
        raise SourceRefused(what, remedy=remedy, path=path, wanted="events", found="none")
    kept = np.ones(made.accepted.num_rows, bool)
    kept[repeats(numbers_of(made.accepted))] = False
    return Judged(made.accepted.filter(pa.array(kept)), f"in {path}", 0, made.quarantined.num_rows, int((~kept).sum()))


def slices_of(judged: Judged, order: np.ndarray, columns: Sequence[str]) -> list[Slices]:
    """Slices of the events, in this order, by their type and by these columns of their context. Raises FreshetError for a
    column that no event has."""
    found = []
    for column in (EVENT_TYPE, *columns):
        texts = judged.table.column(EVENT_TYPE) if column == EVENT_TYPE else _of_context(judged.table, column)
        coded = texts.combine_chunks().take(pa.array(order)).dictionary_encode()
        if len(coded.dictionary):
            found.append(text_slices(column, coded.dictionary.to_pylist(), coded.indices.fill_null(-1).to_numpy()))
        elif column != EVENT_TYPE:
            raise FreshetError(
                f"No event has {column!r} in its context.", remedy="Columns get there by source.context.", column=column)
    return found


def _of_context(table: pa.Table, column: str) -> pa.ChunkedArray:
    context = table.column("context").combine_chunks().cast(pa.map_(pa.string(), pa.string()))
    return pa.chunked_array([pc.map_lookup(context, pa.scalar(column), "first")])
