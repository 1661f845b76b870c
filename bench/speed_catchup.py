"""Catching up with micro-batches of 200,000 events, mf with 16 factors, against a job that only reads and writes.

The plain job reads the same files and appends the same bytes to tables of the same name and shape, through Spark: its
events go from the file into the table, all other rows are those the learner appended for that file, at the same time,
then the snapshot row. It cleans, checks, hashes, deduplicates, measures and learns nothing. The lean job is the same with
the learner's own way of appending for all but the events. Learner with shards in the driver's threads, learner with
shards on executors and the two jobs are streams of one session and take each file in turn.
Peers learn the same events in one process from memory (River, one Python loop) or from a text file (Vowpal Wabbit).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pyarrow as pa
from event_files import EventFiles
from figures import Figure, Options, Result, Table, middle, ratio, shown, stage_table
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from streams import Fed, FloorStream, LearnerStream, appended_bytes, session, settings

from freshet.pipelines.starting import Opened
from freshet.schema import EVENTS, SNAPSHOTS
from freshet.store.columns import conform, spark_schema
from freshet.store.commit import Attempt, Writer, stamped
from freshet.store.snapshots import Snapshot, to_record
from freshet.store.tables import Tables

ROWS = 200_000
WARM = 3
SCHEMA = "event_id string, user_id string, item_id string, event_type string, value double, event_at timestamp"
FOLDERS = {"driver": "driver", "executors": "executors", "plain job": "job", "lean job": "lean"}
APPENDED = ("events", "parameters", "ids", "snapshots")


class Recorded:
    """A writer that remembers, beside committing, what the last commit appended."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.rows: dict[str, pa.Table] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def commit(self, attempt: Attempt, parts: dict[str, pa.Table], values: dict[str, object]) -> Snapshot:
        snapshot = self._writer.commit(attempt, parts, values)
        self.rows = {name: stamped(name, rows, attempt) for name, rows in parts.items() if rows.num_rows}
        schema = self._writer.tables.arrow_schema(SNAPSHOTS.name)
        self.rows[SNAPSHOTS.name] = pa.Table.from_pylist([to_record(snapshot)], schema=schema)
        return snapshot


