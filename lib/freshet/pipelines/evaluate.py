"""How good a version is: on events it has not learned, beside popularity and, if asked, beside another version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from freshet.errors import FreshetError
from freshet.evaluation.by_event import Subject, Terms, predicted, ranked
from freshet.evaluation.by_user import Wanted, listed, wanted
from freshet.evaluation.observations import joined
from freshet.lists import Rules
from freshet.pipelines.assembly import new_learner
from freshet.pipelines.evaluations import keep
from freshet.pipelines.judged_events import Judged, learned_after, of_files, of_span, slices_of
from freshet.pipelines.list_rules import list_rules
from freshet.pipelines.opening import Reading, load_head, open_reading
from freshet.pipelines.recommend import Names
from freshet.schema import POPULARITY
from freshet.settings import Settings
from freshet.store.snapshots import History

HEADLINES = ("rmse", "logloss", "ndcg")  # the metric that is told by slice, the first of these that there is


def evaluate(
    spark: SparkSession, settings: Settings, *, version: int | None = None, against: int | None = None,
    since: datetime | None = None, until: datetime | None = None, path: str | None = None, by: str = "event",
    k: int | None = None, threshold: float | None = None, candidates: int | None = None, sample: int = 0,
    columns: Sequence[str] = (), save: bool = False,
) -> dict[str, Any]:
    """Judge a version (default: the newest), and another on the same events where `against` names one.

    The events are those learned after both; or those from `since` to before `until`; or those at `path`, through the source's
    mapping. by "event": each is ranked, or predicted, by itself; by "user": a list each against all he took. `columns` of the
    context to slice by (default: model.features.context). `save` keeps the figures as rows. Settings of the model are those the
    version was learned with. Raises FreshetError where there is nothing to judge by.
    """
    readings = [open_reading(spark, settings, one) for one in ([version] if against is None else [version, against])]
    if against is not None and readings[0].version == readings[1].version:
        what = f"Version {against} cannot be held against itself."
        raise FreshetError(what, remedy="Name another with --against.", version=against)
    chosen = {reading.version: _settings_of(reading, settings) for reading in readings}
    first = chosen[readings[0].version]
    if path is not None:
        judged = of_files(spark, first, path)
    else:
        judged = of_span(readings, since, until) if since or until else learned_after(readings)
    subjects = [_subject(reading, chosen[reading.version]) for reading in readings]
    if threshold is None and subjects[0].learner.model.loss_metric == "rmse":
        threshold = first.model.positive_from
    terms = Terms(settings.metrics.k if k is None else k, threshold, sample, candidates, first.model.seed)
    names = columns or first.model.features.context
    rules = _ruled(readings, chosen) if by == "user" else None
    found = _told(readings, judged, by, subjects[0]) | _judge(subjects, judged, first, terms, by, names, rules)
    return found | {"evaluation_id": keep(spark, settings, found)} if save else found


def _settings_of(reading: Reading, settings: Settings) -> Settings:
    """What the version was learned with; how events are read, where it runs and what lists keep to is as it is set now."""
    recorded = Settings.from_json(History.settings_of(reading.tables, reading.version))
    now = {name: getattr(settings, name) for name in ("source", "clean", "lists", "store", "stream", "spark")}
    return recorded.model_copy(update=now)


def _subject(reading: Reading, settings: Settings) -> Subject:
    learner = new_learner(settings)
    head = load_head(reading, settings, learner)
    if not len(head.tables[POPULARITY]):
        what = f"Version {reading.version} knows no item yet."
        raise FreshetError(what, remedy="Judge a later one; see `freshet status`.", version=reading.version)
    return Subject(f"version {reading.version}", head, learner)


def _ruled(readings: Sequence[Reading], chosen: Mapping[int, Settings]) -> Any:
    """The rules of the house for a subject."""
    by_name = {f"version {reading.version}": reading for reading in readings}

    def rules(subject: Subject) -> Rules:
        reading, head = by_name[subject.name], subject.head
        ids = Names(reading).of(head.tables[POPULARITY].keys)
        return list_rules(reading, chosen[reading.version], subject.learner.model, head, ids)

    return rules


def _judge(
    subjects: Sequence[Subject], judged: Judged, settings: Settings, terms: Terms, by: str, columns: Sequence[str], ruled: Any
) -> dict[str, Any]:
    first, seed = subjects[0], terms.seed
    events, order = judged.arrays(settings)
    positive = first.learner.model.positive(events)
    calibrated: dict[str, Any] = {}
    if by == "user":
        who = wanted(first.head, events, positive, first.learner.spec.metrics.history_items)
        seen, whole = listed(subjects, who, terms, ruled)
        rows, users = joined([seen], seed), who.users
    else:
        further = slices_of(judged, order, columns)
        said = predicted(subjects, events, terms, further)
        users = np.unique(events.user_key)
        like, whole = listed(subjects, Wanted(users, np.zeros(len(users) + 1, np.int64), users[:0]), terms, judged=False)
        groups = [None if said is None else said[0], ranked(subjects, events, terms, further), like]
        rows, calibrated = joined(groups, seed), {} if said is None else said[1]
    return {
        "users": len(users), "events": len(events), "positive_events": int(positive.sum()),
        "from": _at(events.event_at.min()), "to": _at(events.event_at.max()),
        "figures": [row.record() for row in rows], "lists": whole, "calibration": calibrated,
    }


def _told(readings: Sequence[Reading], judged: Judged, by: str, first: Subject) -> dict[str, Any]:
    return {
        "version": readings[0].version, "against": readings[1].version if len(readings) > 1 else None,
        "branch": readings[0].snapshot.branch, "model": first.learner.model.name, "by": by, "origin": judged.origin,
        "learned": judged.learned, "refused": judged.refused, "repeated": judged.repeated,
    }


def _at(microseconds: np.int64) -> str:
    return datetime.fromtimestamp(int(microseconds) / 1e6, UTC).isoformat()


def in_words(found: Mapping[str, Any]) -> str:
    """What `evaluate` found, for people: all metrics of all events, and one of them by slice."""
    head = [f"version {found['version']} ({found['model']}, branch {found['branch']}), by {found['by']}: {found['events']:,} "
            f"events of {found['users']:,} users {found['origin']}, {found['from']} to {found['to']}"]
    if found["learned"]:
        head.append(f"{found['learned']:,} of them were learned before: of those it says what is remembered, not what was foreseen")
    if found["refused"] or found["repeated"]:
        head.append(f"left out beside them: {found['refused']:,} refused by cleaning, {found['repeated']:,} repeats")
    every = [row for row in found["figures"] if row["slice"] == "all"]
    learners = list(dict.fromkeys(row["learner"] for row in every))
    metrics = list(dict.fromkeys(row["metric"] for row in every))
    lines = [*head, "", _line("", learners)]
    by_name = {(row["metric"], row["learner"]): row for row in every}
    lines += [_line(metric, [_cell(by_name.get((metric, learner))) for learner in learners]) for metric in metrics]
    for told, names in ((found["lists"], next(iter(found["lists"].values()), {})), (found["calibration"], ["calibration_error"])):
        for name in names if told else ():
            lines.append(_line(name, [f"{told[who][name]:.4f}" if who in told else "" for who in learners]))
    lines += ["", "in brackets: where the value lies in 95 % of samples of the same users"]
    if "evaluation_id" in found:
        lines.append(f"kept in `evaluations` as {found['evaluation_id']}")
    return "\n".join([*lines, *_by_slice(found["figures"], learners, metrics)])


def _by_slice(rows: Sequence[Mapping[str, Any]], learners: Sequence[str], metrics: Sequence[str]) -> list[str]:
    told = next((metric for metric in metrics if metric.startswith(HEADLINES)), None)
    parts = [row for row in rows if row["metric"] == told and row["slice"] != "all"]
    if not parts:
        return []
    by_name = {(row["slice"], row["learner"]): row for row in parts}
    names = {row["slice"]: row["observations"] for row in parts}
    lines = [_line(f"{name} ({count:,})", [_cell(by_name.get((name, who))) for who in learners]) for name, count in names.items()]
    return ["", _line(f"{told}, of", learners), *lines]


def _line(name: str, cells: Sequence[str]) -> str:
    return f"{name:<32}" + "".join(f"{cell:>28}" for cell in cells).rstrip()


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    return f"{row['value']:.4f}" + ("" if row["low"] is None else f" [{row['low']:.4f}, {row['high']:.4f}]")
