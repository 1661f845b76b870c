"""Conditions on events: what they mean beside plain Python, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from freshet.engine.predicate import check, holds
from freshet.errors import FreshetError

EVENTS = pa.table({
    "user_id": ["a", "b", "c", "42"], "item_id": ["w", "x", "y", "z"], "value": [1.0, 2.0, 3.0, -1.0],
    "event_at": pa.array([datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2, 3, 4)], pa.timestamp("us", tz="UTC")),
    "context": pa.array([[("device", "phone")], [], None, [("device", "desk")]], pa.map_(pa.string(), pa.string())),
    "event_type": pa.array(["click", None, "view", "click"]),
})


@pytest.mark.parametrize(("condition", "wanted"), [
    ("user_id not in ('a', 'b')", "0011"), ("user_id in (42)", "0001"), ("user_id = 'a' or value >= 3", "1010"),
    ("not (user_id = 'a' or value >= 3)", "0101"), ("value between 1 and 2", "1100"), ("value > -1", "1110"), ("value != 2", "1011"),
    ("event_at < '2026-01-02'", "1000"), ("event_at >= '2026-01-03T00:00:00+00:00' and item_id <> 'z'", "0010"),
    ("context['device'] = 'phone'", "1000"), ("context['device'] is null", "0110"), ("event_type is not null", "1011"),
    ("event_type = 'click' or event_type is null", "1101"), ("not event_type = 'click'", "0010"),  # of null nothing is true
    ("event_type not in ('view')", "1001"),
])  # fmt: skip
def test_what_a_condition_means(condition: str, wanted: str) -> None:
    check(condition)
    assert "".join(str(int(one)) for one in holds(condition, EVENTS)) == wanted


@pytest.mark.parametrize("condition", [
    "1 = 1", "user_id", "password = 'x'", "snapshot_version = 3", "value = 'x'", "user_id in (select user_id from events)",
    "'; drop table events", "event_at < 'yesterday'", "exists(select 1)", "user_id like 'a%'", "user_id = item_id",
    "value > -user_id", "upper(user_id) = 'A'", "", "and", "user_id = -3", "events.user_id = 'a'", "context[0] = 'x'",
])  # fmt: skip
def test_what_is_no_condition_is_refused_by_name(condition: str) -> None:
    with pytest.raises(FreshetError, match="cannot be used") as refusal:
        check(condition)
    assert "Columns: event_id" in refusal.value.remedy
