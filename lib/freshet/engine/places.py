"""Where a record stood, as Spark knows it while it reads; taken in the first select, because `_metadata` as a whole is
built anew for every record."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F

Place = Mapping[str, Callable[[], Column]]
KAFKA = "kafka://"  # what the name of a partition begins with: kafka://topic/partition

FILE_PLACE: Place = {
    "_file_key": lambda: F.xxhash64("_metadata.file_path"),
    "_mtime": lambda: F.col("_metadata.file_modification_time"),
    "_block": lambda: F.col("_metadata.file_block_start"),
}

# A stream of a Delta table has no `_metadata`; and the table may be rewritten without a change of its rows, so the time
# of its files says nothing.
TABLE_PLACE: Place = {
    "_file_key": lambda: F.xxhash64(F.input_file_name()),
    "_mtime": lambda: F.lit(None).cast("timestamp"),
    "_block": F.input_file_block_start,
}

# A partition stands for a file, an offset for the place in it; Kafka's time of a message is when it arrived.
KAFKA_PLACE: Place = {
    "_file_key": lambda: F.xxhash64(F.concat(F.lit(KAFKA), F.col("topic"), F.lit("/"), F.col("partition").cast("string"))),
    "_mtime": lambda: F.col("timestamp"),
    "_block": lambda: F.col("offset"),
}


def place(columns: Place) -> list[Column]:
    """The columns `_file_key`, `_mtime`, `_block`."""
    return [column().alias(name) for name, column in columns.items()]
