"""Maintenance: half-done bases, orphans, a dropped log; versions that are kept stay what they were."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from freshet.errors import Fenced, StateDamaged
from freshet.failpoint import Injected
from freshet.store.commit import Writer, new_commit_id
from freshet.store.decisions import decision_row
from freshet.store.maintain import (
    MANY_FILES,
    compact,
    drop_log,
    fresh_history,
    optimize,
    remove_orphan_bases,
    remove_orphans,
    vacuum,
)
from freshet.store.parameters import digest, load_arrow, state
from freshet.store.snapshots import History

pytestmark = pytest.mark.spark
FAR_AHEAD = 4_000_000_000_000_000


def seal(model: Any) -> str:
    """Commit a version whose digest is the state's."""
    found = digest(state(model.tables, model.history, model.history.newest().version))
    model.learn({}, digest=found)
    return found


def values(model: Any, version: int) -> dict[int, float]:
    return model.values(load_arrow(model.tables, History.load(model.tables), version)["user"])


def test_a_base_counts_only_when_whole_verified_and_declared(model: Any, arm: Callable[[str], None]) -> None:
    model.learn({1: 1.0, 2: 2.0})
    with pytest.raises(StateDamaged) as caught:
        compact(model.writer)  # the digest of version 1 is not that of its rows
    assert caught.value.facts["version"] == 1
    seal(model)
    for step in ("base_written", "base_verified"):
        arm(step)
        with pytest.raises(Injected):
            compact(model.writer)
    arm("")
    assert model.history.newest_base(2) is None
    assert values(model, 2) == {1: 1.0, 2: 2.0}
    base = compact(model.writer)
    assert remove_orphan_bases(model.writer) == 3
    assert remove_orphan_bases(model.writer) == 0
    assert model.history.newest_base(3).base_id == base.base_id
    assert model.tables.read("parameters_base").count() == 2


def test_orphans_go_only_when_their_attempt_is_closed(model: Any, arm: Callable[[str], None]) -> None:
    arm("before_snapshot_row")
    with pytest.raises(Injected):
        model.learn({1: 66.0})
    arm("")
    assert sum(remove_orphans(model.writer).values()) == 0  # version 1 is free: for all we know it is being committed
    model.learn({1: 1.0})
    assert remove_orphans(model.writer) == {"events": 0, "quarantine": 0, "ids": 0, "parameters": 1, "decisions": 0, "distances": 0}
    arm("before_snapshot_row")
    with pytest.raises(Injected):
        model.learn({1: 77.0})
    arm("")
    second = Writer.start(model.tables, History.load(model.tables), run="second")
    with pytest.raises(Fenced):
        remove_orphans(model.writer)
    assert remove_orphans(second)["parameters"] == 1
    assert model.tables.read("parameters").count() == 1
    assert values(model, 2) == {1: 1.0}


def test_the_history_is_read_again_only_where_the_table_has_more_of_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model.learn({1: 1.0})
    looks, load = [], History.load
    monkeypatch.setattr(History, "load", lambda tables: looks.append(1) or load(tables))
    assert fresh_history(model.writer).rows == load(model.tables).rows
    assert not looks
    Writer.start(model.tables, load(model.tables), run="second")
    with pytest.raises(Fenced):
        fresh_history(model.writer)
    assert looks == [1]


def test_the_log_goes_below_a_base_and_kept_versions_stay(model: Any, arm: Callable[[str], None]) -> None:
    model.learn({1: 1.0})
    model.learn({2: 2.0})
    assert drop_log(model.writer, 0, now=FAR_AHEAD) == 0  # no base: the newest version needs all of it
    model.learn({1: 3.0})
    seal(model)
    compact(model.writer)
    model.writer.commit(model.writer.begin(), {"decisions": decision_row("publish", 1, "good")}, {})
    assert drop_log(model.writer, 1) == 0  # everything is younger than a day
    arm("drop_decided")
    with pytest.raises(Injected):
        drop_log(model.writer, 0, now=FAR_AHEAD)
    arm("")
    assert values(model, 2) == {1: 1.0, 2: 2.0}
    assert drop_log(model.writer, 0, now=FAR_AHEAD) == 2
    told = len(model.history.live())
    assert drop_log(model.writer, 0, now=FAR_AHEAD) == 0 and len(model.history.live()) == told  # it is not said again
    assert model.tables.read("parameters").count() == 1
    assert values(model, 1) == {1: 1.0}
    assert values(model, model.history.newest().version) == {1: 3.0, 2: 2.0}
    for read in (state, load_arrow):
        with pytest.raises(StateDamaged):
            read(model.tables, model.history, 2)


