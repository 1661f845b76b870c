"""The columns of `schema.TABLES` as Spark types, as Arrow types and as the first entry of a Delta log."""

from __future__ import annotations

import json
import time
import uuid
from functools import cache

import pyarrow as pa
from pyspark.sql import types
from pyspark.sql.pandas.types import to_arrow_schema
from sqlglot import expressions as sql

from freshet.errors import FreshetError, UnknownName
from freshet.schema import TABLES, Table

# Reader 1 and writer 2 is what NOT NULL needs, and what every reader of Delta can open.
PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}

# Minimum and maximum per file are kept of these alone: they let a reader pass by files (a range of versions, a span of
# time), and statistics of vectors cost more than they could ever save.
_WITH_STATISTICS = ("snapshot_version", "version", "event_at", "requested_at")


def table(name: str) -> Table:
    """The table of that name; raises UnknownName."""
    if name not in TABLES:
        raise UnknownName(f"There is no table {name!r}.", remedy=f"Tables: {', '.join(TABLES)}.", known=list(TABLES))
    return TABLES[name]


_PLAIN: dict[str, types.DataType] = {
    "STRING": types.StringType(), "BIGINT": types.LongType(), "INT": types.IntegerType(), "DOUBLE": types.DoubleType(),
    "FLOAT": types.FloatType(), "TIMESTAMP": types.TimestampType(), "BOOLEAN": types.BooleanType(),
}  # fmt: skip


@cache
def spark_schema(name: str) -> types.StructType:
    """The columns as Spark types, with comments; required ones not nullable."""
    schema = types.StructType([])
    for column in table(name).columns:
        kind = _type(sql.DataType.build(column.type, dialect="spark"))
        schema = schema.add(column.name, kind, not column.required, {"comment": column.comment})
    return schema


def _type(kind: sql.Expression) -> types.DataType:
    """A type of Spark SQL DDL; Spark's own parser of it would need a session."""
    inner = kind.expressions
    if kind.this == sql.DataType.Type.ARRAY:
        return types.ArrayType(_type(inner[0]))
    if kind.this == sql.DataType.Type.MAP:
        return types.MapType(_type(inner[0]), _type(inner[1]))
    if kind.this == sql.DataType.Type.STRUCT:
        return types.StructType([types.StructField(one.name, _type(one.args["kind"])) for one in inner])
    return _PLAIN[kind.sql(dialect="spark")]


@cache
def arrow_schema(name: str) -> pa.Schema:
    """The columns as Arrow types; times are microseconds UTC."""
    return to_arrow_schema(spark_schema(name), timezone="UTC")


def conform(name: str, rows: pa.Table) -> pa.Table:
    """The rows with exactly the columns of the table, in its order and types.

    Raises FreshetError (`table`, `missing`, `unexpected`, or the value that does not fit).
    """
    wanted = arrow_schema(name)
    missing = [column for column in wanted.names if column not in rows.column_names]
    unexpected = [column for column in rows.column_names if column not in wanted.names]
    if missing or unexpected:
        raise FreshetError(
            f"Rows for {name} lack {missing} and have {unexpected}, which the table does not know.",
            remedy="Their columns must be those of freshet.schema.", table=name, missing=missing, unexpected=unexpected,
        )
    try:
        return rows.select(wanted.names).cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise FreshetError(f"Rows for {name} do not fit its columns: {error}.", table=name) from error


def with_statistics(name: str) -> list[str]:
    """The columns of the table whose minimum and maximum every file tells."""
    return [column for column in table(name).names if column in _WITH_STATISTICS]


def first_entry(name: str, properties: dict[str, str]) -> tuple[list[str], str]:
    """The lines of a Delta log's entry 0, protocol and metadata, and its checksum, as the open format defines them."""
    statistics = ",".join(with_statistics(name))
    columns = {"delta.dataSkippingStatsColumns": statistics} if statistics else {"delta.dataSkippingNumIndexedCols": "0"}
    metadata = {
        "id": str(uuid.uuid4()),
        "description": table(name).row,
        "format": {"provider": "parquet", "options": {}},
        "schemaString": spark_schema(name).json(),
        "partitionColumns": [],
        "configuration": {**properties, **columns},
        "createdTime": int(time.time() * 1000),
    }
    checksum = {
        "tableSizeBytes": 0, "numFiles": 0, "numMetadata": 1, "numProtocol": 1, "setTransactions": [], "domainMetadata": [],
        "metadata": metadata, "protocol": PROTOCOL, "allFiles": [],
    }  # fmt: skip
    return [json.dumps({"protocol": PROTOCOL}), json.dumps({"metaData": metadata})], json.dumps(checksum)
