"""A micro-batch of 1,000 events against its floor: an empty `foreachBatch` and two one-row Delta appends.

Learners of both models and the floor are streams of one session; each is fed a file in turn, in an order drawn anew each
time, at a moment drawn within the trigger's second. Everything is on: cleaning, metrics, histories, events, all commits.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from event_files import EventFiles
from figures import Figure, Options, Result, middle, ratio, shown, stage_table
from pyspark.sql import DataFrame, SparkSession
from streams import Fed, FloorStream, LearnerStream, session, settings

ROWS = 1000
WARM = 6


def floor(spark: SparkSession, folder: Path, trigger: float) -> FloorStream:
    """The floor: reads nothing of its batch, appends one row to each of two Delta tables, one after the other."""
    (folder / "events").mkdir(parents=True)
    row = pa.table({"version": pa.array([1]), "commit_id": pa.array(["floor"])})

    def call(frame: DataFrame, batch_id: int) -> None:
        for name in ("first", "second"):
            spark.createDataFrame(row).coalesce(1).write.format("delta").mode("append").save(str(folder / name))

    frame = spark.readStream.schema("event_id string").option("maxFilesPerTrigger", 1).json(str(folder / "events"))
    return FloorStream(spark, frame, folder, call, trigger)


def measure(options: Options) -> Result:
    """Pairs of learner and floor; then how long an event waits for its snapshot."""
    result = Result(" ".join((__doc__ or "").split("\n\n", 1)[1].split()))
    spark = session()
    folder = options.folder("small")
    pairs = options.pairs(30, 8)
    files = EventFiles(WARM + pairs, ROWS, seed=options.seed)
    learners = {name: LearnerStream(spark, settings(folder / name, f"model.name={name}")).start() for name in ("blend", "bpr", "mf")}
    trigger = learners["bpr"].settings.stream.trigger
    streams: dict[str, LearnerStream | FloorStream] = {**learners, "floor": floor(spark, folder / "floor", trigger)}
    fed = _fed(streams, files, WARM + pairs, np.random.default_rng(options.seed), trigger)
    for stream in streams.values():
        stream.stop()
    floors = [one.seconds for one in fed["floor"]]
    spent = [one.processor for one in fed["floor"]]
    for name in learners:
        what = f"micro-batch of 1,000 events, {name}, over the floor"
        result.figures.append(ratio(f"small.{name}", what, [one.seconds for one in fed[name]], floors))
        result.figures.append(ratio(f"small.{name}.processor", f"{what}, processor seconds", [one.processor for one in fed[name]], spent))
    for name in learners:
        result.figures += _waits(name, [one.latency or 0.0 for one in fed[name]])
    result.tables.append(stage_table("Stages of a micro-batch of 1,000 events (the appends run at the same time)", {
        name: [one.stages | {"whole trigger": one.seconds} for one in fed[name]] for name in learners
    }))
    return result


def _fed(
    streams: dict[str, LearnerStream | FloorStream], files: EventFiles, count: int, rng: np.random.Generator, trigger: float
) -> dict[str, list[Fed]]:
    found: dict[str, list[Fed]] = {name: [] for name in streams}
    for number in range(count):
        hidden = dict(zip(streams, files.drop(number, *(stream.events for stream in streams.values())), strict=True))
        for name in rng.permutation(list(streams)).tolist():
            time.sleep(float(rng.random()) * trigger)
            one = streams[name].feed(hidden[name])
            if number >= WARM:
                found[name].append(one)
    return found


def _waits(name: str, waits: list[float]) -> list[Figure]:
    beside = f"seconds, {len(waits)} files at a 1 s trigger, landed at random moments"
    _, low, high = middle(waits)
    return [
        Figure(f"small.{name}.p50", f"event landed -> snapshot readable, {name}, p50", float(np.median(waits)), low, high, beside),
        Figure(f"small.{name}.p95", f"event landed -> snapshot readable, {name}, p95", float(np.percentile(waits, 95)), None, None,
               f"{beside}; longest {shown(max(waits))}"),
    ]
