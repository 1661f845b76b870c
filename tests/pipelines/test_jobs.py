"""What a scheduler starts: each job twice and killed once, and nothing is lost, doubled or half."""

from __future__ import annotations

import pytest

from freshet.failpoint import Injected
from freshet.pipelines import recommend as recommending
from freshet.pipelines.evaluate import evaluate
from freshet.pipelines.maintain import maintain
from freshet.pipelines.recommend import recommend_batch
from freshet.pipelines.replay import replay
from freshet.pipelines.retrain import retrain
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark


class Killed(Exception):
    pass


def test_each_job_is_run_twice_and_killed_once(site, new_site, monkeypatch) -> None:
    unhurt = new_site("unhurt")
    for one in (site, unhurt):
        one.write(320, 80)
    unhurt.train()
    jobs = {
        "train": ("before_snapshot_row:raise:3", site.train),
        "retrain": ("before_snapshot_row:raise:2", lambda: retrain(site.spark, site.settings("retrain.passes=1", "retrain.sample=50"))),
        "maintain": ("base_written:raise:1", lambda: maintain(site.spark, site.settings())),
    }
    for name, (place, job) in jobs.items():
        monkeypatch.setattr("freshet.failpoint._passed", {})
        monkeypatch.setenv("FRESHET_FAILPOINTS", place)
        with pytest.raises(Injected):
            job()
        monkeypatch.delenv("FRESHET_FAILPOINTS")
        for _ in range(2):
            job()
        line = [row for row in site.snapshots() if row.branch == "main"]
        assert line[-1].digest == unhurt.digest(), name
    assert replay(site.spark, site.settings(), verify=True)["verified"]
    learned = [row.version for row in site.snapshots() if row.kind == "learn"]
    told = [evaluate(site.spark, site.settings(), version=learned[0]) for _ in range(2)]
    assert str(told[0]) == str(told[1])


def test_lists_of_a_killed_run_are_whole_or_not_there(site, monkeypatch) -> None:
    site.write(240, 120)
    site.train()
    monkeypatch.setattr(recommending, "USERS_AT_ONCE", 20)
    real, blocks = Tables.append, []

    def dies(self, name, *arguments, **more):
        blocks.append(name)
        if len(blocks) == 2:
            raise Killed
        return real(self, name, *arguments, **more)

    monkeypatch.setattr(Tables, "append", dies)
    with pytest.raises(Killed):
        recommend_batch(site.spark, site.settings(), n=5)
    for _ in range(2):
        done = recommend_batch(site.spark, site.settings(), n=5)
    newest = site.sql(
        "select user_id, count(*) as n from (select *, max(made_at) over (partition by user_id) as newest from recommendations) "
        "where made_at = newest group by user_id")
    assert len(newest) == done["users"] and {row["n"] for row in newest} == {5}
    lists = site.sql("select list_id, count(*) as n, count(distinct rank) as ranks from recommendations group by list_id")
    assert {(row["n"], row["ranks"]) for row in lists} == {(5, 5)} and len(lists) == 20 + 2 * done["users"]
