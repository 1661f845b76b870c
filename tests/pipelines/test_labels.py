"""Impressions that wait for their answers: in rows, with counts that add up, whatever happens in between."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from freshet.errors import SettingsError
from freshet.pipelines.opening import open_reading
from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import rollback
from freshet.pipelines.status import status
from freshet.store.snapshots import LEARNING

pytestmark = pytest.mark.spark

SETS = (
    "model.name=fm", "source.event_types=[impression,click,view]", "source.values={impression: 0, click: 1, view: 1}",
    "labels.wait=15 minutes", "clean.dedup_window=2 hours", "model.features.context=[device]",
)  # fmt: skip


def event(minute: int, kind: str, user: int, item: int, number: int, **more: Any) -> dict[str, Any]:
    at = f"2026-01-01T{minute // 60:02d}:{minute % 60:02d}:00Z"
    return {"event_id": f"e{number}", "user_id": f"u{user}", "item_id": f"i{item}", "event_type": kind, "event_at": at, "device": "tv"} | more


FILES = [
    [event(0, "impression", 1, 1, 1), event(1, "impression", 1, 2, 2), event(5, "click", 1, 1, 3), event(6, "view", 2, 2, 4)],
    # 2 goes unanswered. 6 is shown, and 7 is shown and clicked; 8 comes when its wait is over and its click is too late.
    [event(17, "impression", 2, 1, 6), event(18, "impression", 2, 3, 7), event(19, "click", 2, 3, 8), event(0, "click", 1, 2, 9)],
    [event(1, "impression", 3, 3, 10), event(20, "impression", 3, 1, 11), event(1, "impression", 3, 3, 10)],
    [event(40, "click", 3, 2, 12), event(39, "impression", 1, 3, 13), event(20, "impression", 3, 1, 11, revision=1)],
    [event(41, "click", 1, 3, 14), event(41, "impression", 2, 2, 15)],
]
STATES = {1: "matured", 2: "matured", 6: "matured", 7: "matured", 10: "expired", 11: "matured", 13: "matured", 15: "pending"}
COUNTS = [(2, 1, 1, 0), (2, 2, 1, 0), (2, 0, 2, 1), (1, 2, 1, 0), (1, 1, 1, 0)]  # impressions, matured, pending, expired


def write(site, files: list[list[dict[str, Any]]]) -> None:
    site.source.mkdir(parents=True, exist_ok=True)
    for number, events in enumerate(files):
        path = site.source / f"{number}.json"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in events))
        os.utime(path, (1_800_000_000 + number,) * 2)


def check_counts(site) -> None:
    """The numbers of each micro-batch, of all of them, and of the rows one by one, which know nothing of each other."""
    commits = open_reading(site.spark, site.settings()).commits
    told = [snapshot.impressions for snapshot in commits if snapshot.kind in LEARNING]
    assert [tuple(one[name] for name in ("impressions", "matured", "pending", "expired")) for one in told] == COUNTS
    found = status(site.spark, site.settings())["impressions"]
    assert found == {"impressions": 8, "matured": 6, "pending": 1, "expired": 1}
    rows = site.sql("select event_id, state from impressions")
    assert {int(row["event_id"][1:]): row["state"] for row in rows} == STATES


def test_an_impression_without_an_answer_is_learned_as_negative_once_its_wait_is_over(new_site, monkeypatch) -> None:
    site = new_site("whole", SETS)
    write(site, FILES)
    reports = site.train()
    assert [(report.accepted, report.duplicate) for report in reports] == [(4, 0), (4, 0), (2, 1), (3, 0), (2, 0)]
    check_counts(site)
    # What was learned: clicks and views as they came, three impressions as negatives, none of the others.
    [base] = site.sql("select max(count) as n from parameters where block = 'base'")
    [liked] = site.sql("select sum(count) as n from parameters where block = 'popularity'")
    assert (base["n"], liked["n"]) == (6 + 3, 6)
    learned = [snapshot for snapshot in site.snapshots() if snapshot.kind == "learn"]
    assert replay(site.spark, site.settings(), verify=True, from_version=learned[3].version)["verified"]

    # A process that dies in the middle of its fourth micro-batch: what is pending comes back from its rows.
    pieces = new_site("pieces", SETS)
    write(pieces, FILES)
    pieces.train_until(monkeypatch, "before_snapshot_row:raise:5")
    assert len(pieces.train()) == 2
    assert pieces.digest() == site.digest()
    check_counts(pieces)
    rollback(site.spark, site.settings(), to=learned[1].version, reason="again", events="relearn")
    assert site.digest() == pieces.digest()
    check_counts(site)
    with pytest.raises(SettingsError, match=r"labels\.wait was 900\.0 and is 60\.0"):
        site.train("labels.wait=1 minute")


def test_what_is_retrained_and_judged_are_labels_and_not_impressions(new_site) -> None:
    from freshet.pipelines.assembly import new_learner
    from freshet.pipelines.judged_events import learned_after, of_span
    from freshet.pipelines.material import between, of_table
    from freshet.pipelines.opening import load_head

    site = new_site("labels", SETS)
    # What is said of an impression when its wait is over changes nothing of it.
    write(site, [*FILES, [event(1, "impression", 1, 2, 2, revision=1)]])
    site.train()
    reading, settings = open_reading(site.spark, site.settings()), site.settings()
    learner = new_learner(settings)
    online, learned = load_head(reading, settings, learner), between(reading.commits, None, None)
    minute = 60_000_000
    # The click of 9 came at a time before its impression: 2 is unanswered. From the second version on 2 waits from before.
    for first, clicks in ((0, 6), (1, 4)):
        events = of_table(reading, learned[first:], settings, learner, online).events
        negative = events.event_at[events.value == 0]
        assert ((negative - negative.min()) // minute).tolist() == [0, 16, 19] and int((events.value == 1).sum()) == clicks
    earlier = open_reading(site.spark, settings, learned[0].version)
    events, place = learned_after([earlier]).arrays(settings)
    assert ((events.value == 0).sum(), (events.value == 1).sum(), len(place)) == (3, 4, 7)
    assert len(of_span([reading], None, None).arrays(settings)[0]) == 10
