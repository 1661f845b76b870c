"""A retrained candidate catches up with the line, is held against it, and takes its place or does not."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sites import Kept, Site

from freshet.errors import FreshetError
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.gating import last_refusal
from freshet.pipelines.opening import load_head, open_reading
from freshet.pipelines.publishing import publish_version
from freshet.pipelines.replay import replay
from freshet.pipelines.retrain import retrain
from freshet.pipelines.rivals import overtaken
from freshet.pipelines.rolling import rollback
from freshet.pipelines.status import decided, status
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark
RULES = ("gate.min_events=40", "gate.min_batches=2", "gate.slice_margin=9")
AS_THE_STREAM = ("retrain.passes=1", "retrain.validation=0", "retrain.test=0", "retrain.micro_batch=80")


# What every event adds to, whoever learns it and in whatever order micro-batches cut them.
COUNTED = """select block, key, array_sort(links) as links, count, last_event_at from parameters
    where block in ('history', 'popularity') order by block, key"""


@pytest.fixture(scope="module")
def made(spark, tmp_path_factory):
    site = Site(spark, tmp_path_factory.mktemp("behind"), ["model.name=bpr"])
    site.write(640, 80)
    site.train()
    fourth = [s.version for s in site.snapshots() if s.kind == "learn"][3]
    version = retrain(site.spark, site.settings(*AS_THE_STREAM), last=str(fourth), reason="nightly")["version"]
    return Kept(site), version


@pytest.fixture
def behind(made):
    """A model of eight micro-batches, and a candidate made of the first four by one pass: the same as the stream then."""
    kept, version = made
    site = kept.again()
    site.made = version
    return site


def kinds(site) -> list[str]:
    return [s.kind for s in site.snapshots()]


def test_one_that_is_not_worse_takes_over_and_nothing_learned_since_is_lost(behind) -> None:
    last = [s.version for s in behind.snapshots() if s.branch == "main"][-1]
    before = behind.sql(COUNTED, as_of=last)
    behind.train(*RULES, "gate.margin=0.5")
    rows = behind.snapshots()
    took = next(s for s in rows if s.kind == "rebase")
    assert [s.branch for s in rows if s.kind == "relearn"] == [f"retrain@{behind.made}"] * 4
    assert [branch for branch, _ in took.path] == ["main", f"retrain@{behind.made}", took.branch]
    assert behind.sql(COUNTED) == before != []
    [decision] = [row for row in decided(behind.spark, behind.settings(), n=9) if row["kind"] == "publish"]
    assert (decision["version"], decision["actor"]) == (behind.made, "gate") and decision["reason"].startswith("not worse: ")
    totals = status(behind.spark, behind.settings())["totals"]
    assert totals["read"] == totals["accepted"] == 640
    settings = behind.settings()
    assert load_head(open_reading(behind.spark, settings), settings, new_learner(settings)).hex_digest == behind.digest()
    # The stream goes on from it, knows what it has read, and replays.
    behind.write(720, 80, resume=True)
    assert [report.accepted for report in behind.train(*RULES)] == [80]
    assert behind.snapshots()[-1].branch == took.branch and kinds(behind).count("rebase") == 1
    assert replay(behind.spark, settings, verify=True)["verified"]


def test_one_that_is_worse_is_refused_once_and_the_line_stays(behind, monkeypatch) -> None:
    from freshet.pipelines import rivals

    real = rivals.paired

    def worse(*arguments):
        return [replace(one, sums={name: (head / 3, other, n) for name, (head, other, n) in one.sums.items()}) for one in real(*arguments)]

    monkeypatch.setattr(rivals, "paired", worse)
    behind.train(*RULES)
    behind.train(*RULES)
    told = [row for row in decided(behind.spark, behind.settings(), n=9) if row["actor"] == "gate"]
    assert [(row["kind"], row["version"]) for row in told] == [("refuse", behind.made)]
    tables = Tables(behind.spark, behind.settings().store.root)
    assert last_refusal(tables, History.load(tables), 0) == -1  # it says nothing of the line
    assert "rebase" not in kinds(behind) and behind.snapshots()[-1].branch == "main"


def test_it_waits_while_nothing_is_learned(behind) -> None:
    behind.train(*RULES, "gate.margin=0.5", "model.frozen=true")
    assert "relearn" not in kinds(behind)
    behind.train(*RULES, "gate.margin=0.5")
    assert kinds(behind).count("relearn") == 4 and kinds(behind).count("rebase") == 1


def test_a_person_lets_it_take_over_without_asking(behind) -> None:
    done = publish_version(behind.spark, behind.settings(), version=behind.made, force=True, reason="I know better")
    assert done["candidate"] == behind.made and kinds(behind)[-1] == "rebase"
    assert kinds(behind).count("relearn") == 4
    assert behind.train() == []


def test_one_that_learned_what_was_rolled_back_since_is_left_alone(behind) -> None:
    behind.train(*RULES, "gate.min_events=100000")  # it catches up, and nothing is decided
    assert kinds(behind).count("relearn") == 4
    last, sixth = [s.version for s in behind.snapshots() if s.kind == "learn"][-1], [s.version for s in behind.snapshots() if s.kind == "learn"][5]
    made = next(row for row in behind.snapshots() if row.version == behind.made)
    rollback(behind.spark, behind.settings(), to=last, reason="nothing it learned")
    assert not overtaken(History(behind.snapshots()), "main", made)
    rollback(behind.spark, behind.settings(), to=sixth, reason="a bad hour")
    assert overtaken(History(behind.snapshots()), "main", made)
    said: list[str] = []
    behind.train(*RULES, "gate.margin=0.5", announce=said.append)
    assert "rebase" not in kinds(behind) and any("learned what was rolled back since" in text for text in said)
    with pytest.raises(FreshetError, match="learned what was rolled back"):
        publish_version(behind.spark, behind.settings(), version=behind.made, force=True, reason="all the same")


def test_one_that_passes_waits_behind_what_was_published_by_force(behind) -> None:
    sets, last = (*RULES, "gate.margin=0.5", "gate.publish=manual"), [s.version for s in behind.snapshots() if s.kind == "learn"][-1]
    publish_version(behind.spark, behind.settings(*sets), version=last, force=True, reason="a sale")
    behind.train(*sets)
    told = [(row["kind"], row["version"], row["reason"]) for row in decided(behind.spark, behind.settings(), n=9) if row["actor"] == "gate"]
    assert [one[:2] for one in told] == [("hold", behind.made)] and told[0][2].startswith("forced: ") and "(a sale)" in told[0][2]
    assert "rebase" not in kinds(behind)
    behind.write(720, 80, resume=True)
    behind.train(*sets)
    assert "rebase" not in kinds(behind)
    behind.train(*sets, "gate.forced_for=1")  # the micro-batch of the run before was that one
    assert "rebase" in kinds(behind)
