"""Processes that are killed, asked to stop, or started twice."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from processes import held, start
from sites import Site

from freshet.cli import main
from freshet.engine.checkpoint import forget_unplanned
from freshet.errors import AlreadyRunning
from freshet.pipelines.maintain import maintain
from freshet.pipelines.totals import totals
from freshet.store.lock import model_lock

pytestmark = [pytest.mark.spark, pytest.mark.slow]

FILES, EVENTS = 6, 60


def learned(site) -> list[int]:
    """Numbers of the micro-batches that were learned."""
    return [s.batch_id for s in site.snapshots() if s.kind == "learn"]


@pytest.fixture(scope="module")
def unhurt(spark, tmp_path_factory):
    """The run never killed, for all to compare with; nobody may change it."""
    site = Site(spark, tmp_path_factory.mktemp("unhurt"))
    site.write(FILES * EVENTS, EVENTS)
    site.train()
    return site


def test_kill_9_anywhere_ends_in_the_state_of_the_run_never_killed(site, unhurt) -> None:
    """Between table writes, before the commit, after the commit but before Spark's own: each in a process that really dies.
    A challenger with the model's own settings must stay what the model is."""
    site.sets.append("challengers.learners.twin=[model.factors=4]")
    site.write(FILES * EVENTS, EVENTS)
    # The row of `snapshots` is first passed by the start of a run, so the third time is the second micro-batch.
    kills = [("after_events:kill9:2", [0]), ("before_snapshot_row:kill9:3", [0, 1]), ("after_snapshot_row:kill9:3", [0, 1, 2, 3])]
    for number, (place, batches) in enumerate(kills):
        process = start(site, f"process{number}", "--available-now", failpoints=place)
        assert process.code() == -signal.SIGKILL, process.text()
        assert learned(site) == batches
    [recorded] = {row["settings"] for row in site.sql("select settings from snapshots where kind = 'learn'")}
    assert "local[1]" in recorded  # one core learned what comes out alike of two
    site.train()
    assert learned(site) == list(range(FILES))
    assert (site.digest(), totals(site.snapshots())) == (unhurt.digest(), totals(unhurt.snapshots()))
    kinds = ("learn", "challenge")
    mine, twin = ({s.batch_id: s.digest for s in site.snapshots() if s.kind == kind and s.batch_id is not None} for kind in kinds)
    assert mine == twin and len({s.branch for s in site.snapshots()}) == 2  # it never had to begin anew
    [events] = site.sql("select count(*) as n, count(distinct event_id) as ids from events")
    assert events["n"] == events["ids"] == FILES * EVENTS


def test_asked_to_stop_it_finishes_its_micro_batch_and_a_second_learner_is_refused_meanwhile(site, new_site, unhurt) -> None:
    other = new_site("other")
    asked = []
    for one, number in ((site, signal.SIGTERM), (other, signal.SIGINT)):
        one.write(FILES * EVENTS, EVENTS)
        # Asleep in the middle of a micro-batch, the second or a later one, when the signal comes.
        asleep = ",".join(f"before_snapshot_row:sleep4:{time}" for time in range(3, FILES + 2))
        process = start(one, "process", "--trigger", "1 second", failpoints=asleep)
        process.passed("before_snapshot_row")
        if number == signal.SIGTERM:
            check_second_learner_is_refused(one)
            process.running.send_signal(number)
        else:
            os.killpg(process.running.pid, number)  # as a terminal does it
        asked.append((one, process))
    for one, process in asked:
        assert process.code() == 0, process.text()
        assert f"stopped at version {one.snapshots()[-1].version}; start again to go on" in process.text()
        assert learned(one)[:2] == [0, 1] and len(learned(one)) < FILES
        with model_lock(one.settings().store.root, "test"):
            pass
        one.train()
        assert (one.digest(), totals(one.snapshots())) == (unhurt.digest(), totals(unhurt.snapshots()))


def check_second_learner_is_refused(site) -> None:
    """In this process and in another, with the same checkpoint and with another."""
    for sets in ((), (f"store.checkpoint={site.folder / 'another'}",)):
        with pytest.raises(AlreadyRunning) as refusal:
            site.train(*sets)
        assert str(site.settings().store.checkpoint_path) in str(refusal.value.facts["holder"])
    assert not (site.folder / "another").exists()


@pytest.fixture
def as_told(spark, monkeypatch):
    """The command line in this process, with the session of the tests, which it may not stop."""
    monkeypatch.setattr("freshet.cli.running._session", lambda settings: spark)
    monkeypatch.setattr(spark, "stop", lambda: None)
    umask = os.umask(0o022)
    yield lambda *words: CliRunner().invoke(main, words)
    os.umask(umask)


