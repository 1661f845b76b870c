"""Cleaning: a pure function of one frame, from records to events, each with the first rule it breaks.

    clean(sources.stream(spark, source), source, settings) -> one row per record, columns as in CLEANED

No action, no shuffle, no Python, and no literal that changes from one micro-batch to the next (each would be compiled
anew). What needs to see other records (positions, ids made of content, times made of positions) is left to
`batch.collect`, and so is arrival where the source has no file time.
"""

from __future__ import annotations

from typing import Protocol

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructType

from freshet.engine.rules import RULES, Limits, Plan, first_broken
from freshet.engine.sources import Source, mapping
from freshet.engine.times import event_time
from freshet.schema import CHECK_SEED

MICROSECONDS = 1_000_000
ARRIVAL, FILE = "arrived_at", "file_key"

# The columns of a cleaned record. reason: null, or the name of the rule it breaks first; raw: the record, cut, only
# where there is a reason. Null until `batch.collect` fills them: event_at with `order: file`, arrived_at of Delta,
# event_id (and event_hash, dedup_key) where the source has none; then content_hash and content_check, two hashes
# of everything the record says, tell equal records.
CLEANED = {
    "reason": "string", "raw": "string", "event_id": "string", "revision": "bigint", "user_id": "string",
    "item_id": "string", "event_type": "string", "value": "double", "weight": "double", "propensity": "double",
    "event_at": "timestamp", "arrived_at": "timestamp", "context": "map<string,string>", "file_key": "bigint",
    "block_start": "bigint", "ordinal": "bigint", "user_key": "bigint", "item_key": "bigint", "event_hash": "bigint",
    "dedup_key": "bigint", "user_check": "bigint", "item_check": "bigint", "content_hash": "bigint",
    "content_check": "bigint",
}  # fmt: skip


class CleanSettings(Limits, Protocol):
    """The part of the `clean` section that cleaning needs."""

    @property
    def max_raw_length(self) -> int: ...
    @property
    def repeats(self) -> str: ...


def clean(records: DataFrame, source: Source, settings: CleanSettings) -> DataFrame:
    """Records (sources.RECORD) -> CLEANED."""
    plan = Plan(source, settings, "event_id" in mapping(source))
    judged = _converted(records, source).select("*", first_broken(RULES, plan).alias("reason"))
    filled = {**_fields(plan), **_keys(plan, settings.repeats), **_places(records, settings.max_raw_length)}
    notes = _notes(source, settings)
    return judged.select(
        *(filled[name].cast(kind).alias(name, metadata=notes.get(name, {})) for name, kind in CLEANED.items())
    )


def _notes(source: Source, settings: CleanSettings) -> dict[str, dict[str, object]]:
    """What `batch.collect` must know of the settings travels with the columns it concerns, so it cannot differ."""
    if source.format not in ("delta", "kafka"):
        return {}
    window = {"future_us": int(settings.future_tolerance * MICROSECONDS)}
    if settings.max_age is not None:
        window["age_us"] = int(settings.max_age * MICROSECONDS)
    # What a producer's clock says of a message may lie ahead: no later than its micro-batch it has arrived.
    return {ARRIVAL: dict(window), FILE: {"table": source.path} if source.format == "delta" else {"offsets": True}}


def _converted(records: DataFrame, source: Source) -> DataFrame:
    """Fields in the types of an event; beside each number and time the fact that something was given for it."""
    schema = records.schema
    value, given = _value(schema, source)
    return records.select(
        *(F.col(name).cast("string").alias(name) for name in ("event_id", "user_id", "item_id", "event_type")),
        _whole(schema, "revision").alias("revision"), F.col("revision").isNotNull().alias("revision_given"),
        value.alias("value"), given.alias("value_given"),
        _number(schema, "weight").alias("weight"), F.col("weight").isNotNull().alias("weight_given"),
        _number(schema, "propensity").alias("propensity"), F.col("propensity").isNotNull().alias("propensity_given"),
        *event_time(schema["event_at"].dataType, source),
        F.col("event_at").isNotNull().alias("event_at_given"),
        *(F.col(name) for name in ("_context", "_raw", "_unreadable", "_file_key", "_mtime", "_block", "_ordinal")),
    )  # fmt: skip


