"""A learner's process over memory: opened as pipelines.starting opens one, driven as the stream drives it, gone after a crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from memory import Disk

from freshet.engine.batch import ACCEPTED_COLUMNS, QUARANTINE_COLUMNS, CleanBatch, canonical
from freshet.failpoint import failpoint
from freshet.head import Head
from freshet.learner import Learner
from freshet.pipelines import text_keys
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.commit import BatchCommitter
from freshet.pipelines.opening import Reading, load_head, load_memory
from freshet.pipelines.rolling import go_on
from freshet.pipelines.starting import Opened, check_checkpoint
from freshet.settings import Settings, load
from freshet.store.columns import arrow_schema
from freshet.store.commit import Writer
from freshet.store.snapshots import History

WINDOW = 3600  # seconds an event is remembered
SECOND = 1_000_000
SETTINGS = load([], {}, [
    "model.name=mf", "model.optimizer.name=sgd", "model.factors=3", "model.shards=1", "model.seed=5", "model.max_norm=2",
    "clean.max_refused_share=1", f"clean.dedup_window={WINDOW} seconds", "metrics.sample=0", "popularity.half_life=30 minutes",
    "model.positive_from=3", "history.items=32", "window.events=64",
])[0]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One record of the source: times in seconds; a broken one is refused by cleaning."""

    id: str
    user: str
    item: str
    value: float
    at: int
    revision: int = 0
    broken: bool = False


def cleaned(name: str, events: Sequence[Event], arrived: int) -> CleanBatch:
    """The records of one file as cleaning leaves them; `arrived` in microseconds."""
    times = pa.timestamp("us", tz="UTC")
    good, bad = ([event for event in events if event.broken is broken] for broken in (False, True))
    texts = {field: pa.chunked_array([pa.array([getattr(event, field) for event in good], pa.string())]) for field in ("id", "user", "item")}
    columns: dict[str, Any] = {
        "event_id": texts["id"], "user_id": texts["user"], "item_id": texts["item"],
        "revision": pa.array([event.revision for event in good], pa.int64()),
        "event_type": pa.array(["rate"] * len(good), pa.string()), "value": pa.array([event.value for event in good], pa.float64()),
        "weight": pa.array(np.ones(len(good))), "propensity": pa.nulls(len(good), pa.float64()),
        "event_at": pa.array([event.at * SECOND for event in good], pa.int64()).cast(times),
        "arrived_at": pa.array([arrived] * len(good), pa.int64()).cast(times),
        "context": pa.array([[]] * len(good), pa.map_(pa.string(), pa.string())),
        "source": pa.array([name] * len(good), pa.string()), "position": pa.array(np.arange(len(good))),
        "user_key": pa.array(text_keys.hashed(texts["user"])), "item_key": pa.array(text_keys.hashed(texts["item"])),
        "user_check": pa.array(text_keys.checks(texts["user"])), "item_check": pa.array(text_keys.checks(texts["item"])),
        "event_hash": pa.array(text_keys.hashed(texts["id"])), "dedup_key": pa.array(text_keys.dedup_keys(texts["id"])),
    }  # fmt: skip
    refused = [{"reason": "malformed", "raw": event.id, "source": name, "position": 0, "arrived_at": arrived} for event in bad]
    schema = pa.schema([arrow_schema("quarantine").field(column).with_nullable(True) for column in QUARANTINE_COLUMNS])
    quarantined = pa.Table.from_pylist(refused, schema=schema)
    accepted = canonical(pa.table({column: columns[column] for column in ACCEPTED_COLUMNS}))
    return CleanBatch(accepted, quarantined, len(events))


class InThisThread:
    """A Placement without threads."""

    def __init__(self, learner: Learner) -> None:
        self._learner = learner

    def __call__(self, tasks: Sequence[Any]) -> list[Any]:
        return [self._learner.model.learn(task) for task in tasks]

    def close(self) -> None:
        pass


def open_head(disk: Disk, history: History, settings: Settings, version: int, memory: bool = True) -> Head:
    """The head of a version, read back from the rows that were committed."""
    snapshot = history.get(version)
    assert snapshot is not None
    reading = Reading(disk.tables, history, version, snapshot)  # type: ignore[arg-type]
    head = load_head(reading, settings, new_learner(settings))
    if memory:
        load_memory(head, reading, settings)
    return head


class Process:
    """A learner that holds the model: all it has in memory ends with it. `remembers`: a subject for checks does not."""

    remembers = True

    def __init__(self, disk: Disk, run: str, say: Callable[[str], None] = lambda _: None, settings: Settings = SETTINGS) -> None:
        self.disk, self.settings = disk, settings
        history = History.load(disk.tables)  # type: ignore[arg-type]
        check_checkpoint(history, disk)  # type: ignore[arg-type]
        newest, learner = history.newest(), self.make_learner(settings)
        head = new_head(learner.model, settings)
        if newest is not None:
            head = open_head(disk, history, settings, newest.version, self.remembers)
        writer = Writer.start(disk.tables, history, run=run, settings=settings.to_json(), head_digest=head.hex_digest)  # type: ignore[arg-type]
        self.opened = Opened(
            None, settings, settings, disk.tables, history, writer, learner, head, InThisThread(learner), run, False)  # type: ignore[arg-type]
        go_on(self.opened, say)
        self.committer = BatchCommitter(self.opened, None, say, disk)

    def make_learner(self, settings: Settings) -> Learner:
        return new_learner(settings)

    def run(self, most_files: int = 2) -> None:
        """Micro-batches until nothing is left to read."""
        disk = self.disk
        while disk.ended < len(disk.plans) or disk.open_files():
            if disk.ended == len(disk.plans):
                failpoint("before_plan")
                disk.plan(most_files)
            self.learn(disk.ended)
            disk.ended += 1  # Spark's own commit

    def learn(self, number: int) -> None:
        self.committer.process(self.disk.read(number), number)  # type: ignore[arg-type]
