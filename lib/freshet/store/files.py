"""Rows of a table as Arrow: read by Arrow itself on local disk, by Spark elsewhere (docs/decisions/0024).

    rows_of(tables, "decisions", commits, ["kind", "version"], ("actor", "=", "gate"))

A Spark job over a small table costs half a second, and ten times that in a Java process that has just started; reading its
files a few milliseconds. Handing a million rows of vectors from Spark to Python takes several times as long as reading them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import reduce
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from freshet.errors import StateDamaged
from freshet.roots import local_folder
from freshet.schema import TABLES
from freshet.store.columns import arrow_schema
from freshet.store.log_check import cut_checkpoints
from freshet.store.tables import Tables

if TYPE_CHECKING:
    from freshet.store.snapshots import Snapshot

# A column, how it is compared, and with what: =, >=, <, in a list, or `is` null (False: is not). Times are microseconds since 1970.
Condition = tuple[str, str, Any]

# Without it a flipped byte is a wrong number; with it an error.
_CHECKED = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
# Files that Spark has put together hold times in a form which Arrow would take for nanoseconds, with no room past 2262.
_READ = ds.ParquetReadOptions(coerce_int96_timestamp_unit="us")
_MISREAD = re.compile(r"%[0-9A-Fa-f]{2}|[\\\x00-\x1f]")
_ARROW: dict[str, Callable[[pc.Expression, Any], pc.Expression]] = {
    "=": lambda column, value: column == value, ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value, "in": lambda column, values: column.isin(values),
    "is": lambda column, null: column.is_null() if null is None else ~column.is_null(),
}  # fmt: skip
_SPARK: dict[str, Callable[[Column, Any], Column]] = {
    "=": lambda column, value: column == value, ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value, "in": lambda column, values: column.isin(list(values)),
    "is": lambda column, null: column.isNull() if null is None else column.isNotNull(),
}  # fmt: skip


def all_rows(
    tables: Tables, name: str, columns: Sequence[str], *conditions: Condition, version: int | None = None
) -> pa.Table:
    """The columns of the rows of a table for which every condition holds, rows of attempts never committed included, in no order.

    Raises StateDamaged, of that version of the model where one is named, when a file is missing, cut or changed.
    """
    if arrow_reads(tables):
        with _damage(tables, name, version), suppress(DeltaProtocolError):  # what only Spark knows, such as deletion vectors
            return _scanner(tables, name, columns, conditions).to_table()
    return tables.collect(name, _where(tables.read(name), name, conditions).select(*columns), version)


def batches_of(
    tables: Tables, name: str, commits: Sequence[Snapshot], columns: Sequence[str], *conditions: Condition,
    version: int | None = None,
) -> Iterator[pa.Table]:
    """`rows_of` in parts, at least one, for what is made smaller part by part: on local disk no more than some files are in memory
    at once."""
    if not commits or not arrow_reads(tables):
        yield rows_of(tables, name, commits, columns, *conditions, version=version)
        return
    yield _schema(name, columns).empty_table()
    with _damage(tables, name, version):
        for batch in _scanner(tables, name, columns, (*_span(commits), _ids(commits), *conditions)).to_batches():
            yield pa.Table.from_batches([batch])


def rows_of(
    tables: Tables, name: str, commits: Sequence[Snapshot], columns: Sequence[str], *conditions: Condition,
    version: int | None = None,
) -> pa.Table:
    """The same of the rows that those commits wrote."""
    if not commits:
        return _schema(name, columns).empty_table()
    if not arrow_reads(tables):
        frame = _where(committed(tables, name, commits), name, conditions)
        return tables.collect(name, frame.select(*columns), version)
    # The range of versions passes by files; the ids decide.
    return all_rows(tables, name, columns, *_span(commits), _ids(commits), *conditions, version=version)


def count_of(tables: Tables, name: str, commits: Sequence[Snapshot], version: int | None = None) -> int:
    """How many rows those commits wrote that are there; takes no more memory than a part of a file."""
    if not commits:
        return 0
    if not arrow_reads(tables):
        counted = tables.collect(name, committed(tables, name, commits).agg(F.count("commit_id").alias("rows")), version)
        return int(counted.column("rows")[0].as_py())
    return count_where(tables, name, *_span(commits), _ids(commits), version=version)


def count_where(tables: Tables, name: str, *conditions: Condition, version: int | None = None) -> int:
    """How many rows a table has for which every condition holds."""
    if not arrow_reads(tables):
        counted = tables.collect(name, _where(tables.read(name), name, conditions).agg(F.count(F.lit(1)).alias("rows")), version)
        return int(counted.column("rows")[0].as_py())
    with _damage(tables, name, version):
        return int(_scanner(tables, name, (), conditions).count_rows())


def arrow_reads(tables: Tables) -> bool:
    """Whether files under the root can be read by Arrow: they are on local disk, and no name on the way is one that delta-rs
    decodes a second time."""
    folder = local_folder(tables.root)
    return folder is not None and not _MISREAD.search(str(folder))


def _schema(name: str, columns: Sequence[str]) -> pa.Schema:
    return pa.schema([arrow_schema(name).field(column) for column in columns])


def _ids(commits: Sequence[Snapshot]) -> Condition:
    return "commit_id", "in", [commit.commit_id for commit in commits]


def _span(commits: Sequence[Snapshot]) -> tuple[Condition, Condition]:
    return ("snapshot_version", ">=", commits[0].version), ("snapshot_version", "<", commits[-1].version + 1)


def _scanner(tables: Tables, name: str, columns: Sequence[str], conditions: Sequence[Condition]) -> ds.Scanner:
    terms = [_ARROW[how](pc.field(column), _typed(name, column, value)) for column, how, value in conditions]
    wanted = reduce(lambda one, other: one & other, terms) if terms else None
    table = DeltaTable(str(local_folder(tables.path(name))))
    files = table.to_pyarrow_dataset(schema=arrow_schema(name), parquet_read_options=_READ)
    return files.scanner(columns=list(columns), filter=wanted, fragment_scan_options=_CHECKED)


@contextmanager
def _damage(tables: Tables, name: str, version: int | None) -> Iterator[None]:
    try:
        yield
    except DeltaProtocolError:
        raise
    except (OSError, pa.ArrowException, DeltaError) as error:
        at = "" if version is None else f" at version {version}"
        raise StateDamaged(
            f"Table {name} cannot be read{at}: {error}.",
            remedy=cut_checkpoints(tables, name)
            or "A file of it is missing or changed: restore it, or open an older version (--as-of).",
            table=TABLES[name].name, version=version, cause=str(error),
        ) from error


def committed(tables: Tables, name: str, commits: Sequence[Snapshot]) -> DataFrame:
    """The rows of a table that those commits wrote, in the table's columns, as a frame for Spark."""
    frame = tables.read(name)
    if commits:
        frame = frame.where(F.col("snapshot_version").between(commits[0].version, commits[-1].version))
    ids = pa.table({"commit_id": pa.array([commit.commit_id for commit in commits], pa.string())})
    columns = frame.columns
    return frame.join(F.broadcast(tables.spark.createDataFrame(ids)), on="commit_id", how="left_semi").select(columns)


def _where(frame: DataFrame, name: str, conditions: Sequence[Condition]) -> DataFrame:
    for column, how, value in conditions:
        is_time = pa.types.is_timestamp(arrow_schema(name).field(column).type) and how != "is"
        frame = frame.where(_SPARK[how](F.col(column), F.timestamp_micros(F.lit(int(value))) if is_time else value))
    return frame


def _typed(name: str, column: str, value: Any) -> Any:
    """The value as Arrow compares it with the column."""
    kind = arrow_schema(name).field(column).type
    if isinstance(value, (list, tuple, set, frozenset)):
        return pa.array(list(value), kind)
    if value is None or isinstance(value, bool):
        return value
    return pa.scalar(int(value) if pa.types.is_timestamp(kind) else value, kind)
