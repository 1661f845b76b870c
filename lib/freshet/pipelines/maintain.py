"""Maintenance: by the command where nobody holds the model, else by the learner between two micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.sql import SparkSession

from freshet.errors import AlreadyRunning
from freshet.pipelines.candidates import remove_left
from freshet.pipelines.challengers import LINE
from freshet.pipelines.opening import open_reading
from freshet.pipelines.requesting import ask
from freshet.pipelines.starting import as_writer
from freshet.schema import PARAMETERS
from freshet.settings import Settings
from freshet.store import maintain as steps
from freshet.store.commit import Writer
from freshet.store.decisions import REQUEST_ID
from freshet.store.snapshots import MAINTAIN, line

DAY = 86_400.0


def maintain(
    spark: SparkSession, settings: Settings, *, compact: bool = True, orphans: bool = True, retention: bool = True
) -> dict[str, Any]:
    """Compact the state into a base, remove what dead attempts left, give up versions past store.log_retention.

    While a learner holds the model it is asked to do this by a row in `requests`, and does it between two micro-batches.
    """
    wanted = {"compact": compact, "orphans": orphans, "retention": retention}
    reading = open_reading(spark, settings)
    try:
        with as_writer(reading.tables, settings, "maintenance") as writer:
            return carry_out(writer, settings, wanted)
    except AlreadyRunning as running:
        return {REQUEST_ID: ask(reading.tables, MAINTAIN, wanted), "asked": running.facts["holder"]}


def carry_out(writer: Writer, settings: Settings, wanted: Mapping[str, bool]) -> dict[str, Any]:
    """Do what is wanted, as the one who holds the model; what was done."""
    done: dict[str, Any] = {}
    if wanted["compact"]:
        done["base_version"] = steps.compact(writer).base_version if _changed(writer, writer.line) else None
        beside = {line(row.branch) for row in writer.history.live() if row.branch.startswith(LINE)}
        for challenger in sorted(one for one in beside if _changed(writer, one)):
            newest = writer.history.newest(challenger)
            done[challenger] = steps.compact(writer, newest.version if newest else None).base_version
    if wanted["retention"]:
        done["commits_dropped"] = steps.drop_log(writer, settings.store.log_retention / DAY)
    if wanted["orphans"]:
        done["orphan_rows"] = sum(steps.remove_orphans(writer).values())
        done["orphan_bases"] = steps.remove_orphan_bases(writer)
        done["orphan_candidates"] = remove_left(writer.tables, writer.history)
    if wanted["compact"]:
        steps.optimize(writer)
        steps.vacuum(writer)
    return done


def _changed(writer: Writer, line: str) -> bool:
    """Whether a row of a line was learned since its newest base."""
    newest = writer.history.newest(line)
    if newest is None:
        return False
    base = writer.history.newest_base(newest.version)
    above = -1 if base is None or base.base_version is None else base.base_version
    return any(row.appended_rows.get(PARAMETERS.name) for row in writer.history.commits(newest.version, above))

