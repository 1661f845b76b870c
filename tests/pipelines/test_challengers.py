"""Challengers: the same micro-batches with other settings, in versions of their own, and putting one in the model's place."""

from __future__ import annotations

import pytest

from freshet.errors import CheckFailed, FreshetError, SettingsError, StoreFailed
from freshet.picture import draw
from freshet.pipelines.comparing import challengers
from freshet.pipelines.evaluate import evaluate
from freshet.pipelines.maintain import maintain
from freshet.pipelines.promoting import promote, promote_challenger
from freshet.pipelines.recommend import recommend_user
from freshet.pipelines.replay import replay
from freshet.pipelines.rolling import rollback
from freshet.pipelines.starting import open_learner
from freshet.store.snapshots import CHALLENGE, PROMOTE

pytestmark = pytest.mark.spark
QUICK = "challengers.learners.quick=[model.optimizer.learning_rate=0.3]"
TWIN = "challengers.learners.twin=[model.factors=4]"
PLAIN = "challengers.learners.plain=[model.name=bpr]"


def digests(site, line: str) -> dict[int, str]:
    """Digest by micro-batch of a line's versions that learned."""
    kind = "learn" if line == "main" else CHALLENGE
    rows = [row for row in site.snapshots() if row.kind == kind and row.branch.partition("@")[0] == line]
    return {row.batch_id: row.digest for row in rows if row.batch_id is not None}


def test_each_learns_what_a_model_of_its_own_would_have_learned(site, new_site) -> None:
    site.write(240, 120)
    reports = site.train(TWIN, QUICK)
    other = new_site("other", ["model.optimizer.learning_rate=0.3"])
    other.write(240, 120)
    other.train()
    mine, twin, quick = digests(site, "main"), digests(site, "challenger-twin"), digests(site, "challenger-quick")
    assert len(mine) == 2 and twin == mine
    learned = next(row.version for row in site.snapshots() if row.branch.startswith("challenger-quick") and row.batch_id == 1)
    with pytest.raises(FreshetError, match="No event was learned after"):  # it has learned all of them, on a branch of its own
        evaluate(site.spark, site.settings(), version=learned)
    assert quick == digests(other, "main") and set(quick.values()).isdisjoint(mine.values())
    # What is counted of events is the model's alone, and nobody takes a challenger's version for the newest.
    assert reports[-1].so_far["accepted"] == sum(row.accepted_count for row in site.snapshots())
    # A start goes on where it was; rows of all of them are told apart.
    site.write(360, 120, resume=True)
    other.write(360, 120, resume=True)
    assert {"challenger-quick", "challenger-twin"} <= set(maintain(site.spark, site.settings()))  # bases of them, read back
    site.train(TWIN, QUICK)
    other.train()
    assert digests(site, "challenger-quick") == digests(other, "main") and digests(site, "challenger-twin") == digests(site, "main")
    assert {row.branch for row in site.snapshots() if row.kind == CHALLENGE and row.batch_id is None} == {
        row.branch for row in site.snapshots() if row.kind == CHALLENGE}  # each branch began once
    assert replay(site.spark, site.settings(), verify=True)["verified"]
    # With another rate it is another challenger; one that was left out begins anew as a copy.
    site.write(480, 120, resume=True)
    site.train("challengers.learners.quick=[model.optimizer.learning_rate=0.4]")
    site.write(600, 120, resume=True)
    site.train(TWIN)
    begun = [row for row in site.snapshots() if row.kind == CHALLENGE and row.batch_id is None]
    assert [row.branch.partition("@")[0][11:] for row in begun] == ["twin", "quick", "quick", "twin"]
    assert digests(site, "challenger-twin")[4] == digests(site, "main")[4]


def test_another_model_catches_up_is_compared_and_takes_over(site, tmp_path) -> None:
    site.write(480, 120)
    site.train()
    site.write(840, 120, resume=True)
    site.train(PLAIN)
    [told] = challengers(site.spark, site.settings())
    draw([told], tmp_path / "curve.svg")
    assert told["micro_batches"] == 3 and "480 events" in told["began"]
    assert (tmp_path / "curve.svg").read_text().count("<!-- plain") == 2  # title and legend
    # The means by SQL, from the rows anybody can query.
    [last] = site.sql(
        "select cumulative, model_cumulative from challengers where challenger = 'plain' and metric = 'ndcg@10' and scoring = 'served' "
        "and slice = 'all' order by version desc limit 1")
    assert told["mine"] == pytest.approx(last["cumulative"], rel=1e-4)
    assert told["model"] == pytest.approx(last["model_cumulative"], rel=1e-4) and told["model"] != told["mine"]
    before = [row for row in site.snapshots() if row.branch == "main"][-1]
    with pytest.raises(CheckFailed, match="sample"):
        promote_challenger(site.spark, site.settings(PLAIN), name="plain")
    done = promote_challenger(site.spark, site.settings(PLAIN), name="plain", force=True, reason="simpler")
    assert done["settings"] == ["model.name=bpr"]
    promoted = next(row for row in site.snapshots() if row.kind == PROMOTE)
    assert promoted.branch == "main" and promoted.digest == told["digest"]
    # The old settings are refused by name; with the new ones it learns on, and lists are made.
    with pytest.raises(SettingsError, match=r"model\.name was 'bpr' and is 'blend'"):
        site.train()
    site.write(960, 120, resume=True)
    site.train("model.name=bpr")
    assert replay(site.spark, site.settings("model.name=bpr"), verify=True)["verified"]
    user = site.sql("select user_id from events limit 1")[0]["user_id"]
    assert recommend_user(site.spark, site.settings("model.name=bpr"), user=user)
    # And back to what was before it, with the settings of then.
    rollback(site.spark, site.settings("model.name=bpr"), to=before.version, reason="rather not")
    assert site.digest() == before.digest
    site.write(1080, 120, resume=True)
    site.train()


