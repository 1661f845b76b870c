"""Maintenance keeps every version that must be kept, and a crash in the middle of it harms nothing."""

from __future__ import annotations

import pytest
from sites import Kept, Site

from freshet.errors import StateDamaged
from freshet.failpoint import Injected
from freshet.pipelines.maintain import maintain
from freshet.pipelines.publishing import publish_version
from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import rollback

pytestmark = pytest.mark.spark


def run(site, *sets, **wanted):
    every = {"compact": False, "orphans": False, "retention": False}
    return maintain(site.spark, site.settings(*sets), **{**every, **wanted})


def hurt(monkeypatch, place, when=1):
    from freshet import failpoint

    monkeypatch.setattr(failpoint, "_passed", {})
    monkeypatch.setenv("FRESHET_FAILPOINTS", f"{place}:raise:{when}")


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    """Two micro-batches."""
    site = Site(spark, tmp_path_factory.mktemp("learned"))
    site.write(800, 400)
    site.train()
    return Kept(site)


def test_a_base_is_the_state_and_learning_goes_on_from_it(kept) -> None:
    def one_more(site) -> str:
        site.write(1200, 400, resume=True)
        site.train()
        return site.digest()

    without = one_more(kept.again())
    site = kept.again()
    digest = site.digest()
    base = run(site, compact=True)["base_version"]
    snapshots = site.snapshots()
    assert [row.kind for row in snapshots][-2:] == ["start", "base"]
    assert snapshots[-2].version == base
    assert run(site, compact=True)["base_version"] is None  # nothing was learned since
    assert site.digest() == digest
    [rows] = site.sql("select count(*) as n, count(distinct block, key) as keys from parameters")
    assert rows["n"] == rows["keys"]
    assert one_more(site) == without
    assert replay(site.spark, site.settings(), verify=True)["versions"] == 3


def test_who_maintains_says_nothing_of_how_the_model_learns(kept) -> None:
    site = kept.again()
    run(site, "model.factors=8", "model.name=mf", compact=True)
    site.write(1200, 400, resume=True)
    site.train()
    assert replay(site.spark, site.settings(), verify=True)["versions"] == 3


def test_a_half_made_base_is_nobodys_and_goes_with_the_orphans(kept, monkeypatch) -> None:
    site = kept.again()
    hurt(monkeypatch, "base_verified")  # before that: tests/store/test_maintain.py, and a process in test_kills
    with pytest.raises(Injected):
        run(site, compact=True)
    monkeypatch.delenv("FRESHET_FAILPOINTS")
    assert "base" not in [row.kind for row in site.snapshots()]
    [rows] = site.sql("select count(*) as n from parameters")
    assert rows["n"] == sum(site.snapshots()[-1].row_counts.values())
    assert run(site, orphans=True)["orphan_bases"] == 1
    assert run(site, compact=True)["base_version"] is not None


def test_orphans_of_a_dead_attempt_are_removed_and_nothing_else(site, monkeypatch) -> None:
    from freshet.store.tables import Tables

    site.write(800, 400)
    hurt(monkeypatch, "before_snapshot_row", 3)  # the start row passes it as well
    with pytest.raises(Injected):
        site.train()
    monkeypatch.delenv("FRESHET_FAILPOINTS")
    events = Tables(site.spark, site.settings().store.root).read("events")
    assert events.count() == 800  # the dead attempt's rows are there, and in no view
    assert site.sql("select count(*) as n from events")[0]["n"] == 400
    done = run(site, orphans=True)
    assert done["orphan_rows"] > 400 and (done["orphan_bases"], done["orphan_candidates"]) == (0, 0)
    assert events.sparkSession.read.format("delta").load(f"{site.settings().store.root}/events").count() == 400
    site.train()
    assert site.sql("select count(*) as n from events")[0]["n"] == 800
    assert replay(site.spark, site.settings(), verify=True)["versions"] == 2


@pytest.fixture(scope="module")
def based(kept):
    """Two micro-batches, a base of them, and one micro-batch more."""
    site = kept.again()
    run(site, compact=True)
    site.write(1200, 400, resume=True)
    site.train()
    return Kept(site)


@pytest.mark.parametrize("place", [None, "drop_decided"])
def test_versions_past_the_retention_are_given_up_by_name(based, monkeypatch, place) -> None:
    site = based.again()
    digest, versions = site.digest(), [row.version for row in site.snapshots()]
    assert run(site, retention=True)["commits_dropped"] == 0  # nothing is older than a month
    if place:
        hurt(monkeypatch, place)
        with pytest.raises(Injected):
            run(site, "store.log_retention=1 millisecond", retention=True)
        monkeypatch.delenv("FRESHET_FAILPOINTS")
    else:
        assert run(site, "store.log_retention=1 millisecond", retention=True)["commits_dropped"] == 2
    if place:
        assert run(site, "store.log_retention=1 millisecond", retention=True)["commits_dropped"] == 2
    assert site.digest() == digest
    [rows] = site.sql("select count(*) as n from parameters")
    assert rows["n"] == sum(site.snapshots()[-1].row_counts.values())
    with pytest.raises(StateDamaged) as refused:
        site.sql("select * from parameters", as_of=versions[1])
    assert refused.value.version == versions[1]
    check_nobody_goes_back_to(site, versions[1])
    site.write(1600, 400, resume=True)
    site.train()


def check_nobody_goes_back_to(site, version: int) -> None:
    """A version whose rows are gone is refused before a row says that the model stands on it, or that lists come from it."""
    before = [row.commit_id for row in site.snapshots() if row.kind != "start"]
    with pytest.raises(StateDamaged):
        rollback(site.spark, site.settings(), to=version, reason="a wish")
    with pytest.raises(StateDamaged):
        publish_version(site.spark, site.settings("gate.publish=manual"), version=version, force=True, reason="a wish")
    assert [row.commit_id for row in site.snapshots() if row.kind != "start"] == before


def test_a_running_learner_is_asked_and_does_it_between_two_batches(kept, monkeypatch) -> None:
    from freshet.pipelines import commit
    from freshet.store.lock import model_lock

    site = kept.again()
    with model_lock(site.settings().store.root, "elsewhere"):
        asked = run(site, compact=True)
    assert asked["request_id"] and "pid" in asked["asked"]
    assert "base" not in [row.kind for row in site.snapshots()]
    monkeypatch.setattr(commit, "LOOK_EVERY", 0.0)
    site.write(1200, 400, resume=True)
    site.train()
    kinds = [row.kind for row in site.snapshots() if row.kind != "start"]
    assert kinds[:2] == ["learn"] * 2
    assert kinds[2:] in (["learn", "base", "maintain"], ["base", "maintain", "learn"])  # before the next, or after it
    [decision] = site.sql("select kind, evidence from decisions")
    assert asked["request_id"] in decision["evidence"]
    site.write(1600, 400, resume=True)
    site.train()
    assert [row.kind for row in site.snapshots()].count("base") == 1  # answered once
