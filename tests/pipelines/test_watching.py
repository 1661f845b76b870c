"""The strategy beside the stream: alarms are rows, a change of the learning rate replays, a restart goes on with it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from sites import Kept, Site

from freshet.demo.dirt import Dirt
from freshet.pipelines.opening import open_reading
from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import as_learned, rollback
from freshet.pipelines.starting import open_learner
from freshet.pipelines.status import decided
from freshet.pipelines.watching import last_change, restored
from freshet.settings import Change, Settings
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark
WATCHED = ["strategy.detectors=[page_hinkley]", "strategy.events=20", "strategy.settle=10"]
CHANGE = 'strategy.refusals=["learning rate 3 for 4 micro-batches"]'


def write(site) -> None:
    """Twelve files as they should be, then eight of which more than a quarter is refused."""
    site.write(480, 40, resume=True)
    site.write(800, 40, dirt=Dirt(missing_user=0.4), resume=True)


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    """The twelve files learned and watched: nothing is decided about them."""
    site = Site(spark, tmp_path_factory.mktemp("quiet"), [*WATCHED])
    site.write(480, 40)
    site.train()
    assert story(site) == []
    return Kept(site)


def digests(site) -> list[str]:
    return [s.digest for s in site.snapshots() if s.kind == "learn"]


def story(site) -> list[tuple]:
    return [(row["kind"], row["version"], row["reason"]) for row in decided(site.spark, site.settings(), n=99)]


def factors(site) -> list[float]:
    """What the learning rates of each learned version were times."""
    tables = Tables(site.spark, site.settings().store.root)
    versions = [s.version for s in site.snapshots() if s.kind == "learn"]
    recorded = History.settings_by_version(tables, versions)
    return [Settings.from_json(recorded[version]).model.optimizer.rate_factor for version in versions]


def test_a_change_of_the_learning_rate_replays_and_outlives_a_restart(site, kept) -> None:
    site.sets += [*WATCHED, CHANGE]
    write(site)
    site.train()
    told = story(site)
    assert [kind for kind, _, _ in told] == ["alarm", "adapt", "adapt"]
    assert told[0][2].startswith("refusals: refusals from") and told[2][2] == "the learning rate is as set again"
    changed = factors(site)
    first = changed.index(3.0)
    assert 12 < first < 16 and changed == [1.0] * first + [3.0] * 4 + [1.0] * (16 - first)

    other = kept.again()
    other.sets += [CHANGE]
    write(other)
    read = [s.read_count for s in site.snapshots() if s.kind == "learn"]
    for files in (first - 1, first + 2):  # before the alarm, amid the change
        other.train(until=lambda n, files=files: n >= sum(read[:files]))
    tables = Tables(other.spark, other.settings().store.root)
    amid = last_change(tables, History.load(tables))
    assert amid is not None and amid[1].factor == 3.0
    # What a command learns with is what was given, amid the change and after it; and what was given since, where that is other.
    assert as_learned(open_reading(other.spark, other.settings()), other.settings()).model.optimizer.rate_factor == 1.0
    other.train()
    assert as_learned(open_reading(other.spark, other.settings()), other.settings()).model.optimizer.rate_factor == 1.0
    other.train("model.optimizer.learning_rate=0.07", "strategy.detectors=[]")
    assert as_learned(open_reading(other.spark, other.settings()), other.settings()).model.optimizer.learning_rate == 0.07
    assert other.digest() == site.digest() and factors(other) == changed
    assert [(kind, reason) for kind, _, reason in story(other)] == [(kind, reason) for kind, _, reason in told]
    assert replay(other.spark, other.settings(), verify=True)["verified"]
    # Where an alarm changes nothing, the micro-batch after it, and no other before, is learned otherwise.
    unchanged, changing = kept.again(), digests(site)
    write(unchanged)
    unchanged.train(until=lambda n: n >= sum(read[: first + 1]))
    assert digests(unchanged)[:first] == changing[:first] and digests(unchanged)[first] != changing[first]
    assert [kind for kind, _, _ in story(unchanged)] == ["alarm"]


def test_what_is_restored_is_what_ran_and_a_roll_back_ends_a_change(kept) -> None:
    site = kept.again()
    site.sets += ['strategy.refusals=["learning rate 3 for 40 micro-batches"]']
    write(site)
    site.train()
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    with open_learner(site.spark, site.settings(), False, lambda _: None) as opened:
        strategy = restored(opened)
        rows = decided(site.spark, site.settings(), n=9, evidence=True)
        since = next(s.version for s in learned if s.version > rows[0]["version"])  # the commit the alarm came with
        later = sum(s.version > since for s in learned)
        assert asdict(strategy.state) == {
            "waits": {"refusals": 50 - later}, "change": Change(3.0, 40), "left": 40 - later, "signal": "refusals", "lagging": False}
        assert strategy.series["refusals"].now._since.now == rows[0]["evidence"]["now"]
        assert strategy.series["refusals"].now._values == later
    rollback(site.spark, site.settings(), to=learned[2].version, reason="from here", events="relearn")
    last = site.snapshots()[-1]
    recorded = Settings.from_json(History.settings_of(Tables(site.spark, site.settings().store.root), last.version))
    assert last.kind == "relearn" and recorded.model.optimizer.rate_factor == 1.0
    assert replay(site.spark, site.settings(), verify=True)["verified"]


def test_it_rolls_back_asks_for_a_retrain_and_runs_the_command(kept, tmp_path: Path) -> None:
    site, out = kept.again(), tmp_path / "told.json"
    script = f"import sys; open({str(out)!r}, 'w').write(sys.stdin.read())"
    (tmp_path / "alert.py").write_text(script)
    site.sets += ["gate.publish=manual", "strategy.refusals=[roll back, retrain, alert]",
                  f"strategy.command=[{sys.executable}, {tmp_path / 'alert.py'}]"]
    write(site)
    site.train()
    rows = decided(site.spark, site.settings(), n=99, evidence=True)
    kinds = [row["kind"] for row in rows]
    assert sorted(kinds[1:4]) == ["alarm", "retrain", "roll back"] and kinds.count("roll back") == 1
    back = next(row for row in rows if row["kind"] == "roll back")
    assert back["actor"] == "strategy" and back["version"] == rows[0]["version"]  # what is published
    assert json.loads(out.read_text())["seen"] == "refusals"
    assert replay(site.spark, site.settings(), verify=True)["verified"]
