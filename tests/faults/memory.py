"""The tables of a model in memory, and what else outlives a process: for shells that crash thousands of times without Spark.

An append is atomic, as Delta's is, and nothing else is promised: rows of attempts that were never committed stay where they are.
The real Writer, History and loading of heads run on it unchanged.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from freshet.engine.batch import CleanBatch, canonical
from freshet.engine.checkpoint import CheckpointState, Fingerprint
from freshet.errors import SourceChanged, StoreFailed
from freshet.store import columns, files
from freshet.store.delta_log import Entry
from freshet.store.tables import Appended, engine_errors


class InTurn:
    """A pool that does what it is given at once, in this thread: parts of a commit land in one order, and no thread is started."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> InTurn:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, act: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(act(*given))
        except BaseException as error:
            future.set_exception(error)
        return future

    def map(self, act: Callable[..., Any], *given: Any) -> Iterator[Any]:
        return map(act, *given)


class MemoryTables:
    """store.tables.Tables over lists of appends. `room`: so many more appends find room (None: all do); `lost_reply`: the next
    append to this table lands, and says that it did not."""

    root = "memory:model"

    def __init__(self) -> None:
        self.appends: dict[str, list[tuple[str, pa.Table]]] = {}
        self.room: int | None = None
        self.lost_reply: str | None = None
        self._whole: dict[str, tuple[list[pa.Table], pa.Table]] = {}

    def append(self, name: str, rows: pa.Table, note: str = "") -> Appended:
        fitting = columns.conform(name, rows)
        if self.room is not None:
            self.room -= 1
        with engine_errors(name, "append to"):
            if self.room is not None and self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.appends.setdefault(name, []).append((note, fitting))
        if self.lost_reply == name:
            self.lost_reply = None
            raise StoreFailed(f"Could not append to {name}: no answer.", remedy="Start again.", table=name, action="append to")
        return Appended(rows.num_rows, 0.0, rows.nbytes, len(self.appends[name]))

    def create(self) -> None:
        """There is nothing to create: a table is what was appended to it."""

    def rows(self, name: str) -> pa.Table:
        """All that was ever appended."""
        given = [rows for _, rows in self.appends.get(name, ())]
        known = self._whole.get(name)
        if known is None or [id(rows) for rows in known[0]] != [id(rows) for rows in given]:
            whole = pa.concat_tables([columns.arrow_schema(name).empty_table(), *given]).combine_chunks()
            known = self._whole[name] = (given, whole)
        return known[1]

    def version(self, name: str) -> int:
        return len(self.appends.get(name, ()))

    def find_commit(self, name: str, note: str) -> Entry | None:
        found = [at for at, (mine, _) in enumerate(self.appends.get(name, ()), 1) if mine == note]
        return Entry(found[-1], note, "WRITE", 0) if found else None

    def log(self, name: str) -> Any:
        return SimpleNamespace(is_new=lambda: not self.appends.get(name))

    def exists(self, name: str) -> bool:
        return True

    def path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def arrow_schema(self, name: str) -> pa.Schema:
        return columns.arrow_schema(name)

    def in_parallel(self, count: int) -> InTurn:
        return InTurn()


@dataclass
class Disk:
    """What a crash leaves: tables, source files, the plan of each micro-batch, which of them Spark thinks ended."""

    tables: MemoryTables = field(default_factory=MemoryTables)
    files: dict[str, CleanBatch] = field(default_factory=dict)
    plans: list[Fingerprint] = field(default_factory=list)
    ended: int = 0

    def plan(self, most: int) -> None:
        """Plan the next micro-batch, of at most so many of the files that no plan has."""
        planned = {name for plan in self.plans for name in plan.files}
        names = [name for name in self.files if name not in planned][:most]
        said = [f"{name} {self.files[name].accepted.nbytes}" for name in names]
        self.plans.append(Fingerprint("; ".join(said), said, 0, names))

    def open_files(self) -> int:
        return len(self.files) - sum(len(plan.files) for plan in self.plans)

    def state(self) -> CheckpointState:
        """As engine.checkpoint.inspect finds it."""
        planned, committed = (number - 1 if number else None for number in (len(self.plans), self.ended))
        return CheckpointState(bool(self.plans), self.id, planned, committed)

    def __str__(self) -> str:
        return f"with {len(self.plans)} plans of which {self.ended} have ended"

    def read(self, number: int) -> CleanBatch:
        """What the job of a micro-batch collects: the records of its files, in canonical order."""
        found = [self.files[name] for name in self.planned(number).files]
        accepted = canonical(pa.concat_tables([one.accepted for one in found]))
        return CleanBatch(accepted, pa.concat_tables([one.quarantined for one in found]), sum(one.read for one in found))

    # What BatchCommitter asks of a plan.
    id = "memory"

    def planned(self, number: int) -> Fingerprint:
        plan = self.plans[number]
        for name, said in zip(plan.files, plan.sources, strict=True):
            if name not in self.files or f"{name} {self.files[name].accepted.nbytes}" != said:
                raise SourceChanged(f"{name} is not what was planned.", remedy="Restore it.", path=name, planned=said, found=None)
        return plan

    def behind(self, read: Fingerprint) -> dict[str, int]:
        return {}

    def pass_by(self, number: int, share: bool) -> str:
        return f"--skip-batch {number}"


class Scan:
    """What a scanner of Arrow finds, looked up at once: its own threads take longer than all else here."""

    def __init__(self, tables: MemoryTables, name: str, wanted: Sequence[str], conditions: Sequence[files.Condition]) -> None:
        rows = tables.rows(name)
        holds = [_HOLDS[how](rows.column(column), files._typed(name, column, value)) for column, how, value in conditions]
        rows = rows.select(list(wanted)) if wanted else rows
        self._rows = rows.filter(reduce(pc.and_, holds)) if holds else rows

    def to_table(self) -> pa.Table:
        return self._rows

    def to_batches(self) -> list[pa.RecordBatch]:
        return self._rows.to_batches()

    def count_rows(self) -> int:
        return self._rows.num_rows


_HOLDS: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal, ">=": pc.greater_equal, "<": pc.less, "in": lambda column, values: pc.is_in(column, value_set=values),
    "is": lambda column, null: pc.is_null(column) if null is None else pc.is_valid(column),
}  # fmt: skip


class Clock:
    """Time that tests set: no machine's clock decides anything here, and it may go backwards."""

    def __init__(self) -> None:
        self.now = 1_700_000_000_000_000  # microseconds

    def time_ns(self) -> int:
        return self.now * 1000

    def perf_counter(self) -> float:
        return 0.0


@contextmanager
def in_memory() -> Iterator[Clock]:
    """While open, memory is what heads and histories are read from, and commit ids and times are the same in every run."""
    clock, numbers = Clock(), itertools.count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "arrow_reads", lambda tables: True)
        patch.setattr(files, "_scanner", Scan)
        patch.setattr("freshet.store.commit.time", clock)
        patch.setattr("freshet.pipelines.starting.checkpoint", SimpleNamespace(inspect=lambda disk: disk.state()))
        patch.setattr("freshet.store.commit.secrets", SimpleNamespace(token_hex=lambda n: f"{next(numbers):0{2 * n}x}"))
        patch.setattr("freshet.pipelines.commit.collect", lambda frame, read: frame)
        for module in ("learner", "workspace"):
            patch.setattr(f"freshet.{module}.ThreadPoolExecutor", InTurn)
        patch.setattr("freshet.failpoint._passed", {})
        patch.setenv("FRESHET_FAILPOINTS", "")
        yield clock