def test_a_running_learner_promotes_when_it_is_asked_and_learns_on(site) -> None:
    site.write(360, 120)
    site.train(QUICK)
    with site.learning(QUICK):
        with pytest.raises(CheckFailed, match="sample"):
            promote_challenger(site.spark, site.settings(QUICK), name="quick")
        done = promote_challenger(site.spark, site.settings(QUICK), name="quick", force=True, reason="better")
    assert done["decision"] == "promote"
    promoted = next(row for row in site.snapshots() if row.kind == PROMOTE)
    assert promoted.digest == digests(site, "challenger-quick")[2]
    site.write(480, 120, resume=True)
    site.train("model.optimizer.learning_rate=0.3")
    assert replay(site.spark, site.settings(), verify=True)["verified"]


def test_a_promotion_that_cannot_be_committed_changes_nothing(site, monkeypatch) -> None:
    site.write(240, 120)
    site.train(PLAIN)
    before = site.digest()
    with open_learner(site.spark, site.settings(PLAIN), False, lambda _: None, from_here=True) as opened:
        def full(*arguments: object, **more: object) -> None:
            raise StoreFailed("No space left.")

        given, learner = opened.given, opened.learner
        with monkeypatch.context() as patch:
            patch.setattr(opened.writer, "commit", full)
            with pytest.raises(StoreFailed):
                promote(opened, "plain", actor="me", force=True, reason="x")
        assert opened.given == given and opened.learner is learner
    site.write(360, 120, resume=True)
    site.train(PLAIN)
    assert site.digest() != before and "promote" not in [row.kind for row in site.snapshots()]


def test_what_cannot_be_compared_or_promoted_is_said(site) -> None:
    site.write(240, 120)
    with pytest.raises(SettingsError, match="judged by"):
        site.train("challengers.learners.stars=[model.name=mf]")
    assert not (site.folder / "model").exists()
    site.train()
    before = len(site.snapshots())
    with pytest.raises(FreshetError, match="no challenger"):
        promote_challenger(site.spark, site.settings(), name="plain")
    assert len(site.snapshots()) == before
    with pytest.raises(FreshetError, match="no challenger"):
        challengers(site.spark, site.settings())


def test_one_that_runs_away_is_given_up_and_the_model_learns_on(site) -> None:
    site.write(360, 120)
    reports = site.train("challengers.learners.wild=[model.name=bpr, model.optimizer.learning_rate=1.0e+6, model.max_norm=0.01]")
    assert [report.kind for report in reports] == ["learn"] * 3
    told = site.sql("select reason from decisions where kind = 'refuse'")
    assert len(told) == 1 and told[0]["reason"].startswith("challenger wild: ")
    # The next start begins it with all events, which it cannot learn again: the model learns on.
    site.write(480, 120, resume=True)
    [report] = site.train("challengers.learners.wild=[model.name=bpr, model.optimizer.learning_rate=1.0e+6, model.max_norm=0.01]")
    assert report.kind == "learn"
    assert [row["reason"][:16] for row in site.sql("select reason from decisions where kind = 'refuse'")] == ["challenger wild:"] * 2


def test_what_is_said_of_items_reaches_challengers_too(site) -> None:
    site.sets += ["model.features.items=[category]", TWIN]
    site.write(240, 120)
    site.train()
    site.tell_of_items("early")
    site.write(360, 120, resume=True)
    site.train()
    site.tell_of_items("later")
    site.write(480, 120, resume=True)
    site.train()
    site.tell_of_items(None, 1000)  # nothing but that they are there
    site.write(600, 120, resume=True)
    site.train()
    assert digests(site, "challenger-twin") == digests(site, "main")
    taken = [row.branch.partition("@")[0] for row in site.snapshots() if row.kind == "items"]
    assert taken == ["main", "challenger-twin"] * 3
    assert len({row.branch for row in site.snapshots()}) == 2  # nobody began anew
