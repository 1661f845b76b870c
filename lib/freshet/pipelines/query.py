"""The tables of a model as views for SQL: only what is committed, as it stood at one version."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from freshet.errors import FreshetError
from freshet.pipelines.opening import Reading, open_reading
from freshet.pipelines.shown import impressions
from freshet.schema import (
    DECISIONS,
    DISTANCES,
    EVALUATIONS,
    EVENTS,
    HISTORY,
    HISTORY_ARCHIVE,
    IDS,
    ITEMS,
    PARAMETERS,
    QUARANTINE,
    RECOMMENDATIONS,
    REQUESTS,
    SNAPSHOTS,
)
from freshet.settings import Settings
from freshet.store.parameters import state
from freshet.store.snapshots import Snapshot

# Running sums over the versions of a path; rmse is stored as squared errors.
METRICS_SQL = """
with one as (
  select version, event_clock, m.metric, m.scoring, m.learner, m.slice, m.total, m.events
  from snapshots lateral view explode(metrics) as m where kind = 'learn'
), sums as (
  select *,
    sum(total) over so_far as total_so_far, sum(events) over so_far as events_so_far,
    sum(total) over recent as total_recent, sum(events) over recent as events_recent
  from one
  window so_far as (partition by metric, scoring, learner, slice order by version),
         recent as (partition by metric, scoring, learner, slice order by version rows between 19 preceding and current row)
)
select version, event_clock, metric, scoring, learner, slice, events,
  if(metric = 'rmse', sqrt(try_divide(total, events)), try_divide(total, events)) as value,
  if(metric = 'rmse', sqrt(try_divide(total_so_far, events_so_far)), try_divide(total_so_far, events_so_far)) as cumulative,
  if(metric = 'rmse', sqrt(try_divide(total_recent, events_recent)), try_divide(total_recent, events_recent)) as last_20
from sums
"""

# Both scored the same events of a micro-batch before they learned them; sums are over the versions of one branch of a challenger.
CHALLENGERS_SQL = """
with one as (
  select version, branch, kind, checkpoint_id, batch_id, fingerprint, m.metric, m.scoring, m.slice, m.total, m.events
  from all_snapshots lateral view explode(metrics) as m
  where kind in ('learn', 'challenge') and m.learner = get_json_object(settings, '$.model.name')
), mine as (select * from one where kind = 'challenge'), theirs as (select * from one where kind = 'learn'), both as (
  select mine.branch, mine.version, theirs.version as model_version, metric, scoring, slice, mine.events,
    mine.total as mine, theirs.total * mine.events / theirs.events as model
  from mine join theirs using (checkpoint_id, batch_id, fingerprint, metric, scoring, slice)
  where mine.events > 0 and theirs.events > 0
)
select regexp_extract(branch, '^challenger-(.*)@', 1) as challenger, branch, version, model_version, metric, scoring, slice, events,
  mine / events as value, model / events as model_value,
  sum(mine) over so_far / sum(events) over so_far as cumulative,
  sum(model) over so_far / sum(events) over so_far as model_cumulative
