"""Where shards learn: in the driver's threads or on executors. Same function, same bits, chosen by size."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyspark.sql import SparkSession

from freshet.engine.placement import run_on_executors
from freshet.models.contract import Model, ShardResult, ShardTask
from freshet.settings import Settings
from freshet.shipping import learn_payload, pack_task, unpack_result


class Placement:
    """Runs the tasks of a round and returns their results in the order of the tasks.

    `stream.placement` driver or executors says where; auto takes executors from `stream.executor_min_events` examples a
    round on, below which starting a Python job costs more than learning.
    """

    def __init__(self, spark: SparkSession, model: Model, settings: Settings) -> None:
        self._spark = spark
        self._model = model
        self._settings = settings
        self._packed = settings.model.model_dump_json()
        self._pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="shard")

    def __call__(self, tasks: Sequence[ShardTask]) -> list[ShardResult]:
        if not self._on_executors(sum(len(task.target) for task in tasks)):
            return list(self._pool.map(self._model.learn, tasks))
        payloads = [pack_task(task, self._packed) for task in tasks]
        return [unpack_result(result) for result in run_on_executors(self._spark, learn_payload, payloads)]

    def _on_executors(self, examples: int) -> bool:
        stream = self._settings.stream
        if stream.placement == "auto":
            return examples >= stream.executor_min_events
        return stream.placement == "executors"

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()
