"""An error, or a full disk, at each step of what a person asks for: what served before serves on, a second try completes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from sites import Site

from freshet.errors import StoreFailed
from freshet.failpoint import Injected
from freshet.pipelines import recommend as recommending
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.candidates import FOLDER, remove_left
from freshet.pipelines.opening import load_head, open_published, open_reading
from freshet.pipelines.promoting import promote_challenger
from freshet.pipelines.publishing import publish_version
from freshet.pipelines.recommend import recommend_batch
from freshet.pipelines.requests import Requests
from freshet.pipelines.retrain import retrain
from freshet.pipelines.rolling import rollback
from freshet.pipelines.starting import open_learner
from freshet.store.snapshots import RETRAIN, ROLLBACK

pytestmark = pytest.mark.spark
QUICK = ("retrain.passes=1", "retrain.validation=0", "retrain.test=0", "retrain.micro_batch=60")
Step = Callable[..., None]


@pytest.fixture(scope="module")
def learned(spark, tmp_path_factory):
    """Three micro-batches of mf and a challenger beside it; lists are made from what a person publishes."""
    site = Site(spark, tmp_path_factory.mktemp("learned"), ["model.name=mf", "gate.publish=manual"])
    site.sets.append("challengers.learners.quick=[model.optimizer.learning_rate=0.2]")
    site.write(180, 60)
    site.train()
    return site


@pytest.fixture
def copied(spark, learned, tmp_path):
    shutil.copytree(learned.folder / "model", tmp_path / "model")
    return Site(spark, tmp_path, [*learned.sets, f"source.path={learned.source}"])


@pytest.fixture
def fails(copied, monkeypatch) -> Step:
    """Do a thing with one place armed: it fails by that name, and lists are made from the version they were made from at first."""
    before: list[int] = []

    def published() -> int:
        return open_published(copied.spark, copied.settings()).version

    def step(place: str, act: Callable[[], Any], what: type[Exception] = Injected) -> None:
        before[:] = before or [published()]
        monkeypatch.setattr("freshet.failpoint._passed", {})
        monkeypatch.setenv("FRESHET_FAILPOINTS", place)
        with pytest.raises(what) as failure:
            act()
        monkeypatch.delenv("FRESHET_FAILPOINTS")
        if what is StoreFailed:
            assert "No space left on device" in str(failure.value) and failure.value.remedy
        assert [published()] == before
        verified(copied)

    return step


def verified(site: Site) -> str:
    """The digest of the newest version of the model's line, which its rows give too."""
    settings = site.settings()
    return load_head(open_reading(site.spark, settings), settings, new_learner(settings)).hex_digest


def learned_versions(site: Site) -> list[int]:
    return [row.version for row in site.snapshots() if row.kind == "learn"]


def test_a_publication_is_there_or_not(copied, fails) -> None:
    chosen, digest = learned_versions(copied)[-1], verified(copied)

    def act() -> dict[str, Any]:
        return publish_version(copied.spark, copied.settings(), version=chosen, force=True, reason="a sale")

    fails("before_publish:raise:1", act)
    fails("file_of_decisions:enospc:1", act, StoreFailed)
    fails("file_of_snapshots:enospc:2", act, StoreFailed)  # the first is the row of the start
    assert act()["published"] == open_published(copied.spark, copied.settings()).version == chosen
    assert verified(copied) == digest


def test_a_rollback_is_gone_on_with_by_the_next_start(copied, fails) -> None:
    first, digest = learned_versions(copied)[0], verified(copied)

    def act() -> dict[str, Any]:
        return rollback(copied.spark, copied.settings(), to=first, reason="a doubt", events="relearn")

    fails("before_snapshot_row:enospc:2", act, OSError)
    assert ROLLBACK not in [row.kind for row in copied.snapshots()]
    fails("rolled_back:raise:1", act)
    fails("relearned:raise:1", copied.train)
    copied.train()
    kinds = [row.kind for row in copied.snapshots()]
    assert (kinds.count(ROLLBACK), kinds.count("relearn")) == (1, 2)
    assert verified(copied) == digest


def test_a_promotion_is_there_or_not(copied, fails) -> None:
    mine, quick = ([row.digest for row in copied.snapshots() if row.kind == kind][-1] for kind in ("learn", "challenge"))

    def act() -> dict[str, Any]:
        return promote_challenger(copied.spark, copied.settings(), name="quick", force=True, reason="it is better")

    fails("before_promote:raise:1", act)
    assert verified(copied) == mine != quick
    assert act()["challenger"] == "quick" and verified(copied) == quick


