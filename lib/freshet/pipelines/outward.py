"""What is told to others through Kafka as it is published: lists of users, and decisions.

    recommendations   key user_id, value {"user_id", "snapshot_version", "items": [{"rank", "item_id", "score", ...}]}
    decisions         key the line, value the row of `decisions` with its snapshot_version

A list of a version is the same bytes whenever it is sent, so a topic that keeps the newest message of a key holds one list of a
user. Which decisions were sent is asked of the topic itself, by the version in its last messages: after a crash, or with no broker
for a while, the next look sends what is missing, in order.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from freshet.engine.brokers import last_messages
from freshet.errors import StoreFailed
from freshet.settings import KafkaSink
from freshet.store.decisions import decisions
from freshet.store.snapshots import History, line
from freshet.store.tables import Tables

_ITEM = ("rank", "item_id", "score", "reason", "propensity")


def send_lists(spark: SparkSession, sink: KafkaSink, rows: pa.Table) -> None:
    """Send lists, rows of the table `recommendations`. Raises StoreFailed where they cannot be."""
    if sink.recommendations is None or not rows.num_rows:
        return
    items = F.sort_array(F.collect_list(F.struct(*_ITEM))).alias("items")
    lists = spark.createDataFrame(rows).groupBy("user_id", "snapshot_version").agg(items)
    said = F.to_json(F.struct("user_id", "snapshot_version", "items"))
    messages = lists.select(F.col("user_id").alias("key"), said.alias("value"))
    try:
        _write(messages, sink, sink.recommendations)
    except PySparkException as error:
        what = f"The lists are in the table `recommendations`, and not in the topic {sink.recommendations}: {str(error)[:200]}."
        remedy = "Look at sink.kafka; `freshet recommend --all` sends them again."
        raise StoreFailed(what, remedy=remedy, table="recommendations", action="send") from error


class Told:
    """Decisions of one model, sent in order of their versions."""

    def __init__(self, spark: SparkSession, sink: KafkaSink, tables: Tables, say: Callable[[str], None]) -> None:
        self._spark, self._sink, self._tables, self._say = spark, sink, tables, say
        self._upto: int | None = None  # the last version whose decisions are in the topic
        self._seen = -1
        self._silent = False

    def send(self, history: History) -> None:
        """Send what is missing; a broker that does not answer is told of once and asked again at the next look."""
        if self._sink.decisions is None:
            return
        version = history.next_version()
        if version == self._seen:  # a decision comes with a row of `snapshots`
            return
        try:
            self._send(history)
        except (PySparkException, ConnectionError) as error:
            if not self._silent:
                self._say(f"decisions cannot be sent to {self._sink.decisions} for now: {str(error).splitlines()[0][:200]}")
            self._silent = True
        else:
            self._seen, self._silent = version, False

    def _send(self, history: History) -> None:
        assert self._sink.decisions is not None
        if self._upto is None:
            last = last_messages(self._spark, self._sink, self._sink.decisions)
            self._upto = max((json.loads(text).get("snapshot_version", -1) for text in last), default=-1)
        rows = decisions(self._tables, history, ("snapshot_version", ">=", self._upto + 1))
        if not rows:
            return
        told = {
            "key": [line(row["branch"]) for row in rows],
            "value": [json.dumps(row | {"decided_at": row["decided_at"].isoformat()}, sort_keys=True) for row in rows],
        }
        _write(self._spark.createDataFrame(pa.table(told)).coalesce(1), self._sink, self._sink.decisions)
        self._upto = rows[-1]["snapshot_version"]


def _write(messages: DataFrame, sink: KafkaSink, topic: str) -> None:
    options = {**sink.options, "kafka.bootstrap.servers": ",".join(sink.servers), "topic": topic}
    messages.write.format("kafka").options(**options).save()
