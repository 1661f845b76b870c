"""The demo with a broker between generator and stream: files become messages of a topic, which is what is learned from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from freshet.demo.broker import Broker
from freshet.engine.brokers import make_topic
from freshet.settings import Settings

PARTITIONS = 2
EVERY = "0.5 seconds"


@contextmanager
def through_kafka(spark: SparkSession, settings: Settings, jars: Path) -> Iterator[Settings]:
    """A broker from the jars, its data under demo.out, and a stream that copies every line of the generator's files to the topic of
    the settings; gives the settings that read from there.

    Lines are copied at least once: killed in between, some come twice, and are duplicates by their event ids.
    """
    out = Path(settings.demo.out)
    with Broker(jars, out / "kafka") as broker:
        kafka = settings.source.kafka.model_copy(update={"servers": (broker.address,)})
        make_topic(spark, kafka, PARTITIONS)
        lines = spark.readStream.format("text").load(str(settings.source.path))
        sink = lines.writeStream.format("kafka").option("kafka.bootstrap.servers", broker.address)
        sink = sink.option("topic", kafka.topics[0]).option("checkpointLocation", str(out / "copied"))
        copying = sink.trigger(processingTime=EVERY).start()
        try:
            yield settings.model_copy(update={"source": settings.source.model_copy(update={"kafka": kafka})})
        finally:
            copying.stop()
