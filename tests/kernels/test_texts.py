from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.kernels.digest import SPARK_SEED, hash_bytes
from freshet.kernels.texts import number_seed, text_hashes, then_long
from freshet.pipelines.text_keys import hashed

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def of(texts: list[bytes], seed: int = SPARK_SEED) -> list[int]:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return [int(one) for one in text_hashes(offsets, np.frombuffer(b"".join(texts), np.uint8), seed)]


def slow(text: bytes, seed: int = SPARK_SEED) -> int:
    value = hash_bytes(text, seed)
    return value - (1 << 64 if value >> 63 else 0)


@given(st.lists(st.binary(max_size=100), max_size=8), st.integers(0, 2**64 - 1))
def test_each_text_is_hashed_as_the_slow_twin_does(texts: list[bytes], seed: int) -> None:
    assert of(texts, seed) == [slow(text, seed) for text in texts]


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 31, 32, 33, 63, 64, 97])
def test_every_length_around_the_borders(length: int) -> None:
    text = bytes(range(length))
    assert of([b"before", text, b"after"])[1] == slow(text)


def test_columns_of_arrow_are_hashed_as_spark_hashes_them(spark: SparkSession) -> None:
    texts = ["", "ada", "żółw", "a text of thirty-two bytes at least, and more", "i" * 32, "x" * 71]
    frame = spark.createDataFrame(pa.table({"place": range(len(texts)), "text": texts}))
    told = frame.selectExpr("place", "xxhash64(text) plain", "xxhash64(7, text) seeded", "xxhash64(text, 0L) longer")
    wanted = told.toArrow().sort_by("place")
    column = pa.chunked_array([texts[:2], texts[2:]], pa.string())
    assert hashed(column).tolist() == wanted.column("plain").to_pylist()
    assert hashed(column, number_seed(7)).tolist() == wanted.column("seeded").to_pylist()
    assert then_long(hashed(column), 0).tolist() == wanted.column("longer").to_pylist()


def test_slices_and_large_columns_of_arrow() -> None:
    texts = [f"item {number}" for number in range(1000)]
    whole = hashed(pa.chunked_array([texts]))
    assert whole.tolist() == of([text.encode() for text in texts])
    assert hashed(pa.chunked_array([pa.array(texts).slice(17, 400)])).tolist() == whole[17:417].tolist()
    assert hashed(pa.chunked_array([pa.array(texts, pa.large_string())])).tolist() == whole.tolist()
    assert hashed(pa.chunked_array([], pa.string())).tolist() == []
