"""The same function on the same bytes gives the same bytes in both places, in the order of the shards."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from freshet.engine import placement
from freshet.engine.placement import run_local, run_on_executors
from freshet.errors import FreshetError
from freshet.shipping import pack, unpack

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def digest(payload: bytes) -> bytes:
    return hashlib.sha256(payload).digest()


def test_both_places_agree(spark: SparkSession) -> None:
    payloads = [bytes([shard]) * (1 + shard * 1000) for shard in range(5)] + [b""]
    with ThreadPoolExecutor(2) as pool:
        local = run_local(pool, digest, payloads)
    assert local == [digest(payload) for payload in payloads]
    assert run_on_executors(spark, digest, payloads) == local


def test_large_payloads_come_back_whole(spark: SparkSession) -> None:
    payloads = [os.urandom(10_000_000) for _ in range(3)]
    assert run_on_executors(spark, bytes, payloads) == payloads


def test_tables_past_the_limit_for_local_ones_are_spread_by_shard(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LARGE", 10)
    payloads = [bytes([shard]) * 1000 for shard in range(5)]
    assert run_on_executors(spark, digest, payloads) == [digest(payload) for payload in payloads]


def test_no_shards_are_no_job(spark: SparkSession) -> None:
    assert run_on_executors(spark, bytes, []) == []


def test_an_error_of_a_task_is_an_error(spark: SparkSession) -> None:
    with pytest.raises(Exception, match=r"Expecting value|JSONDecodeError") as raised:
        run_on_executors(spark, unpack_first, [b"\x01\x00\x00\x00\x00\x00\x00\x00x"])
    assert not isinstance(raised.value, FreshetError)


def unpack_first(payload: bytes) -> bytes:
    return pack(*unpack(payload))


def dies(payload: bytes) -> bytes:
    """What an executor's Python process does that the machine kills."""
    os.kill(os.getpid(), signal.SIGKILL)
    return payload


def test_a_worker_that_always_dies_is_an_error_and_the_next_round_runs(spark: SparkSession) -> None:
    with pytest.raises(Exception, match=r"crashed|exited unexpectedly|worker"):
        run_on_executors(spark, dies, [b"one", b"two"])
    assert run_on_executors(spark, digest, [b"one", b"two"]) == [digest(b"one"), digest(b"two")]


DIES_ONCE = """
import hashlib, os, signal, sys
from pathlib import Path
from freshet.engine.placement import run_on_executors
from freshet.engine.session import build
from freshet.settings import load

mark = Path(sys.argv[1])

def digest_or_die(payload):
    if payload == b"1":
        try:
            mark.touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return hashlib.sha256(payload).digest()

settings = load([], {}, ["spark.master=local[2,3]", "spark.driver_memory=1g"])[0]
spark = build(settings.spark)
payloads = [b"%d" % number for number in range(4)]
found = run_on_executors(spark, digest_or_die, payloads)
assert mark.exists() and found == [hashlib.sha256(payload).digest() for payload in payloads]
spark.stop()
print("same bytes")
"""


@pytest.mark.soak
def test_a_worker_that_dies_once_is_tried_again_where_the_master_may(tmp_path: Path) -> None:
    """Plain local[N] tries nothing twice; local[N,F] and clusters do. It needs a session of its own, so a process."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", DIES_ONCE, str(tmp_path / "died")], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "same bytes" in done.stdout, done.stderr[-3000:]
