"""Where micro-batches come from, and one of them on its way."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from freshet.engine.batch import CleanBatch
from freshet.engine.brokers import Brokers, behind
from freshet.engine.checkpoint import Fingerprint, fingerprint, inspect
from freshet.pipelines.micro_batch import numbers_of
from freshet.pipelines.starting import Opened
from freshet.pipelines.stopwatch import Stopwatch


class Plan(Protocol):
    """Where micro-batches come from: whose they are, what each reads, how a person passes one by that is refused."""

    @property
    def id(self) -> str | None: ...
    def pass_by(self, number: int, share: bool) -> str:
        """How a micro-batch is passed by that had too many refused events, or could not be learned."""
        ...
    def planned(self, number: int) -> Fingerprint: ...
    def behind(self, read: Fingerprint) -> Mapping[str, int]:
        """What is left after a micro-batch by partition, where that can be asked."""
        ...


class Streamed:
    """The plan that Spark's checkpoint is."""

    def __init__(self, opened: Opened) -> None:
        self._path, self._format = opened.settings.store.checkpoint_path, opened.settings.source.format
        self._brokers = Brokers(opened.spark, opened.settings.source.kafka) if self._format == "kafka" else None

    @property
    def id(self) -> str | None:
        return inspect(self._path).id

    def planned(self, number: int) -> Fingerprint:
        return fingerprint(self._path, number, self._format)

    def behind(self, read: Fingerprint) -> Mapping[str, int]:
        ends = None if self._brokers is None else self._brokers.ends()
        return {} if ends is None else behind(ends, read.sources)

    def pass_by(self, number: int, share: bool) -> str:
        return f"`freshet train --skip-batch {number} --reason ...`"


@dataclass(frozen=True)
class Attempted:
    """A micro-batch on its way: its number, what was read, the cleaned records, the seconds so far."""

    batch_id: int
    read: Fingerprint
    batch: CleanBatch
    watch: Stopwatch

    def by_source(self) -> dict[str, int]:
        """Records read of each file or partition."""
        counted: Counter[str] = Counter()
        for table in (self.batch.accepted, self.batch.quarantined):
            counted.update({row["values"]: row["counts"] for row in table.column("source").value_counts().to_pylist()})
        return counted

    def lag(self) -> float:
        """Seconds from the arrival of the newest record to now: for people, nothing computes with it."""
        arrived = numbers_of(self.batch.accepted)["arrived_at"]
        return max(0.0, time.time() - float(arrived.max()) / 1e6) if len(arrived) else 0.0
