"""The whole path on real Spark and Delta: counts, state, metrics, lists."""

from __future__ import annotations

import math
import os

import pytest
from sites import Kept, Site

from freshet.demo.dirt import OUTCOMES, Dirt
from freshet.pipelines.recommend import recommend_batch, recommend_user
from freshet.pipelines.replay import replay
from freshet.pipelines.status import status

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def learned(spark, tmp_path_factory):
    """Three micro-batches of a model by its name; each is made once."""
    made: dict[str, Kept] = {}

    def model(name: str) -> Site:
        if name not in made:
            site = Site(spark, tmp_path_factory.mktemp(name), [f"model.name={name}"])
            site.write()
            site.train()
            made[name] = Kept(site)
        return made[name].again()

    return model


def test_every_event_becomes_what_it_had_to_become(site) -> None:
    site.sets.append("clean.dedup_window=1 day")
    dirt = Dirt(**dict.fromkeys(OUTCOMES, 0.01), late_by_seconds=10 * 86400, late_from_file=1)
    written = site.write(2000, 500, dirt)
    said: list[str] = []
    reports = site.train(announce=said.append)
    counted = {name: sum(getattr(report, name) for report in reports) for name in ("read", "accepted", "quarantined", "duplicate", "late")}
    assert counted == {
        "read": written.lines, "accepted": written.accepted, "quarantined": written.quarantined,
        "duplicate": written.duplicate, "late": written.late,
    }
    assert counted["late"] > 0 < counted["duplicate"]
    assert said[-1] == f"caught up at version {reports[-1].version}: {written.lines:,} read = {written.accepted:,} accepted + " \
        f"{written.quarantined:,} quarantined + {written.duplicate:,} duplicate + {written.late:,} late"
    assert reports[-1].so_far == counted | {"corrected": 0}
    for report in reports:
        assert report.read == report.accepted + report.quarantined + report.duplicate + report.late
    [events] = site.sql("select count(*) as n, count(distinct event_id) as ids from events")
    assert events["n"] == events["ids"] == written.accepted
    reasons = {row["reason"]: row["n"] for row in site.sql("select reason, count(*) as n from quarantine group by reason")}
    assert sum(reasons.values()) == written.quarantined + written.late
    assert reasons["late"] == written.late
    assert all(reason for reason in reasons)


def test_the_state_in_the_tables_is_the_digest_of_the_snapshot(learned) -> None:
    site = learned("blend")
    [row] = site.sql(
        "select lpad(lower(hex(bit_xor(xxhash64(block, key, vector, slots, links, count, last_event_at)))), 16, '0') as d"
        " from parameters"
    )
    assert row["d"] == site.digest()
    blocks = {row["block"]: row["n"] for row in site.sql("select block, count(*) as n from parameters group by block")}
    assert blocks == {name: n for name, n in site.snapshots()[-1].row_counts.items() if n}


def test_learning_in_two_runs_is_learning_in_one(site, new_site) -> None:
    other = new_site("other")
    for one in (site, other):
        one.write(800, 400)
    site.train()
    for one in (site, other):
        one.write(1600, 400, resume=True)
        one.train()
    assert site.digest() == other.digest()
    assert [s.batch_id for s in site.snapshots() if s.kind == "learn"] == [0, 1, 2, 3]


def test_placement_and_file_split_do_not_change_a_bit(site, new_site) -> None:
    site.write(800, 400)
    site.train("source.max_files_per_trigger=10")
    executors = new_site("executors", ["stream.placement=executors"])
    executors.write(800, 400)
    executors.train("source.max_files_per_trigger=10")
    split = new_site("split")
    split.write(800, 80)
    split.train("source.max_files_per_trigger=10")
    assert site.digest() == executors.digest() == split.digest()


def test_another_seed_gives_another_model(site, new_site) -> None:
    """The subject that must fail the comparisons above."""
    other = new_site("other", ["model.seed=2"])
    for one in (site, other):
        one.write(400, 400)
        one.train()
    assert site.digest() != other.digest()


@pytest.mark.parametrize("model", ["mf", "rating", "bpr"])
def test_metrics_are_sums_and_both_scores_are_there(learned, model: str) -> None:
    site = learned(model)
    rows = site.sql("select * from metrics where slice = 'all'")
    kinds = {(row["metric"], row["scoring"], row["learner"]) for row in rows}
    loss = "logloss" if model == "bpr" else "rmse"
    assert {(loss, "served", model), (loss, "sequential", model), ("recall@10", "served", model),
            ("recall@10", "served", "popularity")} <= kinds
    last = max(rows, key=lambda row: row["version"])["version"]
    for row in rows:
        if row["version"] == last and row["metric"] == "recall@10":
            mine = [r for r in rows if (r["metric"], r["learner"]) == ("recall@10", row["learner"])]
            total = sum(r["value"] * r["events"] for r in mine) / sum(r["events"] for r in mine)
            assert row["cumulative"] == pytest.approx(total)
    assert all(math.isfinite(row["value"]) for row in rows)


