"""A freeze beside the stream; what comes in, and what a start knows of it: rows alone say all of that."""

from __future__ import annotations

import json
import os
from collections import deque
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from freshet.demo.dirt import Dirt
from freshet.detectors import Alarm, Relay, Series, Shares
from freshet.errors import FreshetError
from freshet.pipelines import watching
from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import roll_back, rollback
from freshet.pipelines.starting import open_learner
from freshet.pipelines.status import decided
from freshet.pipelines.watching import restored
from freshet.settings import Settings
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark
WATCHED = ["strategy.detectors=[page_hinkley]", "strategy.events=20", "strategy.settle=10"]


def story(site) -> list[tuple]:
    return [(row["kind"], row["version"], row["reason"]) for row in decided(site.spark, site.settings(), n=99)]


def test_a_freeze_is_a_run_that_learns_nothing_replays_and_ends(site) -> None:
    site.sets += [*WATCHED, "strategy.refusals=[freeze for 3 micro-batches]"]
    site.write(480, 40)
    site.write(800, 40, dirt=Dirt(missing_user=0.4), resume=True)
    site.train()
    told = story(site)
    assert [kind for kind, _, _ in told] == ["alarm", "adapt", "adapt"] and told[2][2].endswith("it is learned again")
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    recorded = History.settings_by_version(Tables(site.spark, site.settings().store.root), [s.version for s in learned])
    frozen = [Settings.from_json(recorded[s.version]).model.frozen for s in learned]
    assert 1 <= sum(frozen) <= 3 and not frozen[0] and not frozen[-1]
    # What it has learned stands still, whom it has met does not.
    moved = site.sql("select snapshot_version as version, collect_set(block) as blocks from parameters_log group by 1")
    blocks = {row["version"]: set(row["blocks"]) for row in moved}
    counted = {"history", "history_archive", "popularity", "totals", "window"}
    for snapshot, still in zip(learned, frozen, strict=True):
        assert (blocks[snapshot.version] <= counted) == still, (snapshot.version, blocks[snapshot.version])
        assert snapshot.read_count == snapshot.accepted_count + snapshot.quarantined_count + snapshot.duplicate_count + snapshot.late_count
    accepted = site.sql("select count(*) as n from events")[0]["n"]
    assert accepted == sum(s.accepted_count for s in learned)
    assert replay(site.spark, site.settings(), verify=True)["verified"]
    # Learned again after a rollback, they are learned.
    rollback(site.spark, site.settings(), to=learned[-6].version, reason="from here", events="relearn")
    again = [s for s in site.snapshots() if s.kind == "relearn"]
    assert len(again) == 5 and again[-1].digest != learned[-1].digest
    assert replay(site.spark, site.settings(), verify=True)["verified"]
    frozen_by_hand = site.settings("model.frozen=true")
    with open_learner(site.spark, frozen_by_hand, False, lambda _: None) as opened, pytest.raises(FreshetError, match="nothing would be learned"):
        roll_back(opened, to=learned[-6].version, actor="me", reason="x", events="relearn")


def test_a_lag_that_was_told_is_not_told_again_by_a_restart(site) -> None:
    site.sets += ["strategy.max_lag=0.001 seconds"]
    site.write(80, 40)
    site.train()
    site.write(160, 40, resume=True)
    site.train()
    assert [kind for kind, _, _ in story(site)] == ["alarm"]
    site.write(200, 40, resume=True)
    site.train("strategy.max_lag=9 days")
    assert [kind for kind, _, _ in story(site)] == ["alarm", "recovered"]


def known_to(watched: object) -> object:
    """All that a series, or the one after it, knows."""
    if watched is None or isinstance(watched, int | float | str | tuple | Alarm):
        return watched
    if isinstance(watched, dict):
        return {name: known_to(one) for name, one in watched.items()}
    if isinstance(watched, deque):
        return list(watched)
    return {name: known_to(one) for name, one in vars(watched).items() if not callable(one)} if isinstance(watched, Relay | Series | Shares) else None


def test_other_items_are_an_alarm_and_a_start_knows_what_the_stream_knew(site, monkeypatch) -> None:
    """Spans are so short here that series have given way to others twice."""
    monkeypatch.setattr(watching, "SPAN", 1)
    running = []
    look = watching.Watch.look
    monkeypatch.setattr(watching.Watch, "look", lambda self, *given: running.append(self) or look(self, *given))
    site.sets += ["strategy.detectors=[psi, page_hinkley]", "strategy.events=20", "strategy.settle=10", "metrics.sample=0"]
    site.source.mkdir(parents=True)
    random = np.random.default_rng(4)
    for file in range(36):
        first = 0 if file < 22 else 30
        rows = [
            {"event_id": f"{file}-{n}", "user_id": f"u{random.integers(60)}", "item_id": f"i{first + random.integers(12)}", "event_type": "click",
             "value": 1, "event_at": (datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=file, seconds=n)).isoformat()}
            for n in range(30)
        ]
        path = site.source / f"part-{file:03}.json"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        os.utime(path, (1_772_400_000 + file, 1_772_400_000 + file))
    site.train()
    rows = decided(site.spark, site.settings(), n=99, evidence=True)
    shifts = [row["evidence"] for row in rows if row["evidence"].get("detector") == "psi"]
    assert [one["signal"] for one in shifts] == ["items"] and shifts[0]["now"] > 0.25 and shifts[0]["moved"]
    counted = site.sql("select version, sum(total) as n from (select version, inline(metrics) from snapshots) "
                       "where scoring = 'inputs' and metric = 'items' group by 1")
    assert {row["version"]: row["n"] for row in counted} == {s.version: s.accepted_count for s in site.snapshots() if s.kind == "learn"}
    with open_learner(site.spark, site.settings(), False, lambda _: None) as opened:
        again, was = restored(opened), running[-1]._strategy
        assert known_to(dict(again.series)) == known_to(dict(was.series))
        assert asdict(again.state) == asdict(was.state)


def test_rows_that_forget_replay_and_forget_faster_for_a_while(site) -> None:
    site.sets += [*WATCHED, "model.name=mf", "model.optimizer.forget={user: 1 minute}",
                  "strategy.refusals=[forget 4 times faster for 3 micro-batches]"]
    site.write(480, 40)
    site.write(800, 40, dirt=Dirt(missing_user=0.4), resume=True)
    site.train()
    versions = [s.version for s in site.snapshots() if s.kind == "learn"]
    recorded = History.settings_by_version(Tables(site.spark, site.settings().store.root), versions)
    half_lives = [Settings.from_json(recorded[version]).model.optimizer.forget["user"] for version in versions]
    assert set(half_lives) == {60.0, 15.0} and half_lives.count(15.0) <= 3 and half_lives[0] == half_lives[-1] == 60.0
    assert replay(site.spark, site.settings(), verify=True)["verified"]
