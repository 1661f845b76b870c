"""A reader beside many commits: each read is exactly one version, and none is older than the one before."""

from __future__ import annotations

import threading

import pytest
from actions import BASE
from memory import Disk, in_memory
from shell import SECOND, SETTINGS, Event, Process, cleaned, open_head

from freshet.store import files
from freshet.store.snapshots import History

BATCHES = 40


def files_of(disk: Disk) -> None:
    for number in range(BATCHES):
        at = BASE + 60 * number
        events = [Event(f"e{number}-{n}", f"u{n % 2}", f"i{(number + n) % 4}", float(1 + n % 5), at + n) for n in range(3)]
        disk.files[f"file{number}"] = cleaned(f"file{number}", events, at * SECOND)


def read_beside(disk: Disk) -> list[tuple[int, str]]:
    """What a reader finds while a process learns all the files: version and digest of each read."""
    found: list[tuple[int, str]] = []
    learner = Process(disk, "learner")
    learning = threading.Thread(target=lambda: learner.run(1))
    learning.start()
    last = False
    while not last:
        last = not learning.is_alive()
        history = History.load(disk.tables)  # type: ignore[arg-type]
        newest = history.newest()
        assert newest is not None
        found.append((newest.version, open_head(disk, history, SETTINGS, newest.version, memory=False).hex_digest))
    learning.join()
    return found


def test_every_read_is_one_committed_version() -> None:
    with in_memory():
        disk = Disk()
        files_of(disk)
        found = read_beside(disk)
        committed = {row.version: row.digest for row in History.load(disk.tables).live()}  # type: ignore[arg-type]
    assert all(committed[version] == digest for version, digest in found)
    assert found == sorted(found, key=lambda one: one[0])
    assert found[-1][0] == max(committed) == BATCHES and len(set(found)) > 1


def test_a_reader_that_does_not_ask_who_committed_is_noticed(monkeypatch) -> None:
    """The subject of the test above: rows without a version are there most of the time."""
    with in_memory():
        monkeypatch.setattr(files, "_ids", lambda commits: ("commit_id", "is", False))
        monkeypatch.setattr(files, "_span", lambda commits: (("snapshot_version", ">=", 0), ("snapshot_version", ">=", 0)))
        disk = Disk()
        files_of(disk)
        learner = Process(disk, "learner")
        learner.run(BATCHES // 2)
        rows = disk.tables.rows("parameters").slice(0, 1)
        disk.tables.append("parameters", rows, note="an attempt that was never committed")
        with pytest.raises(Exception, match=r"cannot be had|does not verify"):
            open_head(disk, learner.opened.history, SETTINGS, 2, memory=False)