def test_a_far_future_event_hurts_nobody(site) -> None:
    site.source.mkdir(parents=True)
    line = '{"event_id": "%s", "user_id": "u", "item_id": "i%d", "event_type": "click", "value": 1, "event_at": "%s"}\n'
    (site.source / "a.json").write_text(
        line % ("future", 1, "2999-01-01T00:00:00Z") + line % ("now", 2, "2025-01-01T00:00:00Z"))
    os.utime(site.source / "a.json", (1_800_000_000, 1_800_000_000))
    site.train()
    (site.source / "b.json").write_text(line % ("later", 3, "2025-01-01T00:00:05Z"))
    os.utime(site.source / "b.json", (1_800_000_100, 1_800_000_100))
    [report] = site.train()
    assert (report.accepted, report.late) == (1, 0)
    assert [row["event_id"] for row in site.sql("select event_id from events order by event_at")] == ["now", "later"]


@pytest.mark.parametrize("model", ["blend", "rating"])
def test_replay_gives_the_same_digests_version_by_version(learned, model: str) -> None:
    site = learned(model)
    answer = replay(site.spark, site.settings(), verify=True)
    assert (answer["digest"], answer["versions"]) == (site.digest(), 3)
    versions = [s.version for s in site.snapshots() if s.kind == "learn"]
    assert replay(site.spark, site.settings(), verify=True, from_version=versions[1])["versions"] == 2


def test_replay_follows_settings_that_changed_between_two_runs(site) -> None:
    for number, rate in ((1, 0.05), (2, 0.2)):
        site.write(400 * number, 400, resume=number > 1)
        site.train(f"model.optimizer.learning_rate={rate}")
    assert replay(site.spark, site.settings(), verify=True)["versions"] == 2


def test_lists_leave_out_what_was_seen_and_one_click_changes_them(learned) -> None:
    site = learned("blend")
    [user] = site.sql("select user_id, count(*) as n from events group by user_id order by n desc, user_id limit 1")
    first = recommend_user(site.spark, site.settings(), user=user["user_id"], n=5)
    seen = {row["item_id"] for row in site.sql(f"select item_id from histories where user_id = '{user['user_id']}'")}
    assert len(first) == 5 and not seen & {row["item_id"] for row in first}
    assert {row["reason"] for row in first} <= {"neighbours", "session"}
    assert [row["rank"] for row in first] == [1, 2, 3, 4, 5]
    click = '{"event_id": "click", "user_id": "%s", "item_id": "%s", "event_type": "click", "value": 1, "event_at": "2025-01-01T02:00:00Z"}\n'
    (site.source / "z.json").write_text(click % (user["user_id"], first[0]["item_id"]))
    site.train()
    second = recommend_user(site.spark, site.settings(), user=user["user_id"], n=5)
    assert first[0]["item_id"] not in {row["item_id"] for row in second}
    assert second[0]["snapshot_version"] > first[0]["snapshot_version"]
    stranger = recommend_user(site.spark, site.settings(), user="nobody has met this one", n=3)
    assert {row["reason"] for row in stranger} == {"popularity"}
    popular = site.sql("select natural_id from parameters p join ids on ids.key = p.key and ids.block = 'item'"
                       " where p.block = 'popularity' order by p.vector[0] desc limit 3")
    assert {row["item_id"] for row in stranger} == {row["natural_id"] for row in popular}


def test_batch_lists_equal_the_ones_asked_for(learned) -> None:
    site = learned("blend")
    answer = recommend_batch(site.spark, site.settings(), n=3)
    rows = site.sql("select * from recommendations order by user_id, rank")
    assert answer["rows"] == len(rows) > 100
    user = rows[0]["user_id"]
    asked = recommend_user(site.spark, site.settings(), user=user, n=3)
    assert [row["item_id"] for row in rows if row["user_id"] == user] == [row["item_id"] for row in asked]


def test_status_speaks(learned) -> None:
    site = learned("blend")
    said: list[str] = []
    assert site.train(announce=said.append) == []
    assert said[-1] == f"nothing new; still at version {site.snapshots()[-1].version}"
    found = status(site.spark, site.settings())
    assert found["health"] in ("ok", "idle")
    assert found["totals"]["read"] == 1200
    assert found["last_batch"]["stages"]
    *_, written = sorted(site.source.glob("*.json"))
    *_, last = [s for s in site.snapshots() if s.kind == "learn"]
    assert found["lag_seconds"] == pytest.approx(last.committed_at / 1e6 - written.stat().st_mtime, abs=0.1)
