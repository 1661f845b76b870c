"""The state at a version, from the newest base that is part of it and the log above.

    row digest    = xxhash64(block, key, vector, slots, links, count, last_event_at)      (Spark's, seed 42)
    state digest  = XOR of the row digests, 16 hexadecimal digits; 16 zeros for no rows
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from freshet.errors import StateDamaged
from freshet.schema import PARAMETERS, PARAMETERS_BASE
from freshet.store.files import Condition, all_rows, committed, count_of, count_where, rows_of
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables

DIGESTED = ("block", "key", "vector", "slots", "links", "count", "last_event_at")
STATE = (*DIGESTED, "snapshot_version", "branch")
_ROW = (*STATE, "deleted")
_SAME_ROW = ["block", "key", "snapshot_version"]


def state(
    tables: Tables, history: History, version: int, blocks: Sequence[str] | None = None, keys: Sequence[int] | None = None,
    check: bool = True,
) -> DataFrame:
    """One row per (block, key) as it stood at `version`, in the columns STATE; of some blocks or keys only where given.

    With `check` the rows are counted first: raises StateDamaged where rows that were committed are gone (a lost file, or
    a log that maintenance has dropped for versions nobody kept).
    """
    base, commits = sources(history, version)
    if check:
        check_there(tables, history, version)
    rows = _only(committed(tables, PARAMETERS.name, commits).select(*_ROW), blocks, keys)
    if base is not None:
        rows = rows.unionByName(_only(base_rows(tables, base), blocks, keys))
    if commits:
        newest = rows.groupBy("block", "key").agg(F.max("snapshot_version").alias("snapshot_version"))
        rows = rows.join(newest, on=_SAME_ROW, how="left_semi")
    return rows.where(F.col("deleted").isNull()).select(*STATE)


def check_there(tables: Tables, history: History, version: int) -> None:
    """Raise StateDamaged where rows that a version needs are gone."""
    _, commits = sources(history, version)
    if count_of(tables, PARAMETERS.name, commits, version) != _expected(commits):
        raise _gone(version)


def base_rows(tables: Tables, base: Snapshot) -> DataFrame:
    """The rows of a base."""
    return tables.read(PARAMETERS_BASE.name).where(F.col("base_id") == F.lit(base.base_id)).select(*_ROW)


def sources(history: History, version: int) -> tuple[Snapshot | None, list[Snapshot]]:
    """What the state of a version is made of: a base or none, and the commits above it that changed rows."""
    base = history.newest_base(version)
    above = -1 if base is None or base.base_version is None else base.base_version
    changed = [commit for commit in history.commits(version, above) if commit.appended_rows.get(PARAMETERS.name)]
    return base, changed


def digest(frame: DataFrame) -> str:
    """The digest of the rows of a frame with the columns DIGESTED, computed by Spark."""
    found = frame.agg(F.bit_xor(F.xxhash64(*DIGESTED)).alias("digest")).toArrow().column("digest")[0].as_py()
    return f"{(found or 0) & (1 << 64) - 1:016x}"


def load_arrow(
    tables: Tables, history: History, version: int, blocks: Sequence[str] | None = None, keys: Sequence[int] | None = None
) -> dict[str, pa.Table]:
    """The state at `version` by block, columns STATE, rows in no order: the way back of a head; of some blocks or keys only where
    given.

    On local disk Arrow reads the files that Delta names, page checksums verified, and the newest row of each key is
    found by sorting numbers; elsewhere Spark does both. Raises StateDamaged as `state` does.
    """
    base, commits = sources(history, version)
    wanted: list[Condition] = [] if blocks is None else [("block", "in", blocks)]
    wanted += [] if keys is None else [("key", "in", keys)]
    parts = []
    if base is not None:
        mine = ("base_id", "=", base.base_id)
        parts.append(all_rows(tables, PARAMETERS_BASE.name, _ROW, mine, *wanted, version=version))
        there = count_where(tables, PARAMETERS_BASE.name, mine, version=version) if wanted else parts[0].num_rows
        if there != base.appended_rows.get(PARAMETERS_BASE.name, 0):
            raise _gone(version, PARAMETERS_BASE.name)
    if commits:
        parts.append(rows_of(tables, PARAMETERS.name, commits, _ROW, *wanted, version=version))
        there = count_of(tables, PARAMETERS.name, commits, version) if wanted else parts[-1].num_rows
        if there != _expected(commits):
            raise _gone(version)
    if not parts:
        return {}
    return _newest(pa.concat_tables(parts))


def _newest(rows: pa.Table) -> dict[str, pa.Table]:
    """By block the newest row of each key, deleted ones left out."""
    names = rows.column("block")
    found = {}
    for block in sorted(pc.unique(names).to_pylist()):
        mine = rows.filter(pc.equal(names, block))
        keys, versions = (mine.column(name).to_numpy() for name in ("key", "snapshot_version"))
        order = np.lexsort((versions, keys))
        last = np.ones(len(order), bool)
        last[:-1] = keys[order[1:]] != keys[order[:-1]]
        if not last.all():
            mine = mine.take(pa.array(order[last]))
        if mine.column("deleted").null_count < mine.num_rows:
            mine = mine.filter(pc.is_null(mine.column("deleted")))
        found[block] = mine.select(STATE)
    return found


def _only(rows: DataFrame, blocks: Sequence[str] | None, keys: Sequence[int] | None) -> DataFrame:
    if blocks is not None:
        rows = rows.where(F.col("block").isin(list(blocks)))
    if keys is not None:
        rows = rows.where(F.col("key").isin([int(key) for key in keys]))
    return rows


def _expected(commits: Sequence[Snapshot]) -> int:
    return sum(commit.appended_rows[PARAMETERS.name] for commit in commits)


def _gone(version: int, table: str = PARAMETERS.name) -> StateDamaged:
    return StateDamaged(
        f"Version {version} cannot be had: rows it stands on are gone from {table}.",
        remedy="Maintenance dropped the log of versions nobody kept, or files were lost; open a newer or a kept version.",
        table=table, version=version,
    )
