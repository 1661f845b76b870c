"""What is told to others through Kafka as it is published: lists of users, and decisions.

    recommendations   key user_id, value {"user_id", "snapshot_version", "items": [{"rank", "item_id", "score", ...}]}
    decisions         key the line, value the row of `decisions` with its snapshot_version, and `model`, which no other model has

A list of a version is the same bytes whenever it is sent, so a topic that keeps the newest message of a key holds one list of a
user. Which decisions were sent is asked of the topic itself, by its last messages: after a crash, or with no broker for a while,
the next look sends what is missing, in order. Each is sent at least once; decision_id tells repeats apart. A topic is of one model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from freshet.engine.brokers import REST, last_messages
from freshet.engine.faults import first_words
from freshet.errors import StoreFailed
from freshet.settings import KafkaSink
from freshet.store.decisions import decisions
from freshet.store.snapshots import History, line
from freshet.store.tables import Tables

_ITEM = ("rank", "item_id", "score", "reason", "propensity")
# A broker that does not answer is not waited for as long as Kafka's own producer would.
_IMPATIENT = {"kafka.max.block.ms": "5000", "kafka.request.timeout.ms": "5000", "kafka.delivery.timeout.ms": "10000"}
# What a job of Spark can raise, and nothing else: a row that cannot be made is a bug and no matter of brokers.
_UNSENT = (PySparkException, Py4JError, ConnectionError)


def send_lists(spark: SparkSession, sink: KafkaSink, rows: pa.Table) -> StoreFailed | None:
    """Send lists, rows of the table `recommendations`; why not, where they cannot be."""
    if sink.recommendations is None or not rows.num_rows:
        return None
    items = F.sort_array(F.collect_list(F.struct(*_ITEM))).alias("items")
    lists = spark.createDataFrame(rows).groupBy("user_id", "snapshot_version").agg(items)
    said = F.to_json(F.struct("user_id", "snapshot_version", "items"))
    messages = lists.select(F.col("user_id").alias("key"), said.alias("value"))
    try:
        _write(messages, sink, sink.recommendations)
    except _UNSENT as error:
        where = f"in the table `recommendations`, and not all in the topic {sink.recommendations}"
        what = f"The lists are {where}: {first_words(str(error))}."
        remedy = "Look at sink.kafka; `freshet recommend --all` sends them again."
        failed = StoreFailed(what, remedy=remedy, table="recommendations", action="send")
        failed.__cause__ = error
        return failed
    return None


class Told:
    """Decisions of one model, sent in order of their versions."""

    def __init__(self, spark: SparkSession, sink: KafkaSink, tables: Tables, say: Callable[[str], None]) -> None:
        self._spark, self._sink, self._tables, self._say = spark, sink, tables, say
        self._sent: tuple[int, str] | None = None  # version and id of the last decision in the topic
        self._seen = -1
        self._rests_until: float | None = None

    def send(self, history: History) -> None:
        """Send what is missing; a broker that does not answer is told of once and left alone for a while."""
        if self._sink.decisions is None or time.monotonic() < (self._rests_until or 0.0):
            return
        version = history.next_version()
        if version == self._seen:  # a decision comes with a row of `snapshots`
            return
        try:
            self._send(history)
        except _UNSENT as error:
            if self._rests_until is None:
                self._say(f"decisions cannot be sent to {self._sink.decisions} for now: {first_words(str(error))}")
            self._rests_until = time.monotonic() + REST
        else:
            self._seen, self._rests_until = version, None

    def _send(self, history: History) -> None:
        assert self._sink.decisions is not None
        first = history.first()
        if first is None:
            return
        model = first.commit_id
        if self._sent is None:
            self._sent = _last_of(model, last_messages(self._spark, self._sink, self._sink.decisions))
        version, last = self._sent
        rows = decisions(self._tables, history, ("snapshot_version", ">=", version))
        ids = [row["decision_id"] for row in rows]
        rows = rows[ids.index(last) + 1 :] if last in ids else rows  # a version may have several, and all before were sent
        if not rows:
            return
        said = [row | {"decided_at": row["decided_at"].isoformat(), "model": model} for row in rows]
        # To one partition, whatever its key: the last message there is how far the sending came, also after a send that broke off.
        told = {
            "partition": pa.array([0] * len(rows), pa.int32()), "key": [line(row["branch"]) for row in rows],
            "value": [json.dumps(row, sort_keys=True) for row in said],
        }
        _write(self._spark.createDataFrame(pa.table(told)).coalesce(1), self._sink, self._sink.decisions)
        self._sent = (rows[-1]["snapshot_version"], rows[-1]["decision_id"])


def _last_of(model: str, messages: list[str]) -> tuple[int, str]:
    """Version and id of the newest of the messages that are this model's decisions; (-1, "") without one."""
    found = [(-1, "")]
    for text in messages:
        try:
            one: Any = json.loads(text)
        except ValueError:
            continue
        if isinstance(one, dict) and one.get("model") == model:
            found.append((int(one["snapshot_version"]), str(one["decision_id"])))
    return max(found)


def _write(messages: DataFrame, sink: KafkaSink, topic: str) -> None:
    options = {**_IMPATIENT, **sink.options, "kafka.bootstrap.servers": ",".join(sink.servers), "topic": topic}
    messages.write.format("kafka").options(**options).save()
