"""Messages of a broker on this machine against files of the same events, and how soon a message is in a snapshot.

Catching up: micro-batches of 200,000 JSON events, mf with 16 factors, each read by one learner from a file and by another from a
topic of four partitions that held all of them before, in turn, some micro-batches at a time; seconds from one commit to the next,
the first of each run left out. The broker (one node) runs beside Spark and has no core of its own. Freshness: a learner with a
trigger of a second; 1,000 messages are written at once, at any moment between two triggers, the clock runs from when the broker has the last of them until the
snapshot row that counts it is committed.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from event_files import EventFiles
from figures import Figure, Options, Result, middle, missing, ratio
from pyspark.sql import SparkSession
from streams import settings

from freshet.demo.broker import Broker
from freshet.engine.brokers import make_topic
from freshet.engine.session import build
from freshet.pipelines.online import WAITING, train
from freshet.settings import Settings, load

ROOT = Path(__file__).parent.parent
JARS = ROOT / ".venv" / "kafka"
MODEL = ("model.name=mf", "model.factors=16")
EVENTS, PARTITIONS, AT_ONCE = 200_000, 4, 4
SMALL = 1_000


def measure(options: Options) -> Result:
    """Catching up, then freshness."""
    result = Result(" ".join((__doc__ or "").split()))
    names = {"kafka.catchup": "events a second from Kafka over those from files", "kafka.fresh.p50": "seconds to a snapshot"}
    if not (JARS / "ready").exists():
        result.figures += [missing(name, what, "no jars of Kafka: make .venv/kafka/ready") for name, what in names.items()]
        return result
    jars = ",".join(str(path) for path in sorted((JARS / "connector").glob("*.jar")))
    spark = build(load([], {}, ["source.path=none", f"spark.conf.spark.jars={jars}"])[0].spark, kafka=True)
    with Broker(JARS / "broker", options.folder("broker")) as broker:
        _catching_up(spark, broker, options, result)
        _freshness(spark, broker, options, result)
    spark.stop()
    return result


def _from_kafka(folder: Path, broker: Broker, topic: str, *sets: str) -> Settings:
    there = ("source.format=kafka", f"source.kafka.servers=[{broker.address}]", f"source.kafka.topics=[{topic}]")
    return settings(folder, *MODEL, *there, *sets)


def _written(spark: SparkSession, broker: Broker, topic: str, path: Path) -> None:
    """The lines of a file as messages."""
    options = {"kafka.bootstrap.servers": broker.address, "topic": topic}
    spark.read.text(str(path)).write.format("kafka").options(**options).save()


def _catching_up(spark: SparkSession, broker: Broker, options: Options, result: Result) -> None:
    folder, turns = options.folder("catching-up"), options.pairs(4, 2)
    files = EventFiles(turns * AT_ONCE, EVENTS, "json", seed=options.seed)
    chosen = {
        "files": settings(folder / "files", *MODEL),
        "kafka": _from_kafka(folder / "kafka", broker, "events", f"source.kafka.max_events_per_trigger={EVENTS}"),
    }
    make_topic(spark, chosen["kafka"].source.kafka, PARTITIONS)
    laps: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(turns):
        for number in range(turn * AT_ONCE, (turn + 1) * AT_ONCE):
            path = folder / "files" / "events" / f"events-{number:06d}.json"
            files.write(number, path)
            _written(spark, broker, "events", path)
        made = {}
        for name, one in chosen.items():
            ends: list[tuple[float, int]] = []
            train(spark, one, available_now=True, listener=lambda report, ends=ends: ends.append((time.monotonic(), report.read)))
            made[name] = seconds_of(ends)
        pairs = min(len(part) for part in made.values())
        for name, part in made.items():
            laps[name] += part[:pairs]
    what = f"events/s of micro-batches of {EVENTS:,} from Kafka over those from files"
    result.figures.append(ratio("kafka.catchup", what, laps["files"], laps["kafka"]))


def seconds_of(ends: list[tuple[float, int]]) -> list[float]:
    """Seconds for EVENTS events of each micro-batch but the first; what is left over at the end of a topic is none."""
    return [(after - before) * EVENTS / read for (before, _), (after, read) in pairwise(ends) if read > EVENTS / 2]


def _freshness(spark: SparkSession, broker: Broker, options: Options, result: Result) -> None:
    folder, count = options.folder("fresh"), options.pairs(40, 6)
    files = EventFiles(count + 3, SMALL, "json", seed=options.seed)
    one = _from_kafka(folder / "model", broker, "fresh")
    make_topic(spark, one.source.kafka, PARTITIONS)
    read, ready, enough = [0], threading.Event(), threading.Event()
    at: dict[int, float] = {}

    def heard(report: object) -> None:
        read[0] = report.so_far["read"]  # type: ignore[attr-defined]
        at[read[0]] = time.monotonic()

    learner = threading.Thread(target=lambda: train(
        spark, one, listener=heard, announce=lambda text: ready.set() if text == WAITING else None, until=lambda _: enough.is_set()))
    learner.start()
    ready.wait(120)
    seconds, rng = [], np.random.default_rng(options.seed)
    for number in range(count + 3):
        path = folder / f"{number}.json"
        files.write(number, path)
        time.sleep(rng.random())  # else each would come right after a trigger
        _written(spark, broker, "fresh", path)
        written = time.monotonic()
        while read[0] < (number + 1) * SMALL:
            time.sleep(0.005)
        if number >= 3:
            seconds.append(max(0.0, at[(number + 1) * SMALL] - written))
    enough.set()
    learner.join(120)
    value, low, high = middle(seconds)
    result.figures.append(Figure("kafka.fresh.p50", "seconds from a message to its snapshot, median", value, low, high, f"{count} times"))
    result.figures.append(Figure("kafka.fresh.p95", "the same, 95 of 100", float(np.quantile(seconds, 0.95))))
