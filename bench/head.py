"""The same micro-batch of 1,000 events on a head of 10 thousand users and on one of 10 million, 50 thousand items each.

Stages of the head: what a micro-batch does on the driver without Spark, in processor seconds, the two heads in turn,
events of random known users and items. The whole micro-batch: two streams of one session whose heads were filled
before, wall seconds of the trigger. While it grows: micro-batches of 1,000 events of new users, until 4 million.
"""

from __future__ import annotations

import gc
import time

import numpy as np
from arrays import Arrays, chosen, events, fill
from event_files import EventFiles
from figures import Figure, Options, Result, Stages, ratio, shown, stage_table
from streams import LearnerStream, session, settings

from freshet.demo.shapes import Shaped
from freshet.models.contract import Events
from freshet.pipelines.starting import Opened

ITEMS = 50_000
SMALL = 10_000
BATCH = 1000
HEAD_STAGES = ("gather", "score", "learn", "digest", "apply")


def measure(options: Options) -> Result:
    """Both models, one after the other: only one big head is in memory at a time."""
    result = Result(" ".join((__doc__ or "").split()))
    big = options.pairs(10_000_000, 1_000_000)
    for name in ("mf", "bpr"):
        heads = {label: Arrays(chosen(f"model.name={name}")) for label in ("small", "big")}
        fill(heads["small"].head, SMALL, ITEMS, options.seed)
        fill(heads["big"].head, big, ITEMS, options.seed)
        _stages(name, heads, big, options, result)
        _whole(name, heads, big, options, result)
        del heads
        gc.collect()
        _growing(name, options, result)
    return result


def batch(rng: np.random.Generator, users: int, number: int) -> Events:
    """Events of distinct random users, so that either head is touched in as many rows."""
    user = rng.choice(users, BATCH, replace=False) if users <= SMALL else np.unique(rng.integers(0, users, BATCH + 50))[:BATCH]
    at = (1_700_000_100 + number) * 1_000_000 + np.arange(BATCH)
    return events(rng.permutation(user), rng.integers(0, ITEMS, BATCH), rng.integers(1, 6, BATCH), at, number * BATCH)


def _stages(name: str, heads: dict[str, Arrays], big: int, options: Options, result: Result) -> None:
    rng = np.random.default_rng(options.seed)
    users = {"small": SMALL, "big": big}
    timers = {label: Stages(time.process_time) for label in heads}
    for number in range(10 + options.pairs(50, 20)):
        for label in rng.permutation(list(heads)).tolist():
            heads[label].step(batch(rng, users[label], number), timers[label])
            timers[label].lap()
    laps = {label: timer.laps[10:] for label, timer in timers.items()}
    whole = {label: [sum(lap[stage] for stage in HEAD_STAGES) for lap in mine] for label, mine in laps.items()}
    bare = {label: [sum(lap.values()) - lap["score"] - lap["merge"] for lap in mine] for label, mine in laps.items()}
    head, sizes = heads["big"].head, f"{big:,} users over {SMALL:,}"
    result.figures += [
        ratio(f"head.{name}.stages", f"head's stages, {name}: {sizes}", whole["big"], whole["small"]),
        ratio(f"head.{name}.bare", f"the same without ranking for the metrics, {name}: {sizes}", bare["big"], bare["small"]),
        Figure(f"head.{name}.bytes", f"bytes of the head for each user, {name}, all included", head.nbytes / big, None, None,
               f"{shown(head.nbytes / 2**30)} GB: rows, histories, indexes, ids; {big:,} users, {ITEMS:,} items"),
    ]
    result.tables.append(stage_table(f"Stages of the head, {name}, 1,000 events (merge is part of learn)", {
        f"{SMALL:,} users": laps["small"], f"{big:,} users": laps["big"],
    }))


def _whole(name: str, heads: dict[str, Arrays], big: int, options: Options, result: Result) -> None:
    """Micro-batches through Spark and Delta on the same two heads."""
    spark, folder = session(), options.folder(f"head-{name}")
    rng = np.random.default_rng(options.seed)
    users = {"small": SMALL, "big": big}
    warm, count = 5, options.pairs(50, 6)
    streams, files = {}, {}
    for label, arrays in heads.items():
        def taken(opened: Opened, arrays: Arrays = arrays) -> None:
            opened.head = arrays.head

        made = settings(folder / label, f"model.name={name}", "clean.dedup_window=3000 days")
        streams[label] = LearnerStream(spark, made, taken).start()
        n = (warm + count) * BATCH
        shape = Shaped(rng.integers(0, users[label], n), rng.integers(0, ITEMS, n), rng.integers(1, 6, n).astype(np.float32))
        files[label] = EventFiles(warm + count, BATCH, shape=shape)
    fed: dict[str, list[float]] = {label: [] for label in heads}
    for number in range(warm + count):
        for label in rng.permutation(list(heads)).tolist():
            one = streams[label].feed(files[label].drop(number, streams[label].events)[0])
            if number >= warm:
                fed[label].append(one.seconds)
    for stream in streams.values():
        stream.stop()
    result.figures.append(
        ratio(f"head.{name}.whole", f"whole micro-batch, {name}: {big:,} users over {SMALL:,}", fed["big"], fed["small"]))


def _growing(name: str, options: Options, result: Result) -> None:
    """From nothing to 4 million users, 1,000 new ones a micro-batch."""
    arrays, timer = Arrays(chosen(f"model.name={name}")), Stages(time.process_time)
    rng = np.random.default_rng(options.seed)
    target = options.pairs(4_000_000, 400_000)
    for number in range(target // BATCH):
        user = np.arange(number * BATCH, (number + 1) * BATCH)
        at = (1_700_000_100 + number) * 1_000_000 + np.arange(BATCH)
        arrays.step(events(user, rng.integers(0, ITEMS, BATCH), rng.integers(1, 6, BATCH), at, number * BATCH), timer)
        timer.lap()
    whole = np.array([sum(lap[stage] for stage in HEAD_STAGES) for lap in timer.laps])
    applied = np.array([lap["apply"] for lap in timer.laps]) * 1e3
    beside = (
        f"p50 {shown(float(np.median(whole)) * 1e3)} ms, longest {shown(float(whole.max()) * 1e3)} ms; apply alone p99 "
        f"{shown(float(np.percentile(applied, 99)))} ms, longest {shown(float(applied.max()))} ms"
    )
    result.figures.append(Figure(
        f"head.{name}.p99", f"head's stages while it grows to {target:,} users, {name}: p99 in ms",
        float(np.percentile(whole, 99)) * 1e3, None, None, beside))
