"""Sources: a folder of files, a Delta table or topics of Kafka become one row per record, nothing judged and nothing lost.

`stream(spark, source)` reads for ever, `files(spark, source, paths)` reads some files once; both give RECORD columns:
the event's fields as the source has them, and where the record stood. Text formats give text for every field: what a
text means is decided by `clean`, in one place. Blank lines are no records. A line that does not parse is a record, with
`_unreadable`. Hidden files (`.x`, `_x`) are not read: a writer that needs time writes under such a name and renames.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.readwriter import DataStreamReader
from pyspark.sql.types import StringType, StructField, StructType

from freshet.engine import json_lines
from freshet.engine.places import FILE_PLACE, KAFKA_PLACE, TABLE_PLACE, place
from freshet.engine.shape import FIELDS, check_types, refuse_missing
from freshet.errors import SourceRefused, UnknownName
from freshet.settings.kafka import beginning

# One row of a source: the event's fields (null where the source has none), then
#   _context     map<string,string>, with a null for a value that is missing; null where the settings name no column
#   _raw         the record: text, or a struct of the columns that were read
#   _unreadable  true where the record is not one whole object or line
#   _file_key    where it stood: xxhash64 of the file's name as the engine writes it (a URI; a hash, because a name for
#                every record would be the largest column), _mtime of that file (null for Delta),
#   _block       start of the block of the file a task read, _ordinal: its order inside (file, block)
RECORD = (*FIELDS, "_context", "_raw", "_unreadable", "_file_key", "_mtime", "_block", "_ordinal")


class CsvShape(Protocol):
    @property
    def header(self) -> bool: ...
    @property
    def separator(self) -> str: ...
    @property
    def columns(self) -> Sequence[str]: ...


class Topics(Protocol):
    """The `kafka` section of a source."""

    @property
    def servers(self) -> Sequence[str]: ...
    @property
    def topics(self) -> Sequence[str]: ...
    @property
    def start(self) -> str: ...
    @property
    def max_events_per_trigger(self) -> int | None: ...
    @property
    def on_data_loss(self) -> str: ...
    @property
    def options(self) -> Mapping[str, str]: ...


class Source(Protocol):
    """The `source` section of the settings."""

    @property
    def format(self) -> str: ...
    @property
    def path(self) -> str | None: ...
    @property
    def glob(self) -> str | None: ...
    @property
    def columns(self) -> object: ...
    @property
    def context(self) -> Sequence[str]: ...
    @property
    def constants(self) -> Mapping[str, str]: ...
    @property
    def event_types(self) -> Sequence[str]: ...
    @property
    def values(self) -> Mapping[str, float]: ...
    @property
    def default_value(self) -> float | None: ...
    @property
    def order(self) -> str: ...
    @property
    def time_unit(self) -> str: ...
    @property
    def time_format(self) -> str | None: ...
    @property
    def csv(self) -> CsvShape: ...
    @property
    def max_files_per_trigger(self) -> int | None: ...
    @property
    def max_bytes_per_trigger(self) -> int | None: ...
    @property
    def kafka(self) -> Topics: ...


Option = bool | int | str

_NOT_THERE = ("PATH_NOT_FOUND", "DELTA_PATH_DOES_NOT_EXIST", "DELTA_TABLE_NOT_FOUND")

# Reads the data of one format: (spark, source, paths; None means the stream of source.path) -> a frame with the columns
# of the source, `_raw`, `_unreadable`, `_file_key`, `_mtime` and `_block`.
_Read = Callable[[SparkSession, Source, Sequence[str] | None], DataFrame]


def stream(spark: SparkSession, source: Source) -> DataFrame:
    """The streaming frame of RECORD columns. Raises SourceRefused when the source is not there, or cannot be what the
    settings say; nothing is read yet."""
    try:
        return _records(_reader(source)(spark, source, None), source)
    except AnalysisException as error:
        if error.getCondition() not in _NOT_THERE:
            raise
        what, remedy = f"There is nothing at source.path = {source.path}.", "Name a folder that is there: --set source.path=..."
        raise SourceRefused(what, remedy=remedy, path=source.path, wanted=source.format, found="nothing") from error


def files(spark: SparkSession, source: Source, paths: Sequence[str]) -> DataFrame:
    """The same rows of these files once; for delta the path of the table alone."""
    return _records(_reader(source)(spark, source, list(paths)), source)


def mapping(source: Source) -> dict[str, str]:
    """Event field -> column of the source, for fields that are read from a column (a constant goes before it)."""
    named = {field: getattr(source.columns, field, None) for field in FIELDS}
    if source.order == "file":
        named["event_at"] = None
    return {field: name for field, name in named.items() if name is not None and field not in source.constants}


def wanted(source: Source) -> list[str]:
    """Columns to read, each once."""
    return list(dict.fromkeys([*mapping(source).values(), *source.context]))


def _records(frame: DataFrame, source: Source) -> DataFrame:
    present = {name.lower(): name for name in frame.columns}
    columns = mapping(source)

    def column(name: str) -> Column:
        return F.col(_quoted(present[name.lower()])) if name.lower() in present else F.lit(None).cast("string")

    fields = [
        F.lit(source.constants[field]) if field in source.constants
        else column(columns[field]) if field in columns
        else F.lit(None).cast("string")
        for field in FIELDS
    ]  # fmt: skip
    context = [part for name in source.context for part in (F.lit(name), column(name).cast("string"))]
    return frame.select(
        *(value.alias(field) for field, value in zip(FIELDS, fields, strict=True)),
        (F.create_map(*context) if context else F.lit(None).cast("map<string,string>")).alias("_context"),
        F.col("_raw"),
        F.col("_unreadable"),
        "_file_key",
        "_mtime",
        "_block",
        # Not to be had on a stream; `batch.collect` numbers the rows of a micro-batch, which are in the same order.
        (F.lit(None).cast("bigint") if frame.isStreaming else F.monotonically_increasing_id()).alias("_ordinal"),
    )


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _load(spark: SparkSession, source: Source, paths: Sequence[str] | None, form: str, options: Mapping[str, Option],
          schema: StructType | None = None) -> DataFrame:
    """The frame of a format as Spark reads it, batch or stream."""
    reader = spark.readStream if paths is None else spark.read
    reader = reader.format(form).options(**options)
    if source.glob is not None and form != "delta":
        reader = reader.option("pathGlobFilter", source.glob)
    if schema is not None:
        reader = reader.schema(schema)
    if isinstance(reader, DataStreamReader):
        return reader.options(**_pace(source)).load(source.path)
    return reader.load(_exactly(paths or (), form))


def _exactly(paths: Sequence[str], form: str) -> str | list[str]:
    """Paths to load, none of them a pattern."""
    return paths[0] if form == "delta" else [re.sub(r"([\[\]{}*?\\])", r"\\\1", path) for path in paths]


def _pace(source: Source) -> dict[str, Option]:
    """How much one micro-batch takes; bytes instead of files where both are set."""
    pace: dict[str, Option] = {}
    if source.max_bytes_per_trigger is not None:
        pace["maxBytesPerTrigger"] = source.max_bytes_per_trigger
    elif source.max_files_per_trigger is not None:
        pace["maxFilesPerTrigger"] = source.max_files_per_trigger
    if source.format != "delta":
        # 7 days by default: a file older than that, measured from the newest, would be left out without a word.
        pace["maxFileAge"] = "36500d"
    return pace


def _json(spark: SparkSession, source: Source, paths: Sequence[str] | None) -> DataFrame:
    return json_lines.parse(_load(spark, source, paths, "text", {}), wanted(source), mapping(source))


def _csv(spark: SparkSession, source: Source, paths: Sequence[str] | None) -> DataFrame:
    options: dict[str, Option] = {"header": source.csv.header, "sep": source.csv.separator, "quote": '"', "escape": '"',
               "mode": "PERMISSIVE", "encoding": "UTF-8", "columnNameOfCorruptRecord": "_corrupt",
               "enforceSchema": False}  # a header that differs is an error instead of columns under wrong names
    names = list(source.csv.columns) or _header(spark, source, paths, options)
    refuse_missing(source, mapping(source), names)
    schema = StructType([StructField(name, StringType()) for name in [*names, "_corrupt"]])
    frame = _load(spark, source, paths, "csv", {**options, "columnPruning": False}, schema)
    line = F.struct(*(F.col(_quoted(name)) for name in [*names, "_corrupt"]))
    return frame.select("*", *place(FILE_PLACE), line.alias("_raw"), F.col("_corrupt").isNotNull().alias("_unreadable"))


def _header(
    spark: SparkSession, source: Source, paths: Sequence[str] | None, options: Mapping[str, Option]
) -> list[str]:
    """Names of the columns by the header of a file that is there; every other file is held against them."""
    return _first_schema(spark, source, paths, "csv", options, "or name the columns in source.csv.columns").names


def _parquet(spark: SparkSession, source: Source, paths: Sequence[str] | None) -> DataFrame:
    whole = _first_schema(spark, source, paths, "parquet", {}, "its columns and types are read from it")
    return _typed(spark, source, paths, whole, "parquet")


def _delta(spark: SparkSession, source: Source, paths: Sequence[str] | None) -> DataFrame:
    if source.order == "file":
        what = "A Delta table keeps no order of its rows, so `order: file` cannot be had from one."
        raise SourceRefused(what, remedy="Map source.columns.event_at.", path=source.path, wanted="time", found="file")
    whole = _first_schema(spark, source, paths, "delta", {}, "a folder without _delta_log is no Delta table")
    return _typed(spark, source, paths, whole, "delta")


def _typed(spark: SparkSession, source: Source, paths: Sequence[str] | None, whole: StructType, form: str) -> DataFrame:
    refuse_missing(source, mapping(source), whole.names)
    check_types(source, mapping(source), whole)
    names = {name.lower() for name in wanted(source)}
    chosen = StructType([column for column in whole if column.name.lower() in names])
    frame = _load(spark, source, paths, form, {}, chosen if form == "parquet" else None)
    columns = [F.col(_quoted(name)) for name in chosen.names]
    where = place(TABLE_PLACE if form == "delta" else FILE_PLACE)
    return frame.select(*columns, *where, F.struct(*columns).alias("_raw"), F.lit(False).alias("_unreadable"))


def _first_schema(spark: SparkSession, source: Source, paths: Sequence[str] | None, form: str,
                  options: Mapping[str, Option], remedy: str) -> StructType:
    reader = spark.read.format(form).options(**options)
    if source.glob is not None and form != "delta":
        reader = reader.option("pathGlobFilter", source.glob)
    try:
        schema = reader.load(str(source.path) if paths is None else _exactly(paths, form)).schema
    except AnalysisException as error:
        schema, reason = StructType([]), error.getCondition()
    else:
        reason = "no columns"
    if not schema.names:
        what = f"There is no {form} data at {source.path} yet ({reason})."
        remedy = f"Start with at least one file: {remedy}."
        raise SourceRefused(what, remedy=remedy, path=source.path, wanted=form, found=reason)
    return schema


def _kafka(spark: SparkSession, source: Source, paths: Sequence[str] | None) -> DataFrame:
    if paths is not None:
        what = "Messages of Kafka are read as a stream only."
        raise SourceRefused(what, remedy="Name files with another source.format.", path=None, wanted="files", found="kafka")
    messages = spark.readStream.format("kafka").options(**_subscription(source.kafka)).load()
    # A tombstone has no value: a record like every other, that says nothing. Many producers end a message as a line.
    text = F.rtrim(F.coalesce(F.col("value").cast("string"), F.lit("")), F.lit(" \t\r\n"))
    lines = messages.withColumn("value", text)
    return json_lines.parse(lines, wanted(source), mapping(source), KAFKA_PLACE, blank=True)


# Kafka's clients take 500 messages at a time, which is made for programs that work long on each.
_MANY_AT_ONCE = {"kafka.max.poll.records": "20000", "kafka.max.partition.fetch.bytes": str(8 << 20)}


def _subscription(kafka: Topics) -> dict[str, Option]:
    """The options of Spark's Kafka source."""
    pace = {} if kafka.max_events_per_trigger is None else {"maxOffsetsPerTrigger": kafka.max_events_per_trigger}
    return {
        **_MANY_AT_ONCE, **kafka.options, **beginning(kafka.start), **pace, "kafka.bootstrap.servers": ",".join(kafka.servers),
        "subscribe": ",".join(kafka.topics), "failOnDataLoss": kafka.on_data_loss == "stop",
    }  # fmt: skip


FORMATS: dict[str, _Read] = {"json": _json, "csv": _csv, "parquet": _parquet, "delta": _delta, "kafka": _kafka}


def _reader(source: Source) -> _Read:
    if source.format not in FORMATS:
        known = list(FORMATS)
        raise UnknownName(f"Unknown source format {source.format}.", remedy=f"Known: {', '.join(known)}.", known=known)
    return FORMATS[source.format]
