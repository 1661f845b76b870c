"""Maintenance: bases, orphans, the log, Delta's own files. Each step may be killed anywhere and run again.

All of it takes a `Writer`, so only who holds the model does it: the learner between two micro-batches or in a thread
of its process, or a command that took the lock. Another process must not: two Java processes that write one Delta table
on local disk can lose a commit. What only adds (the rows of a base) runs beside commits; what deletes makes them wait.

What makes it harmless: a base exists when a snapshot row of kind `base` names it, and that row is committed after the
rows were read back and gave the digest of the version; orphans are rows no live snapshot row names and none ever will;
the log is dropped only where a verified base holds what every kept version needs of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import reduce
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from freshet.errors import Fenced, StateDamaged
from freshet.failpoint import failpoint
from freshet.schema import DECISIONS, DISTANCES, EVENTS, IDS, PARAMETERS, PARAMETERS_BASE, QUARANTINE, SNAPSHOTS, TABLES
from freshet.store.commit import Writer, new_commit_id
from freshet.store.decisions import GATE, decision_row, decisions
from freshet.store.files import count_of
from freshet.store.parameters import DIGESTED, state
from freshet.store.retention import closed, droppable, kept_versions, spans, unused_bases
from freshet.store.snapshots import BASE, MAINTAIN, History, Snapshot
from freshet.store.tables import Tables, engine_errors

COMMITTED = (EVENTS.name, QUARANTINE.name, IDS.name, PARAMETERS.name, DECISIONS.name, DISTANCES.name)
ROWS_PER_FILE = 500_000
MANY_FILES = 16  # with fewer a reader gains nothing by having them put together
DAY_MICROSECONDS = 86_400_000_000
# The tables only the holder of the model writes. The others (requests, items, recommendations, evaluations) are appended to by
# other processes, and a commit of ours at the same moment could take one of theirs away on local disk.
OURS = (*COMMITTED, PARAMETERS_BASE.name, SNAPSHOTS.name)


def compact(writer: Writer, version: int | None = None) -> Snapshot:
    """Write the state of a version (default: the newest) as a base, read it back, and declare it whole if its digest is
    the version's. Raises StateDamaged, and declares nothing, when it is not."""
    tables, history = writer.tables, writer.history
    newest = history.newest(writer.line)
    chosen = history.get(version) if version is not None else newest
    if chosen is None:
        raise StateDamaged(f"There is no version {version}.", table=PARAMETERS.name, version=version)
    with writer.maintaining:
        base_id = new_commit_id(writer.epoch)
        rows = state(tables, history, chosen.version).withColumn("deleted", F.lit(None).cast("string"))
        rows = rows.withColumn("base_id", F.lit(base_id)).select(TABLES[PARAMETERS_BASE.name].names)
        files = 1 + sum(chosen.row_counts.values()) // ROWS_PER_FILE
        with engine_errors(PARAMETERS_BASE.name, "append to", chosen.version):
            rows.coalesce(files).write.format("delta").mode("append").save(tables.path(PARAMETERS_BASE.name))
        failpoint("base_written", chosen.version)
        count = _verified(writer, base_id, chosen)
        failpoint("base_verified", chosen.version)
        fields = {
            "kind": BASE, "base_id": base_id, "base_version": chosen.version, "appended_rows": {PARAMETERS_BASE.name: count},
            "reason": f"state of version {chosen.version}",
        }
        with writer.exclusive():
            snapshot = writer.commit(writer.begin(), {}, fields)
        failpoint("base_committed", chosen.version)
    return snapshot


def _verified(writer: Writer, base_id: str, chosen: Snapshot) -> int:
    """The number of rows of a base that was read back and has the right digest."""
    rows = writer.tables.read(PARAMETERS_BASE.name).where(F.col("base_id") == F.lit(base_id))
    asked = rows.agg(F.count("key").alias("rows"), F.bit_xor(F.xxhash64(*DIGESTED)).alias("digest"))
    found = writer.tables.collect(PARAMETERS_BASE.name, asked, chosen.version).to_pylist()[0]
    digest = f"{(found['digest'] or 0) & (1 << 64) - 1:016x}"
    if digest != chosen.digest:
        raise StateDamaged(
            f"The rows of version {chosen.version} give digest {digest}, its snapshot says {chosen.digest}: no base is made.",
            remedy="Rows of `parameters` are missing or changed. Restore them, or open an older version.",
            table=PARAMETERS.name, version=chosen.version, found=digest, wanted=chosen.digest,
        )
    return int(found["rows"])


def remove_orphans(writer: Writer) -> dict[str, int]:
    """Delete the rows of attempts that were never committed and never will be; the rows deleted by table."""
    removed = {}
    with writer.maintaining:
        attempts_made = attempts(writer.tables)
        for name in COMMITTED:
            with writer.exclusive():
                # Read after the rows were listed: a commit that came between is seen as one, a learner that took over as such.
                history = fresh_history(writer)
                dead = {row["commit_id"]: row["rows"] for row in attempts_made
                        if row["name"] == name and closed(history, row["commit_id"], row["snapshot_version"])}
                failpoint("orphans_found", name)
                if dead:
                    _delete(writer, name, F.col("commit_id").isin(list(dead)))
                removed[name] = sum(dead.values())
    return removed


def attempts(tables: Tables) -> list[dict[str, Any]]:
    """name, commit_id, snapshot_version and rows of every attempt that left rows, in one job over all the tables."""
    found = [
        tables.read(name).groupBy("commit_id", "snapshot_version").agg(F.count("commit_id").alias("rows"))
        .select(F.lit(name).alias("name"), "commit_id", "snapshot_version", "rows") for name in COMMITTED
    ]  # fmt: skip
    return tables.collect(" or ".join(COMMITTED), reduce(DataFrame.unionAll, found)).to_pylist()


