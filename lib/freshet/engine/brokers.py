"""What the brokers of a Kafka source have by now: for the lag behind them, through the connector's own client."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from py4j.protocol import Py4JError
from pyspark.sql import SparkSession

from freshet.engine.places import KAFKA
from freshet.java import java_class

if TYPE_CHECKING:
    from py4j.java_gateway import JavaObject

PATIENCE = 5  # seconds for an answer
REST = 30.0  # and before somebody who gave none is asked again


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
        self._rests_until = 0.0

    def ends(self) -> dict[str, int] | None:
        """kafka://topic/partition -> the offset the next message gets; None where no broker answers, or none may be asked."""
        return self._ask("endOffsets")

    def beginnings(self) -> dict[str, int] | None:
        """The same of the first message that is still there."""
        return self._ask("beginningOffsets")

    def _ask(self, what: str) -> dict[str, int] | None:
        if time.monotonic() < self._rests_until:
            return None
        try:
            client, patience = self._open(), java_class(self._jvm, "java.time.Duration").ofSeconds(PATIENCE)
            wanted = java_class(self._jvm, "java.util.ArrayList")()
            for topic in self._kafka.topics:
                for part in client.partitionsFor(topic, patience) or ():
                    wanted.add(java_class(self._jvm, "org.apache.kafka.common.TopicPartition")(topic, part.partition()))
            found = getattr(client, what)(wanted, patience)
            return {f"{KAFKA}{at.topic()}/{at.partition()}": int(found[at]) for at in wanted}
        except Py4JError:
            self._rests_until = time.monotonic() + REST
            self.close()
            return None

    def _open(self) -> JavaObject:
        if self._client is None:
            properties = self._jvm.java.util.Properties()
            mine = {name.removeprefix("kafka."): value for name, value in self._kafka.options.items() if name.startswith("kafka.")}
            # Who asks for the partitions of a topic must not make it.
            own = {"bootstrap.servers": ",".join(self._kafka.servers), "enable.auto.commit": "false",
                   "allow.auto.create.topics": "false"}  # fmt: skip
            for name, value in {**mine, **own}.items():
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
    brokers = Brokers(spark, OfTopics(sink, [topic]))
    ends, beginnings = brokers.ends(), brokers.beginnings()
    brokers.close()
    if ends is None or beginnings is None:
        raise ConnectionError(f"no broker answers at {', '.join(sink.servers)}")
    if not ends:
        raise ConnectionError(f"there is no topic {topic}")
    parts = {name.rpartition("/")[2]: end for name, end in ends.items() if end > beginnings.get(name, 0)}
    if not parts:
        return []
    assigned = json.dumps({topic: [int(part) for part in parts]})
    reader = spark.read.format("kafka").options(**{
        **sink.options, "kafka.bootstrap.servers": ",".join(sink.servers), "assign": assigned,
        "startingOffsets": json.dumps({topic: {part: end - 1 for part, end in parts.items()}}), "failOnDataLoss": "false",
    })  # fmt: skip
    return [str(row["value"]) for row in reader.load().selectExpr("cast(value as string) as value").collect()]


class OfTopics:
    """The brokers of a sink and some topics, as a client asks."""

    def __init__(self, sink: Asked, topics: Sequence[str]) -> None:
        self.servers, self.options, self.topics = sink.servers, sink.options, topics


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
    read = {span["partition"]: span["until"] or 0 for span in map(json.loads, sources) if "partition" in span}
    return {name: max(0, end - read.get(name, 0)) for name, end in sorted(ends.items())}


def missing(sources: Sequence[str], read: Mapping[str, int]) -> dict[str, int]:
    """Partition -> how many of its planned offsets had no message, where there are such; `read`: messages by partition.

    Of a partition that was new nobody knows with what it began. One whose offsets went back was made anew, and what it has up to
    there is passed by.
    """
    found = {}
    for span in (span for span in map(json.loads, sources) if "partition" in span):
        first, until = span["from"], span["until"]
        if first is not None and until is not None:
            wanted = until if until < first else until - first
            found[span["partition"]] = wanted - read.get(span["partition"], 0)
    return {name: lost for name, lost in found.items() if lost > 0}


def gone(sources: Sequence[str]) -> dict[str, int]:
    """Partition -> the offset from which nobody read it, of those that are not there any more; how many messages, nobody knows."""
    spans = [span for span in map(json.loads, sources) if "partition" in span]
    return {span["partition"]: span["from"] for span in spans if span["until"] is None}
