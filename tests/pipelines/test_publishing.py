"""What lists are made from: every version, the one a person named, the one the gate let pass."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from sites import Kept, Site

from freshet.errors import CheckFailed, FreshetError
from freshet.pipelines import gating
from freshet.pipelines.gating import Gate, evidence
from freshet.pipelines.publishing import publish_version
from freshet.pipelines.recommend import recommend_user
from freshet.pipelines.rolling import rollback
from freshet.pipelines.starting import open_learner
from freshet.pipelines.status import decided, status
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark
JUDGED = ("gate.publish=judged", "gate.min_events=60", "gate.min_batches=2", "gate.margin=0.5", "gate.slice_margin=1.0")


def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut what the head gains on each event to a tenth, as if it had learned something wrong."""
    real = gating.pair

    def worse(*arguments):
        found = real(*arguments)
        return replace(found, sums={name: (head / 10, other, n) for name, (head, other, n) in found.sums.items()})

    monkeypatch.setattr(gating, "pair", worse)


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    site = Site(spark, tmp_path_factory.mktemp("well_begun"))
    site.write(480, 160)
    site.train(*JUDGED)
    return Kept(site)


@pytest.fixture
def begun(kept):
    """Three micro-batches with a gate that published one of them."""
    return kept.again()


def published(site) -> list[int]:
    return [s.version if s.published is None else s.published for s in site.snapshots()]


def test_without_a_gate_every_version_is_published(site) -> None:
    site.write(240, 120)
    site.train()
    assert published(site) == [s.version for s in site.snapshots()]
    with pytest.raises(FreshetError, match=r"gate\.publish is head"):
        publish_version(site.spark, site.settings(), version=1)


def test_lists_come_from_the_version_a_person_named_until_another_is(site) -> None:
    site.write(360, 120)
    manual = "gate.publish=manual"
    site.train()
    learned = [s.version for s in site.snapshots() if s.kind == "learn"]
    user = site.sql("select user_id from events limit 1")[0]["user_id"]
    with pytest.raises(CheckFailed, match=r"older|scored by both"):
        publish_version(site.spark, site.settings(manual), version=learned[0])
    done = publish_version(site.spark, site.settings(manual), version=learned[0], force=True, reason="a bad hour")
    assert done["published"] == learned[0]
    site.write(480, 120, resume=True)
    site.train(manual)
    assert {row["snapshot_version"] for row in recommend_user(site.spark, site.settings(), user=user)} == {learned[0]}
    now = status(site.spark, site.settings())
    assert now["published"] == learned[0] < now["version"]
    with pytest.raises(FreshetError, match="no version 999"):
        publish_version(site.spark, site.settings(manual), version=999, force=True, reason="x")
    with pytest.raises(FreshetError, match="999 is not part of what the model stands on"):
        rollback(site.spark, site.settings(), to=999, reason="x")
    assert status(site.spark, site.settings())["version"] == now["version"]  # who is refused writes nothing, no start either
    # With a gate that lets everything pass again, a start says so and lists follow.
    site.write(600, 120, resume=True)
    site.train()
    assert published(site)[-1] == site.snapshots()[-1].version
    told = decided(site.spark, site.settings(), n=10)
    assert [(row["kind"], row["version"]) for row in told] == [("refuse", learned[0]), ("publish", learned[0]), ("publish", None)]
    assert told[1]["reason"] == "a bad hour" and told[1]["actor"] != "gate"


def test_the_gate_publishes_what_it_scored_and_a_restart_goes_on_with_its_evidence(site) -> None:
    site.write(480, 120)
    site.train(*JUDGED)
    site.write(1200, 120, resume=True)
    site.train(*JUDGED)
    rows = site.snapshots()
    moved = [(s.version, s.published, s.parent) for before, s in pairwise(rows) if s.kind == "learn" and s.published != before.published]
    assert moved and all(named == parent for _, named, parent in moved)  # the version that was scored, not the one made after
    told = [row for row in decided(site.spark, site.settings(), n=99, evidence=True) if row["actor"] == "gate"]
    assert {row["kind"] for row in told} >= {"publish"}
    first = next(row for row in told if row["kind"] == "publish")
    assert first["reason"].startswith("first: ") and first["evidence"]["events"] >= 60
    # What was scored stands in the metrics, and is all there is to the evidence.
    tables = Tables(site.spark, site.settings().store.root)
    history = History.load(tables)
    since = history.published_since()
    scored = site.sql("select version from snapshots where exists(metrics, m -> m.scoring = 'paired') order by version")
    assert len(evidence(tables, history, "main")) == sum(row["version"] > since for row in scored) > 0
    # Of a version only what was scored of it and of those before it speaks.
    later = [row.version for row in rows if row.kind == "learn" and row.version > since]
    counts = [len(evidence(tables, history, "main", upto=version)) for version in (since, *later)]
    assert counts == [*range(1, len(later) + 1), len(later)]
    with open_learner(site.spark, site.settings(*JUDGED), False, lambda _: None) as opened:
        gate = Gate(opened)
        assert gate.champion.hex_digest == history.published().digest
        gate._take(opened.head)  # rows that differ, found by their digests
        assert gate.champion.digest == opened.head.digest


