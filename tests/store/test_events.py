"""Events, ids and decisions read back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
import xxhash

from freshet.errors import StateDamaged
from freshet.failpoint import Injected
from freshet.pipelines.learned_events import dedup_keys, id_checks, natural_ids, read_events
from freshet.store.decisions import REQUEST_ID, decision_row, decisions, open_requests, request
from freshet.store.snapshots import History

pytestmark = pytest.mark.spark
TIME = pa.timestamp("us", tz="UTC")


def events(*ids: int) -> pa.Table:
    n = len(ids)
    return pa.table({
        "event_id": [f"e{i}" for i in ids], "revision": list(ids), "user_id": [f"u{i}" for i in ids], "item_id": ["i"] * n,
        "event_type": ["view"] * n, "value": [1.0] * n, "weight": [1.0] * n, "propensity": pa.nulls(n, pa.float64()),
        "event_at": pa.array(ids, TIME), "arrived_at": pa.array(ids, TIME),
        "context": pa.array([[("a", "b")]] * n, pa.map_(pa.string(), pa.string())), "source": ["f"] * n, "position": list(ids),
        "corrects": pa.nulls(n, pa.int64()),
    })  # fmt: skip


def signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def key_of(text: str) -> int:
    return signed(xxhash.xxh64_intdigest(text.encode(), 42))


@pytest.fixture
def learned(model: Any, arm: Any) -> Any:
    def commit(*ids: int) -> None:
        new = pa.table({"block": ["user"] * len(ids), "key": [key_of(f"u{i}") for i in ids], "natural_id": [f"u{i}" for i in ids]})
        model.writer.commit(model.writer.begin(), {"events": events(*ids), "ids": new}, {"accepted_count": len(ids)})

    commit(1, 2)
    arm("before_snapshot_row")
    with pytest.raises(Injected):
        commit(66)
    arm("")
    commit(3)
    model.writer.rollback(1, "again")
    commit(5, 4)
    return model


def test_replay_sees_each_version_of_the_path_whole_and_in_order(learned: Any) -> None:
    for chunk in (1, 1000):
        found = [(snapshot.version, sorted(table.column("event_id").to_pylist())) for snapshot, table in
                 read_events(learned.tables, learned.history, 0, 4, chunk_events=chunk)]
        assert found == [(1, ["e1", "e2"]), (4, ["e4", "e5"])]
    [(_, main)] = read_events(learned.tables, learned.history, 2, 2)
    assert main.drop_columns([name for name in main.column_names if name.endswith(("_key", "_check", "_hash"))]).to_pylist() == events(3).to_pylist()
    assert main.column("user_key").to_pylist() == [key_of("u3")]
    assert main.column("event_hash").to_pylist() == [key_of("e3")]


def test_a_missing_event_is_not_a_shorter_replay(learned: Any) -> None:
    import deltalake

    deltalake.DeltaTable(str(learned.root / "events")).delete("event_id = 'e2'")
    with pytest.raises(StateDamaged) as caught:
        list(read_events(learned.tables, History.load(learned.tables), 0, 4))
    assert (caught.value.facts["version"], caught.value.facts["wanted"], caught.value.facts["found"]) == (1, 2, 1)


def test_dedup_window_and_known_ids_follow_the_path(learned: Any) -> None:
    found = dedup_keys(learned.tables, learned.history, 4, 2)
    assert sorted(found.column("event_at").cast(pa.int64()).to_pylist()) == [2, 4, 5]
    wanted = signed(xxhash.xxh64_intdigest((0).to_bytes(8, "little"), xxhash.xxh64_intdigest(b"e4", 42)))
    at = found.column("dedup_key").to_pylist().index(wanted)  # its revision is no part of the key
    assert (found.column("revision")[at].as_py(), found.column("snapshot_version")[at].as_py()) == (4, 4)
    checks = id_checks(learned.tables, learned.history, 4)
    assert sorted(checks.column("key").to_pylist()) == sorted(key_of(f"u{i}") for i in (1, 2, 4, 5))
    assert len(set(checks.column("check").to_pylist())) == 4
    assert set(checks.column("check").to_pylist()).isdisjoint(checks.column("key").to_pylist())
    names = natural_ids(learned.tables, learned.history, 2).column("natural_id").to_pylist()
    assert sorted(names) == ["u1", "u2", "u3"]


def test_a_correction_that_names_an_earlier_time_is_remembered_as_long_as_its_event(model: Any) -> None:
    """Else a start would know a lower revision than the process before it, and learn a correction twice."""
    corrects = pa.array([0], pa.int64())
    early = {"revision": pa.array([7]), "event_at": pa.array([1], TIME), "corrects": corrects}
    for table, corrected in ((events(30, 40), 0), (events(30), 1), (events(40, 2), 0)):
        if corrected:
            for name, column in early.items():
                table = table.set_column(table.column_names.index(name), name, column)
        model.writer.commit(model.writer.begin(), {"events": table}, {"accepted_count": len(table), "corrected_count": corrected})
    found = dedup_keys(model.tables, model.history, 3, 20)
    assert sorted(found.column("revision").to_pylist()) == [7, 30, 40, 40]
    assert sorted(dedup_keys(model.tables, model.history, 3, 35).column("revision").to_pylist()) == [40, 40]


def test_nothing_learned_yet_is_an_empty_memory(model: Any) -> None:
    assert dedup_keys(model.tables, model.history, 0, 0).num_rows == 0
    assert id_checks(model.tables, model.history, 0).column_names == ["block", "key", "check"]
    assert list(read_events(model.tables, model.history, 0, 0)) == []


def test_a_request_is_open_until_a_committed_decision_answers_it(model: Any, arm: Any) -> None:
    first = request(model.tables, "publish", {"version": 0}, actor="ann")
    second = request(model.tables, "skip", {"batch": 3}, actor="ann", reason="bad hour")
    answer = {"decisions": decision_row("publish", 0, "asked", {REQUEST_ID: first}, actor="ann")}
    arm("before_snapshot_row")
    with pytest.raises(Injected):
        model.writer.commit(model.writer.begin(), answer, {})
    arm("")
    waiting = open_requests(model.tables, model.history)
    assert [row["request_id"] for row in waiting] == [first, second]
    assert (waiting[1]["kind"], waiting[1]["arguments"], waiting[1]["reason"]) == ("skip", '{"batch": 3}', "bad hour")
    model.writer.commit(model.writer.begin(), answer, {})
    assert [row["request_id"] for row in open_requests(model.tables, model.history)] == [second]
    assert len(decisions(model.tables, model.history)) == 1
