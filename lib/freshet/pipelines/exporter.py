"""The learner's own figures for Prometheus, at http://HOST:PORT/metrics: a `report.Listener` that others are told through.

Counters count what this process did, as Prometheus expects of them; gauges say how the model is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server

from freshet.errors import FreshetError
from freshet.intake import CAPS
from freshet.report import BatchReport, Listener
from freshet.schema import ACCEPTED, DUPLICATE, LATE, QUARANTINED
from freshet.settings import StreamSettings
from freshet.store.snapshots import LEARN, REFUSED, SKIP, History

SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
OUTCOMES = (ACCEPTED, QUARANTINED, DUPLICATE, LATE)
KINDS = (LEARN, REFUSED, SKIP)
LIMITS = (*CAPS, "burst_events", "clipped_users")
DECIDED = ("publish", "hold", "refuse", "roll back", "data loss", "alarm", "adapt", "skip")


class Exporter:
    """Metrics of one learner in a registry of their own."""

    def __init__(self, inner: Listener | None) -> None:
        self._inner, self.registry = inner, CollectorRegistry()
        ProcessCollector(registry=self.registry)
        mine: dict[str, Any] = {"registry": self.registry}
        self.events = Counter("freshet_events", "Events read, by what became of them.", ["outcome"], **mine)
        self.batches = Counter("freshet_batches", "Micro-batches committed, by kind.", ["kind"], **mine)
        self.seconds = Histogram("freshet_batch_seconds", "From the plan of a micro-batch to its commit.", buckets=SECONDS, **mine)
        self.stages = Counter("freshet_stage_seconds", "Time spent, by stage.", ["stage"], **mine)
        self.decisions = Counter("freshet_decisions", "Decisions committed, by kind.", ["kind"], **mine)
        self.limited = Counter("freshet_limited", "What the limits touched: events, items, users.", ["limit"], **mine)
        self.lag = Gauge("freshet_lag_seconds", "From the arrival of the newest event of a micro-batch to its commit.", **mine)
        self.behind = Gauge("freshet_behind_messages", "Messages of Kafka nobody has read yet.", ["partition"], **mine)
        self.version = Gauge("freshet_version", "Newest version.", **mine)
        self.committed = Gauge("freshet_last_commit_timestamp_seconds", "When the newest version was committed.", **mine)
        self.refusing = Gauge("freshet_refusing", "1 while the newest micro-batch is one that was refused.", **mine)
        self.rows = Gauge("freshet_rows", "Rows of the head.", ["block"], **mine)
        self.metric = Gauge("freshet_metric", "Mean over the last micro-batch.", ["metric", "scoring", "learner"], **mine)
        self._decided: dict[str, int] = {}
        # From 0 on, or the first of a kind would not be seen as an increase.
        for counter, labels in ((self.events, OUTCOMES), (self.batches, KINDS), (self.decisions, DECIDED), (self.limited, LIMITS)):
            for label in labels:
                counter.labels(label)
        self.committed.set_to_current_time()  # until `stands` says more: of a new model nothing was committed yet

    def stands(self, history: History, rows: Mapping[str, int]) -> None:
        """Where the model stands before its first micro-batch: one that is started again and again must not look well."""
        done = [row for row in history.live() if row.kind in KINDS]
        newest = history.newest()
        self.version.set(0 if newest is None else newest.version)
        if done:
            self.committed.set(done[-1].committed_at / 1e6)
            self.refusing.set(done[-1].kind == REFUSED)
        for block, count in rows.items():
            self.rows.labels(block).set(count)

    def __call__(self, report: BatchReport) -> None:
        for outcome in OUTCOMES:
            self.events.labels(outcome).inc(getattr(report, outcome))
        self.batches.labels(report.kind).inc()
        self.refusing.set(report.kind == REFUSED)
        self.seconds.observe(report.seconds)
        for stage, seconds in report.stage_seconds.items():
            self.stages.labels(stage).inc(max(seconds, 0.0))
        for kind, count in report.decided.items():
            self.decisions.labels(kind).inc(count - self._decided.get(kind, 0))
        self._decided = dict(report.decided)
        for name, count in report.limited.items():
            self.limited.labels(name).inc(count)
        self.lag.set(report.lag_seconds)
        for partition, count in report.behind.items():
            self.behind.labels(partition).set(count)
        self.version.set(report.version)
        self.committed.set_to_current_time()
        for block, count in report.rows.items():
            self.rows.labels(block).set(count)
        for one in report.metrics:
            if one.slice == "all" and one.events:
                self.metric.labels(one.metric, one.scoring, one.learner).set(one.mean)
        if self._inner is not None:
            self._inner(report)


@contextmanager
def exported(stream: StreamSettings, listener: Listener | None) -> Iterator[Listener | None]:
    """The listener that also feeds the endpoint, where the settings name a port. Raises FreshetError when it is taken."""
    if stream.prometheus_port is None:
        yield listener
        return
    exporter = Exporter(listener)
    try:
        server, thread = start_http_server(stream.prometheus_port, stream.prometheus_host, exporter.registry)
    except OSError as error:
        where = f"{stream.prometheus_host}:{stream.prometheus_port}"
        raise FreshetError(
            f"The figures for Prometheus cannot be served at {where}: {error.strerror}.",
            remedy="Set stream.prometheus_port to a free one, or to null.", port=stream.prometheus_port) from error
    try:
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