def test_what_is_certainly_worse_is_refused_and_left_behind_where_that_is_set(begun, monkeypatch) -> None:
    """The head's gains are cut to a tenth after a good start, as if it had learned something wrong."""
    begun.sets += ["gate.on_worse=rollback"]
    good = begun.snapshots()[-1]
    spoil(monkeypatch)
    begun.write(2080, 160, resume=True)
    begun.train(*JUDGED, "gate.margin=0.02")
    told = decided(begun.spark, begun.settings(), n=99, evidence=True)
    assert {"refuse", "roll back"} <= {row["kind"] for row in told}, [row["reason"] for row in told]
    refused = next(row for row in told if row["kind"] == "refuse")
    back = next(row for row in told if row["kind"] == "roll back")
    assert refused["reason"].startswith("worse: ") and refused["evidence"]["high"] < -0.02
    assert back["version"] <= good.version and back["actor"] == "gate" and back["from_version"] > back["version"]
    rows = begun.snapshots()
    rollback = next(s for s in rows if s.kind == "rollback")
    assert rollback.digest == next(s for s in rows if s.version == back["version"]).digest
    assert [s.kind for s in rows if s.version > rollback.version][:1] in (["learn"], [])  # and it learns on from there


def test_what_is_said_of_items_is_in_what_is_published_next(site, monkeypatch) -> None:
    """Between two micro-batches the head takes rows that no event changed."""
    from freshet.pipelines import commit
    from freshet.pipelines.online import train

    gates: list[Gate] = []

    class Seen(Gate):
        def __init__(self, opened) -> None:
            super().__init__(opened)
            gates.append(self)

    monkeypatch.setattr(commit, "Gate", Seen)
    site.sets += [*JUDGED, "model.features.items=[category]"]
    site.write(480, 120)
    site.train()
    site.write(1200, 120, resume=True)
    reports = []

    def heard(report) -> None:
        reports.append(report)
        if len(reports) == 2:
            site.tell_of_items("news")

    assert train(site.spark, site.settings(), available_now=True, listener=heard) == 0
    rows, gate = {s.version: s for s in site.snapshots()}, gates[-1]
    [told] = [version for version, s in rows.items() if s.kind == "items"]
    assert gate.version > told and gate.champion.hex_digest == rows[gate.version].digest


def test_a_rollback_that_was_decided_is_carried_out_by_the_next_start(begun, monkeypatch) -> None:
    begun.sets += [*JUDGED, "gate.on_worse=rollback", "gate.margin=0.02"]
    with monkeypatch.context() as patch:
        spoil(patch)
        begun.write(2080, 160, resume=True)
        begun.train_until(patch, "before_rollback:raise:1")
    ended = begun.snapshots()[-1]
    assert ended.kind == "learn" and ended.published is not None
    begun.train()
    rows = [s for s in begun.snapshots() if s.version > ended.version and s.kind in ("rollback", "learn")]
    assert [s.kind for s in rows].count("rollback") == 1 and rows[0].kind == "rollback"
    assert rows[0].digest == next(s.digest for s in begun.snapshots() if s.version == ended.published)
    told = [row["actor"] for row in decided(begun.spark, begun.settings(), n=99) if row["kind"] == "roll back"]
    assert told == ["gate"]
    begun.train()  # once
    assert [s.kind for s in begun.snapshots()].count("rollback") == 1


def test_after_a_rollback_of_the_gate_none_follows_for_a_while(begun, monkeypatch) -> None:
    """The head is worse each time it has learned on: without a wait it would be rolled back at each look."""
    begun.sets += ["gate.on_worse=rollback", "gate.cool_down=4"]
    spoil(monkeypatch)
    begun.write(2720, 160, resume=True)
    begun.train(*JUDGED, "gate.margin=0.02", "gate.min_events=20")  # a look at every other micro-batch, about
    rows = [s for s in begun.snapshots() if s.kind in ("learn", "rollback")]
    back = [at for at, s in enumerate(rows) if s.kind == "rollback"]
    apart = [b - a - 1 for a, b in pairwise(back)]
    assert len(back) >= 2 and min(apart) >= 4, apart
    told = [row["reason"] for row in decided(begun.spark, begun.settings(), n=99) if row["kind"] == "refuse"]
    waiting = [reason for reason in told if "rolled back before" in reason]
    assert waiting and len(told) - len(waiting) == len(back)


def test_what_was_published_by_force_stands_until_a_person_says_otherwise_or_for_so_long(site) -> None:
    site.write(960, 120)
    site.train(*JUDGED)
    old = next(s.version for s in site.snapshots() if s.kind == "learn")
    publish_version(site.spark, site.settings(*JUDGED), version=old, force=True, reason="a bad hour")
    site.write(1920, 120, resume=True)
    site.train(*JUDGED)
    now = site.snapshots()[-1]
    assert now.published == old
    told = [row for row in decided(site.spark, site.settings(), n=99) if row["actor"] == "gate" and row["version"] > old]
    held = [row["reason"] for row in told if row["reason"].startswith("forced: ")]
    assert held and f"version {old} stands until a person says otherwise (a bad hour)" in held[0]
    # With an end to it the rules decide again.
    site.write(3600, 120, resume=True)
    site.train(*JUDGED, "gate.forced_for=10")
    assert site.snapshots()[-1].published > now.version
