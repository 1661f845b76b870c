"""Figures of an evaluation as rows of `evaluations`, beside the model they are about; whoever only looks writes nothing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

from freshet.pipelines.opening import open_reading
from freshet.program import actor
from freshet.schema import EVALUATIONS
from freshet.settings import Settings
from freshet.store.lock import model_lock

_NOTHING = {"low": None, "high": None, "observations": None, "users": None}  # of a figure that is told without an interval


def keep(spark: SparkSession, settings: Settings, found: Mapping[str, Any]) -> str:
    """Append what `pipelines.evaluate.evaluate` found; the id under which it stands. Raises AlreadyRunning while another process
    appends."""
    tables = open_reading(spark, settings).tables
    evaluation_id = secrets.token_hex(8)
    rows = pa.Table.from_pylist(list(_rows(found, evaluation_id)), schema=tables.arrow_schema(EVALUATIONS.name))
    with model_lock(tables.path(EVALUATIONS.name)):  # on local disk two that append at once can lose a commit
        if not tables.exists(EVALUATIONS.name):
            tables.create()  # a model of a time without this table
        tables.append(EVALUATIONS.name, rows, note=evaluation_id)
    return evaluation_id


def _rows(found: Mapping[str, Any], evaluation_id: str) -> Iterator[dict[str, Any]]:
    """The figures, those of all lists of a learner together, and the errors of calibration."""
    same = {
        "evaluation_id": evaluation_id, "version": found["version"], "against": found["against"], "judged_by": found["by"],
        "origin": found["origin"], "first_event_at": datetime.fromisoformat(found["from"]),
        "last_event_at": datetime.fromisoformat(found["to"]), "events": found["events"], "learned_events": found["learned"],
        "actor": actor(), "made_at": datetime.now(UTC),
    }
    for figure in found["figures"]:
        yield same | figure
    told = [*found["lists"].items(), *found["calibration"].items()]
    for learner, values in told:
        numbers = {name: value for name, value in values.items() if isinstance(value, int | float)}
        for metric, value in numbers.items():
            yield same | _NOTHING | {"metric": metric, "slice": "all", "learner": learner, "value": float(value)}
