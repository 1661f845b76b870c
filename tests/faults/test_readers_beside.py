"""A reader beside many commits: each read is exactly one version, and none is older than the one before."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pyarrow as pa
import pytest
from actions import BASE
from memory import Disk, in_memory
from shell import SECOND, SETTINGS, Event, Process, cleaned, open_head

from freshet.errors import StateDamaged
from freshet.store import files
from freshet.store.snapshots import History
from freshet.store.tables import Appended

BATCHES = 40


def files_of(disk: Disk) -> None:
    for number in range(BATCHES):
        at = BASE + 60 * number
        events = [Event(f"e{number}-{n}", f"u{n % 2}", f"i{(number + n) % 4}", float(1 + n % 5), at + n) for n in range(3)]
        disk.files[f"file{number}"] = cleaned(f"file{number}", events, at * SECOND)


def read(disk: Disk) -> tuple[int, str]:
    """What a reader finds who opens the newest version now: its number, and the digest of the rows it gets."""
    history = History.load(disk.tables)  # type: ignore[arg-type]
    newest = history.newest()
    assert newest is not None
    return newest.version, open_head(disk, history, SETTINGS, newest.version, memory=False).hex_digest


def read_beside(disk: Disk) -> list[tuple[int, str]]:
    """Each read while a process learns all the files."""
    found: list[tuple[int, str]] = []
    learner = Process(disk, "learner")
    learning = threading.Thread(target=lambda: learner.run(1))
    learning.start()
    last = False
    while not last:
        last = not learning.is_alive()
        found.append(read(disk))
    learning.join()
    return found


def read_between(disk: Disk) -> list[tuple[int, str]]:
    """The same without chance: a read after each append, most of them while rows lie there that no version has yet."""
    found: list[tuple[int, str]] = []
    learner, append = Process(disk, "learner"), disk.tables.append

    def then_read(name: str, rows: pa.Table, note: str = "") -> Appended:
        appended = append(name, rows, note)
        found.append(read(disk))
        return appended

    disk.tables.append = then_read  # type: ignore[method-assign]
    learner.run(1)
    return found


@pytest.mark.parametrize("reads", [read_beside, read_between])
def test_every_read_is_one_committed_version(reads: Callable[[Disk], list[tuple[int, str]]]) -> None:
    with in_memory():
        disk = Disk()
        files_of(disk)
        found = reads(disk)
        committed = {row.version: row.digest for row in History.load(disk.tables).live()}  # type: ignore[arg-type]
    assert all(committed[version] == digest for version, digest in found)
    assert found == sorted(found, key=lambda one: one[0])
    assert found[-1][0] == max(committed) == BATCHES and len(set(found)) > 1
    if reads is read_between:
        assert [sum(version == read[0] for read in found) for version in (2, BATCHES)] == [3, 1]  # and two while the next was on its way


def test_a_reader_that_does_not_ask_who_committed_is_noticed(monkeypatch) -> None:
    """The subject of the test above: one that takes every row there is of a line."""
    monkeypatch.setattr(files, "_ids", lambda commits: ("commit_id", "is", False))
    monkeypatch.setattr(files, "_span", lambda commits: (("snapshot_version", ">=", 0), ("snapshot_version", ">=", 0)))
    with in_memory():
        disk = Disk()
        files_of(disk)
        with pytest.raises(StateDamaged, match=r"cannot be had|does not verify"):
            read_between(disk)


def test_a_reader_of_an_older_version_that_takes_newer_rows_too_is_noticed(monkeypatch) -> None:
    with in_memory():
        disk = Disk()
        files_of(disk)
        learner = Process(disk, "learner")
        learner.run(1)
        row = learner.opened.history.get(2)
        assert row is not None
        assert open_head(disk, learner.opened.history, SETTINGS, 2, memory=False).hex_digest == row.digest
        monkeypatch.setattr(files, "_ids", lambda commits: ("commit_id", "is", False))
        monkeypatch.setattr(files, "_span", lambda commits: (("snapshot_version", ">=", 0), ("snapshot_version", ">=", 0)))
        with pytest.raises(StateDamaged, match=r"cannot be had|does not verify"):
            open_head(disk, learner.opened.history, SETTINGS, 2, memory=False)
