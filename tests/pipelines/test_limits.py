"""Floods and crowds through the real pipeline: counted, never silent, and the same after a crash, a rollback and a replay."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import rollback
from freshet.pipelines.status import status

pytestmark = pytest.mark.spark

SETS = (
    "model.name=mf", "source.context=[]", "limits.user_events=6", "limits.pair_events=2", "limits.burst=1", "limits.burst_events=8",
    "limits.young=2", "clean.min_refused_events=5",
)


def event(number: int, user: int, item: int, minute: int) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "user_id": f"u{user}", "item_id": f"i{item}", "event_type": "click", "value": 1 + number % 5,
        "event_at": f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:{number % 60:02d}Z",
    }  # fmt: skip


def files() -> list[list[dict[str, Any]]]:
    """Fifteen known users; one who floods, over three files and two hours, one who corrects; a crowd of strangers on one item."""
    known = [event(n, n % 15, n % 7, n // 8) for n in range(90)] + [event(1000 + n, n % 15, n % 7, 20) for n in range(30)]  # two too many
    more = [event(100 + n, n % 5, n % 7, 70 + n // 8) for n in range(20)]  # in the next hour
    flood = [event(200 + n, 9, n % 9, 75) for n in range(40)]
    again = [event(300 + n, 9, n % 9, 76) for n in range(10)] + [event(400 + n, 8, 3, 77) for n in range(6)]
    again += [{**one, "revision": 1} for one in more if one["user_id"] == "u4"]  # four there were, so two may be corrected
    crowd = [event(500 + n, 1000 + n, 6, 78) for n in range(60)] + [event(600 + n, n % 5, n % 7, 130) for n in range(20)]
    return [known, more + flood, again, crowd]


def write(site) -> None:
    site.source.mkdir(parents=True, exist_ok=True)
    for number, events in enumerate(files()):
        path = site.source / f"{number}.json"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in events))
        os.utime(path, (1_800_000_000 + number,) * 2)


def test_what_is_too_much_is_counted_and_the_same_after_a_crash_a_rollback_and_a_replay(new_site, monkeypatch) -> None:
    site = new_site("whole", SETS)
    write(site)
    reports = site.train()
    assert [(r.read, r.accepted, r.quarantined) for r in reports] == [(120, 90, 30), (60, 26, 34), (20, 6, 14), (80, 80, 0)]
    reasons = site.sql("select reason, count(*) as n from quarantine group by reason order by reason")
    assert [tuple(row.values()) for row in reasons] == [("pair_cap", 2), ("user_cap", 76)]
    # No account can end the stream: what is beyond a cap is no sign of a broken source.
    assert all(row.kind != "refused" for row in site.snapshots())
    limited = [dict(row.limited) for row in site.snapshots() if row.kind == "learn"]
    assert limited[-1] == {"burst_items": 1, "burst_events": 60} and not any(limited[:-1])
    assert replay(site.spark, site.settings(), verify=True)["verified"]

    # Who moved a version most, by name: an attack can be found.
    [first] = site.sql("select id, events from movers where version = 2 and space = 'user' order by change desc limit 1")
    assert first == {"id": "u9", "events": 6}
    told = status(site.spark, site.settings())
    assert told["limited"] == {"user_cap": 76, "pair_cap": 2, "burst_items": 1, "burst_events": 60}

    pieces = new_site("pieces", SETS)
    write(pieces)
    pieces.train_until(monkeypatch, "before_snapshot_row:raise:4")
    assert [(r.accepted, r.quarantined) for r in pieces.train()] == [(6, 14), (80, 0)]  # what an hour has had is known again
    assert pieces.digest() == site.digest()
    rollback(pieces.spark, pieces.settings(), to=2, reason="again", events="relearn")
    assert pieces.digest() == site.digest()
    # Undone by learning again without those who did it; nobody's events are too many then.
    rollback(pieces.spark, pieces.settings(), to=0, reason="attack", events="relearn", where="user_id != 'u9'")
    found = pieces.sql("select count(*) as n from events where user_id = 'u9'")
    assert found == [{"n": 0}] and pieces.digest() != site.digest()