class PlainJob:
    """Reads files and writes tables, and that is all; `lean` appends rows of the driver as the learner does."""

    def __init__(
        self, spark: SparkSession, folder: Path, format: str, source: list[Recorded], trigger: float, lean: bool
    ) -> None:
        (folder / "events").mkdir(parents=True)
        self._tables = Tables(spark, str(folder / "model"))
        self._tables.create()
        self._recorded = source
        self._lean = lean
        self._pool = ThreadPoolExecutor(4)
        frame = spark.readStream.schema(SCHEMA).option("maxFilesPerTrigger", 1).format(format).load(str(folder / "events"))
        self.stream = FloorStream(spark, self._events(frame), folder, self._write, trigger)

    def _events(self, frame: DataFrame) -> DataFrame:
        made = {
            "revision": F.lit(0), "corrects": F.lit(None), "weight": F.lit(1.0), "propensity": F.lit(None), "context": F.lit(None),
            "arrived_at": F.col("_metadata.file_modification_time"), "source": F.col("_metadata.file_path"),
            "position": F.col("_metadata.file_block_start"), "branch": F.lit("main"), "snapshot_version": F.lit(1),
            "commit_id": F.lit("0" * 24),
        }
        columns = spark_schema(EVENTS.name)
        return frame.select(*(made.get(field.name, F.col(field.name)).cast(field.dataType).alias(field.name) for field in columns))

    def _write(self, frame: DataFrame, batch_id: int) -> None:
        rows = dict(self._recorded[0].rows)
        last = rows.pop(SNAPSHOTS.name)
        rows.pop(EVENTS.name)
        path = self._tables.path(EVENTS.name)
        waiting = [self._pool.submit(lambda: frame.write.format("delta").mode("append").save(path))]
        waiting += [self._pool.submit(self._append, name, table) for name, table in rows.items()]
        for future in waiting:
            future.result()
        self._append(SNAPSHOTS.name, last)

    def _append(self, name: str, rows: pa.Table) -> None:
        if self._lean:
            self._tables.append(name, rows)
            return
        frame = self._tables.spark.createDataFrame(conform(name, rows), spark_schema(name))
        frame.coalesce(1 + rows.num_rows // 25_000).write.format("delta").mode("append").save(self._tables.path(name))


def measure(options: Options) -> Result:
    """Both formats, then the peers on the events of one of them."""
    result = Result(" ".join((__doc__ or "").split()))
    spark = session()
    count = WARM + options.pairs(12, 3)
    speeds: list[float] = []
    for format in ("parquet", "json"):
        speeds += _format(spark, options, format, count, result)
    _peers(options, speeds, result)
    return result


def _format(spark: SparkSession, options: Options, format: str, count: int, result: Result) -> list[float]:
    """Figures of one format; events a second of each micro-batch of the driver's learner."""
    folder = options.folder(f"catchup-{format}")
    files = EventFiles(count, ROWS, format, seed=options.seed)
    recorded: list[Recorded] = []
    model = ("model.name=mf", "model.factors=16", f"source.format={format}")
    driver = settings(folder / "driver", *model, "stream.placement=driver")
    executors = settings(folder / "executors", *model, "stream.placement=executors")
    (folder / "driver" / "events").mkdir(parents=True, exist_ok=True)
    files.drop(0, folder / "driver" / "events", folder / "executors" / "events")
    learners = {
        "driver": LearnerStream(spark, driver, lambda opened: _record(opened, recorded)),
        "executors": LearnerStream(spark, executors),
    }
    fed = _fed(spark, learners, files, count, recorded, folder, format)
    ours, theirs, lean = ([one.seconds for one in fed[name]] for name in ("driver", "plain job", "lean job"))
    speed = [ROWS / one for one in ours]
    value, low, high = middle(speed)
    result.figures += [
        ratio(f"catchup.{format}", f"micro-batch of 200,000 events from {format}, over the plain job", ours, theirs),
        ratio(f"catchup.{format}.lean", f"the same over the lean job, {format}", ours, lean),
        ratio(f"catchup.{format}.processor", f"the same in processor seconds, {format}",
              [one.processor for one in fed["driver"]], [one.processor for one in fed["plain job"]]),
        ratio(f"catchup.{format}.executors", f"the same with shards on executors, over the driver's, {format}",
              [one.seconds for one in fed["executors"]], ours),
        Figure(f"catchup.{format}.events", f"events a second, {format}", value, low, high, "the whole trigger"),
    ]
    result.tables.append(_stages(format, fed))
    result.tables.append(_bytes(format, folder, count))
    return speed


def _record(opened: Opened, recorded: list[Recorded]) -> None:
    recorded.append(Recorded(opened.writer))
    opened.writer = recorded[0]  # type: ignore[assignment]


def _fed(
    spark: SparkSession, learners: dict[str, LearnerStream], files: EventFiles, count: int, recorded: list[Recorded],
    folder: Path, format: str,
) -> dict[str, list[Fed]]:
    """Each file to the learners in turn and then to the jobs, which append what the driver's learner appended."""
    streams: dict[str, LearnerStream | FloorStream] = dict(learners)
    fed: dict[str, list[Fed]] = {name: [] for name in FOLDERS}
    for number in range(count):
        hidden = _hidden(files, number, folder)
        for name in FOLDERS:
            if name in learners and number == 0:
                # A Parquet source must have a file to read its columns from before it can start.
                one = learners[name].first(hidden[name])
            elif name not in streams:
                trigger = learners["driver"].settings.stream.trigger
                job = PlainJob(spark, folder / FOLDERS[name], format, recorded, trigger, name == "lean job")
                streams[name] = job.stream
                one = job.stream.feed(files.drop(number, folder / FOLDERS[name] / "events")[0])
            else:
                one = streams[name].feed(hidden[name])
            if number >= WARM:
                fed[name].append(one)
    for stream in streams.values():
        stream.stop()
    return fed


def _hidden(files: EventFiles, number: int, folder: Path) -> dict[str, Path]:
    if number == 0:
        return {name: folder / name / "events" / f"_events-{0:06d}.{files.format}" for name in ("driver", "executors")}
    made = files.drop(number, *(folder / name / "events" for name in FOLDERS.values()))
    return dict(zip(FOLDERS, made, strict=True))


def _stages(format: str, fed: dict[str, list[Fed]]) -> Table:
    columns = {name: [one.stages | {"whole trigger": one.seconds} for one in laps] for name, laps in fed.items()}
    return stage_table(f"Stages of a micro-batch of 200,000 events, {format}", columns, 1.0, "s")


def _bytes(format: str, folder: Path, count: int) -> Table:
    """Bytes a micro-batch appends to each table, learner and plain job."""
    rows: list[Sequence[str]] = [["table", "bytes an event", "the plain job's"]]
    for table in APPENDED:
        sizes = [appended_bytes(folder / name / "model", table)[-(count - WARM):] for name in ("driver", "job")]
        rows.append([table, *(shown(float(np.median(size)) / ROWS) for size in sizes)])
    return Table(f"Bytes appended, {format}", rows)


def _peers(options: Options, speeds: Sequence[float], result: Result) -> None:
    """Events a second beside peers that keep their model in one process and write nothing."""
    ours = float(np.median(speeds))
    for name, what, measured in peers.ratings(options):
        if isinstance(measured, str):
            result.figures.append(Figure(f"catchup.over.{name}", f"events a second over {what}", None, missing=measured))
            continue
        value, low, high = middle([ours / one for one in measured])
        result.figures.append(Figure(
            f"catchup.over.{name}", f"events a second over {what}", value, low, high,
            f"{shown(ours)} / {shown(float(np.median(measured)))} a second"))