def fresh_history(writer: Writer) -> History:
    """The history as the table has it now. Raises Fenced when this writer is no longer the one."""
    # Read once more only where the table has a commit that this writer's history has not: every look at all rows takes the
    # more memory the older the model is. Who holds the writer's lock sees its own commits and none halfway.
    with writer.exclusive():
        known = writer.history
        new = known.table_version < 0 or known.table_version != writer.tables.version(SNAPSHOTS.name)
        history = History.load(writer.tables) if new else known
    if history.epoch != writer.epoch:
        raise Fenced(
            f"Epoch {history.epoch} has taken this model over from epoch {writer.epoch}; it maintains it too.",
            remedy="This process must end.", epoch=writer.epoch, winner_epoch=history.epoch,
        )
    return history


def remove_orphan_bases(writer: Writer) -> int:
    """Delete the rows of bases that no live snapshot row declares; the number of bases."""
    with writer.maintaining, writer.exclusive():
        orphans = _base_ids(writer.tables) - {base.base_id for base in fresh_history(writer).bases()}
        if orphans:
            _delete(writer, PARAMETERS_BASE.name, F.col("base_id").isin(sorted(orphans)))
    return len(orphans)


def _base_ids(tables: Tables) -> set[str]:
    """Ids of the bases that have rows."""
    ids = tables.read(PARAMETERS_BASE.name).select("base_id").distinct()
    return set(tables.collect(PARAMETERS_BASE.name, ids).column("base_id").to_pylist())


def drop_log(writer: Writer, keep_days: float, now: int | None = None) -> int:
    """Delete the rows of `parameters` that no version of the last `keep_days` days, no version named in `decisions` by anybody
    but the gate, no published and no line's newest version needs, and the bases none of them starts from; the number of
    commits whose rows went.

    `now`: microseconds since 1970. Versions that are not kept can then no longer be opened (StateDamaged says so).
    """
    with writer.maintaining, writer.exclusive():
        history = fresh_history(writer)
        since = (time.time_ns() // 1000 if now is None else now) - int(keep_days * DAY_MICROSECONDS)
        kept = kept_versions(history, named_versions(writer, history), since)
        going, bases = _there(writer.tables, droppable(history, kept), unused_bases(history, kept))
        if not going and not bases:
            return 0
        # The decision stands before the deed: a crash in between leaves rows that the next run finds again.
        evidence = {"commits": len(going), "bases": [base.base_id for base in bases], "keep_days": keep_days}
        reason = f"log of {len(going)} commits dropped"
        decision = decision_row("maintain", None, reason, evidence)
        writer.commit(writer.begin(), {DECISIONS.name: decision}, {"kind": MAINTAIN, "reason": reason})
        failpoint("drop_decided")
        for condition in _conditions(history, going):
            _delete(writer, PARAMETERS.name, condition)
            failpoint("log_dropped")
        if bases:
            _delete(writer, PARAMETERS_BASE.name, F.col("base_id").isin([base.base_id for base in bases]))
    return len(going)


def _there(tables: Tables, going: list[Snapshot], bases: list[Snapshot]) -> tuple[list[Snapshot], list[Snapshot]]:
    """The commits and bases without those that an earlier run has removed: their snapshot rows stay for ever."""
    if not count_of(tables, PARAMETERS.name, going):
        going = []
    held = _base_ids(tables) if bases else set()
    return going, [base for base in bases if base.base_id in held]


def _conditions(history: History, going: Iterable[Snapshot]) -> list[Column]:
    """Which rows of the log go, some hundred spans to a DELETE."""
    found = [
        (F.col("branch") == F.lit(span.branch)) & F.col("snapshot_version").between(span.first, span.last)
        for span in spans(history, going)
    ]
    return [reduce(Column.__or__, found[at : at + 200]) for at in range(0, len(found), 200)]


def named_versions(writer: Writer, history: History) -> set[int]:
    """The versions that committed decisions of people name, and the published one. What the gate decides by the hour would
    keep every version there ever was."""
    told = [row for row in decisions(writer.tables, history) if row["actor"] != GATE]
    published = history.published(writer.line)
    named = {row[name] for row in told for name in ("version", "from_version") if row[name] is not None}
    return named if published is None else named | {published.version}


def optimize(writer: Writer, names: Iterable[str] = OURS, many: int = MANY_FILES) -> None:
    """Put small files together (Delta's OPTIMIZE) where there are `many`; the rows stay what they are."""
    for name in names:
        if writer.tables.file_count(name) < many:
            continue
        with writer.maintaining, writer.exclusive(), engine_errors(name, "optimize"):
            DeltaTable.forPath(writer.tables.spark, writer.tables.path(name)).optimize().executeCompaction()
        failpoint("table_optimized", name)


def vacuum(writer: Writer, names: Iterable[str] = OURS, hours: float | None = None) -> None:
    """Remove files no table version within its retention needs (Delta's VACUUM; `hours` overrules the table's).

    A table whose files are all younger than that is passed by: VACUUM would list it with a job and remove nothing.
    """
    for name in names:
        if hours is None and not writer.tables.may_hold_old_files(name):
            continue
        with writer.maintaining, writer.exclusive(), engine_errors(name, "vacuum"):
            DeltaTable.forPath(writer.tables.spark, writer.tables.path(name)).vacuum(hours)
        failpoint("table_vacuumed", name)


def _delete(writer: Writer, name: str, condition: Column) -> None:
    with engine_errors(name, "delete from"):
        DeltaTable.forPath(writer.tables.spark, writer.tables.path(name)).delete(condition)
