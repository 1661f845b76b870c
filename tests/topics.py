"""A topic of the tests' broker, through the JVM of the tests' session: made, written to, cut off, given more partitions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from py4j.java_gateway import JavaMember
from py4j.protocol import STATIC_PREFIX

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.demo.broker import Broker


@dataclass
class Topic:
    spark: SparkSession
    broker: Broker
    name: str

    def create(self, partitions: int) -> Topic:
        new = self._kafka.clients.admin.NewTopic(self.name, partitions, 1)
        self._admin(lambda admin: admin.createTopics(self._list(new)).all().get())
        return self

    def write(self, values: Sequence[bytes | None], partition: int = 0, at: str | None = None) -> None:
        """Messages in this order, None a tombstone; `at`: what the producer's clock says."""
        columns = {"value": pa.array(values, pa.binary()), "partition": pa.array([partition] * len(values), pa.int32())}
        frame = self.spark.createDataFrame(pa.table({**columns, "at": range(len(values))})).coalesce(1).orderBy("at")
        said = [] if at is None else [f"timestamp'{at}' as timestamp"]
        frame.selectExpr("cast(null as binary) as key", "value", "partition", *said).write.format("kafka").options(**{
            "kafka.bootstrap.servers": self.broker.address, "topic": self.name, "kafka.max.request.size": str(4 << 20)}).save()

    def more_partitions(self, count: int) -> None:
        wanted = self._spark_jvm.java.util.HashMap()
        wanted.put(self.name, self._kafka.clients.admin.NewPartitions.increaseTo(count))
        self._admin(lambda admin: admin.createPartitions(wanted).all().get())
        time.sleep(1)  # until every client has heard of it

    def forget(self, before: int, partition: int = 0) -> None:
        """Delete the messages before an offset, as retention does."""
        wanted = self._spark_jvm.java.util.HashMap()
        at = self._kafka.common.TopicPartition(self.name, partition)
        kind = self._kafka.clients.admin.RecordsToDelete
        # By hand: beside the static method there is one of the same name that is not, and py4j finds that one.
        offset = JavaMember("beforeOffset", None, STATIC_PREFIX + kind._fqn, kind._gateway_client)(before)
        wanted.put(at, offset)
        self._admin(lambda admin: admin.deleteRecords(wanted).all().get())

    def settings(self, *more: str) -> list[str]:
        """What makes a site read it."""
        return ["source.format=kafka", f"source.kafka.servers=[{self.broker.address}]", f"source.kafka.topics=[{self.name}]", *more]

    @property
    def _spark_jvm(self) -> Any:
        return self.spark._jvm

    @property
    def _kafka(self) -> Any:
        return self._spark_jvm.org.apache.kafka

    def _list(self, one: Any) -> Any:
        found = self._spark_jvm.java.util.ArrayList()
        found.add(one)
        return found

    def _admin(self, call: Any) -> None:
        properties = self._spark_jvm.java.util.Properties()
        properties.setProperty("bootstrap.servers", self.broker.address)
        admin = self._kafka.clients.admin.Admin.create(properties)
        try:
            call(admin)
        finally:
            admin.close()
