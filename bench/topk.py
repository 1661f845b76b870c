"""The ten best of 50,000 items for 100,000 users, k = 32, against MLlib's `recommendForAllUsers` in one session.

Both get the same random factors, no biases and nothing to leave out, and end with all lists in memory as Arrow or numpy.
The lists must agree: at each place the same item, or another whose score is within 1e-5. MLlib uses what linear algebra
pyspark ships; a native BLAS on the machine would help it.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from figures import Figure, Options, Result, ratio, seconds
from pyspark.sql import DataFrame, SparkSession
from streams import session

from freshet.kernels.topk import top_k

K, FACTORS, BLOCK = 10, 32, 2000
TIE = 1e-5


def measure(options: Options) -> Result:
    """Pairs of both, then their agreement."""
    result = Result(" ".join((__doc__ or "").split()))
    users, items = (100_000, 50_000) if not options.quick else (10_000, 10_000)
    rng = np.random.default_rng(options.seed)
    queries, vectors = (rng.normal(0, 0.3, (n, FACTORS)).astype(np.float32) for n in (users, items))
    spark = session()
    model = _mllib(spark, queries, vectors)
    ours, theirs = [], []
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for _ in range(options.pairs(3, 1)):
        ours.append(seconds(lambda: found.update(ours=_ours(queries, vectors))))
        # Asked anew each time: a frame that ran before finds its shuffle files and does half the work.
        theirs.append(seconds(lambda: found.update(theirs=_lists(DataFrame(model.recommendForAllUsers(K), spark)))))
    figure = ratio("topk.mllib", f"MLlib's seconds over ours, {users:,} users, {items:,} items", theirs, ours)
    same = _agree(queries, vectors, *found["ours"], found["theirs"][0])
    beside = f"{same.mean():.6%} of {same.size:,} places hold the same item or one within {TIE:g}"
    result.figures += [figure, Figure("topk.same", "the same lists", float(same.all()), None, None, beside)]
    return result


def _ours(queries: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(item rows int32[m, k], scores) by the kernel in as many threads as there are cores."""
    bias, order = np.zeros(len(vectors), np.float32), np.arange(len(vectors))

    def part(start: int) -> tuple[np.ndarray, np.ndarray]:
        some = queries[start: start + BLOCK]
        return top_k(some, vectors, bias, order, K, np.zeros(len(some) + 1, np.int64), np.empty(0, np.int32))

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(part, range(0, len(queries), BLOCK)))
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([scores for _, scores in parts])


def _mllib(spark: SparkSession, queries: np.ndarray, vectors: np.ndarray) -> Any:
    """MLlib's model with these factors."""
    def frame(matrix: np.ndarray) -> DataFrame:
        features = pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1]).cast(pa.list_(pa.float32()))
        ids = pa.array(np.arange(len(matrix), dtype=np.int32))
        made = spark.createDataFrame(pa.table({"id": ids, "features": features})).repartition(spark.sparkContext.defaultParallelism).cache()
        made.count()
        return made

    jvm = spark._jvm
    assert jvm is not None
    made = jvm.org.apache.spark.ml.recommendation.ALSModel("bench", FACTORS, frame(queries)._jdf, frame(vectors)._jdf)
    return made.setUserCol("user").setItemCol("item").setPredictionCol("score").setBlockSize(4096)


def _lists(frame: DataFrame) -> tuple[np.ndarray, np.ndarray]:
    table = frame.toArrow()
    order = np.argsort(table.column(0).to_numpy())
    lists = table.column(1).combine_chunks().flatten()
    return tuple(lists.field(place).to_numpy().reshape(-1, K)[order] for place in (0, 1))  # type: ignore[return-value]


def _agree(queries: np.ndarray, vectors: np.ndarray, ours: np.ndarray, scores: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """bool[m, k]: the same item, or one that scores the same but for a tie."""
    same = ours == theirs
    user, place = np.nonzero(~same)
    other = (queries[user].astype(np.float64) * vectors[theirs[user, place]]).sum(axis=1)
    same[user, place] = np.abs(other - scores[user, place]) <= TIE
    return same
