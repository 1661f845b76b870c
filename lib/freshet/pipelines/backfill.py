"""Backfill: old events of the source, learned in the order in which they happened, before the stream goes live.

    micro-batch k = the records whose event_at lies in [start + k * every, start + (k + 1) * every), and before the end

A stream takes files in the order of their own times, which in an archive is rarely that of the events, and what is then older
than the event clock by more than clean.dedup_window is late. Here it does not matter which file an event lies in.

A micro-batch is known by its span: started again, what is committed is passed by, whatever killed the run before. The rows
of a span are those of that moment: what comes into the source later for a span that is committed is not learned.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from freshet.engine.checkpoint import Fingerprint
from freshet.engine.clean import clean
from freshet.engine.sources import files
from freshet.errors import FreshetError, SourceRefused
from freshet.pipelines.assembly import dedup_window
from freshet.pipelines.commit import BatchCommitter
from freshet.pipelines.gating import settle_published
from freshet.pipelines.online import ending, stop_on_signals
from freshet.pipelines.rolling import go_on
from freshet.pipelines.starting import Opened, open_learner
from freshet.pipelines.warming import warm
from freshet.program import actor
from freshet.report import Listener
from freshet.schema import DECISIONS
from freshet.settings import Settings
from freshet.store.decisions import decision_row
from freshet.store.snapshots import BACKFILL, MAINTAIN, REFUSED


@dataclass(frozen=True)
class Spans:
    """A stretch of event time cut into micro-batches; times in microseconds since 1970 UTC, `files` as the engine names them."""

    path: str
    start: int
    end: int
    every: int
    files: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """What stands in the place of a checkpoint's id: the same for the same source and spans."""
        times = (datetime.fromtimestamp(at / 1e6, UTC).isoformat() for at in (self.start, self.end))
        return f"{BACKFILL}{self.path} {' to '.join(times)} every {self.every / 1e6:g} s"

    def pass_by(self, number: int, share: bool) -> str:
        if share:
            return "set clean.on_refused to continue"
        low, high = (f"{datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d %H:%M:%S}" for at in self.span(number))
        return f"fill back up to it (--to {low!r}), then from its end on (--from {high!r})"

    def span(self, number: int) -> tuple[int, int]:
        """Where the micro-batch begins and ends."""
        low = self.start + number * self.every
        return low, min(low + self.every, self.end)

    def number(self) -> Column:
        """The number of a record's micro-batch; null where its time cannot be read."""
        return F.floor((F.unix_micros("event_at") - F.lit(self.start)) / F.lit(self.every)).cast("bigint")

    def inside(self, low: int, high: int) -> Column:
        """Whether a record's time lies in [low, high)."""
        return (F.col("event_at") >= F.timestamp_micros(F.lit(low))) & (F.col("event_at") < F.timestamp_micros(F.lit(high)))

    def behind(self, read: Fingerprint) -> Mapping[str, int]:
        """Nothing: a stretch of time is all there."""
        return {}

    def planned(self, number: int) -> Fingerprint:
        """What the micro-batch reads. What has no time of arrival (rows of Delta) arrived by the end of all, at any retry."""
        low, high = self.span(number)
        said = json.dumps({"path": self.path, "from": low, "to": high}, sort_keys=True)
        return Fingerprint(hashlib.sha256(said.encode()).hexdigest()[:32], [said], self.end, list(self.files))