def test_a_second_process_is_refused_with_exit_code_2_before_it_writes(site, as_told) -> None:
    site.write(EVENTS, EVENTS)
    site.train()
    before = sorted(path for path in (site.folder / "model").rglob("*") if not path.name.endswith("lock"))
    store = site.settings().store
    given = [*site.given(), f"store.checkpoint={site.folder / 'another'}"]
    with held(store.root, store.checkpoint_path) as first:
        told = as_told("train", "--available-now", *(word for one in given for word in ("--set", one)))
    assert told.exit_code == 2, told.output
    assert store.root in told.output and f"{first.pid} on " in told.output
    assert "Traceback" not in told.output
    assert sorted(path for path in (site.folder / "model").rglob("*") if not path.name.endswith("lock")) == before
    assert not (site.folder / "another").exists()


def test_a_file_that_was_listed_and_not_planned_when_a_process_died_is_a_micro_batch_of_its_own(site, unhurt) -> None:
    """Spark lists a file in one step and plans its batch in the next; a kill in between shows in the list alone."""
    site.write(3 * EVENTS, EVENTS)
    site.train()
    site.write(FILES * EVENTS, EVENTS, resume=True)
    listed = Path(site.settings().store.checkpoint_path) / "sources" / "0"
    names = {path.name for path in listed.iterdir()}
    fourth = sorted(site.source.glob("*.json"))[3]
    entry = {"path": fourth.as_uri(), "timestamp": fourth.stat().st_mtime_ns // 1_000_000, "batchId": 3}
    (listed / "3").write_text(f"v1\n{json.dumps(entry)}")
    (listed / ".3.crc").write_bytes(b"crc\0of nothing")
    assert {"0", "1", "2"} <= names and "3" not in names
    assert forget_unplanned(site.settings().store.checkpoint_path) == ["3"]
    assert {path.name for path in listed.iterdir()} == names
    (listed / "3").write_text(f"v1\n{json.dumps(entry)}")
    assert [report.accepted for report in site.train()] == [EVENTS] * 3
    assert site.digest() == unhurt.digest() and learned(site) == learned(unhurt)


def test_without_a_second_look_at_the_list_it_would_not_be(site, monkeypatch) -> None:
    from freshet.pipelines import online

    monkeypatch.setattr(online, "forget_unplanned", lambda path: [])
    site.write(2 * EVENTS, EVENTS)
    site.train()
    site.write(4 * EVENTS, EVENTS, resume=True)
    listed = Path(site.settings().store.checkpoint_path) / "sources" / "0"
    third = sorted(site.source.glob("*.json"))[2]
    entry = {"path": third.as_uri(), "timestamp": third.stat().st_mtime_ns // 1_000_000, "batchId": 2}
    (listed / "2").write_text(f"v1\n{json.dumps(entry)}")
    assert [report.accepted for report in site.train()] == [2 * EVENTS]


@pytest.mark.soak
def test_one_that_is_stopped_is_not_taken_over_and_one_that_is_killed_while_it_maintains_harms_nothing(site, unhurt) -> None:
    """SIGSTOP in the middle of a micro-batch: the lock is the kernel's and held on. Then maintenance is asked for, and kill -9 comes
    when the rows of the base are written and not verified."""
    site.write(FILES * EVENTS, EVENTS)
    process = start(site, "process", "--trigger", "1 second", failpoints="before_snapshot_row:hold:3,base_written:kill9:1")
    process.passed("before_snapshot_row")
    process.running.send_signal(signal.SIGSTOP)
    try:
        assert learned(site) == [0]  # a reader is hindered by nobody
        with pytest.raises(AlreadyRunning):
            site.train()
        assert "request_id" in maintain(site.spark, site.settings())
    finally:
        process.let_go("before_snapshot_row")
        process.running.send_signal(signal.SIGCONT)
    assert process.code() == -signal.SIGKILL, process.text()
    assert "base" not in [row.kind for row in site.snapshots()]
    site.train()
    assert (site.digest(), learned(site)) == (unhurt.digest(), learned(unhurt))
    kinds = [row.kind for row in site.snapshots()]
    assert (kinds.count("base"), kinds.count("maintain")) == (1, 1)  # what was asked for was done, once
    made = site.spark.read.format("delta").load(f"{site.folder}/model/parameters_base")
    assert made.select("base_id").distinct().count() == 1  # what the killed one had written went with the orphans
