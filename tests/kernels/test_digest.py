from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xxhash

from freshet.kernels.digest import as_hex, block_seed, fold, hash_bytes, row_digests

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Row = dict[str, Any]


def slow_digest(block: str, row: Row) -> int:
    """The recipe with the xxhash package: seed 42, every value's bytes hashed with the hash so far as seed."""
    h = xxhash.xxh64_intdigest(block.encode(), seed=42)
    parts = [struct.pack("<q", row["key"])]
    parts += [struct.pack("<f", value + 0.0 if value == value else float("nan")) for value in row["vector"] or []]
    parts += [struct.pack("<f", value + 0.0) for value in row["slots"] or []]
    parts += [struct.pack("<q", link) for link in row["links"] or []]
    parts += [struct.pack("<q", row["count"]), struct.pack("<q", row["last_at"])]
    for part in parts:
        h = xxhash.xxh64_intdigest(part, seed=h)
    return h


def fast_digests(block: str, rows: list[Row]) -> np.ndarray:
    def cells(name: str, dtype: type) -> np.ndarray:
        width = max(len(row[name] or []) for row in rows)
        return np.array([(row[name] or []) + [0] * (width - len(row[name] or [])) for row in rows], dtype=dtype)

    def scalars(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype=np.int64)

    return row_digests(
        block_seed(block), scalars("key"), cells("vector", np.float32), cells("slots", np.float32),
        cells("links", np.int64), np.array([len(row["links"] or []) for row in rows], dtype=np.int32),
        scalars("count"), scalars("last_at"),
    )


def row(key: int, vector: list[float] | None, slots: list[float] | None, links: list[int] | None, **more: int) -> Row:
    return {"key": key, "vector": vector, "slots": slots, "links": links, "count": 1, "last_at": 0} | more


WIDE = [
    row(1, [0.5, -1.25], [3.0], [1, 2, 3], count=7, last_at=1_700_000_000_123_456),
    row(-5, [-0.0, 0.0], [-0.0], [], count=0, last_at=-1),
    row(-(2**63), [1e-40, -3.4e38], [1e-3], [-(2**63), 2**63 - 1], count=2**40),
]
NARROW = [row(9, None, None, None), row(-9, [], [], [], count=3)]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 12, 31, 32, 33, 40, 63, 64, 100])
def test_hash_bytes_equals_the_reference_implementation(length: int) -> None:
    data = bytes((7 * i + 3) % 256 for i in range(length))
    for seed in (0, 42, 2**64 - 1):
        assert hash_bytes(data, seed) == xxhash.xxh64_intdigest(data, seed=seed)


def test_row_digests_equal_the_twin() -> None:
    for rows in (WIDE, NARROW):
        assert fast_digests("user", rows).tolist() == [slow_digest("user", one) for one in rows]


def test_row_digests_equal_the_twin_on_random_rows() -> None:
    rng = np.random.default_rng(1)
    rows = [
        row(
            int(rng.integers(-(2**62), 2**62)),
            np.float32(rng.normal(size=5)).tolist(), np.float32(rng.normal(size=2)).tolist(),
            rng.integers(-9, 9, size=int(rng.integers(0, 5))).tolist(), count=int(rng.integers(0, 99)),
        )
        for _ in range(200)
    ]
    assert fast_digests("item", rows).tolist() == [slow_digest("item", one) for one in rows]


@pytest.mark.parametrize("change", [
    {"key": 2}, {"vector": [0.5, -1.0]}, {"slots": [4.0]}, {"links": [1, 2]}, {"links": [2, 1, 3]}, {"count": 8},
    {"last_at": 5},
])
def test_every_column_and_the_block_count(change: Row) -> None:
    before = fast_digests("user", WIDE[:1])
    assert fast_digests("user", [WIDE[0] | change])[0] != before[0]
    assert fast_digests("item", WIDE[:1])[0] != before[0]


def test_fold_is_order_free_and_undoes_itself() -> None:
    digests = fast_digests("user", WIDE)
    assert fold(digests) == fold(digests[::-1].copy())
    assert fold(digests) ^ fold(digests[1:]) == int(digests[0])
    assert fold(digests[:0]) == 0
    assert as_hex(0) == "0" * 16 and as_hex(255) == "00000000000000ff"


@pytest.mark.spark
def test_row_digests_equal_spark(spark: SparkSession) -> None:
    schema = "key bigint, vector array<float>, slots array<float>, links array<bigint>, count bigint, last_at timestamp"
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    nan = [row(4, [float("nan")], None, None)]
    rows = [*WIDE, *NARROW, *nan]
    data = [tuple((one | {"last_at": epoch + timedelta(microseconds=one["last_at"])}).values()) for one in rows]
    table = spark.createDataFrame(data, schema)
    hashes = table.selectExpr("xxhash64('user', key, vector, slots, links, count, last_at) h")
    wanted = np.concatenate([fast_digests("user", WIDE), fast_digests("user", NARROW), fast_digests("user", nan)])
    assert [one.h for one in hashes.collect()] == wanted.view(np.int64).tolist()
    state = hashes.selectExpr("lpad(lower(hex(bit_xor(h))), 16, '0') digest").first()
    assert state is not None and state.digest == as_hex(fold(wanted))
