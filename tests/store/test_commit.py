"""The commit protocol hurt at every step: nothing happens by halves, nothing twice, and one writer stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pyarrow as pa
import pytest

from freshet.errors import Fenced, FreshetError, StoreFailed
from freshet.failpoint import Injected
from freshet.schema import SNAPSHOTS
from freshet.store.commit import Beside, Writer, epoch_of, new_commit_id
from freshet.store.parameters import load_arrow
from freshet.store.snapshots import History, Snapshot, to_record

pytestmark = pytest.mark.spark

QUARANTINE = pa.table({
    "reason": ["late"], "raw": ["{}"], "source": ["file"], "position": [0],
    "arrived_at": pa.array([1], pa.timestamp("us", tz="UTC")),
})  # fmt: skip


def state_of(model: Any, version: int) -> dict[int, float]:
    blocks = load_arrow(model.tables, History.load(model.tables), version)
    return model.values(blocks["user"]) if blocks else {}


def test_the_first_row_of_a_model_is_version_0_of_kind_start(model: Any) -> None:
    newest = model.history.newest()
    assert (newest.version, newest.kind, newest.branch, newest.parent, newest.epoch) == (0, "start", "main", None, 1)
    assert newest.path == (("main", None),)
    assert newest.digest == "0" * 16
    assert History.settings_of(model.tables, 0) == "{}"


def test_an_attempt_hurt_at_any_step_leaves_no_trace_and_the_next_one_counts_once(model: Any, arm: Callable[[str], None]) -> None:
    steps = [
        "before_parameters", "after_parameters", "before_quarantine", "after_quarantine", "before_snapshot_row",
        "after_snapshot_row",
    ]  # fmt: skip
    for number, step in enumerate(steps):
        parts = {"parameters": model.rows({1: float(number), 10 + number: 1.0}), "quarantine": QUARANTINE}
        fields = {"checkpoint_id": "c", "batch_id": number, "digest": f"{number:016x}"}
        arm(step)
        with pytest.raises(Injected):
            model.writer.commit(model.writer.begin(), parts, fields)
        arm("")
        again = model.writer.begin()
        if step != "after_snapshot_row":
            assert model.history.of_batch("c", number) is None
            assert model.writer.commit(again, parts, fields).version == number + 1
        # After the row nothing is lost: the next look finds the batch committed, and it is not done again.
        assert model.history.of_batch("c", number).version == number + 1
    assert state_of(model, 6) == {1: 5.0, **{10 + number: 1.0 for number in range(6)}}
    rows = History.load(model.tables).live()
    assert [row.version for row in rows] == list(range(7))
    assert rows[-1].digest == f"{5:016x}"
    assert rows[-1].appended_rows == {"parameters": 2, "quarantine": 1}
    assert rows[-1].appended_bytes["parameters"] > 0
    assert {"append", "append_parameters", "append_quarantine"} <= rows[-1].stage_seconds.keys()


def test_a_lost_reply_is_one_commit_for_the_row_and_none_for_a_part(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    append = model.tables.append

    def landed_and_raised(lost: str) -> Callable[..., Any]:
        def wrapper(name: str, *rest: Any, **more: Any) -> Any:
            done = append(name, *rest, **more)
            if name == lost:
                raise StoreFailed("no answer", table=name)
            return done

        return wrapper

    monkeypatch.setattr(model.tables, "append", landed_and_raised("snapshots"))
    assert model.learn({1: 1.0}).version == 1
    monkeypatch.setattr(model.tables, "append", landed_and_raised("parameters"))
    with pytest.raises(StoreFailed):
        model.learn({1: 99.0, 2: 99.0})
    monkeypatch.setattr(model.tables, "append", append)
    assert model.learn({1: 2.0}).version == 2
    assert [row.version for row in History.load(model.tables).rows] == [0, 1, 2]
    assert state_of(model, 2) == {1: 2.0}


def test_a_taken_over_writer_is_fenced_by_name_and_its_row_is_void(model: Any) -> None:
    model.learn({1: 1.0})
    second = Writer.start(model.tables, History.load(model.tables), run="second")
    with pytest.raises(Fenced) as caught:
        model.learn({1: 66.0})
    assert (caught.value.facts["winner"], caught.value.facts["epoch"], caught.value.facts["winner_epoch"]) == ("second", 1, 2)
    # The loser's row lies between the winner's; it is of no consequence.
    last = model.learn({2: 2.0}, second)
    assert last.version == 3
    assert state_of(model, 3) == {1: 1.0, 2: 2.0}
    late = Snapshot(9, new_commit_id(1), epoch=1, run="zombie", committed_at=1)
    row = pa.Table.from_pylist([to_record(late)], schema=model.tables.arrow_schema(SNAPSHOTS.name))
    model.tables.append(SNAPSHOTS.name, row)
    assert model.learn({3: 3.0}, second).version == 4
    assert second.history.live() == History.load(model.tables).live()


def test_of_two_that_start_at_once_one_goes_on(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [History.load(model.tables), History.load(model.tables)]
    first = Writer.start(model.tables, seen[0], run="a")
    with pytest.raises(Fenced), monkeypatch.context() as patched:
        patched.setattr(model.tables, "version", lambda _: seen[1].table_version)  # it had looked before the first committed
        Writer.start(model.tables, seen[1], run="b")
    model.learn({1: 1.0}, first)
    assert first.history.live() == History.load(model.tables).live()


def test_an_attempt_is_committed_once_and_only_at_its_turn(model: Any) -> None:
    early, late = model.writer.begin(), model.writer.begin()
    assert early.commit_id != late.commit_id
    assert epoch_of(early.commit_id) == 1
    model.writer.commit(early, {}, {})
    with pytest.raises(FreshetError):
        model.writer.commit(early, {}, {})
    with pytest.raises(FreshetError) as caught:
        model.writer.commit(late, {}, {})
    assert caught.value.facts["version"] == 1


def test_a_head_that_is_not_the_newest_version_may_not_start(model: Any) -> None:
    model.learn({1: 1.0}, digest="00000000000000aa")
    with pytest.raises(FreshetError) as caught:
        Writer.start(model.tables, History.load(model.tables), run="x", head_digest="0" * 16)
    assert caught.value.facts["wanted"] == "00000000000000aa"


def test_what_another_committed_since_the_history_was_read_is_not_passed_over(model: Any) -> None:
    """Where no lock keeps two learners apart: a start takes a while to load."""
    seen = History.load(model.tables)
    model.learn({1: 1.0}, digest="00000000000000aa")
    with pytest.raises(FreshetError, match="Load the head again"):
        Writer.start(model.tables, seen, run="x", head_digest="0" * 16)
    started = Writer.start(model.tables, History.load(model.tables), run="y", head_digest="00000000000000aa")
    assert [row.version for row in started.history.live()] == [0, 1, 2] and started.history.get(1).kind == "learn"


def test_rolled_back_and_gone_on_from_an_older_version(model: Any) -> None:
    model.learn({1: 1.0, 2: 1.0}, digest="00000000000000aa", event_clock=77)
    model.learn({1: 2.0})
    model.learn({3: 3.0, 2: None})
    back = model.writer.rollback(1, "bad hour")
    assert (back.branch, back.path, back.parent, back.kind) == ("main@4", (("main", 1), ("main@4", None)), 1, "rollback")
    assert (back.digest, back.event_clock) == ("00000000000000aa", 77)
    model.learn({2: 5.0})
    assert state_of(model, 5) == {1: 1.0, 2: 5.0}
    assert state_of(model, 4) == {1: 1.0, 2: 1.0}
    assert state_of(model, 3) == {1: 2.0, 3: 3.0}
    started = Writer.start(model.tables, History.load(model.tables), run="later")
    assert started.history.newest().branch == "main@4"
    assert started.history.get(6).parent == 5


def test_versions_of_several_lines_stand_together_or_not_at_all(model: Any, arm: Callable[[str], None]) -> None:
    own = model.writer.branch_off("challenge", 0, "begins", {}, {"parameters": model.rows({1: 0.5})}, "rival", alone=True)
    assert own.path == ((f"rival@{own.version}", None),)
    parts, other = {"parameters": model.rows({1: 1.0, 2: 2.0})}, {"parameters": model.rows({1: 7.0})}

    def learn() -> Snapshot:
        beside = [Beside("rival", other, {"kind": "challenge", "digest": "b" * 16, "run": "rival's"})]
        return model.writer.commit(model.writer.begin(), parts, {"digest": "a" * 16}, beside)

    arm("before_snapshot_row")
    with pytest.raises(Injected):
        learn()
    arm("")
    assert state_of(model, own.version) == {1: 0.5} and model.history.newest("rival").version == own.version
    row = learn()
    rival = History.load(model.tables).newest("rival")
    assert (rival.version, rival.parent, rival.branch, rival.run) == (row.version + 1, own.version, own.branch, "rival's")
    assert (row.appended_rows["parameters"], rival.appended_rows["parameters"]) == (2, 1)
    assert state_of(model, row.version) == {1: 1.0, 2: 2.0} and state_of(model, rival.version) == {1: 7.0}
    assert model.history.newest().version == row.version and model.history.next_version() == rival.version + 1


def test_an_attempt_begun_beside_a_commit_waits_for_it(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base is committed in another thread: who looked at the history meanwhile once took its number as well."""
    entered, go = threading.Event(), threading.Event()
    append_rows = model.writer._append_rows

    def held(rows: list[Snapshot]) -> int:
        entered.set()
        go.wait(60)
        return int(append_rows(rows))

    monkeypatch.setattr(model.writer, "_append_rows", held)
    with ThreadPoolExecutor(2) as pool:
        committing = pool.submit(model.learn, {1: 1.0})
        assert entered.wait(60)
        beginning = pool.submit(model.writer.begin)
        done, _ = wait([beginning], timeout=0.5)
        go.set()
        assert not done
        assert beginning.result().version == committing.result().version + 1