def _value(schema: StructType, source: Source) -> tuple[Column, Column]:
    """values[type], else the column, else the default; and whether any of them is there."""
    by_type = F.lit(None).cast("double")
    for kind, value in source.values.items():
        by_type = F.when(F.col("event_type").cast("string") == kind, F.lit(float(value))).otherwise(by_type)
    default = F.lit(source.default_value).cast("double")
    column = F.when(F.col("value").isNotNull(), _number(schema, "value")).otherwise(default)
    given = by_type.isNotNull() | F.col("value").isNotNull() | default.isNotNull()
    return F.coalesce(by_type, column), given


def _number(schema: StructType, name: str) -> Column:
    """double, null where a text is not a number. Java reads `5d` and `5f` as 5; we do not."""
    column = F.col(name)
    if not isinstance(schema[name].dataType, StringType):
        return column.cast("double")
    # In quotes stands NaN of a JSON number, see json_lines. The cast outermost, so that it is done once.
    text = F.when(F.startswith(column, F.lit('"')), F.btrim(column, F.lit('"'))).otherwise(column)
    return F.when(~F.substring(F.rtrim(column), -1, 1).isin("d", "D", "f", "F"), text).try_cast("double")


def _whole(schema: StructType, name: str) -> Column:
    return F.col(name).try_cast("bigint")


def _fields(plan: Plan) -> dict[str, Column]:
    context = F.map_filter("_context", lambda _name, value: value.isNotNull())
    return {
        "reason": F.col("reason"),
        "revision": _revision(),
        "user_id": F.col("user_id"),
        "item_id": F.col("item_id"),
        "event_type": F.col("event_type"),
        "value": F.col("value"),
        "weight": F.coalesce(F.col("weight"), F.lit(1.0)),
        "propensity": F.col("propensity"),
        "event_at": F.col("event_at"),
        "arrived_at": F.col("_mtime"),
        "context": context if plan.source.context else F.lit(None),
    }


def _revision() -> Column:
    return F.coalesce(F.col("revision"), F.lit(0).cast("bigint"))


def _keys(plan: Plan, repeats: str) -> dict[str, Column]:
    said = [F.col(name) for name in ("user_id", "item_id", "event_type", "value", "weight", "propensity", "event_at")]
    said += [_revision(), *([F.map_values("_context")] if plan.source.context else [])]
    content = {"content_hash": F.xxhash64(*said), "content_check": F.xxhash64(F.lit(CHECK_SEED), *said)}
    none = F.lit(None)
    event_id = F.col("event_id") if plan.has_event_id else none
    if not plan.has_event_id and repeats == "drop":
        # Equal records are one event, in whatever files they stand: an id made of nothing but what they say.
        event_id = F.concat(*(F.lpad(F.lower(F.hex(part)), 16, "0") for part in content.values()))
    settled = plan.has_event_id or repeats == "drop"
    return {
        "event_id": event_id,
        "user_key": F.xxhash64("user_id"),
        "item_key": F.xxhash64("item_id"),
        "user_check": F.xxhash64(F.lit(CHECK_SEED), F.col("user_id")),
        "item_check": F.xxhash64(F.lit(CHECK_SEED), F.col("item_id")),
        "event_hash": F.xxhash64(event_id) if settled else none,
        "dedup_key": F.xxhash64(event_id, F.lit(0).cast("bigint")) if settled else none,
        **(dict.fromkeys(content, none) if settled else content),
    }


def _places(records: DataFrame, max_raw_length: int) -> dict[str, Column]:
    raw = F.col("_raw")
    if isinstance(records.schema["_raw"].dataType, StructType):
        line = [raw.getField("_corrupt")] if "_corrupt" in records.schema["_raw"].dataType.names else []
        raw = F.coalesce(*line, F.to_json(raw))
    return {
        "raw": F.when(F.col("reason").isNotNull(), F.substring(raw, 1, max_raw_length)),
        "file_key": F.col("_file_key"),
        "block_start": F.col("_block"),
        "ordinal": F.col("_ordinal"),
    }
