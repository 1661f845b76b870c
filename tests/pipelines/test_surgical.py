"""Rolling back and learning again without some of the events: as if they had never been."""

from __future__ import annotations

import json
import shutil

import pytest
from sites import Kept, Site

from freshet.errors import BatchRefused, FreshetError
from freshet.pipelines.replay import replay
from freshet.pipelines.requesting import answer, ask
from freshet.pipelines.rolling import rollback
from freshet.pipelines.status import decided, status
from freshet.store.snapshots import ROLLBACK
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def kept(spark, tmp_path_factory):
    made = Site(spark, tmp_path_factory.mktemp("learned"))
    made.write(320, 80)
    made.train()
    return Kept(made)


@pytest.fixture
def site(kept):
    """Four micro-batches; the same model for every test."""
    return kept.again()


def without(site, other, unwanted: set[str]) -> None:
    """The same files for another model, but for the records of some users in all files but the first."""
    other.source.mkdir(parents=True)
    for number, file in enumerate(sorted(site.source.glob("*.json"))):
        lines = file.read_text().splitlines()
        kept = [line for line in lines if number == 0 or json.loads(line)["user_id"] not in unwanted]
        (other.source / file.name).write_text("".join(f"{line}\n" for line in kept))
        shutil.copystat(file, other.source / file.name)  # Spark takes files in the order of their times


def test_the_result_is_that_of_a_model_that_never_saw_them(site, new_site) -> None:
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    before = site.digest()
    counts = site.sql("select user_id, count(*) as n from events group by 1 order by 2 desc, 1 limit 3")
    unwanted = {row["user_id"] for row in counts}
    where = f"user_id not in ({', '.join(repr(user) for user in sorted(unwanted))})"
    done = rollback(site.spark, site.settings(), to=learned[0].version, reason="click farm", events="relearn", where=where)
    assert done["excluded"] > 0 and done["relearned"] + done["excluded"] == sum(s.accepted_count for s in learned[1:])

    other = new_site("never")
    without(site, other, unwanted)
    other.train()
    assert site.digest() == other.digest() != before

    # Nothing is lost: what was left out stands in quarantine, and the counts still add up.
    [left] = site.sql("select count(*) as n, count(distinct reason) as reasons from quarantine where reason = 'excluded'")
    assert (left["n"], left["reasons"]) == (done["excluded"], 1)
    totals = status(site.spark, site.settings())["totals"]
    assert totals["read"] == 320 == sum(totals[name] for name in ("accepted", "quarantined", "duplicate", "late"))
    assert replay(site.spark, site.settings(), verify=True)["verified"]
    # The stream goes on where it was: nothing is read twice.
    site.write(400, 80, resume=True)
    assert [report.accepted for report in site.train()] == [80]


def test_a_killed_process_goes_on_with_learning_again(site, new_site, monkeypatch) -> None:
    from freshet.pipelines import rolling

    before, learned = site.digest(), [s for s in site.snapshots() if s.kind == "learn"]
    real, calls = rolling._batch_again, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(rolling, "_batch_again", dies)
    with pytest.raises(KeyboardInterrupt):
        rollback(site.spark, site.settings(), to=learned[0].version, reason="again", events="relearn")
    assert site.digest() != before
    monkeypatch.setattr(rolling, "_batch_again", real)
    assert site.train() == []
    assert site.digest() == before
    assert site.train() == [] and site.digest() == before
    assert sum(s.kind == "relearn" for s in site.snapshots()) == 3


def test_what_was_accepted_once_is_not_late_when_it_is_learned_again(site) -> None:
    site.write(400, 80, resume=True)
    site.train("clean.dedup_window=1 millisecond")
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    done = rollback(site.spark, site.settings(), to=learned[0].version, reason="again", events="relearn")
    assert done["relearned"] == sum(s.accepted_count for s in learned[1:])
    assert site.digest() == learned[-1].digest and replay(site.spark, site.settings(), verify=True)["verified"]


def test_what_is_refused_when_it_is_learned_again_names_the_way_out(site, monkeypatch) -> None:
    from freshet.pipelines import rolling

    learned = [s for s in site.snapshots() if s.kind == "learn"]
    real, calls = rolling.prepare, []

    def refuses(*arguments):
        calls.append(1)
        if len(calls) > 1:
            raise BatchRefused("Rows are not finite.", remedy="Lower the rate.", reason="not finite")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(rolling, "prepare", refuses)
        with pytest.raises(BatchRefused) as refused:
            rollback(site.spark, site.settings(), to=learned[0].version, reason="again", events="relearn")
        for _ in range(2):  # the same by the next start, and by the one after it
            with pytest.raises(BatchRefused, match=f"version {learned[2].version} again"):
                site.train()
    stands = site.snapshots()[-1]
    assert "freshet rollback --to" in refused.value.remedy
    rollback(site.spark, site.settings(), to=stands.version, reason="leave the rest")
    assert site.train() == [] and site.digest() == stands.digest
    site.write(400, 80, resume=True)
    assert [report.accepted for report in site.train()] == [80]


def test_a_running_learner_does_what_is_asked_even_without_events(site) -> None:
    """It answers with a decision; what it cannot do it refuses by name, and goes on."""
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    with site.learning("gate.publish=manual"):
        done = rollback(site.spark, site.settings(), to=learned[0].version, reason="asked")
        assert done["decision"] == "roll back" and site.digest() == learned[0].digest
        with pytest.raises(FreshetError, match="not part of"):
            rollback(site.spark, site.settings(), to=learned[1].version, reason="left behind")  # seen by who asks
        tables = Tables(site.spark, site.settings().store.root)
        with pytest.raises(FreshetError, match=r"The learner refused: .* not part of"):  # where it was asked before
            answer(tables, ask(tables, ROLLBACK, {"to": learned[1].version, "events": "skip", "where": None}, "left behind"))
    kinds = [row["kind"] for row in decided(site.spark, site.settings(), n=9)]
    assert kinds == ["publish", "roll back", "refuse"]


def test_what_cannot_be_is_refused_before_anything_is_written(site) -> None:
    count = len(site.snapshots())
    for sets in ({"to": 77}, {"to": 1, "events": "relearn", "where": "1 = 1"}):
        with pytest.raises(FreshetError):
            rollback(site.spark, site.settings(), reason="x", **sets)
    assert site.snapshots()[count:] == [] or {s.kind for s in site.snapshots()[count:]} == {"start"}
