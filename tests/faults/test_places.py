"""Every place in the code that a test can hurt is hurt by one, and what a place can do when it is armed."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from freshet import failpoint
from freshet.errors import FreshetError
from freshet.pipelines.candidates import FOLDER, TOLD, Told, commit_waiting
from freshet.store.lock import holder_of, model_lock

TESTS = Path(__file__).parents[1]
LIB = TESTS.parent / "lib"
STREAM = "pipelines/test_faults.py::test_an_error_anywhere_loses_and_doubles_nothing"
STEPS, KEEPING = "pipelines/test_steps.py::test_", "store/test_maintain.py::test_"
CANDIDATE, LISTS = STEPS + "a_candidate_is_whole_or_not_there", STEPS + "lists_are_whole_blocks_and_a_second_try_writes_all"
BACK, PROMOTION = STEPS + "a_rollback_is_gone_on_with_by_the_next_start", STEPS + "a_promotion_is_there_or_not"
# Place -> the test that arms it; `*` stands for the name of a table.
ARMED_BY = {
    "batch_start": STREAM, "before_*": STREAM, "after_*": STREAM, "before_spark_commit": STREAM,
    "before_snapshot_row": "pipelines/test_faults.py::test_a_start_that_dies_leaves_a_model_that_starts",
    "after_snapshot_row": "pipelines/test_faults.py::test_a_start_that_dies_leaves_a_model_that_starts",
    "before_rollback": "pipelines/test_publishing.py::test_a_rollback_that_was_decided_is_carried_out_by_the_next_start",
    "file_of_*": STEPS + "a_disk_that_is_full_at_any_append_of_a_micro_batch", "before_publish": STEPS + "a_publication_is_there_or_not",
    "rolled_back": BACK, "relearned": BACK, "before_promote": PROMOTION,
    "promoted": STEPS + "after_the_row_of_a_promotion_a_crash_is_a_promotion",
    "retrained": CANDIDATE, "candidate_waits": CANDIDATE, "candidate_committed": CANDIDATE, "before_rebase": CANDIDATE,
    "before_lists": LISTS, "after_lists": LISTS,
    "base_written": KEEPING + "a_base_counts_only_when_whole_verified_and_declared",
    "base_verified": KEEPING + "a_base_counts_only_when_whole_verified_and_declared",
    "base_committed": KEEPING + "a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants",
    "orphans_found": KEEPING + "a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants",
    "table_optimized": KEEPING + "a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants",
    "table_vacuumed": KEEPING + "a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants",
    "log_dropped": KEEPING + "a_crash_anywhere_in_maintenance_leaves_what_it_found_or_what_it_wants",
    "drop_decided": KEEPING + "the_log_goes_below_a_base_and_kept_versions_stay",
    "lock_written": "faults/test_places.py::test_a_torn_lock_file_hinders_nobody",
}  # fmt: skip

# What a micro-batch without dirt and without decisions appends to; each of these must be armed where a place has a name for each.
PARTS = ("ids", "events", "parameters")
WRITTEN = {"before_*": PARTS, "after_*": PARTS, "file_of_*": (*PARTS, "snapshots")}


def places() -> set[str]:
    """The names of all failpoints in the source."""
    source = "".join(path.read_text(encoding="utf-8") for path in (LIB / "freshet").rglob("*.py"))
    return {re.sub(r"\{\w+\}", "*", name) for name in re.findall(r'failpoint\(f?"([\w{}]+)"', source)}


@cache
def text_of(test: str) -> str:
    """The function of a test, and what stands in its file beside functions."""
    path, _, name = test.partition("::")
    text = (TESTS / path).read_text(encoding="utf-8")
    parts = ast.parse(text).body
    mine = [one for one in parts if not isinstance(one, ast.FunctionDef) or one.name == name]
    assert any(isinstance(one, ast.FunctionDef) for one in mine), f"there is no test {test}"
    return "\n".join(filter(None, (ast.get_source_segment(text, one) for one in mine)))


def test_every_place_is_armed_by_a_test() -> None:
    assert places() == set(ARMED_BY)
    for place, test in ARMED_BY.items():
        for name in [place.replace("*", table) for table in WRITTEN[place]] if "*" in place else [place]:
            assert f'"{name}' in text_of(test), f"{test} does not arm {name}"


def test_a_place_that_is_not_armed_does_nothing(monkeypatch) -> None:
    monkeypatch.setattr(failpoint, "_passed", {})
    monkeypatch.delenv("FRESHET_FAILPOINTS", raising=False)
    failpoint.failpoint("here")
    assert failpoint._passed == {}


def test_what_a_place_can_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(failpoint, "_passed", {})
    monkeypatch.setenv("FRESHET_FAILPOINTS", "here:raise:2,here:enospc:@key,there:tear:1,elsewhere:torn:1,ever:hold:1")
    failpoint.failpoint("here")
    with pytest.raises(failpoint.Injected, match="here"):
        failpoint.failpoint("here")
    with pytest.raises(OSError, match="No space left on device") as full:
        failpoint.failpoint("here", "key")
    assert full.value.errno == errno.ENOSPC
    for place in ("there", "elsewhere", "ever"):  # no such action, no file to tear, no mark to wait for: mistakes of a test
        with pytest.raises(ValueError, match=place):
            failpoint.failpoint(place)


def test_a_place_holds_until_its_mark_is_taken_away(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(failpoint, "_passed", {})
    monkeypatch.setenv("FRESHET_FAILPOINTS", "here:hold:1")
    monkeypatch.setenv("FRESHET_FAILPOINT_MARKS", str(tmp_path))
    running = threading.Thread(target=lambda: failpoint.failpoint("here"), daemon=True)
    running.start()
    mark = tmp_path / "here_hold_1"
    while not mark.exists():
        assert running.is_alive()
        time.sleep(0.01)
    running.join(0.2)
    assert running.is_alive()
    mark.unlink()
    running.join(60)
    assert not running.is_alive()


def test_a_torn_lock_file_hinders_nobody(tmp_path) -> None:
    """The kernel's lock ends with its process; what the file says is for people, and half of it is nothing."""
    code = f"from freshet.store.lock import model_lock\nwith model_lock({str(tmp_path)!r}, 'a checkpoint'): print('held')"
    env = {**os.environ, "PYTHONPATH": str(LIB), "FRESHET_FAILPOINTS": "lock_written:torn:1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")
    [file] = tmp_path.iterdir()
    torn = file.read_bytes()
    assert torn.startswith(b'{"pid"') and not torn.endswith(b"}")
    assert holder_of(str(tmp_path)) is None
    with model_lock(str(tmp_path)):
        file.write_bytes(torn)
        assert "another learner" in str(holder_of(str(tmp_path)))


