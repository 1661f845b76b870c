"""Twenty million generated ratings (138 thousand users, 27 thousand items, 32 factors) learned by `rating` until it is as good as MLlib's
alternating least squares (rank 32, ten iterations) on ratings that neither has seen, in one process, one after the other.

Values are a mean, biases of users and items, a product of planted vectors and noise; users and items are drawn with the long tail
of MovieLens 20M. Ours: seconds from arrays in memory to the pass, or part of one, after which the held-out RMSE is no more than
MLlib's, with what is needed to know it; the learner over arrays, two threads for shards, cleaning and tables left out. MLlib's:
seconds from the same arrays, as a frame of Arrow that is cached and counted before the clock runs, to its factors. Memory: the
most this process held while ours learned, beside what Java had.
"""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from arrays import SECOND, chosen, events
from figures import Figure, Options, Result, Table
from pyspark.ml.recommendation import ALS
from streams import session

from freshet.models.contract import Events
from freshet.pipelines.als import ITERATIONS, REGULARISATION
from freshet.pipelines.assembly import new_head, new_learner
from freshet.retraining import take

USERS, ITEMS, COUNT, FACTORS, HELD_OUT = 138_493, 26_744, 20_000_000, 32, 0.02
NOISE, MICRO_BATCH, LOOK, MOST_PASSES = 0.8, 200_000, 1_000_000, 10
# Nobody's taste drifts in these ratings; short first vectors let the rows find their directions sooner.
SETTINGS = ("model.name=rating", f"model.factors={FACTORS}", "metrics.sample=1", "model.kalman.drift=0", "model.kalman.factors=0.15",
            "model.init_scale=0.003", "model.shards=16", f"model.round_events={MICRO_BATCH}")


def measure(options: Options) -> Result:
    """Ours until it is as good as MLlib's."""
    result = Result(" ".join((__doc__ or "").split()))
    count = options.pairs(COUNT, COUNT // 20)
    known, held_out, numbered = generated(count, options.seed)
    spent, wanted = alternating(numbered, options)
    curve = learned(known, held_out, wanted)
    seconds, events_learned, reached, _ = curve[-1]
    rows = [["seconds", "events learned", "RMSE on ratings held out"], *([f"{at:.1f}", f"{n:,}", f"{rmse:.4f}"] for at, n, rmse, _ in curve)]
    rows.append([f"MLlib: {spent:.1f}", f"{ITERATIONS} iterations over {len(known):,}", f"{wanted:.4f}"])
    what = f"MLlib's seconds over ours, on {len(known):,} ratings" + ("" if reached <= wanted else ": its RMSE was NOT reached")
    result.figures.append(Figure("scale.als", what, spent / seconds if reached <= wanted else 0.0))
    speed = events_learned / sum(one[3] for one in curve)
    result.figures.append(Figure("scale.speed", "million events a second of a pass", speed / 1e6))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    result.figures.append(Figure("scale.memory", "GiB that the process held at most, Java's not counted", memory))
    result.tables.append(Table("On the way", rows))
    return result


def generated(count: int, seed: int) -> tuple[Events, Events, tuple[np.ndarray, ...]]:
    """(events to learn in order of time, events held out, user, item and value of both, those held out first)."""
    rng = np.random.default_rng(seed)
    user, item = ((limit * rng.random(count) ** power).astype(np.int32) for limit, power in ((USERS, 1.6), (ITEMS, 2.5)))
    vectors = [rng.normal(0, FACTORS**-0.25, (rows, FACTORS)).astype(np.float32) for rows in (USERS, ITEMS)]
    biases = [rng.normal(0, 0.4, rows).astype(np.float32) for rows in (USERS, ITEMS)]
    value = np.empty(count, np.float32)
    for start in range(0, count, LOOK):
        at = slice(start, start + LOOK)
        product = np.einsum("nk,nk->n", vectors[0][user[at]], vectors[1][item[at]]) * 0.6
        value[at] = 3.5 + biases[0][user[at]] + biases[1][item[at]] + product + rng.normal(0, NOISE, len(product))
    every = events(user, item, value, np.arange(count, dtype=np.int64) * SECOND // 10 + 1_700_000_000 * SECOND)
    out = rng.random(count) < HELD_OUT
    order = np.concatenate([np.flatnonzero(out), np.flatnonzero(~out)])
    return take(every, ~out), take(every, out), (user[order], item[order], value[order], np.array([int(out.sum())]))


def alternating(numbered: tuple[np.ndarray, ...], options: Options) -> tuple[float, float]:
    """(seconds, RMSE on what is held out) of MLlib's; unknown users and items are predicted by the mean."""
    user, item, value, [cut] = numbered
    spark = session()
    spark.sparkContext.setCheckpointDir(str(options.folder("als")))
    frame = spark.createDataFrame(pa.table({"user": user[cut:], "item": item[cut:], "value": value[cut:]})).repartition(8).cache()
    frame.count()
    start = time.monotonic()
    fitted = ALS(rank=FACTORS, maxIter=ITERATIONS, regParam=REGULARISATION, seed=options.seed, userCol="user", itemCol="item",
                 ratingCol="value", checkpointInterval=5).fit(frame)
    found = []
    for factors, rows in ((fitted.userFactors, USERS), (fitted.itemFactors, ITEMS)):
        table = factors.toArrow()
        vectors = np.zeros((rows, FACTORS), np.float32)
        numbers = table.column("id").to_numpy()
        vectors[numbers] = table.column("features").combine_chunks().flatten().to_numpy().reshape(-1, FACTORS)
        found.append((vectors, np.isin(np.arange(rows), numbers)))
    spent = time.monotonic() - start
    frame.unpersist()
    (p, known_user), (q, known_item) = found
    said = np.einsum("nk,nk->n", p[user[:cut]], q[item[:cut]])
    said = np.where(known_user[user[:cut]] & known_item[item[:cut]], said, value[cut:].mean())
    return spent, float(np.sqrt(np.mean((said - value[:cut]) ** 2)))


def learned(known: Events, held_out: Events, wanted: float) -> list[tuple[float, int, float, float]]:
    """(seconds so far, events learned so far, RMSE then, seconds of learning since the last) at each look, until `wanted`."""
    settings = chosen(*SETTINGS)
    learner, curve = new_learner(settings), []
    head = new_head(learner.model, settings)
    begin = last = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        def run(tasks: list) -> list:
            return list(pool.map(learner.model.learn, tasks))

        for number in range(MOST_PASSES * -(-len(known) // MICRO_BATCH)):
            start = number * MICRO_BATCH % (-(-len(known) // MICRO_BATCH) * MICRO_BATCH)
            batch = take(known, slice(start, start + MICRO_BATCH))
            made = learner.learn(head, batch, run, served=False)
            head.apply(made.changes, made.digest)
            head.clock = int(batch.event_at.max())
            done = (number + 1) * MICRO_BATCH
            if done % (LOOK * 5) == 0 or start + MICRO_BATCH >= len(known):
                learning = time.monotonic() - last
                metrics, _ = learner.measure(head, held_out)
                [one] = [one for one in metrics if (one.metric, one.learner, one.slice) == ("rmse", "rating", "all")]
                last = time.monotonic()
                curve.append((last - begin, done, float(np.sqrt(one.total / one.events)), learning))
                print(f"  {curve[-1][0]:.1f} s, {done:,} events: {curve[-1][2]:.4f}, wanted {wanted:.4f}", flush=True)
                if curve[-1][2] <= wanted:
                    break
    return curve
