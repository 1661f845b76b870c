"""Impressions as rows for SQL: what became of each, from the accepted events and the clocks of the micro-batches alone."""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from freshet.labels import EXPIRED, MATURED, PENDING
from freshet.pipelines.assembly import label_wait
from freshet.pipelines.opening import Reading
from freshet.settings import Settings
from freshet.store.snapshots import History


def impressions(spark: SparkSession, reading: Reading, events: DataFrame) -> DataFrame | None:
    """event_id, user_id, item_id, shown_at, answered_at (null: not answered), state (matured, pending, expired), snapshot_version
    of each impression among the events of the version's path; None for a model whose impressions never waited."""
    if not any(commit.impressions for commit in reading.commits):
        return None
    settings = Settings.from_json(History.settings_of(reading.tables, reading.version))
    wait, labels = F.lit(label_wait(settings)), settings.labels
    clocks = reading.clocks_before()
    known = spark.createDataFrame(pa.table({"snapshot_version": list(clocks), "clock_before": list(clocks.values())}))
    shown = events.where(F.col("event_type").isin(*labels.impressions) & F.col("corrects").isNull()).select(
        "event_id", "user_id", "item_id", F.col("event_at").alias("shown_at"), "snapshot_version")
    answers = events.where(F.col("event_type").isin(*labels.answers)).select(
        F.col("user_id").alias("by"), F.col("item_id").alias("of"), F.col("event_at").alias("at"))
    since = F.unix_micros("at") - F.unix_micros("shown_at")
    same = (F.col("user_id") == F.col("by")) & (F.col("item_id") == F.col("of")) & (since >= 0) & (since <= wait)
    found = shown.join(answers, on=same, how="left").groupBy(*shown.columns).agg(F.min("at").alias("answered_at"))
    found = found.join(F.broadcast(known), on="snapshot_version", how="left")
    ends, clock = F.unix_micros("shown_at") + wait, F.lit(reading.snapshot.event_clock or 0)
    state = F.when(ends < F.col("clock_before"), EXPIRED)
    state = state.when(F.col("answered_at").isNotNull() | (ends < clock), MATURED).otherwise(PENDING)
    return found.select("event_id", "user_id", "item_id", "shown_at", "answered_at", state.alias("state"), "snapshot_version")