class Past(Exception):
    """Reading the candidate got past: it is about to be committed."""


@contextmanager
def past():
    raise Past
    yield


def waiting(root: Path) -> Path:
    """A candidate as one is left for a learner; its folder."""
    made = root / FOLDER / "0123456789abcdef"
    made.mkdir(parents=True)
    told = Told(0, "0" * 16, {}, 0, [], "{}", "a doubt", "person", {})
    (made / TOLD).write_text(json.dumps(asdict(told)), encoding="utf-8")
    pq.write_table(pa.table({"key": list(range(1000)), "count": list(range(1000))}), made / "parameters.parquet")
    return made


def test_a_whole_candidate_is_read(tmp_path) -> None:
    """The subject that must not be refused by the test below."""
    made = waiting(tmp_path)
    with pytest.raises(Past):
        commit_waiting(SimpleNamespace(exclusive=past), str(tmp_path), made.name, "request")  # type: ignore[arg-type]


@pytest.mark.parametrize(("file", "cause"), [(TOLD, json.JSONDecodeError), ("parameters.parquet", pa.ArrowInvalid)])
def test_a_torn_candidate_is_refused_by_name(tmp_path, file: str, cause: type[Exception]) -> None:
    """As a machine leaves it that went down while it was written: the one who asked is told to retrain."""
    made = waiting(tmp_path)
    os.truncate(made / file, (made / file).stat().st_size // 2)
    with pytest.raises(FreshetError, match="cannot be read") as refused:
        commit_waiting(SimpleNamespace(exclusive=past), str(tmp_path), made.name, "request")  # type: ignore[arg-type]
    assert isinstance(refused.value.__cause__, cause)
    assert refused.value.facts["candidate"] == made.name and refused.value.remedy == "Retrain again."
