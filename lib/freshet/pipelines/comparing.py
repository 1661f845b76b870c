"""Challengers held against the model from the tables alone: the mean of what both scored, its interval, and the paired curves.

    mean(t) = sum of the metric over the micro-batches of span t / its events        for model and challenger, on the same events
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from freshet.errors import FreshetError
from freshet.learner import Learner
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.challengers import LINE, pairs
from freshet.pipelines.opening import Reading, open_reading
from freshet.pipelines.pairing import paired
from freshet.policy.gate import Paired, compare, weigh
from freshet.settings import Settings
from freshet.store.snapshots import History, line

POINTS = 20


def challengers(spark: SparkSession, settings: Settings, *, points: int = POINTS) -> list[dict[str, Any]]:
    """Each challenger there is: versions, what is otherwise, the comparison with its interval, what the gate's rules would say,
    the curve in at most `points` spans of micro-batches.

    Raises FreshetError where there is none.
    """
    reading = open_reading(spark, settings)
    names = sorted({line(row.branch)[len(LINE) :] for row in reading.history.live() if row.branch.startswith(LINE)})
    if not names:
        raise FreshetError("There is no challenger.", remedy="Set challengers.learners and let `freshet train` learn.")
    model = new_learner(_recorded(reading, reading.version))
    return [_one(reading, settings, name, model, points) for name in names]


def _one(reading: Reading, settings: Settings, name: str, model: Learner, points: int) -> dict[str, Any]:
    history = reading.history
    newest = history.newest(LINE + name)
    assert newest is not None
    first = next(row for row in history.live() if row.branch == newest.branch)
    learners = {model.model.name, new_learner(_recorded(reading, newest.version)).model.name}
    seen = paired(reading.tables, pairs(history, name, reading.version), model.judged_by, learners)
    told: dict[str, Any] = {
        "challenger": name, "began": first.reason, "first": first.version, "version": newest.version, "digest": newest.digest,
        "metric": model.judged_by, "micro_batches": len(seen), "events": 0,
    }
    if not seen:
        return told | {"verdict": "hold", "why": "nothing was scored by both yet", "curve": []}
    verdict = weigh(seen, settings.gate.min_events, 1.0, settings.gate)
    gap = asdict(compare(seen, "all", settings.gate.confidence))
    numbers = {name: _number(gap[name]) for name in ("gap", "low", "high")}
    return told | {
        "events": gap["events"], "model": _number(gap["published"]), "mine": _number(gap["head"]), **numbers,
        "verdict": verdict.kind, "why": f"{verdict.rule}: {verdict.reason}", "curve": curve(seen, points),
    }


def curve(seen: Sequence[Paired], points: int) -> list[dict[str, float | int | None]]:
    """Means of both over at most so many spans of consecutive micro-batches: `events` up to the span's end, `model`, `mine`."""
    sums = np.array([one.sums["all"] for one in seen], np.float64)
    found, total = [], 0
    for span in np.array_split(sums, min(points, len(sums))):
        mine, theirs, events = span.sum(axis=0)
        total += int(events)
        if events:
            found.append({"events": total, "model": _number(theirs / events), "mine": _number(mine / events)})
    return found


def in_words(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows for people: one a challenger, then its curve."""
    shown = ("challenger", "version", "metric", "micro_batches", "events", "model", "mine", "gap", "low", "high", "verdict", "why")
    return [{name: one.get(name) for name in shown} for one in found]


def _recorded(reading: Reading, version: int) -> Settings:
    return Settings.from_json(History.settings_of(reading.tables, version))


def _number(value: float) -> float | None:
    return float(f"{value:.5g}") if np.isfinite(value) else None
