"""What the brokers of a Kafka source have by now: for the lag behind them, through the connector's own client."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from freshet.engine.places import KAFKA

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

PATIENCE = 5  # seconds for an answer


class Asked(Protocol):
    """Where brokers are and how they are spoken to."""

    @property
    def servers(self) -> Sequence[str]: ...
    @property
    def options(self) -> Mapping[str, str]: ...


class WithTopics(Asked, Protocol):
    @property
    def topics(self) -> Sequence[str]: ...


class Brokers:
    """A client that only asks where partitions end; good for many questions, from one thread at a time."""

    def __init__(self, spark: SparkSession, kafka: WithTopics) -> None:
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


def last_messages(spark: SparkSession, sink: Asked, topic: str) -> list[str]:
    """The value of the last message of each partition of a topic; of one that has none, nothing."""
    assert spark._jvm is not None
    ends = Brokers(spark, _Only(sink, topic)).ends()
    if ends is None:
        raise ConnectionError(f"no broker answers at {', '.join(sink.servers)}")
    parts = {name.rpartition("/")[2]: end for name, end in ends.items() if end}
    if not parts:
        return []
    assigned = json.dumps({topic: [int(part) for part in parts]})
    reader = spark.read.format("kafka").options(**{
        **sink.options, "kafka.bootstrap.servers": ",".join(sink.servers), "assign": assigned,
        "startingOffsets": json.dumps({topic: {part: end - 1 for part, end in parts.items()}}),
    })  # fmt: skip
    return [str(row["value"]) for row in reader.load().selectExpr("cast(value as string) as value").collect()]


class _Only:
    """The brokers of a sink and one topic, as a client asks."""

    def __init__(self, sink: Asked, topic: str) -> None:
        self.servers, self.options, self.topics = sink.servers, sink.options, (topic,)


def make_topic(spark: SparkSession, kafka: WithTopics, partitions: int) -> None:
    """Make the first topic of the settings where it is not there yet, on as many partitions."""
    assert spark._jvm is not None
    jvm = spark._jvm
    properties = jvm.java.util.Properties()
    properties.setProperty("bootstrap.servers", ",".join(kafka.servers))
    admin, wanted = jvm.org.apache.kafka.clients.admin.Admin.create(properties), jvm.java.util.ArrayList()
    try:
        if kafka.topics[0] not in set(admin.listTopics().names().get()):
            wanted.add(jvm.org.apache.kafka.clients.admin.NewTopic(kafka.topics[0], partitions, 1))
            admin.createTopics(wanted).all().get()
    finally:
        admin.close()


def behind(ends: Mapping[str, int], sources: Sequence[str]) -> dict[str, int]:
    """Partition -> messages that a micro-batch with these `sources` had not read yet when the partitions ended there."""
    read = {span["partition"]: span["until"] for span in map(json.loads, sources) if "partition" in span}
    return {name: max(0, end - read.get(name, 0)) for name, end in sorted(ends.items())}


def missing(sources: Sequence[str], read: int) -> int:
    """How many of the planned offsets had no message; 0 where a partition was new and nobody knows with what it began."""
    spans = [span for span in map(json.loads, sources) if "partition" in span]
    known = bool(spans) and all(span["from"] is not None for span in spans)
    return max(0, sum(span["until"] - span["from"] for span in spans) - read) if known else 0