def test_after_the_row_of_a_promotion_a_crash_is_a_promotion(copied, monkeypatch) -> None:
    monkeypatch.setattr("freshet.failpoint._passed", {})
    monkeypatch.setenv("FRESHET_FAILPOINTS", "promoted:raise:1")
    with pytest.raises(Injected):
        promote_challenger(copied.spark, copied.settings(), name="quick", force=True, reason="it is better")
    monkeypatch.delenv("FRESHET_FAILPOINTS")
    last = copied.snapshots()[-1]
    assert last.kind == "promote" and verified(copied) == last.digest
    copied.sets = [one for one in copied.sets if not one.startswith("challengers")]
    assert copied.train() == []


def test_a_candidate_is_whole_or_not_there(copied, fails) -> None:
    def act() -> dict[str, Any]:
        return retrain(copied.spark, copied.settings(*QUICK))

    fails("retrained:raise:1", act)
    fails("file_of_parameters:enospc:1", act, StoreFailed)
    with open_learner(copied.spark, copied.settings(), False, lambda _: None):
        fails("candidate_waits:raise:1", act)  # nobody is asked to take what may not be whole
        asked = act()
    waiting = copied.folder / "model" / FOLDER
    assert len(list(waiting.iterdir())) == 2
    assert RETRAIN not in [row.kind for row in copied.snapshots()]
    for place in ("candidate_committed:raise:1", None):
        with open_learner(copied.spark, copied.settings(), False, lambda _: None) as opened:
            requests = Requests(opened, 0.0, lambda: None, lambda _: None)
            if place is not None:
                fails(place, requests.serve)
            else:
                assert requests.serve() == 0  # what was answered is not carried out again
            # Two wait for nobody: one that was never asked for, one that is committed. A young one may be somebody's still.
            assert remove_left(opened.tables, opened.history) == 0
    for left in waiting.iterdir():
        os.utime(left, (1, 1))
    assert remove_left(opened.tables, opened.history) == 2 and list(waiting.iterdir()) == []
    [made] = [row for row in copied.snapshots() if row.kind == RETRAIN]
    assert made.digest == asked["digest"]
    force = {"version": made.version, "force": True, "reason": "it is better"}
    fails("before_rebase:raise:1", lambda: publish_version(copied.spark, copied.settings(), **force))
    publish_version(copied.spark, copied.settings(), **force)
    last = copied.snapshots()[-1]
    assert last.kind == "rebase" and verified(copied) == last.digest


def test_lists_are_whole_blocks_and_a_second_try_writes_all(copied, fails, monkeypatch) -> None:
    monkeypatch.setattr(recommending, "USERS_AT_ONCE", 20)
    publish_version(copied.spark, copied.settings(), version=learned_versions(copied)[-1], force=True, reason="the first")

    def act() -> dict[str, Any]:
        return recommend_batch(copied.spark, copied.settings(), n=5)

    def blocks() -> int:
        [found] = copied.sql("select count(distinct user_id) as users, count(*) as rows from recommendations")
        assert found["rows"] % 5 == 0
        return int(found["users"])

    fails("before_lists:raise:2", act)
    assert blocks() == 20
    fails("after_lists:raise:@20", act)
    assert blocks() == 40
    fails("file_of_recommendations:enospc:1", act, StoreFailed)
    assert blocks() == 40
    assert act()["users"] == blocks()


def test_a_disk_that_is_full_at_any_append_of_a_micro_batch(learned, new_site, monkeypatch) -> None:
    """One sentence with the table and the way out; the version before stays; with room again the next start completes."""
    hurt = new_site("hurt", [one for one in learned.sets if not one.startswith("challengers")])
    hurt.write(180, 60)  # as `learned`
    # Each run fails at its first micro-batch; the second pass of `snapshots` is its own row, the first that of the start.
    for place in ("file_of_ids:enospc:1", "file_of_events:enospc:1", "file_of_parameters:enospc:1", "file_of_snapshots:enospc:2"):
        table = place.partition(":")[0].removeprefix("file_of_")
        monkeypatch.setattr("freshet.failpoint._passed", {})
        monkeypatch.setenv("FRESHET_FAILPOINTS", place)
        with pytest.raises(StoreFailed, match=f"append to {table}: .*No space left on device") as full:
            hurt.train()
        assert "disk space" in full.value.remedy
        assert "learn" not in [row.kind for row in hurt.snapshots()]
    monkeypatch.delenv("FRESHET_FAILPOINTS")
    hurt.train()
    assert verified(hurt) == verified(learned) and len(learned_versions(hurt)) == 3