def backfill(
    spark: SparkSession, settings: Settings, *, since: datetime, until: datetime,
    listener: Listener | None = None, say: Callable[[str], None] = lambda _: None,
) -> int:
    """Learn what the source holds of [since, until), in micro-batches of stream.backfill_span; 0 when it ended as asked.

    SIGTERM and ctrl-C let the running micro-batch finish its commit. Raises FreshetError where there is nothing in that stretch, or
    where the model is past it already; SourceRefused, AlreadyRunning, BatchRefused as `train` does.
    """
    start, end = (round(at.replace(tzinfo=at.tzinfo or UTC).timestamp() * 1e6) for at in (since, until))
    asked = Spans(str(settings.source.path), start, end, round(settings.stream.backfill_span * 1e6))
    frame, spans = _cleaned(spark, settings, asked)
    warm(settings)
    frame = frame.persist(StorageLevel.DISK_ONLY)  # read and parsed once, not once a span
    try:
        say("looking which events the source has")
        counts, timeless = _counts(frame, spans)
        if timeless:
            say(f"{timeless:,} records have no time that can be read, and are left to the stream")
        with open_learner(spark, settings, False, say) as opened:
            _check_ahead(opened, spans, counts)
            settle_published(opened)
            go_on(opened, say)
            _begin(opened, spans, sum(counts.values()), timeless)
            committer = BatchCommitter(opened, listener, say, spans)
            stopping = threading.Event()
            with stop_on_signals(stopping):
                for number in sorted(counts):
                    if stopping.is_set():
                        break
                    committer.process(frame.where(spans.inside(*spans.span(number))), number)
            say(ending(opened, committer.in_this_run, stopping.is_set()))
    finally:
        frame.unpersist()
    return 0


def _cleaned(spark: SparkSession, settings: Settings, spans: Spans) -> tuple[DataFrame, Spans]:
    """All records of the source, cleaned, each with its position in its file."""
    source = settings.source
    if source.order == "file":
        raise SourceRefused(
            "The source has no times (source.order is file), so there is no stretch of time to learn.",
            remedy="`freshet train --available-now` learns all of it in the order of files.", path=source.path, wanted="time",
            found="file")
    if spans.end <= spans.start:
        raise FreshetError("--to must be later than --from.", start=spans.start, end=spans.end)
    records = files(spark, source, [spans.path])
    named = () if source.format == "delta" else tuple(records.inputFiles())
    place = Window.partitionBy("file_key").orderBy("block_start", "ordinal")
    frame = clean(records, source, settings.clean).withColumn("position", F.row_number().over(place).cast("bigint") - 1)
    return frame, replace(spans, files=named)


def _counts(frame: DataFrame, spans: Spans) -> tuple[dict[int, int], int]:
    """Records of each micro-batch that has any, and those without a time."""
    wanted = F.col("event_at").isNull() | spans.inside(spans.start, spans.end)
    rows = frame.where(wanted).groupBy(spans.number().alias("number")).count().collect()
    found = {row["number"]: row["count"] for row in rows}
    timeless = found.pop(None, 0)
    if not found:
        raise FreshetError(
            f"The source has no events in that stretch of time: {spans.path}.",
            remedy="Times are UTC, of event_at; the end is not part of it.", path=spans.path, start=spans.start, end=spans.end)
    return found, timeless


def _check_ahead(opened: Opened, spans: Spans, counts: dict[int, int]) -> None:
    """Refuse what would be late all of it: the model has learned what came after."""
    history = opened.history
    done = {number: history.of_batch(spans.id, number) for number in counts}
    left = [number for number, row in done.items() if row is None or row.kind == REFUSED]
    oldest = opened.head.clock - dedup_window(opened.settings)
    if left and spans.span(min(left))[0] < oldest:
        clock, first = (datetime.fromtimestamp(at / 1e6, UTC) for at in (opened.head.clock, spans.span(min(left))[0]))
        raise FreshetError(
            f"The model has learned events up to {clock:%Y-%m-%d %H:%M:%S}; those from {first:%Y-%m-%d %H:%M:%S} on would be late.",
            remedy="Old events come first: begin a new store.root with them, or begin later (--from).", clock=opened.head.clock)


def _begin(opened: Opened, spans: Spans, events: int, timeless: int) -> None:
    """Record that it was asked for, once."""
    if any(row.reason == spans.id for row in opened.history.live()):
        return
    evidence = {**asdict(spans), "files": len(spans.files), "records": events, "without_time": timeless}
    row = decision_row("backfill", None, spans.id, evidence, actor())
    opened.writer.commit(opened.writer.begin(), {DECISIONS.name: row}, {"kind": MAINTAIN, "reason": spans.id})
