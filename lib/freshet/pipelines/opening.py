"""Opening a model: for reading at a version, or as the one learner that may write."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from freshet.errors import FreshetError, StateDamaged
from freshet.head import Head
from freshet.intake import events_of, note_ids
from freshet.labels import ORDINARY, remembered
from freshet.learner import Learner
from freshet.pipelines import learned_events as stored
from freshet.pipelines.assembly import dedup_window, label_wait, new_head
from freshet.pipelines.learned_events import dedup_keys, id_checks
from freshet.pipelines.micro_batch import columns_of, kinds_of
from freshet.pipelines.rows import from_arrow
from freshet.rates import HOUR
from freshet.revisions import newest
from freshet.roots import no_model
from freshet.settings import Settings
from freshet.store.log_check import check_logs
from freshet.store.parameters import load_arrow
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables


@dataclass(frozen=True)
class Reading:
    """A model opened for reading: its tables, its history, the version asked for and the commits behind it."""

    tables: Tables
    history: History
    version: int
    snapshot: Snapshot

    @property
    def commits(self) -> list[Snapshot]:
        return self.history.commits(self.version)

    def clocks_before(self) -> dict[int, int]:
        """Version -> the event clock before it, of the commits."""
        commits = self.commits
        clocks = [0, *(commit.event_clock or 0 for commit in commits)]
        return {commit.version: clock for commit, clock in zip(commits, clocks, strict=False)}


def open_reading(spark: SparkSession, settings: Settings, as_of: int | None = None) -> Reading:
    """Open the model of the settings at a version (default: the newest of `main`'s line).

    Raises FreshetError when there is no model under store.root, or no such version.
    """
    tables = Tables(spark, settings.store.root)
    check_logs(tables)
    history = History.load(tables)
    newest = history.newest()
    if newest is None:
        raise no_model(settings.store.root)
    version = newest.version if as_of is None else as_of
    found = history.get(version)
    if found is None:
        raise FreshetError(
            f"The model under {settings.store.root} has no version {version}.",
            remedy=f"Versions go up to {newest.version}.", version=version, newest=newest.version,
        )
    return Reading(tables, history, version, found)


def open_published(spark: SparkSession, settings: Settings) -> Reading:
    """Open the model at the version lists are made from. Raises FreshetError where there is none."""
    reading = open_reading(spark, settings)
    published = reading.history.published()
    return reading if published is None else replace(reading, version=published.version, snapshot=published)


def load_head(reading: Reading, settings: Settings, learner: Learner) -> Head:
    """The head at the version, from the newest base and the log above it.

    Raises StateDamaged when the rows do not give the digest of the snapshot.
    """
    head = new_head(learner.model, settings)
    for name, table in load_arrow(reading.tables, reading.history, reading.version).items():
        if name not in head.blocks:
            continue
        # Slots of the window must come back in order; for the others the order of rows means nothing.
        for rows in from_arrow(head.blocks[name], table.sort_by("key").combine_chunks()):
            head.put(name, rows)
    if head.hex_digest != reading.snapshot.digest:
        raise StateDamaged(
            f"Version {reading.version} does not verify: its rows give digest {head.hex_digest}, its snapshot says "
            f"{reading.snapshot.digest}.",
            remedy="Some rows of `parameters` are missing or changed; open an older version (--as-of), or restore the files.",
            table="parameters", version=reading.version, found=head.hex_digest, wanted=reading.snapshot.digest,
        )
    head.clock = reading.snapshot.event_clock or 0
    return head


def load_memory(head: Head, reading: Reading, settings: Settings) -> None:
    """Fill the dedup window and the known ids of a head, and what it waits for."""
    oldest = head.clock - dedup_window(settings)
    keys = dedup_keys(reading.tables, reading.history, reading.version, oldest)
    if keys.num_rows:
        key = keys.column("dedup_key").to_numpy()
        head.seen.add(key, times(keys.column("event_at")))
        if pc.any(pc.greater(keys.column("revision"), 0)).as_py():
            last = newest(key, keys.column("snapshot_version").to_numpy())
            head.revisions.note(key[last], keys.column("revision").to_numpy()[last])
    load_rates(head, reading, oldest)
    load_ids(head, reading)
    load_waiting(head, reading, settings)


def load_rates(head: Head, reading: Reading, oldest: int) -> None:
    """Know how many events of each hour from that of `oldest` on were accepted, where there is a limit."""
    if head.rates.limited:
        where = (reading.tables, reading.history, reading.version, oldest // HOUR * HOUR)
        head.rates.recall(stored.users_since(*where), lambda wanted: stored.accepted_since(*where, wanted))


def load_waiting(head: Head, reading: Reading, settings: Settings) -> None:
    """Impressions that are pending at the version, and answers others may come to, as the events table has them."""
    wait, commits = label_wait(settings), [commit for commit in reading.commits if commit.accepted_count]
    if wait is None or not commits:
        return
    table = stored.events_of(reading.tables, commits, since=head.clock - wait)
    table = table.filter(pa.array(kinds_of(table, settings) != ORDINARY))
    columns = columns_of(table, settings.model.features)
    order = np.lexsort((columns["revision"], columns["event_hash"], columns["event_at"]))
    head.waiting = remembered(events_of(columns, order), kinds_of(table, settings)[order], wait, head.clock)


def load_ids(head: Head, reading: Reading) -> None:
    """Know the ids that were met up to the version."""
    checks = id_checks(reading.tables, reading.history, reading.version)
    for space in head.ids:
        mine = checks.filter(pc.equal(checks.column("block"), space))
        note_ids(head, space, mine.column("key").to_numpy(), mine.column("check").to_numpy())


def times(column: pa.ChunkedArray) -> np.ndarray:
    """Microseconds int64 of a timestamp column."""
    return np.asarray(column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64()).to_numpy())
