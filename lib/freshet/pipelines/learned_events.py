"""Accepted events and ids read back: for a replay, for the dedup window and the known ids of a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from freshet.errors import StateDamaged
from freshet.pipelines import text_keys
from freshet.rates import Accepted
from freshet.schema import EVENTS, IDS
from freshet.store.files import Condition, batches_of, rows_of
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables

CHUNK_EVENTS = 500_000
_COMMIT = ("branch", "snapshot_version", "commit_id")


def dedup_keys(tables: Tables, history: History, version: int, oldest: int) -> pa.Table:
    """dedup_key, event_at, revision and snapshot_version of the events learned on the path of `version` with event_at >= `oldest`
    (µs since 1970); and of the corrections before that of such events."""
    commits = [commit for commit in history.commits(version) if commit.accepted_count]
    wanted = ("event_id", "event_at", "revision", "snapshot_version")
    found = _keyed(batches_of(tables, EVENTS.name, commits, wanted, ("event_at", ">=", oldest), version=version))
    corrected = [commit for commit in commits if commit.corrected_count]
    if not corrected:
        return found
    # A correction may say an earlier time than the event had at first: it is remembered as long as that.
    older = (("event_at", "<", oldest), ("corrects", "is", False))
    before = _keyed(batches_of(tables, EVENTS.name, corrected, wanted, *older, version=version))
    held = pc.is_in(before.column("dedup_key"), value_set=found.column("dedup_key"))
    return pa.concat_tables([found, before.filter(held)])


def users_since(tables: Tables, history: History, version: int, since: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(user keys, event_at) of what was accepted on the path of `version` with event_at >= `since` (µs since 1970)."""
    for part in _since(tables, history, version, since, ("user_id", "event_at")):
        yield text_keys.hashed(part.column("user_id")), _microseconds(part.column("event_at"))


def accepted_since(
    tables: Tables, history: History, version: int, since: int, wanted: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Iterator[Accepted]:
    """Those of the same of which `wanted` (user keys, event_at) is true, with all that says in which order they came."""
    names = ("user_id", "item_id", "event_at", "snapshot_version", "event_id", "revision", "corrects")
    for part in _since(tables, history, version, since, names):
        kept = wanted(text_keys.hashed(part.column("user_id")), _microseconds(part.column("event_at")))
        some = part.filter(pa.array(kept))
        user, item, event = (text_keys.hashed(some.column(name)) for name in ("user_id", "item_id", "event_id"))
        number, revision = (some.column(name).to_numpy() for name in ("snapshot_version", "revision"))
        corrects = some.column("corrects").is_valid().to_numpy()
        yield Accepted(user, item, _microseconds(some.column("event_at")), corrects, number, event, revision)


def _since(tables: Tables, history: History, version: int, since: int, wanted: Sequence[str]) -> Iterator[pa.Table]:
    commits = [commit for commit in history.commits(version) if commit.accepted_count]
    yield from batches_of(tables, EVENTS.name, commits, wanted, ("event_at", ">=", since), version=version)


def _microseconds(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.timestamp("us", tz=column.type.tz)).cast(pa.int64()).to_numpy())


def _keyed(parts: Iterable[pa.Table]) -> pa.Table:
    """dedup_key in the place of event_id: a tenth of the memory."""
    return pa.concat_tables(
        _with(part.drop_columns("event_id"), dedup_key=text_keys.dedup_keys(part.column("event_id"))) for part in parts)


def _with(table: pa.Table, **columns: np.ndarray) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def natural_ids(
    tables: Tables, history: History, version: int, spaces: Sequence[str] | None = None, keys: Sequence[int] | None = None
) -> pa.Table:
    """block, key, natural_id of every id met on the path of `version`, of some spaces or keys where given."""
    wanted: list[Condition] = [] if spaces is None else [("block", "in", spaces)]
    wanted += [] if keys is None else [("key", "in", keys)]
    return rows_of(tables, IDS.name, _with_ids(history, version), ("block", "key", "natural_id"), *wanted, version=version)


def new_items(tables: Tables, history: History, version: int, since: int) -> np.ndarray:
    """int64 keys of the items that nothing was known of before `since` (µs since 1970) on the path of `version`: met since then,
    by an event of that time or by their attributes alone.

    Reads the commits whose clock has reached `since`: what an earlier one met is older than that.
    """
    commits = [commit for commit in history.commits(version) if (commit.event_clock or 0) >= since]
    met = rows_of(tables, IDS.name, commits, ("key",), ("block", "=", "item"), version=version).column("key").to_numpy()
    older = rows_of(tables, EVENTS.name, commits, ("item_id",), ("event_at", "<", since), version=version)
    return np.setdiff1d(met, text_keys.hashed(pa.chunked_array([older.column("item_id").unique()])))


def id_checks(tables: Tables, history: History, version: int) -> pa.Table:
    """block, key and check (a second hash of the natural id) of every id met on the path of `version`."""
    parts = batches_of(tables, IDS.name, _with_ids(history, version), ("block", "key", "natural_id"), version=version)
    return pa.concat_tables(
        _with(part.drop_columns("natural_id"), check=text_keys.checks(part.column("natural_id"))) for part in parts)


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
    wanted: list[Condition] = [] if since is None else [("event_at", ">=", since)]
    wanted += [] if until is None else [("event_at", "<", until)]
    found = rows_of(tables, EVENTS.name, commits, [*plain, "snapshot_version"], *wanted, version=commits[-1].version)
    event, user, item = (found.column(name) for name in ("event_id", "user_id", "item_id"))
    return _with(
        found, user_key=text_keys.hashed(user), item_key=text_keys.hashed(item), user_check=text_keys.checks(user),
        item_check=text_keys.checks(item), event_hash=text_keys.hashed(event), dedup_key=text_keys.dedup_keys(event),
    )  # fmt: skip


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
