"""The stream: micro-batches are cleaned, learned and committed, one after the other, exactly once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from freshet.engine.checkpoint import check_format, forget_unplanned
from freshet.engine.clean import clean
from freshet.engine.faults import named
from freshet.engine.sources import stream
from freshet.pipelines import passing
from freshet.pipelines.commit import BatchCommitter
from freshet.pipelines.exporter import Exporter, exported
from freshet.pipelines.gating import settle_published
from freshet.pipelines.rolling import go_on
from freshet.pipelines.starting import Opened, open_learner
from freshet.pipelines.warming import warm
from freshet.report import Listener
from freshet.schema import ACCEPTED, CORRECTED, DUPLICATE, LATE, QUARANTINED
from freshet.settings import Settings, SourceSettings

POLL_SECONDS = 0.2
WAITING = "waiting for events"


class Stopped(Exception):
    """Raised inside the stream's callback when a stop was asked for: the batch is dropped and will be read again."""


def train(
    spark: SparkSession, settings: Settings, *, available_now: bool = False, adopt_checkpoint: bool = False,
    from_here: bool = False, skip_batch: int | None = None, reason: str | None = None, listener: Listener | None = None,
    announce: Callable[[str], None] | None = None, until: Callable[[int], bool] | None = None,
) -> int:
    """Learn from the source until it is caught up (`available_now`) or until a signal; 0 when it ended as asked.

    SIGTERM and ctrl-C let the running micro-batch finish its commit, then stop. Raises AlreadyRunning,
    CheckpointRefused, SourceRefused, SourceChanged, BatchRefused, Fenced or StateDamaged, each naming the way out.
    `announce` is told what is being waited for and how it ended; `until` ends the stream between two micro-batches once
    it is true of the events read. `from_here`: any checkpoint will do, and what the source holds now is passed by unread.
    """
    say = announce or (lambda _: None)
    records = stream(spark, settings.source)  # first: a source that is not there is refused before anything is written
    check_format(settings.store.checkpoint_path, settings.source.format)
    warm(settings)
    with (
        exported(settings.stream, listener) as listener,
        open_learner(spark, settings, adopt_checkpoint, say, from_here, streams=True) as opened,
    ):  # fmt: skip
        if isinstance(listener, Exporter):
            listener.stands(opened.history, opened.head.row_counts)
        settle_published(opened)
        go_on(opened, say)
        committer = BatchCommitter(opened, listener, say)
        if skip_batch is not None:
            committer.skip(skip_batch, reason or "")
        if from_here:
            say("passing by what the source holds now")
            passing.begin(opened.writer, reason or "", settings.store.checkpoint_path)
            rest = stream(spark, unhurried(settings.source))
            if not Stream(opened, committer, rest, True, None, pass_by=reason or "").run(lambda _: None):
                say(f"stopped at {_version(opened)}; start again with --from-here to go on")
                return 0
            passing.end(opened.writer)
        learning = Stream(opened, committer, records, available_now, until)
        ended = learning.run(say)
        if ended and available_now:
            committer.finish()
        if ended or learning.asked:
            say(ending(opened, committer.in_this_run, learning.asked))
    return 0


def ending(opened: Opened, counts: Mapping[str, int], stopped: bool) -> str:
    """How a run ended: what became of the events it read, at which version, and whether there was more to read."""
    outcomes = " + ".join(f"{counts[name]:,} {name}" for name in (ACCEPTED, QUARANTINED, DUPLICATE, LATE))
    became = f"{counts['read']:,} read = {outcomes}"
    if counts[CORRECTED]:
        became += f", of the accepted {counts[CORRECTED]:,} correct others"
    if stopped:
        return f"stopped at {_version(opened)}; start again to go on ({became})"
    return f"caught up at {_version(opened)}: {became}" if counts["read"] else f"nothing new; still at {_version(opened)}"


def _version(opened: Opened) -> str:
    newest = opened.history.newest()
    return f"version {newest.version if newest is not None else '-'}"


