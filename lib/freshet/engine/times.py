"""Event times: whatever the source writes, microseconds of UTC, or null; never a guess.

A number is taken in the unit of the settings and in no other: a source that changes from seconds to milliseconds gives
years far outside EARLIEST..LATEST, and a rule says so. A text needs a date with a four-digit year: Spark would read
`12:30`, `now` and `today` as times of the day on which the record is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, NumericType, StringType

if TYPE_CHECKING:
    from freshet.engine.sources import Source

MICROSECONDS_OF = {"s": 1_000_000, "ms": 1_000, "us": 1}
EARLIEST_US = 631_152_000_000_000  # 1990-01-01
LATEST_US = 4_102_444_800_000_000  # 2100-01-01


def event_time(kind: DataType, source: Source) -> list[Column]:
    """`event_at` timestamp, null when it cannot be read (or held: a number far outside the range), and
    `event_at_readable`."""
    column = F.col("event_at")
    if isinstance(kind, NumericType) or (isinstance(kind, StringType) and source.time_unit in MICROSECONDS_OF):
        return _of_number(column, MICROSECONDS_OF.get(source.time_unit, 1))
    if not isinstance(kind, StringType):
        return _read(column.cast("timestamp"))  # the type says what it is
    if source.time_format is not None:
        return _read(F.try_to_timestamp(column, F.lit(source.time_format)))
    text = F.btrim(column)
    # The cast outermost: then the engine does it once for both columns.
    return _read(F.when(F.substring(text, 5, 1) == "-", text).try_cast("timestamp"))


def out_of_range(time: Column) -> Column:
    """Null, or not between EARLIEST and LATEST."""
    earliest, latest = (F.timestamp_micros(F.lit(bound)) for bound in (EARLIEST_US, LATEST_US))
    return time.isNull() | ~time.between(earliest, latest)


def _of_number(column: Column, scale: int) -> list[Column]:
    # A double counts microseconds exactly until the year 2255; NaN and infinity fall outside the range.
    micros = F.rint(column.try_cast("double") * scale)
    inside = F.when(micros.between(F.lit(float(EARLIEST_US)), F.lit(float(LATEST_US))), micros)
    return [F.timestamp_micros(inside.cast("bigint")).alias("event_at"), micros.isNotNull().alias("event_at_readable")]


def _read(time: Column) -> list[Column]:
    return [time.alias("event_at"), time.isNotNull().alias("event_at_readable")]
