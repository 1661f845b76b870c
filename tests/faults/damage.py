"""Damage to what outlives a process; each returns what mends it, or None where nothing was there to damage."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from memory import Disk

from freshet.store.snapshots import History, Snapshot

Mend = Callable[[], None]


def _live(disk: Disk) -> list[Snapshot]:
    return History.load(disk.tables).live()  # type: ignore[arg-type]


def parameters(disk: Disk, how: str) -> Mend | None:
    """A row that a newest commit wrote is dropped, or has another number in it."""
    written = disk.tables.appends.get("parameters", [])
    committed = {row.commit_id for row in _live(disk)}
    at = max((number for number, (note, _) in enumerate(written) if note in committed), default=None)
    if at is None:
        return None
    note, rows = written[at]
    records = rows.to_pylist()
    hurt = next(record for record in records if record["vector"])
    if how == "drop":
        records.remove(hurt)
    elif how == "count":
        hurt["count"] += 1
    else:
        hurt["vector"][0] += 0.5
    written[at] = (note, pa.Table.from_pylist(records, schema=rows.schema))
    return lambda: written.__setitem__(at, (note, rows))


def source(disk: Disk, how: str) -> Mend | None:
    """A file of the batch that was planned and not yet learned is gone; of others nobody looks at it again."""
    if disk.ended == len(disk.plans) or any(row.batch_id == disk.ended for row in _live(disk)):
        return None
    name = disk.plans[disk.ended].files[0]
    gone = disk.files.pop(name)
    return lambda: disk.files.update({name: gone})


def checkpoint(disk: Disk, how: str) -> Mend | None:
    """The folder of the plans is lost."""
    plans, ended = disk.plans, disk.ended
    if not any(row.batch_id is not None for row in _live(disk)):
        return None
    disk.plans, disk.ended = [], 0

    def mend() -> None:
        disk.plans, disk.ended = plans, ended

    return mend


def commits(disk: Disk, how: str) -> Mend | None:
    """Spark knows no more that its last batch has ended: it runs again. That needs no mending."""
    disk.ended = max(0, min(disk.ended, len(disk.plans) - 1))
    return None


PATHS: dict[str, Callable[[Disk, str], Mend | None]] = {
    "parameters": parameters, "source": source, "checkpoint": checkpoint, "commits": commits}