def unhurried(source: SourceSettings) -> SourceSettings:
    """The source in as few micro-batches as it allows: for what nobody will learn."""
    kafka = source.kafka.model_copy(update={"max_events_per_trigger": None})
    return source.model_copy(update={"max_files_per_trigger": None, "max_bytes_per_trigger": None, "kafka": kafka})


class Stream:
    """One streaming query over one opened model."""

    def __init__(
        self, opened: Opened, committer: BatchCommitter, records: DataFrame, available_now: bool,
        until: Callable[[int], bool] | None, pass_by: str | None = None,
    ) -> None:
        self._opened = opened
        self._records = records
        self._until = until
        self._committer = committer
        self._available_now = available_now
        self._pass_by = pass_by
        self._stopping = threading.Event()
        self._busy = threading.Lock()
        self._failure: BaseException | None = None
        self._enough = False

    @property
    def asked(self) -> bool:
        """Whether a signal ended it."""
        return self._stopping.is_set() and not self._enough

    def run(self, say: Callable[[str], None]) -> bool:
        """Start the query and wait for its end, a stop or a failure; whether it ended by itself."""
        with stop_on_signals(self._stopping):
            query = self._start()
            say("reading what there is" if self._available_now else WAITING)
            try:
                self._wait(query)
            except PySparkException as error:
                if not isinstance(self._failure, Stopped):
                    raise self._failure or named(error) or error from None
            except BaseException:
                self._stopping.set()  # nothing may be learned once the model is let go of, and no commit be interrupted
                with self._busy, suppress(PySparkException, Py4JError, OSError):
                    query.stop()
                raise
            # Spark does not tell of a failure that came while it was being stopped.
            if self._failure is not None and not isinstance(self._failure, Stopped):
                raise self._failure
        return not self._stopping.is_set()

    def _start(self) -> StreamingQuery:
        opened, chosen = self._opened, self._opened.settings
        if chosen.source.format not in ("delta", "kafka"):  # the others list files
            forget_unplanned(chosen.store.checkpoint_path)
        cleaned = clean(self._records, chosen.source, chosen.clean)
        writer = cleaned.writeStream.foreachBatch(self._learn).option("checkpointLocation", chosen.store.checkpoint_path)
        writer = writer.queryName(f"freshet-{opened.run}")
        if self._available_now:
            return writer.trigger(availableNow=True).start()
        return writer.trigger(processingTime=f"{chosen.stream.trigger:g} seconds").start()

    def _learn(self, frame: DataFrame, batch_id: int) -> None:
        # Once a stop was asked for it never waits: `_wait` holds the lock while Spark waits for this very call to end.
        while not self._stopping.is_set():
            if self._busy.acquire(timeout=POLL_SECONDS):
                try:
                    if self._pass_by is None:
                        self._committer.process(frame, batch_id)
                    else:
                        self._committer.pass_unread(batch_id, self._pass_by)
                except BaseException as error:
                    self._failure = error
                    raise
                finally:
                    self._busy.release()
                return
        self._failure = Stopped()
        raise self._failure

    def _wait(self, query: StreamingQuery) -> None:
        while not query.awaitTermination(POLL_SECONDS):  # type: ignore[arg-type]  # Spark takes fractions
            if self._until is not None and not self._busy.locked() and self._until(self._committer.so_far["read"]):
                self._enough = not self._stopping.is_set()
                self._stopping.set()
            if not self._stopping.is_set() and self._busy.acquire(blocking=False):
                try:
                    self._committer.serve()  # a stream without events hears what is asked of it too
                finally:
                    self._busy.release()
            if self._stopping.is_set():
                # Only between two micro-batches: stop() interrupts what runs, and a commit must not be interrupted.
                with self._busy:
                    query.stop()
                return


@contextmanager
def stop_on_signals(stopping: threading.Event) -> Iterator[None]:
    """While open, SIGTERM and SIGINT set the event instead of ending the process (in the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stopping.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
