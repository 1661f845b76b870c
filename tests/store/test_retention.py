"""What may be dropped, against the definition: the state of a kept version never misses a commit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from freshet.store.retention import closed, droppable, kept_versions, spans, unused_bases
from freshet.store.snapshots import BASE, History, Snapshot

Move = tuple[str, int]
moves = st.lists(st.tuples(st.sampled_from(["learn", "learn", "nothing", "back", "base"]), st.integers(0, 30)), max_size=25)


def tell(chosen: list[Move]) -> History:
    """Versions one after the other: changing rows, changing none, rolling back, declaring a base."""
    history = History([Snapshot(0, "c0", kind="start")])
    for move, number in chosen:
        version = history.next_version()
        last = history.newest()
        assert last is not None
        branch, path = last.branch, last.path
        if move == "back":
            branch = f"main@{version}"
            path = (*history.path_of(number % version), (branch, None))
        of = number % version if move == "base" else None
        history.add(Snapshot(
            version, f"c{version}", branch=branch, path=path, kind=BASE if move == "base" else "learn", committed_at=version,
            appended_rows={"parameters": 1} if move == "learn" else {}, base_id=None if of is None else f"b{version}",
            base_version=of,
        ))  # fmt: skip
    return history


@given(moves, st.sets(st.integers(0, 25)), st.integers(0, 30))
def test_no_kept_version_needs_what_is_dropped(chosen: list[Move], named: set[int], since: int) -> None:
    history = tell(chosen)
    kept = kept_versions(history, named, since)
    going = {row.version for row in droppable(history, kept)}
    gone_bases = {row.base_id for row in unused_bases(history, kept)}
    newest = history.newest()
    assert newest is not None
    assert newest.version in kept
    for version in kept:
        base = history.newest_base(version)
        held = set()
        if base is not None:
            assert base.base_id not in gone_bases
            assert base.base_version is not None
            held = {row.version for row in history.commits(base.base_version)}
        changed = {row.version for row in history.commits(version) if row.appended_rows}
        assert changed - held <= changed - going


@given(moves, st.sets(st.integers(0, 25)))
def test_spans_name_the_dropped_commits_and_no_others(chosen: list[Move], named: set[int]) -> None:
    history = tell(chosen)
    going = droppable(history, kept_versions(history, named, 10**9))
    found = spans(history, going)
    covered = {
        row.version for row in history.live() if row.appended_rows
        for span in found if span.branch == row.branch and span.first <= row.version <= span.last
    }  # fmt: skip
    assert covered == {row.version for row in going}


def test_with_a_base_the_log_below_it_may_go_and_without_it_nothing() -> None:
    plain = tell([("learn", 0)] * 3)
    assert droppable(plain, {3}) == []
    based = tell([("learn", 0), ("learn", 0), ("base", 2), ("learn", 0)])
    assert [row.version for row in droppable(based, {4})] == [1, 2]
    assert droppable(based, {4, 1}) == [based.get(2)]


def test_an_attempt_in_flight_is_never_closed() -> None:
    history = History([Snapshot(0, "00000001-a", epoch=1), Snapshot(1, "00000002-b", epoch=2)])
    assert not closed(history, "00000002-x", 2)  # at the next version, in the highest epoch
    assert not closed(history, "not ours", 2)
    assert closed(history, "00000002-x", 1)  # another attempt was committed as version 1
    assert closed(history, "00000001-x", 2)  # its epoch is over
    assert not closed(history, "00000002-b", 1)  # it is the committed one
