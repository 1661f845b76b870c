"""The same function on the same bytes gives the same bytes in both places, in the order of the shards."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
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