def test_a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants(model: Any, arm: Callable[[str], None]) -> None:
    """An error after each of its steps, where the two tests above have none; the next one finishes."""
    model.learn({1: 1.0})
    model.learn({1: 2.0})
    seal(model)
    arm("before_snapshot_row")
    with pytest.raises(Injected):
        model.learn({1: 66.0})
    arm("")
    model.learn({2: 2.0})
    seal(model)
    for place, act in (
        ("base_committed", lambda: compact(model.writer)), ("orphans_found", lambda: remove_orphans(model.writer)),
        ("log_dropped", lambda: drop_log(model.writer, 0, now=FAR_AHEAD)),
        ("table_optimized", lambda: optimize(model.writer, ["snapshots"], many=1)),
        ("table_vacuumed", lambda: vacuum(model.writer, ["snapshots"], hours=9999)),
    ):  # fmt: skip
        arm(place)
        with pytest.raises(Injected, match=place):
            act()
        arm("")
        newest = model.history.newest().version
        assert values(model, newest) == {1: 2.0, 2: 2.0}
        assert digest(state(model.tables, model.history, newest)) == model.history.newest().digest
    assert model.history.newest_base(model.history.newest().version) is not None  # its row stood before the error
    assert remove_orphans(model.writer)["parameters"] == 0
    drop_log(model.writer, 0, now=FAR_AHEAD)  # the rest of what the error left
    assert drop_log(model.writer, 0, now=FAR_AHEAD) == 0
    assert values(model, model.history.newest().version) == {1: 2.0, 2: 2.0}


def test_maintenance_beside_a_learner_changes_nothing(model: Any) -> None:
    model.learn({1: 0.0})
    seal(model)
    failed: list[BaseException] = []

    def maintain() -> None:
        try:
            compact(model.writer, 2)
            remove_orphans(model.writer)
            optimize(model.writer, ["parameters", "snapshots"], many=2)
            vacuum(model.writer, ["parameters"])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=maintain)
    thread.start()
    number = 0
    while thread.is_alive() or number < 3:
        number += 1
        model.learn({1: float(number), 100 + number: 1.0})
        time.sleep(0.1)  # a learner learns between two commits; without a gap the other thread never gets its turn
    thread.join()
    assert failed == []
    history = History.load(model.tables)
    assert history.live() == model.history.live()
    newest = history.newest()
    assert newest is not None
    assert [row.kind for row in history.live()].count("base") == 1
    assert values(model, newest.version) == {1: float(number), **{100 + at: 1.0 for at in range(1, number + 1)}}


def test_files_nobody_needs_go_when_they_are_old(model: Any) -> None:
    model.learn({1: 1.0})
    stray = model.root / "parameters" / "part-00000-stray.snappy.parquet"
    stray.write_bytes(b"of an append whose commit never came")
    vacuum(model.writer, ["parameters"])
    assert stray.exists()
    for file in stray.parent.glob("*.parquet"):
        os.utime(file, (1, 1))
    vacuum(model.writer, ["parameters"])
    assert not stray.exists()
    assert values(model, 1) == {1: 1.0}


def test_many_small_files_become_one(model: Any) -> None:
    for number in range(MANY_FILES - 1):
        model.learn({number: 1.0})
    optimize(model.writer, ["parameters"])
    assert model.tables.file_count("parameters") == MANY_FILES - 1
    model.learn({99: 2.0})
    optimize(model.writer, ["parameters"])
    assert model.tables.file_count("parameters") == 1
    assert values(model, MANY_FILES) == {99: 2.0, **dict.fromkeys(range(MANY_FILES - 1), 1.0)}


def test_base_ids_never_repeat() -> None:
    assert len({new_commit_id(3) for _ in range(1000)}) == 1000
