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
AFTER = (Run(), some(20), Run(), Run(), Restart(), Check())
CRASHES = ExpectError("Injected")  # a place that is not passed is no crash


def test_a_world_without_faults() -> None:
    world = play([*BEFORE, Restart(), some(2, 8), Advance(60), Run(), *AFTER])
    assert world.oracle.counts == {"read": 20, "accepted": 14, "quarantined": 0, "duplicate": 6, "late": 0}
    assert len(world.digests) == 4


@pytest.mark.parametrize("place", PLACES)
def test_a_crash_anywhere(place: str) -> None:
    """Each file has users who were not there before: without any there is nothing to append to `ids`."""
    later = (some(12, who="w"), some(14, who="x"), Crash(place, 2), CRASHES, Run(1))
    world = play([*BEFORE, some(8, who="v"), Crash(place), CRASHES, Run(1), *later, *AFTER])
    assert world.oracle.counts["accepted"] == 22 and world.happened["Injected"] == 2


def test_a_crash_that_does_not_come_is_noticed() -> None:
    """The subject that must fail: nobody new, so nothing is appended to `ids`."""
    with pytest.raises(AssertionError, match="Injected was expected, and it ended with None"):
        play([*BEFORE, some(8), Crash("before_ids"), CRASHES, Run(1)])


@pytest.mark.parametrize("place", ["before_snapshot_row", "after_snapshot_row"])
def test_a_crash_of_a_start(place: str) -> None:
    play([Crash(place), CRASHES, Restart(), *BEFORE, Crash(place), CRASHES, Restart(), some(8), *AFTER])


def test_crashes_of_crashes() -> None:
    """One batch is tried over and over: rows of four dead attempts lie under it."""
    hurt = [step for place in PLACES[2:6] for step in (Crash(place), CRASHES, Run())]
    world = play([*BEFORE, some(8, who="v"), *hurt, *AFTER])
    assert world.disk.tables.rows("events").num_rows > world.oracle.counts["accepted"] == 16


@pytest.mark.parametrize("room", range(5))
def test_a_disk_that_is_full_from_the_first_micro_batch_on(room: int) -> None:
    """At the row of the start, or at one of the four appends of the micro-batch."""
    play([some(0), Fill(room), ExpectError("StoreFailed"), Run(), Check(), Free(), *AFTER])


@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_leaves_the_version_before_and_the_next_start_completes(room: int) -> None:
    """At each append: ids, events, parameters, snapshots."""
    play([*BEFORE, some(8, who="v"), Fill(room), ExpectError("StoreFailed"), Run(), Check(), Free(), *AFTER])


def test_four_appends_are_all_there_are() -> None:
    world = play([*BEFORE, some(8, who="v"), Fill(4), Run(), Check(), Free(), *AFTER])
    assert not world.happened


@pytest.mark.parametrize("table", ["ids", "events", "parameters", "snapshots"])
def test_a_lost_reply_is_one_effect(table: str) -> None:
    """Of a part: nothing was committed, and it is tried again. Of the row that commits: the log tells that it landed."""
    ends = [] if table == "snapshots" else [ExpectError("StoreFailed")]
    world = play([*BEFORE, some(8, who="v"), *ends, LoseReply(table), *AFTER])
    assert world.happened[f"lost {table}"] == 1 and world.happened["StoreFailed"] == len(ends)


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


def test_a_batch_without_an_event_is_a_version_of_the_same_state_without_metrics() -> None:
    """A file of nothing, and one of which nothing is left."""
    world = play([*BEFORE, Add(()), Run(), some(50, broken=True), Run(), *AFTER])
    rows = {row["batch_id"]: row for row in world.disk.tables.rows("snapshots").to_pylist()}
    assert rows[1]["digest"] == rows[2]["digest"] == rows[3]["digest"] != rows[4]["digest"]
    assert [(rows[number]["read_count"], rows[number]["accepted_count"]) for number in (2, 3)] == [(0, 0), (4, 0)]
    assert not rows[2]["metrics"] and not rows[3]["metrics"] and rows[1]["metrics"]


def test_corrections_and_broken_records() -> None:
    world = play([*BEFORE, some(0, revision=2), some(50, broken=True), Run(), Restart(), some(0, revision=1), some(0, revision=3), *AFTER])
    assert world.oracle.counts["accepted"] == 20 and world.oracle.counts["quarantined"] == 4
