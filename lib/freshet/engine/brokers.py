"""What the brokers of a Kafka source have by now: for the lag behind them, through the connector's own client."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from freshet.engine.places import KAFKA
from freshet.engine.sources import Topics

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

PATIENCE = 5  # seconds for an answer


class Brokers:
    """A client that only asks where partitions end; good for many questions, from one thread at a time."""

    def __init__(self, spark: SparkSession, kafka: Topics) -> None:
        assert spark._jvm is not None
        self._jvm, self._kafka = spark._jvm, kafka
        self._client: JavaObject | None = None

    def ends(self) -> dict[str, int] | None:
        """kafka://topic/partition -> the offset the next message gets; None where no broker answers, or none may be asked."""
        try:
            client, patience = self._open(), self._jvm.java.time.Duration.ofSeconds(PATIENCE)
            wanted = self._jvm.java.util.ArrayList()
            for topic in self._kafka.topics:
                for part in client.partitionsFor(topic, patience) or ():
                    wanted.add(self._jvm.org.apache.kafka.common.TopicPartition(topic, part.partition()))
            found = client.endOffsets(wanted, patience)
            return {f"{KAFKA}{at.topic()}/{at.partition()}": int(found[at]) for at in wanted}
        except Py4JError:
            self.close()
            return None

    def _open(self) -> JavaObject:
        if self._client is None:
            properties = self._jvm.java.util.Properties()
            mine = {name.removeprefix("kafka."): value for name, value in self._kafka.options.items() if name.startswith("kafka.")}
            for name, value in {**mine, "bootstrap.servers": ",".join(self._kafka.servers), "enable.auto.commit": "false"}.items():
                properties.setProperty(name, value)
            bytes_of = self._jvm.org.apache.kafka.common.serialization.ByteArrayDeserializer
            self._client = self._jvm.org.apache.kafka.clients.consumer.KafkaConsumer(properties, bytes_of(), bytes_of())
        return self._client

    def close(self) -> None:
        """Let go of the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            try:
                client.close()
            except Py4JError:
                return


def behind(ends: Mapping[str, int], sources: Sequence[str]) -> dict[str, int]:
    """Partition -> messages that a micro-batch with these `sources` had not read yet when the partitions ended there."""
    read = {span["partition"]: span["until"] for span in map(json.loads, sources) if "partition" in span}
    return {name: max(0, end - read.get(name, 0)) for name, end in sorted(ends.items())}


def missing(sources: Sequence[str], read: int) -> int:
    """How many of the planned offsets had no message; 0 where a partition was new and nobody knows with what it began."""
    spans = [span for span in map(json.loads, sources) if "partition" in span]
    known = bool(spans) and all(span["from"] is not None for span in spans)
    return max(0, sum(span["until"] - span["from"] for span in spans) - read) if known else 0
