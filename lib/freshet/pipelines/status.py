"""How a model is: one word with its reason, and the numbers behind it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from freshet.engine.brokers import Brokers, behind
from freshet.pipelines.assembly import MICROSECONDS
from freshet.pipelines.opening import Reading, open_reading
from freshet.pipelines.totals import impressions, limited, totals
from freshet.schema import EVENTS, SNAPSHOTS
from freshet.settings import Settings
from freshet.store.decisions import decisions
from freshet.store.files import all_rows, rows_of
from freshet.store.snapshots import LEARNING, REFUSED, Snapshot

STALE_TRIGGERS = 10  # triggers without a commit after which a model whose lock is held counts as stalled


def status(spark: SparkSession, settings: Settings) -> dict[str, Any]:
    """Version, age, event clock, lag, last micro-batch, totals, health (`ok`, `idle`, `refusing`, `empty`) and why."""
    reading = open_reading(spark, settings)
    commits, published = reading.commits, reading.history.published()
    learned = [snapshot for snapshot in commits if snapshot.kind in LEARNING]
    newest, last = commits[-1], learned[-1] if learned else None
    now, shown, touched = time.time(), impressions(commits), limited(commits)
    word, why = health(commits, settings, now)
    return {
        "health": word, "reason": why, "version": newest.version,
        "published": newest.version if published is None else published.version, "branch": newest.branch, "kind": newest.kind,
        "age_seconds": round(now - newest.committed_at / MICROSECONDS, 1),
        "lag_seconds": lag(reading, last) if last else None, "digest": newest.digest,
        "event_clock": at(newest.event_clock), "rows": dict(newest.row_counts or {}),
        "last_batch": _batch(last) if last else None, "totals": totals(commits), "epoch": newest.epoch,
        **({} if shown is None else {"impressions": shown}), **({"limited": touched} if touched else {}),
        **({"behind": left(spark, reading, settings)} if settings.source.format == "kafka" else {}),
    }


def decided(spark: SparkSession, settings: Settings, *, n: int, evidence: bool = False) -> list[dict[str, Any]]:
    """The newest n decisions, the newest last: decided_at, kind, version, from_version, actor, reason, with `evidence` also it."""
    reading = open_reading(spark, settings)
    told = decisions(reading.tables, reading.history)
    rows = sorted(told, key=lambda row: (row["decided_at"], row["snapshot_version"]))[-n:] if n > 0 else []
    names = ("kind", "version", "from_version", "actor", "reason")
    return [
        {"decided_at": row["decided_at"].isoformat(timespec="seconds"), **{name: row[name] for name in names}}
        | ({"evidence": json.loads(row["evidence"] or "{}")} if evidence else {})
        for row in rows
    ]


def health(commits: list[Snapshot], settings: Settings, now: float) -> tuple[str, str]:
    """(word, reason)."""
    newest = commits[-1]
    if not any(snapshot.kind in LEARNING for snapshot in commits):
        return "empty", "nothing has been learned yet"
    if newest.kind == REFUSED:
        return "refusing", newest.reason or "the last micro-batch was refused"
    age = now - newest.committed_at / MICROSECONDS
    if age > STALE_TRIGGERS * settings.stream.trigger + 60:
        return "idle", f"the last commit is {age / 60:.0f} minutes old: no learner runs, or no event arrives"
    return "ok", "the last micro-batch was learned and committed"


def lag(reading: Reading, last: Snapshot) -> float | None:
    """Seconds from the arrival of the newest event of a micro-batch to its commit, None where it accepted none."""
    arrived = rows_of(reading.tables, EVENTS.name, [last], ("arrived_at",)).column("arrived_at")
    newest = pc.max(arrived.cast(pa.int64())).as_py()
    return None if newest is None else round((last.committed_at - newest) / MICROSECONDS, 1)


def left(spark: SparkSession, reading: Reading, settings: Settings) -> dict[str, int] | None:
    """Messages that nobody has read yet, by partition; None where no broker answers."""
    last = reading.history.last_streamed()
    brokers = Brokers(spark, settings.source.kafka)
    ends, beginnings = brokers.ends(), brokers.beginnings() if last is None else {}
    brokers.close()
    if ends is None or beginnings is None:
        return None
    if last is None:
        return {name: end - beginnings.get(name, 0) for name, end in ends.items()}
    row = all_rows(reading.tables, SNAPSHOTS.name, ("commit_id", "sources"), ("version", "=", last.version)).to_pylist()
    return behind(ends, next(one["sources"] or () for one in row if one["commit_id"] == last.commit_id))


def _batch(last: Snapshot) -> dict[str, Any]:
    return {
        "version": last.version, "batch_id": last.batch_id, "read": last.read_count, "accepted": last.accepted_count,
        "quarantined": last.quarantined_count, "duplicate": last.duplicate_count, "late": last.late_count,
        "corrected": last.corrected_count, "impressions": dict(last.impressions),
        "stages": {name: round(seconds, 3) for name, seconds in (last.stage_seconds or {}).items()},
        "appended_rows": dict(last.appended_rows or {}),
    }


def at(microseconds: int | None) -> str | None:
    """A time as people read it."""
    return None if microseconds is None else datetime.fromtimestamp(microseconds / MICROSECONDS, UTC).isoformat()
