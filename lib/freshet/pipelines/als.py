"""Rows of mf from Spark MLlib's alternating least squares, fitted to what damped biases leave of the values.

    p_u . q_i ~ value - mean - b_u - b_i        (Zhou et al., AAIM 2008, which MLlib follows; biases as in freshet.normalising)
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame, SparkSession

from freshet.models.contract import ITEM, USER, Events, Model, Rows
from freshet.normalising import begun, offsets

ITERATIONS, REGULARISATION = 10, 0.1


def als_rows(spark: SparkSession, model: Model, events: Events, seed: int, folder: str) -> dict[str, Rows]:
    """Rows of the blocks mean, user and item; slots 0. A vector beyond model.max_norm is cut by the first event that moves it.

    `folder` is for what Spark keeps of its iterations, where all executors reach it.
    """
    mean, found = offsets(events)
    (users, user, of_user), (items, item, of_item) = found[USER], found[ITEM]
    rest = events.value - mean - of_user[user] - of_item[item]
    frame = spark.createDataFrame(pa.table({"user": user.astype(np.int32), "item": item.astype(np.int32), "rest": rest}))
    # Each iteration stands on the one before it; the chain is cut now and then, or reading it overflows Java's stack.
    spark.sparkContext.setCheckpointDir(folder)
    fitted = ALS(
        rank=model.factors, maxIter=ITERATIONS, regParam=REGULARISATION, seed=seed, userCol="user", itemCol="item",
        ratingCol="rest", checkpointInterval=2,
    ).fit(frame)
    by_block = ((USER, fitted.userFactors, users), (ITEM, fitted.itemFactors, items))
    vectors = {name: _vectors(factors, len(keys), model.factors) for name, factors, keys in by_block}
    return begun(model, events, seed, vectors)


def _vectors(frame: DataFrame, rows: int, factors: int) -> np.ndarray:
    """float32[rows, factors] of MLlib's (id, features), zeros for an id it leaves out."""
    table = frame.toArrow()
    found = np.zeros((rows, factors), np.float32)
    found[table.column("id").to_numpy()] = table.column("features").combine_chunks().flatten().to_numpy().reshape(-1, factors)
    return found
