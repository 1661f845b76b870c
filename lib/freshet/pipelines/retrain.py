"""Batch retraining: several passes over a range of the `events` table, and a candidate that has learned them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.errors import SettingsError
from freshet.failpoint import failpoint
from freshet.head import Head
from freshet.learner import Learner
from freshet.models.contract import Events
from freshet.pipelines.als import als_rows
from freshet.pipelines.assembly import new_head, new_learner
from freshet.pipelines.candidates import FOLDER, Told, hand_over, rows_of
from freshet.pipelines.material import Material, between, of_elsewhere, of_table
from freshet.pipelines.opening import Reading, load_head, open_reading
from freshet.pipelines.placing import Placement
from freshet.pipelines.starting import check_structure
from freshet.program import actor
from freshet.reconciliation import Distances, distances
from freshet.report import Metric, limited_text
from freshet.retraining import TIME, Pass, Plan, Progress, Retrained, split, take
from freshet.retraining import retrain as passes
from freshet.roots import local_folder
from freshet.schema import DISTANCES, PARAMETERS
from freshet.settings import Settings

SAY_EVERY = 10.0  # seconds


def retrain(
    spark: SparkSession, settings: Settings, *, first: str | None = None, last: str | None = None, start_from: int | None = None,
    path: str | None = None, reason: str = "retrain", say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Learn the events of versions `first` to `last` (numbers, or times of the event clock; default: all) in passes, and
    commit what comes out as a candidate (see pipelines.candidates): its version, or the request that asks for it. With `path` the
    events there are learned instead, and the parent is the newest version.

    Companions go on from the state before the first version; learned rows start as `retrain.start` says, a warm start from
    `start_from` (default: the last version). A split that is not by time only measures. How far each row lies from that of the
    online model goes into `distances` (see freshet.reconciliation). Raises FreshetError where there are no such versions,
    SettingsError where the model cannot start so, BatchRefused where learning runs away.
    """
    settings = settings.with_frozen(False)  # what a stream shall not learn for a while
    reading = open_reading(spark, settings)
    check_structure(reading.snapshot, settings, reading.tables)
    check_start(settings, start_from)
    chosen = [] if path else between(reading.commits, first, last)
    parent = reading if path else open_reading(spark, settings, chosen[-1].version)
    learner = new_learner(settings)
    online = load_head(parent, settings, learner)
    if path:
        say(f"reading the events at {path}")
        material = of_elsewhere(spark, path, parent, settings, learner, online)
    else:
        say(f"reading the events of versions {chosen[0].version} to {chosen[-1].version}")
        material = of_table(parent, chosen, settings, learner, online)
    made, warning = _learned(spark, settings, learner, material, start_from, parent, online, say)
    apart = distances(online, made.head, made.learned)
    told = _told(made, parent, online, settings, reason, {**material.origin, "events": len(material.events), **warning}, apart)
    if settings.retrain.split != TIME:
        return {**told.evidence, "note": f"retrain.split {settings.retrain.split} only measures: no candidate was made"}
    failpoint("retrained", parent.version)
    say("handing the candidate over")
    parts = {PARAMETERS.name: rows_of(made.head, online), **material.parts}
    if apart:  # what is only counted is the same in both
        parts[DISTANCES.name] = as_rows(apart)
    return {**told.evidence, "digest": told.digest, **hand_over(parent.tables, settings, parts, told)}


def _learned(
    spark: SparkSession, settings: Settings, learner: Learner, material: Material, start_from: int | None, parent: Reading,
    online: Head, say: Callable[[str], None],
) -> tuple[Retrained, dict[str, str]]:
    """What the passes made, and what must be said of its figures."""
    plan, events = plan_of(settings), material.events
    place = Placement(spark, learner.model, settings)
    try:
        weights = _weights(spark, settings, learner, events, plan, start_from, parent, online)
        watch = Watch(say, plan.passes)
        made = passes(learner, lambda: new_head(learner.model, settings), material.start, events, plan, place, weights, watch)
    finally:
        place.close()
    held = np.ones(len(events), bool)
    held[split(events, plan)[0]] = False
    if weights is None or not (events.event_at[held] <= weights.clock).any():
        return made, {}
    return made, {"warning": "the weights it started from have learned what is held out: its figures flatter"}


