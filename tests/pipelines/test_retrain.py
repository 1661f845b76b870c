"""A candidate: made of the events of the table, whole on a branch of its own, out of the way of the line that learns."""

from __future__ import annotations

from pathlib import Path

import pytest
from sites import Kept, Site

from freshet.errors import FreshetError, SettingsError
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.candidates import FOLDER
from freshet.pipelines.opening import load_head, open_reading
from freshet.pipelines.retrain import retrain
from freshet.pipelines.starting import open_learner
from freshet.pipelines.status import decided
from freshet.store.parameters import digest, state
from freshet.store.snapshots import RETRAIN

pytestmark = pytest.mark.spark
AS_THE_STREAM = ("retrain.passes=1", "retrain.validation=0", "retrain.test=0", "retrain.micro_batch=60")
COUNTS = "select block, key, count from parameters where block in ('user', 'item', 'history', 'popularity')"
SOME = ("model.name=mf", "retrain.passes=3", "retrain.micro_batch=60")


def verified(site, version: int) -> str:
    """The digest of a version, found by the head that is loaded of it and by Spark."""
    settings = site.settings("model.name=mf")
    reading = open_reading(site.spark, settings, version)
    head = load_head(reading, settings, new_learner(settings))
    assert digest(state(reading.tables, reading.history, version)) == head.hex_digest == reading.snapshot.digest
    assert reading.snapshot.row_counts == head.row_counts
    return head.hex_digest


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    site = Site(spark, tmp_path_factory.mktemp("learned"), ["model.name=mf"])
    site.write(240, 60)
    site.train()
    return Kept(site)


@pytest.fixture
def learned(kept):
    """Four micro-batches of mf."""
    return kept.again()


def test_one_pass_over_all_events_counts_what_the_stream_did(learned) -> None:
    online = {(row["block"], row["key"]): row["count"] for row in learned.sql(COUNTS)}
    made = retrain(learned.spark, learned.settings(*AS_THE_STREAM), reason="nightly")
    assert made["digest"] == verified(learned, made["version"])
    # Events that came late stand in another micro-batch here: what is counted is the same, to the bit only without such.
    assert {(row["block"], row["key"]): row["count"] for row in learned.sql(COUNTS, as_of=made["version"])} == online
    snapshot = learned.snapshots()[-1]
    assert (snapshot.version, snapshot.kind, snapshot.branch) == (made["version"], RETRAIN, f"retrain@{made['version']}")
    assert [entry[0] for entry in snapshot.path] == ["main", snapshot.branch]
    [decision] = [row for row in decided(learned.spark, learned.settings(), n=9) if row["kind"] == "retrain"]
    assert (decision["version"], decision["from_version"], decision["reason"]) == (made["version"], snapshot.parent, "nightly")


def test_a_candidate_of_later_events_is_exactly_its_own_state_and_the_line_goes_on(learned) -> None:
    [_, second, *_] = [one.version for one in learned.snapshots() if one.kind == "learn"]
    online, parent = learned.digest(), learned.snapshots()[-1].version
    made = retrain(learned.spark, learned.settings(*SOME), first=str(second + 1))
    assert verified(learned, made["version"]) == made["digest"] != online
    # Who was seen before that only is part of the parent and not of the candidate.
    rows = {row.version: row for row in learned.snapshots()}
    before, after = (dict(rows[version].row_counts) for version in (parent, made["version"]))
    assert after["user"] < before["user"] and after["history"] == before["history"]
    assert verified(learned, parent) == online
    learned.write(300, 60, resume=True)
    assert [report.accepted for report in learned.train()] == [60]
    assert [s.branch for s in learned.snapshots() if s.kind == "learn"] == ["main"] * 5


def test_a_learner_that_runs_is_asked_and_commits_it(learned) -> None:
    with open_learner(learned.spark, learned.settings(), False, lambda _: None):
        asked = retrain(learned.spark, learned.settings(*SOME))
    assert "version" not in asked and len(list((Path(learned.settings().store.root) / FOLDER).iterdir())) == 1
    learned.write(300, 60, resume=True)
    learned.train()
    [row] = [s for s in learned.snapshots() if s.kind == RETRAIN]
    assert verified(learned, row.version) == asked["digest"]
    assert list((Path(learned.settings().store.root) / FOLDER).iterdir()) == []
    learned.write(360, 60, resume=True)
    learned.train()
    assert sum(s.kind == RETRAIN for s in learned.snapshots()) == 1


def test_starts(learned) -> None:
    measure = (*SOME, "retrain.split=random")
    cold, warm, als = (
        retrain(learned.spark, learned.settings(*measure, f"retrain.start={start}")) for start in ("cold", "warm", "als"))
    assert "version" not in cold and "only measures" in cold["note"]
    assert "flatter" in warm["warning"] and "warning" not in als and "warning" not in cold
    for other in (warm, als):
        assert other["passes"][0]["loss"] < cold["passes"][0]["loss"]
    with pytest.raises(SettingsError):
        retrain(learned.spark, learned.settings(*SOME), start_from=2)


def test_ranges_that_hold_nothing_are_refused(learned) -> None:
    for first in ("1000", "2099-01-01", "yesterday"):
        with pytest.raises(FreshetError) as refused:
            retrain(learned.spark, learned.settings(*SOME), first=first)
        assert first in refused.value.facts.values()


def test_events_of_elsewhere_are_read_as_the_source_is(learned, new_site) -> None:
    other = new_site("other", ["model.name=mf"])
    other.write(600, 200)
    made = retrain(learned.spark, learned.settings(*AS_THE_STREAM, "retrain.micro_batch=200"), path=str(other.source))
    other.train()
    assert made["accepted"] == 600 and made["digest"] == verified(learned, made["version"])
    ids = {row["natural_id"] for row in other.sql("select natural_id from ids")}
    assert ids <= {row["natural_id"] for row in learned.sql("select natural_id from ids", as_of=made["version"])}


def test_what_is_only_counted_has_no_distances(site) -> None:
    site.sets += ["model.name=cooccurrence"]
    site.write(300, 100)
    site.train()
    made = retrain(site.spark, site.settings(*SOME[1:]))
    assert made["version"] and made["apart"] == {} and site.sql("select count(*) as n from distances")[0]["n"] == 0


def test_how_far_rows_lie_apart_is_a_table(learned) -> None:
    made = retrain(learned.spark, learned.settings(*SOME))
    told = learned.sql(
        "select block, count(*) as rows, percentile(relative, 0.5) as median, max(abs(online_count - candidate_count)) as counts "
        f"from distances where snapshot_version = {made['version']} group by block")
    assert {row["block"]: row["rows"] for row in told} == {name: one["rows"] for name, one in made["apart"].items()}
    assert {row["block"] for row in told} == {"mean", "user", "item"}
    for row in told:
        assert row["median"] == pytest.approx(made["apart"][row["block"]]["relative_median"])
    named = learned.sql(
        f"select natural_id, distance from distances join ids using (block, key) where distances.snapshot_version = {made['version']} "
        "and block = 'item' order by relative desc limit 3")
    assert len(named) == 3 and all(row["distance"] > 0 for row in named)