from both window so_far as (partition by branch, metric, scoring, slice order by version)
"""

# Who moved a version most, and what was: ids as the source has them.
MOVERS_SQL = """
with one as (
  select version, event_clock, m.space, m.key, m.change, m.events from snapshots lateral view explode(movers) as m
)
select version, event_clock, space, natural_id as id, one.key, change, events
from one left join ids on ids.block = one.space and ids.key = one.key
"""

# Name -> (of which others, how).
DERIVED = {
    "metrics": ((SNAPSHOTS.name,), METRICS_SQL), "challengers": (("all_snapshots",), CHALLENGERS_SQL),
    "movers": ((SNAPSHOTS.name, IDS.name), MOVERS_SQL),
}


def sql(spark: SparkSession, settings: Settings, query: str, as_of: int | None = None) -> pa.Table:
    """The answer to one SQL query over the views of the model, the state being that of `as_of` (default: newest).

    Views: events, quarantine, ids, parameters (the state), parameters_log (every committed change), snapshots, all_snapshots (of
    every branch), metrics, movers (who moved each version most), challengers (what they and the model scored), decisions, requests,
    recommendations, evaluations, distances (of candidates from the online model), items, histories; impressions where they wait for
    answers. Raises FreshetError with Spark's own words for a bad query.
    """
    reading = open_reading(spark, settings, as_of)
    register(spark, reading, query)
    try:
        return spark.sql(query).toArrow()
    except (AnalysisException, ParseException) as error:
        lines = str(error).strip().splitlines()
        known = sorted({*views(spark, reading), *DERIVED})
        raise FreshetError(lines[0], remedy=f"Views: {', '.join(known)}.", query=query) from error


def register(spark: SparkSession, reading: Reading, query: str) -> None:
    """Make the views that a query names temporary views of the session: each costs a look at its table."""
    words = set(re.findall(r"\w+", query.lower()))
    derived = [name for name in DERIVED if name in words]
    words |= {one for name in derived for one in DERIVED[name][0]}
    spark.catalog.dropTempView("impressions")  # not every model has it, and the session may have asked another one
    for name, make in views(spark, reading).items():
        if name in words:
            frame = make()
            if frame is not None:
                frame.createOrReplaceTempView(name)
    for name in derived:
        spark.sql(DERIVED[name][1]).createOrReplaceTempView(name)


def views(spark: SparkSession, reading: Reading) -> dict[str, Callable[[], DataFrame | None]]:
    """How to make each view, by name; rows of attempts that were never committed are in none of them. None: it has none."""
    tables = reading.tables

    def committed(name: str, every: bool = False) -> DataFrame:
        rows = reading.history.live() if every else reading.commits
        return tables.read(name).join(_ids(spark, rows), on="commit_id", how="left_semi")

    def parameters() -> DataFrame:
        return state(tables, reading.history, reading.version)

    def evaluations() -> DataFrame | None:  # a model of an earlier time has these tables from its next start on
        return tables.read(EVALUATIONS.name) if tables.exists(EVALUATIONS.name) else None

    def distances() -> DataFrame | None:
        return committed(DISTANCES.name, every=True) if tables.exists(DISTANCES.name) else None

    own = (EVENTS.name, QUARANTINE.name, IDS.name, DECISIONS.name, SNAPSHOTS.name)
    found: dict[str, Callable[[], DataFrame | None]] = {name: partial(committed, name) for name in own}
    found |= {name: partial(tables.read, name) for name in (REQUESTS.name, RECOMMENDATIONS.name, ITEMS.name)}
    return found | {
        EVALUATIONS.name: evaluations, DISTANCES.name: distances, "all_snapshots": partial(committed, SNAPSHOTS.name, every=True),
        PARAMETERS.name: parameters, "parameters_log": partial(committed, PARAMETERS.name),
        "histories": lambda: histories(parameters(), committed(IDS.name)),
        "impressions": lambda: impressions(spark, reading, committed(EVENTS.name)),
    }


def _ids(spark: SparkSession, rows: list[Snapshot]) -> DataFrame:
    ids = pa.table({"commit_id": pa.array([row.commit_id for row in rows], pa.string())})
    return F.broadcast(spark.createDataFrame(ids))


def histories(parameters: DataFrame, ids: DataFrame) -> DataFrame:
    """One row per place in a user's history: user_id, place (from 0, oldest first), item_id."""
    recent = parameters.where(F.col("block") == HISTORY).select(
        F.col("key").alias("user_key"), "links", (F.col("count") - F.size("links")).alias("start"))
    archive = parameters.where(F.col("block") == HISTORY_ARCHIVE).select(
        F.get("links", F.lit(0)).alias("user_key"), F.slice("links", 2, F.size("links") - 1).alias("links"),
        (F.col("count") - F.size("links") + 1).alias("start"))
    places = recent.unionByName(archive).select("user_key", "start", F.posexplode("links").alias("at", "item_key"))
    users = ids.where(F.col("block") == "user").select(F.col("key").alias("user_key"), F.col("natural_id").alias("user_id"))
    items = ids.where(F.col("block") == "item").select(F.col("key").alias("item_key"), F.col("natural_id").alias("item_id"))
    named = places.join(users, on="user_key", how="left").join(items, on="item_key", how="left")
    return named.select("user_id", (F.col("start") + F.col("at")).alias("place"), "item_id")