def check_start(settings: Settings, start_from: int | None) -> None:
    """Refuse a start that the model or the command does not allow."""
    start, name = settings.retrain.start, settings.model.name
    if start == "als" and name != "mf":
        raise SettingsError(
            f"Alternating least squares gives rows of mf, and model.name is {name}.", remedy="Set retrain.start to cold or warm.",
            problems=[("retrain.start", start, name)])
    plain = name == "mf" and settings.model.optimizer.name in ("auto", "sgd") and start == "cold"
    if settings.retrain.normalise != "none" and not plain:
        raise SettingsError(
            f"retrain.normalise {settings.retrain.normalise} is for mf with sgd from a cold start: other models scale values "
            "themselves, other optimizers remember gradients on the scale.", remedy="Set retrain.normalise to none.",
            problems=[("retrain.normalise", settings.retrain.normalise, name)])
    if start_from is not None and start != "warm":
        raise SettingsError(
            f"--start-from {start_from} is for a warm start, and retrain.start is {start}.", remedy="Add --set retrain.start=warm.",
            problems=[("retrain.start", start, start_from)])


def _weights(
    spark: SparkSession, settings: Settings, learner: Learner, events: Events, plan: Plan, start_from: int | None,
    parent: Reading, online: Head,
) -> Head | None:
    """The head whose learned rows the first pass starts from."""
    start = settings.retrain.start
    if start == "als":
        head = new_head(learner.model, settings)
        known = take(events, split(events, plan)[0])  # nothing of what is held out
        root, scratch = parent.tables.root, f"{FOLDER}/_als"
        try:
            for name, rows in als_rows(spark, learner.model, known, settings.model.seed, f"{root}/{scratch}").items():
                head.put(name, rows)
        finally:
            if (local := local_folder(root)) is not None:
                shutil.rmtree(local / scratch, ignore_errors=True)
        return head
    if start != "warm":
        return None
    if start_from in (None, parent.version):
        return online
    return load_head(open_reading(spark, settings, start_from), settings, learner)


def plan_of(settings: Settings) -> Plan:
    """The plan of the settings."""
    chosen = settings.retrain
    return Plan(
        chosen.passes, chosen.patience, chosen.validation, chosen.test, chosen.split,
        None if chosen.metric == "auto" else chosen.metric, chosen.sample, chosen.micro_batch, settings.model.seed,
        chosen.normalise, chosen.context,
    )


@dataclass
class Watch:
    """Says how far the passes are: rows/s, loss, metric, time left at most."""

    say: Callable[[str], None]
    passes: int
    begun: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    events: int = 0

    def __call__(self, one: Progress | Pass) -> None:
        now = time.monotonic()
        spent = max(now - self.begun, 1e-9)
        if isinstance(one, Progress):
            self.events = one.done
            if now - self.told > SAY_EVERY:
                self.told = now
                what = f"pass {one.number}" if one.number else "what was held out"
                left = spent * (one.events - one.done) / one.done
                self.say(f"{what}: {one.done:,} of {one.events:,} events, {one.done / spent:,.0f}/s, {left:.0f} s left in it")
            return
        left = spent * (self.passes - one.number)
        metric = "" if np.isnan(one.value) else f", validation {one.value:.4f}{' (best)' if one.best else ''}"
        what = f"pass {one.number} of {self.passes}: {self.events / spent:,.0f} events/s, loss {one.loss:.4f}{metric}"
        touched = limited_text(one.limited)
        self.say(f"{what}{', ' if touched else ''}{touched}, at most {left:.0f} s left")
        self.begun = self.told = time.monotonic()


def as_rows(apart: Sequence[Distances]) -> pa.Table:
    """One row for each row that both models have, in the columns of `distances`."""
    return pa.concat_tables([
        pa.table({
            "block": pa.repeat(one.block, len(one.keys)), "key": one.keys, "distance": one.distance, "relative": one.relative,
            "cosine": pa.array(one.cosine, from_pandas=True), "first": one.first, "online_count": one.counts[0],
            "candidate_count": one.counts[1],
        }) for one in apart
    ])


def _told(
    made: Retrained, parent: Reading, online: Head, settings: Settings, reason: str, origin: Mapping[str, Any],
    apart: Sequence[Distances],
) -> Told:
    def named(metrics: Sequence[Metric], scoring: str) -> list[dict[str, Any]]:
        return [asdict(replace(one, scoring=scoring)) for one in metrics]

    evidence = {
        **origin, "metric": made.metric, "best_pass": made.best.number,
        "passes": [
            {"loss": _number(one.loss), "validation": _number(one.value), "limited": dict(one.limited)} for one in made.passes
        ],
        "apart": {one.block: one.summary() for one in apart},
        "test": {f"{one.metric} of {one.learner}": _number(one.mean) for one in made.test if one.slice == "all"},
    }
    return Told(
        parent.version, made.head.hex_digest, made.head.row_counts, parent.snapshot.event_clock or online.clock,
        named(made.best.metrics, "validation") + named(made.test, "test"), settings.to_json(), reason, actor(), evidence,
    )


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
