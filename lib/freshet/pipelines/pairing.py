"""Two states that learned the same micro-batches, each in versions of its own: what both scored before they learned."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pyarrow.compute as pc

from freshet.policy.gate import Paired
from freshet.prequential import SERVED
from freshet.store.scores import metrics_of
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables

Sums = Mapping[str, tuple[float, int]]
"""Slice -> sum and count."""


Batch = tuple[str | None, int | None, str | None]


def batch_of(row: Snapshot) -> Batch:
    """The micro-batch that a version learned: its number in a checkpoint, and what it read."""
    return row.checkpoint_id, row.batch_id, row.fingerprint


def side_by_side(history: History, mine: Sequence[Snapshot], version: int) -> list[tuple[Snapshot, Snapshot]]:
    """Each of my versions that learned a micro-batch with the one on the path of `version` that learned the same."""
    theirs = {batch_of(row): row for row in history.commits(version) if row.batch_id is not None}
    return [(row, theirs[batch_of(row)]) for row in mine if row.batch_id is not None and batch_of(row) in theirs]


def paired(
    tables: Tables, pairs: Sequence[tuple[Snapshot, Snapshot]], metric: str, learners: Collection[str]
) -> list[Paired]:
    """The served metric of both, pair by pair, where both have it; `learners` are the names their models have in metrics."""
    if not pairs:
        return []
    rows = [row for pair in pairs for row in pair]
    commits, versions = {row.commit_id for row in rows}, [row.version for row in rows]
    told: dict[str, dict[str, tuple[float, int]]] = {}
    named = pc.field("metric").isin([metric, f"{metric}~sampled"]) & (pc.field("scoring") == SERVED)
    wanted = named & pc.field("learner").isin(list(learners))
    for commit_id, metrics in metrics_of(tables, min(versions), max(versions), wanted).items():
        if commit_id in commits:
            told[commit_id] = {row["slice"]: (row["total"], row["events"]) for row in metrics}
    return [
        _on_equal_terms(metric, told[mine.commit_id], told[theirs.commit_id]) for mine, theirs in pairs
        if told.get(mine.commit_id) and told.get(theirs.commit_id)
    ]


def _on_equal_terms(metric: str, mine: Sums, theirs: Sums) -> Paired:
    """Their sums as if over the same number of events, where one of the two could not judge some of them."""
    sums = {}
    for name, (total, count) in mine.items():
        other, events = theirs.get(name, (0.0, 0))
        if count and events:
            sums[name] = (total, other * count / events, count)
    return Paired(metric, {"all": (0.0, 0.0, 0), **sums})
