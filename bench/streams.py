"""Learners and floors as streams of one session, fed one file at a time so that their micro-batches can be interleaved.

A micro-batch's seconds are Spark's `triggerExecution`: planning, offset log, callback and commit log, all of it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from event_files import EventFiles, land
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming import StreamingQuery

from freshet.engine.session import build
from freshet.engine.sources import stream
from freshet.pipelines.commit import BatchCommitter
from freshet.pipelines.online import Stream
from freshet.pipelines.starting import Opened, open_learner
from freshet.report import BatchReport
from freshet.settings import Settings, load

PATIENCE = 300.0
POLL = 0.003


def settings(folder: Path, *sets: str) -> Settings:
    """Default settings for a model whose files lie under `folder`; `sets` choose the model, never how fast it is."""
    given = [f"store.root={folder / 'model'}", f"source.path={folder / 'events'}", *sets]
    (folder / "events").mkdir(parents=True, exist_ok=True)
    return load([], {}, given)[0]


def session() -> SparkSession:
    """The session that the default settings make."""
    return build(load([], {}, ["source.path=none"])[0].spark)


@dataclass
class Fed:
    """One micro-batch: seconds of its trigger, from landing to a readable snapshot (learners only), of its stages.

    `processor` seconds are those of this process and of Java from landing to the end: what else runs on the machine does
    not count, but the idle streams of the session do.
    """

    seconds: float
    processor: float
    latency: float | None = None
    stages: dict[str, float] = field(default_factory=dict)


def processor_seconds() -> float:
    """Processor seconds so far of this process and its descendants that live (Linux; elsewhere of this process alone)."""
    parents, spent = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(words[1])
        spent[int(stat.parent.name)] = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return sum(seconds for pid, seconds in spent.items() if ours(pid)) or time.process_time()


class Progress:
    """Waits for the end of micro-batches of a query."""

    def __init__(self, query: StreamingQuery) -> None:
        self.query = query
        self._last = -1

    def next(self, check: Callable[[], None] = lambda: None) -> float:
        """Seconds of the next micro-batch that read something."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            check()
            for progress in self.query.recentProgress:
                if progress["batchId"] > self._last and "addBatch" in progress["durationMs"]:
                    self._last = progress["batchId"]
                    return float(progress["durationMs"]["triggerExecution"]) / 1e3
            time.sleep(POLL)
        raise TimeoutError(f"no micro-batch of {self.query.name} within {PATIENCE:g} seconds")


class LearnerStream:
    """A learner in a thread of its own; `on_open` may look at what was opened before the first micro-batch."""

    def __init__(self, spark: SparkSession, chosen: Settings, on_open: Callable[[Opened], None] = lambda opened: None) -> None:
        self._spark, self.settings, self._on_open = spark, chosen, on_open
        self.events = Path(str(chosen.source.path))
        self.log = Path(chosen.store.root) / "snapshots" / "_delta_log"
        self.reports: list[BatchReport] = []
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._progress: Progress | None = None

    def start(self) -> LearnerStream:
        """Open the model and wait until its query runs."""
        before = {query.id for query in self._spark.streams.active}
        self._thread.start()
        while self._progress is None:
            self._check()
            for query in self._spark.streams.active:
                if query.id not in before and (query.name or "").startswith("freshet-"):
                    self._progress = Progress(query)
            time.sleep(0.05)
        return self

    def feed(self, hidden: Path) -> Fed:
        """Land a file; wait for its snapshot, then for the end of its micro-batch."""
        assert self._progress is not None
        awaited = self.log / f"{len(list(self.log.glob('*.json'))):020d}.json"
        spent, landed = processor_seconds(), land(hidden)
        while not awaited.exists():
            self._check()
            time.sleep(POLL)
        latency = time.time() - landed
        taken = self._progress.next(self._check)
        return Fed(taken, processor_seconds() - spent, latency, dict(self.reports[-1].stage_seconds))

    def first(self, hidden: Path) -> Fed:
        """Land the first file and start on it, for sources that must have one to start."""
        spent = processor_seconds()
        land(hidden)
        self.start()
        assert self._progress is not None
        return Fed(self._progress.next(self._check), processor_seconds() - spent)

    def stop(self) -> None:
        """End the query between two micro-batches."""
        self._stop.set()
        self._thread.join(PATIENCE)
        self._check()

    def _run(self) -> None:
        try:
            records = stream(self._spark, self.settings.source)
            with open_learner(self._spark, self.settings, False, lambda text: None) as opened:
                self._on_open(opened)
                committer = BatchCommitter(opened, self.reports.append)
                Stream(opened, committer, records, False, lambda read: self._stop.is_set()).run(lambda text: None)
        except BaseException as error:  # handed to whoever waits
            self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def side_by_side(
    folder: Path, files: EventFiles, count: int, warm: int, variants: Mapping[str, Sequence[str]]
) -> dict[str, list[Fed]]:
    """Micro-batches after the first `warm` of `count`, by learner: one of each variant's settings, that take the same Parquet
    files in turn."""
    spark = session()
    learners = {name: LearnerStream(spark, settings(folder / name, "source.format=parquet", *sets)) for name, sets in variants.items()}
    fed: dict[str, list[Fed]] = {name: [] for name in learners}
    for number in range(count):
        hidden = files.drop(number, *(learner.events for learner in learners.values()))
        for (name, learner), path in zip(learners.items(), hidden, strict=True):
            one = learner.feed(path) if number else learner.first(path)
            if number >= warm:
                fed[name].append(one)
    for learner in learners.values():
        learner.stop()
    return fed


class FloorStream:
    """A plain streaming job over the same kind of files."""

    def __init__(
        self, spark: SparkSession, frame: DataFrame, folder: Path, call: Callable[[DataFrame, int], None], trigger: float
    ) -> None:
        self.events = folder / "events"
        writer = frame.writeStream.foreachBatch(call).option("checkpointLocation", str(folder / "checkpoint"))
        self._query = writer.queryName(f"floor-{folder.name}").trigger(processingTime=f"{trigger:g} seconds").start()
        self._progress = Progress(self._query)

    def feed(self, hidden: Path) -> Fed:
        """Land a file and wait for the end of its micro-batch."""
        spent = processor_seconds()
        land(hidden)

        def check() -> None:
            error = self._query.exception()
            if error is not None:
                raise error

        return Fed(self._progress.next(check), processor_seconds() - spent)

    def stop(self) -> None:
        """End the query."""
        self._query.stop()


def appended_bytes(root: Path, table: str) -> list[int]:
    """Bytes of the files each Delta commit added, by version."""
    found = []
    for log in sorted((root / table / "_delta_log").glob("*.json")):
        actions: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
        found.append(sum(action["add"]["size"] for action in actions if "add" in action))
    return found
