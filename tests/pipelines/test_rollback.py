"""Going back to an older version and learning on; two writers of one model."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest

from freshet.errors import Fenced
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.opening import load_head, open_reading
from freshet.pipelines.starting import open_learner
from freshet.store.parameters import digest, state
from freshet.store.snapshots import History
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark


def files(site) -> list:
    return sorted(site.source.glob("*.json"))


def test_after_a_rollback_it_learns_on_as_if_what_came_between_had_not_been(site, new_site) -> None:
    site.write(240, 60)
    site.train()
    learned = [s for s in site.snapshots() if s.kind == "learn"]
    with open_learner(site.spark, site.settings(), False, lambda _: None) as opened:
        opened.writer.rollback(learned[1].version, "a bad hour")
    assert site.digest() == learned[1].digest
    site.write(360, 60, resume=True)
    site.train()
    assert [s.batch_id for s in site.snapshots() if s.kind == "learn"] == [0, 1, 2, 3, 4, 5]

    never = new_site("never")
    never.source.mkdir(parents=True)
    for number in (0, 1, 4, 5):
        shutil.copy2(files(site)[number], never.source)
    never.train()
    assert len([s for s in never.snapshots() if s.kind == "learn"]) == 4
    assert site.digest() == never.digest() != learned[3].digest

    # Every version stays readable, those between as well, and each gives its digest; the path says what is part of it.
    tables = Tables(site.spark, site.settings().store.root)
    history = History.load(tables)
    for snapshot in learned[1:] + site.snapshots()[-1:]:
        assert digest(state(tables, history, snapshot.version)) == snapshot.digest
    on_path = {s.batch_id for s in history.commits(site.snapshots()[-1].version) if s.kind == "learn"}
    assert on_path == {0, 1, 4, 5}
    [now], [then] = (site.sql("select count(*) as n from events", as_of) for as_of in (None, learned[3].version))
    assert (now["n"], then["n"]) == (240, 240)
    [both] = site.sql("select count(distinct user_id) as n from events")
    [other] = never.sql("select count(distinct user_id) as n from events")
    assert both == other

    # A restart verifies the digest by itself.
    reading = open_reading(site.spark, site.settings())
    assert load_head(reading, site.settings(), new_learner(site.settings())).hex_digest == site.digest()


def test_of_two_writers_the_one_of_the_lower_epoch_stops_by_name_and_its_row_is_void(site, monkeypatch) -> None:
    import contextlib

    from freshet.pipelines import starting

    site.write(120, 60)
    site.train()
    monkeypatch.setattr(starting, "model_lock", lambda *_: contextlib.nullcontext())
    with open_learner(site.spark, site.settings(), False, lambda _: None) as first:
        assert site.train() == []  # a second learner, not held up by the lock: a higher epoch
        known = site.digest()
        row = pa.table({"block": ["user"], "key": pa.array([1], pa.int64()), "natural_id": ["nobody"]})
        attempt = first.writer.begin()
        with pytest.raises(Fenced) as fenced:
            first.writer.commit(attempt, {"ids": row}, {"kind": "learn", "digest": "f" * 16})
        assert fenced.value.facts["epoch"] == first.writer.epoch
    history = History.load(Tables(site.spark, site.settings().store.root))
    void = {s.commit_id for s in history.rows} - {s.commit_id for s in history.live()}
    assert attempt.commit_id in void
    assert site.digest() == known
    assert site.sql("select * from ids where natural_id = 'nobody'") == []
    site.write(180, 60, resume=True)
    assert [report.accepted for report in site.train()] == [60]
