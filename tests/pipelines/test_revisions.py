"""Events that are said again, corrected: learned once with the new value, counted once, whatever happens in between."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import rollback
from freshet.pipelines.status import status

pytestmark = pytest.mark.spark

SETS = ("model.name=mf", "source.context=[]", "clean.dedup_window=1 hour")


def event(number: int, value: float, minute: int, revision: int | None = None, item: int = 0) -> dict[str, Any]:
    plain = {
        "event_id": f"e{number}", "user_id": f"u{number % 3}", "item_id": f"i{item or number}", "event_type": "click", "value": value,
        "event_at": f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00Z",
    }  # fmt: skip
    return plain | ({} if revision is None else {"revision": revision})


FILES = [
    [event(1, 5, 0), event(2, 4, 1), event(3, 1, 2), event(4, 2, 3)],
    # 1 is corrected; of 2 the second of three revisions comes late in the file; 5 comes corrected.
    [event(1, 1, 0, 1), event(2, 3, 1, 1), event(2, 2, 1, 3), event(2, 5, 1, 2), event(5, 3, 4, 2), event(5, 4, 4)],
    # A lower and an equal revision are duplicates, a higher one is not; what is older than the window is late.
    [event(2, 5, 1, 2), event(1, 5, 0, 1), event(2, 4, 1, 4), event(6, 3, 70)],
    [event(3, 5, 2, 1), event(4, 4, 12, 1), event(7, 3, 71)],
]


def write(site, files: list[list[dict[str, Any]]]) -> None:
    site.source.mkdir(parents=True, exist_ok=True)
    for number, events in enumerate(files):
        path = site.source / f"{number}.json"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in events))
        os.utime(path, (1_800_000_000 + number,) * 2)


def test_a_correction_is_learned_once_and_counted_once(new_site, monkeypatch) -> None:
    site = new_site("whole", SETS)
    write(site, FILES)
    reports = site.train()
    names = ("read", "accepted", "quarantined", "duplicate", "late", "corrected")
    found = [tuple(getattr(report, name) for name in names) for report in reports]
    assert found == [(4, 4, 0, 0, 0, 0), (6, 3, 0, 3, 0, 2), (4, 2, 0, 2, 0, 1), (3, 2, 0, 0, 1, 0)]
    totals = status(site.spark, site.settings())["totals"]
    assert totals["read"] == 17 == sum(totals[name] for name in names[1:5]) and totals["corrected"] == 3
    rows = site.sql("select event_id, revision, value, corrects from events where event_id in ('e1', 'e2', 'e5') order by 1, 2")
    assert [tuple(row.values()) for row in rows] == [
        ("e1", 0, 5.0, None), ("e1", 1, 1.0, 0), ("e2", 0, 4.0, None), ("e2", 3, 2.0, 0), ("e2", 4, 4.0, 3), ("e5", 2, 3.0, None)]
    # Popularity, histories and the window know each event once; the rows that are learned took a step for every revision.
    [counted] = site.sql("select sum(count) as n from parameters where block = 'popularity'")
    [had] = site.sql("select count(*) as n, count(distinct user_id, item_id) as each from histories")
    [steps] = site.sql("select max(count) as n from parameters p join ids on ids.key = p.key and natural_id = 'i2' where p.block = 'item'")
    assert (counted["n"], had["n"], had["each"], steps["n"]) == (8, 8, 7, 3)  # 4 was forgotten when it came again, later
    measured = site.sql("select sum(events) as n from metrics where metric = 'rmse' and scoring = 'sequential' and slice = 'all'")
    assert replay(site.spark, site.settings(), verify=True)["verified"] and [row["n"] for row in measured] == [11 - 3]

    # A process that dies in the middle of its third micro-batch, and learning again after a rollback: the same bits.
    pieces = new_site("pieces", SETS)
    write(pieces, FILES)
    pieces.train_until(monkeypatch, "before_snapshot_row:raise:4")
    assert len(pieces.train()) == 2
    assert pieces.digest() == site.digest()
    learned = [snapshot for snapshot in site.snapshots() if snapshot.kind == "learn"]
    assert learned[1].digest != learned[0].digest
    rollback(site.spark, site.settings(), to=learned[0].version, reason="again", events="relearn")
    assert site.digest() == pieces.digest()
    again = [snapshot for snapshot in site.snapshots() if snapshot.kind == "relearn"]
    assert [snapshot.corrected_count for snapshot in again] == [2, 1, 0]


def test_what_is_retrained_and_judged_is_each_event_as_it_was_said_last(new_site) -> None:
    from freshet.pipelines.assembly import new_learner
    from freshet.pipelines.judged_events import learned_after, of_span
    from freshet.pipelines.material import between, of_table
    from freshet.pipelines.opening import load_head, open_reading

    site = new_site("last", SETS)
    write(site, FILES[:3])
    site.train()
    reading, settings = open_reading(site.spark, site.settings()), site.settings()
    learner = new_learner(settings)
    online = load_head(reading, settings, learner)
    learned = between(reading.commits, None, None)
    for first, wanted in ((0, [(1.0, False), (4.0, False), (1.0, False), (2.0, False), (3.0, False), (3.0, False)]),
                          (1, [(1.0, True), (4.0, True), (3.0, False), (3.0, False)])):
        events = of_table(reading, learned[first:], settings, learner, online).events
        assert list(zip(events.value.tolist(), events.corrects.tolist(), strict=True)) == wanted
    earlier = open_reading(site.spark, settings, learned[0].version)
    assert sorted(learned_after([earlier]).arrays(settings)[0].value.tolist()) == [3.0, 3.0]
    assert len(of_span([reading], None, None).arrays(settings)[0]) == 6
