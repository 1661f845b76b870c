"""Accepted events and ids read back: for a replay, for the dedup window and the known ids of a start."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from freshet.errors import StateDamaged
from freshet.schema import EVENTS, IDS
from freshet.store.parameters import committed
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables

CHUNK_EVENTS = 500_000
_CHECK_SEED = 7
_COMMIT = ("branch", "snapshot_version", "commit_id")


def _keys() -> dict[str, Column]:
    """What cleaning computes from the texts of an event; the same expressions, so the same numbers."""
    return {
        "user_key": F.xxhash64("user_id"),
        "item_key": F.xxhash64("item_id"),
        "user_check": _check("user_id"),
        "item_check": _check("item_id"),
        "event_hash": F.xxhash64("event_id"),
        # Of revision 0, whichever it is: all revisions of an event have one key.
        "dedup_key": F.xxhash64("event_id", F.lit(0).cast("bigint")),
    }


def id_key(column: str) -> tuple[Column, Column]:
    """The key of a natural id and the second hash that tells two ids of one key apart."""
    return F.xxhash64(column), _check(column)


def _check(column: str) -> Column:
    """A second hash of a natural id: two ids with one key differ in it."""
    return F.xxhash64(F.lit(_CHECK_SEED), F.col(column))


def dedup_keys(tables: Tables, history: History, version: int, oldest: int) -> pa.Table:
    """dedup_key, event_at, revision and snapshot_version of the events learned on the path of `version` with event_at >= `oldest`
    (µs since 1970); and of the corrections before that of such events."""
    commits = [commit for commit in history.commits(version) if commit.accepted_count]
    if not commits:
        numbers = {name: pa.array([], pa.int64()) for name in ("dedup_key", "revision", "snapshot_version")}
        return pa.table(numbers | {"event_at": pa.array([], pa.timestamp("us", tz="UTC"))})
    since = F.col("event_at") >= F.timestamp_micros(F.lit(int(oldest)))
    wanted = [_keys()["dedup_key"].alias("dedup_key"), F.col("event_at"), F.col("revision"), F.col("snapshot_version")]
    found = tables.collect(EVENTS.name, committed(tables, EVENTS.name, commits).where(since).select(*wanted), version)
    corrected = [commit for commit in commits if commit.corrected_count]
    if not corrected:
        return found
    # A correction may say an earlier time than the event had at first: it is remembered as long as that.
    older = committed(tables, EVENTS.name, corrected).where(~since & F.col("corrects").isNotNull())
    before = tables.collect(EVENTS.name, older.select(*wanted), version)
    held = pc.is_in(before.column("dedup_key"), value_set=found.column("dedup_key"))
    return pa.concat_tables([found, before.filter(held)])


def natural_ids(tables: Tables, history: History, version: int) -> DataFrame:
    """block, key, natural_id of every id met on the path of `version`."""
    return committed(tables, IDS.name, _with_ids(history, version)).select("block", "key", "natural_id")


def new_items(tables: Tables, history: History, version: int, since: int) -> pa.Table:
    """key of the items that nothing was known of before `since` (µs since 1970) on the path of `version`: met since then, by
    an event of that time or by their attributes alone.

    Reads the commits whose clock has reached `since`: what an earlier one met is older than that.
    """
    commits = [commit for commit in history.commits(version) if (commit.event_clock or 0) >= since]
    met = committed(tables, IDS.name, commits).where(F.col("block") == F.lit("item")).select("key")
    first = committed(tables, EVENTS.name, commits).groupBy(_keys()["item_key"].alias("key")).agg(F.min("event_at").alias("at"))
    young = F.col("at").isNull() | (F.col("at") >= F.timestamp_micros(F.lit(int(since))))
    return tables.collect(EVENTS.name, met.join(first, on="key", how="left").where(young).select("key"), version)


def id_checks(tables: Tables, history: History, version: int) -> pa.Table:
    """block, key and check (a second hash of the natural id) of every id met on the path of `version`."""
    if not _with_ids(history, version):
        return pa.table({"block": pa.array([], pa.string()), "key": pa.array([], pa.int64()), "check": pa.array([], pa.int64())})
    return tables.collect(
        IDS.name, natural_ids(tables, history, version).select("block", "key", _check("natural_id").alias("check")), version
    )


def _with_ids(history: History, version: int) -> list[Snapshot]:
    return [commit for commit in history.commits(version) if commit.appended_rows.get(IDS.name)]


def read_events(
    tables: Tables, history: History, first: int, last: int, chunk_events: int = CHUNK_EVENTS
) -> Iterator[tuple[Snapshot, pa.Table]]:
    """The events each version from `first` to `last` on the path of `last` learned, in order of version.

    Columns of `events` without the commit's, and the keys that cleaning computes; rows of one version in no order.
    Versions are read together up to `chunk_events` events at a time, so that memory stays bounded. Raises StateDamaged
    when a version does not have the events its snapshot row counts.
    """
    commits = [commit for commit in history.commits(last, above=first - 1) if commit.accepted_count]
    for chunk in _chunks(commits, chunk_events):
        table = events_of(tables, chunk)
        versions = table.column("snapshot_version")
        for commit in chunk:
            mine = table.filter(pc.equal(versions, commit.version)).drop_columns(["snapshot_version"])
            if mine.num_rows != commit.accepted_count:
                raise StateDamaged(
                    f"Version {commit.version} learned {commit.accepted_count} events, and {mine.num_rows} of them are there.",
                    remedy="Files of `events` are missing or changed: restore them.",
                    table=EVENTS.name, version=commit.version, found=mine.num_rows, wanted=commit.accepted_count,
                )
            yield commit, mine


def events_of(
    tables: Tables, commits: list[Snapshot], since: int | None = None, until: int | None = None
) -> pa.Table:
    """The events that these versions learned with since <= event_at < until (µs since 1970), in no order: the columns of
    `read_events`, and snapshot_version."""
    plain = [name for name in EVENTS.names if name not in _COMMIT]
    keys = [column.alias(name) for name, column in _keys().items()]
    rows = committed(tables, EVENTS.name, commits)
    if since is not None:
        rows = rows.where(F.col("event_at") >= F.timestamp_micros(F.lit(since)))
    if until is not None:
        rows = rows.where(F.col("event_at") < F.timestamp_micros(F.lit(until)))
    return tables.collect(EVENTS.name, rows.select(*plain, *keys, "snapshot_version"), commits[-1].version)


def _chunks(commits: list[Snapshot], size: int) -> Iterator[list[Snapshot]]:
    chunk: list[Snapshot] = []
    events = 0
    for commit in commits:
        if chunk and events + commit.accepted_count > size:
            yield chunk
            chunk, events = [], 0
        chunk.append(commit)
        events += commit.accepted_count
    if chunk:
        yield chunk
