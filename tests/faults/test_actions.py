"""Faults by hand: each list is a story, and everything in invariants.py holds after each of its actions."""

from __future__ import annotations

import pytest
from actions import (
    BASE,
    PLACES,
    Add,
    Advance,
    Check,
    Corrupt,
    Crash,
    ExpectError,
    Fill,
    Free,
    Late,
    LoseReply,
    Repair,
    Restart,
    Run,
    TakeOver,
    play,
)  # fmt: skip
from shell import WINDOW, Event


def some(first: int, count: int = 4, at: int = 0, who: str = "u", **more) -> Add:
    """Events number `first` and on, a second apart."""
    return Add(tuple(
        Event(f"e{n}", f"{who}{n % 3}", f"i{n * 7 % 5}", float(1 + n % 5), BASE + at + n, **more) for n in range(first, first + count)))


BEFORE = (some(0), some(4), Run(1))
AFTER = (Run(), some(20), Run(), Run(), Restart(), Check())  # what is still armed fires at the first or the second


def test_a_world_without_faults() -> None:
    world = play([*BEFORE, Restart(), some(2, 8), Advance(60), Run(), *AFTER])
    assert world.oracle.counts == {"read": 20, "accepted": 14, "quarantined": 0, "duplicate": 6, "late": 0}
    assert len(world.digests) == 4


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_anywhere(place: str) -> None:
    world = play([*BEFORE, some(8), Crash(place), Run(1), some(12), some(14), Crash(place, 2), Run(1), *AFTER])
    assert world.oracle.counts["accepted"] == 22


@pytest.mark.parametrize("place", ["before_snapshot_row", "after_snapshot_row"])
def test_a_crash_of_a_start(place: str) -> None:
    play([Crash(place), Restart(), *BEFORE, Crash(place), Restart(), some(8), *AFTER])


def test_crashes_of_crashes() -> None:
    """One batch is tried over and over: rows of four dead attempts lie under it."""
    hurt = [step for place in PLACES[2:6] for step in (Crash(place), Run())]
    world = play([*BEFORE, some(8, who="v"), *hurt, *AFTER])
    assert world.disk.tables.rows("events").num_rows > world.oracle.counts["accepted"] == 16


@pytest.mark.parametrize("room", [1, 4])
def test_a_disk_that_is_full_from_the_first_micro_batch_on(room: int) -> None:
    play([some(0), Fill(room), Run(), Check(), Free(), *AFTER])


@pytest.mark.parametrize("room", range(6))
def test_a_full_disk_leaves_the_version_before_and_the_next_start_completes(room: int) -> None:
    play([*BEFORE, some(8), Fill(room), Run(), Check(), Free(), *AFTER])


@pytest.mark.parametrize("table", ["ids", "events", "parameters", "snapshots"])
def test_a_lost_reply_is_one_effect(table: str) -> None:
    play([*BEFORE, some(8), LoseReply(table), *AFTER])


@pytest.mark.parametrize("how", ["flip", "drop", "count"])
def test_damaged_rows_are_refused_until_they_are_mended(how: str) -> None:
    play([*BEFORE, Corrupt("parameters", how), ExpectError("StateDamaged"), Restart(), ExpectError("StateDamaged"), Run(), Repair(), *AFTER])


def test_a_planned_file_that_is_gone_is_named() -> None:
    play([*BEFORE, some(8), Crash("batch_start"), Run(), Corrupt("source", "gone"), ExpectError("SourceChanged"), Run(), Repair(), *AFTER])


def test_a_lost_checkpoint_is_refused() -> None:
    play([*BEFORE, Corrupt("checkpoint", "lost"), ExpectError("CheckpointRefused"), Run(), Repair(), *AFTER])


def test_spark_forgets_that_a_batch_has_ended() -> None:
    world = play([*BEFORE, Corrupt("commits", "lost"), *AFTER])
    assert len(world.digests) == 3


def test_who_was_taken_over_is_refused_when_it_wakes() -> None:
    play([*BEFORE, TakeOver(), some(8), ExpectError("Fenced"), Late(), Check(), *AFTER])


def test_a_clock_that_goes_back_orders_nothing() -> None:
    play([*BEFORE, Advance(7200), some(8, at=7200), Run(), Advance(-90_000), some(12), Run(), *AFTER])


def test_repeats_are_told_by_name_before_and_after_a_restart() -> None:
    late = some(40, at=-2 * WINDOW)
    world = play([*BEFORE, Advance(60), some(0), Run(), Restart(), some(0), late, Run(), Check()])
    assert world.oracle.counts == {"read": 20, "accepted": 8, "quarantined": 0, "duplicate": 8, "late": 4}


def test_corrections_and_broken_records() -> None:
    world = play([*BEFORE, some(0, revision=2), some(50, broken=True), Run(), Restart(), some(0, revision=1), some(0, revision=3), *AFTER])
    assert world.oracle.counts["accepted"] == 20 and world.oracle.counts["quarantined"] == 4
