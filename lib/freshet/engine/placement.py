"""Where shards learn: the same function on the same bytes, in the driver's threads or on executors.

A task is a pure function of its payload, so a retry, a second attempt elsewhere or a task run twice changes nothing:
the result of a shard is taken once, whoever made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor

import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.errors import EngineRefused

LARGE = 32 << 20
Task = Callable[[bytes], bytes]

_SCHEMA = pa.schema([("shard", pa.int32()), ("payload", pa.binary())])
_DDL = "shard int, payload binary"


def run_local(pool: Executor, function: Task, payloads: Sequence[bytes]) -> list[bytes]:
    """Results in the order of the payloads, made by the pool's threads (numba releases the interpreter)."""
    return list(pool.map(function, payloads))


def run_on_executors(spark: SparkSession, function: Task, payloads: Sequence[bytes]) -> list[bytes]:
    """Results in the order of the payloads, in as many Spark tasks as there are cores, or one each.

    `function` must be importable on executors: what travels is its name, not its code.
    """
    if not payloads:
        return []
    shards = pa.table([pa.array(range(len(payloads)), pa.int32()), pa.array(payloads, pa.binary())], schema=_SCHEMA)

    def task(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for shard, payload in zip(batch.column(0).to_pylist(), batch.column(1), strict=True):
                yield pa.RecordBatch.from_arrays(
                    [pa.array([shard], pa.int32()), pa.array([function(payload.as_py())], pa.binary())], schema=_SCHEMA
                )

    # A local table is cut into as many tasks as there are cores, without a shuffle: .2 s a round instead of .6. A table
    # past Spark's limit for local ones (48 MB) would be one task.
    sent = spark.createDataFrame(shards)
    if shards.nbytes > LARGE:
        sent = sent.repartitionById(len(payloads), "shard")
    found = sent.mapInArrow(task, _DDL).toArrow().sort_by("shard")
    if found.column("shard").to_pylist() != list(range(len(payloads))):
        what = f"{len(payloads)} shards went out and {found.num_rows} came back."
        raise EngineRefused(what, remedy="Start again.", setting="shards", wanted=len(payloads), found=found.num_rows)
    return [value.as_py() for value in found.column("payload")]
