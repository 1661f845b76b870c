"""One append as one Parquet file and the `add` action that makes it part of a Delta table (docs/decisions/0008).

Arrow writes the file, where a Spark job would plan, turn columns into rows and back, and commit: a tenth of the time for
the small appends of a micro-batch, a fifth for tens of thousands of vectors. Delta itself commits it (`DeltaLog.append`),
so conflicts, log checkpoints and hooks are Delta's own.

The layout is the one of Delta's protocol, https://github.com/delta-io/delta/blob/master/PROTOCOL.md (Add File,
Per-file Statistics): plain Parquet types, times as 64-bit microseconds UTC, every page with a checksum.
"""

from __future__ import annotations

import io
import json
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

ROWS_PER_GROUP = 100_000  # a reader may split a file at groups
_PIECE = 4 << 20  # bytes that cross to the JVM in one message


def new_name() -> str:
    """A file name like Spark's own, which nobody had before."""
    return f"part-00000-{uuid.uuid4()}-c000.snappy.parquet"


def write(rows: pa.Table, target: Path | io.RawIOBase) -> None:
    """Write the rows as Parquet. Raises OSError when the place does not take them."""
    # Words repeat from row to row, floats do not: a dictionary is tried for the first only.
    repeated = [field.name for field in rows.schema if pa.types.is_string(field.type) or field.name == "snapshot_version"]
    pq.write_table(
        rows, target, row_group_size=ROWS_PER_GROUP, compression="snappy", use_dictionary=repeated,
        write_statistics=False, write_page_checksum=True, store_schema=False,
    )  # fmt: skip


def add_action(name: str, size: int, rows: pa.Table, with_statistics: Iterable[str]) -> str:
    """The action as one JSON line; `with_statistics`: columns whose smallest and largest value are told."""
    add = {
        "path": name, "partitionValues": {}, "size": size, "modificationTime": time.time_ns() // 1_000_000, "dataChange": True,
        "stats": json.dumps(statistics(rows, with_statistics)),
    }  # fmt: skip
    return json.dumps({"add": add})


def statistics(rows: pa.Table, names: Iterable[str]) -> dict[str, Any]:
    """numRecords; minValues, maxValues and nullCount of the columns."""
    found: dict[str, Any] = {"numRecords": rows.num_rows, "minValues": {}, "maxValues": {}, "nullCount": {}}
    for name in names:
        column = rows.column(name)
        found["nullCount"][name] = column.null_count
        if column.null_count == len(column):
            continue
        is_time = pa.types.is_timestamp(column.type)
        ends = pc.min_max(column.cast(pa.int64()) if is_time else column).as_py()
        found["minValues"][name] = _iso(ends["min"] // 1000) if is_time else ends["min"]
        # Times are told to the millisecond, the smallest rounded down and the largest up.
        found["maxValues"][name] = _iso(-(-ends["max"] // 1000)) if is_time else ends["max"]
    return found


def _iso(milliseconds: int) -> str:
    """ISO 8601 in UTC."""
    return str(pc.strftime(pa.scalar(milliseconds, pa.timestamp("ms", "UTC")), format="%Y-%m-%dT%H:%M:%SZ").as_py())


class JvmFile(io.RawIOBase):
    """A file of a Hadoop file system, written through the JVM: for roots that are not on local disk."""

    def __init__(self, stream: JavaObject) -> None:
        self._stream, self._waiting, self.size = stream, bytearray(), 0

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, data: Any) -> int:
        """Take the bytes; they cross in pieces of some megabytes."""
        self._waiting += memoryview(data)
        if len(self._waiting) >= _PIECE:
            self._send()
        return len(data)

    def _send(self) -> None:
        self._stream.write(bytes(self._waiting))
        self.size += len(self._waiting)
        self._waiting.clear()

    def close(self) -> None:
        """Send the rest and make the file whole."""
        if not self.closed:
            self._send()
            self._stream.close()
        super().close()
