"""Two states of one model on the same events: the head and the version that is published.

Each scores with its own rows and with what it knows of the users' pasts, as it would serve them; the user's own earlier
events of the same micro-batch count as known for both. What one of the two cannot judge (the user already has the item) is
left out for both.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from freshet.guards import guarded
from freshet.head import Head
from freshet.kernels.seeds import mix
from freshet.learner import Learner
from freshet.models.contract import ITEM, Events, Model
from freshet.policy.gate import ALL, COVERAGE, NEW_USERS, Paired
from freshet.report import Metric
from freshet.schema import HISTORY
from freshet.settings import GuardMargins

PAIRED = "paired"
HEAD, PUBLISHED = "head", "published"


def pair(
    learner: Learner, head: Head, published: Head, events: Events, sample: int, margins: GuardMargins | None = None
) -> Paired:
    """Sums over the same events of some users, by slice: new and known are those of the published version; and of what has a
    margin (see freshet.guards)."""
    chosen = of_some_users(events, sample, learner.spec.seed)
    one, other = learner.judged(head, chosen), learner.judged(published, chosen)
    number, mine, its = np.intersect1d(one[0], other[0], return_indices=True)
    values = one[1][mine], other[1][its]
    new_user = published.lookup(HISTORY, chosen.user_key[number]) < 0
    slices = {ALL: np.ones(len(number), bool), "new_user": new_user, "known_user": ~new_user}
    sums = {
        name: (float(values[0][among].sum()), float(values[1][among].sum()), int(among.sum())) for name, among in slices.items()
    }
    return Paired(learner.judged_by, sums, guarded(learner, head, published, chosen, margins) if margins is not None else {})


def of_some_users(events: Events, sample: int, seed: int) -> Events:
    """All events of as many users as make up `sample` events, drawn by the hash of their first event; all where there are no
    more. One user's events stay together: what he did before is part of what he is."""
    if len(events) <= sample:
        return events
    users, first, which, count = np.unique(events.user_key, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(mix(events.event_hash[first].view(np.uint64) ^ np.uint64(seed)))
    enough = int(np.searchsorted(np.cumsum(count[order]), sample)) + 1
    taken = np.zeros(len(users), bool)
    taken[order[:enough]] = True
    at = np.flatnonzero(taken[which])
    return Events(*(getattr(events, one.name)[at] for one in fields(Events)))


def as_metrics(paired: Paired) -> list[Metric]:
    """As rows of `metrics`: scoring `paired`, learner `head` and `published`; what is guarded under its own name."""
    named = [(paired.metric, part, sums) for part, sums in paired.sums.items()]
    named += [(guard, ALL, sums) for guard, sums in paired.guards.items()]
    return [
        Metric(metric, PAIRED, learner, part, sums[place], sums[2])
        for metric, part, sums in named for place, learner in enumerate((HEAD, PUBLISHED))
    ]


def from_metrics(rows: list[Metric]) -> Paired | None:
    """What `as_metrics` made, found among other metrics; None where it is not there."""
    mine = [row for row in rows if row.scoring == PAIRED]
    if not mine:
        return None
    totals = {(row.metric, row.slice, row.learner): row.total for row in mine}
    found: dict[str, dict[str, tuple[float, float, int]]] = {}
    for row in mine:
        if row.learner == HEAD:
            sums = row.total, totals[row.metric, row.slice, PUBLISHED], row.events
            found.setdefault(row.metric, {})[row.slice] = sums
    guards = {name: found.pop(name)[ALL] for name in (COVERAGE, NEW_USERS) if name in found}
    [(metric, sums_by_slice)] = found.items()
    return Paired(metric, sums_by_slice, guards)


def norm_growth(model: Model, head: Head, published: Head) -> float:
    """Root mean square of the head's learned rows of items over that of the published version's: the largest of the model's
    blocks, 1 where either has none."""
    found = [1.0]
    for block in model.blocks():
        if block.ids == ITEM and block.init_scale > 0.0:  # counts grow as they should
            sizes = [_size(state.values(block.name)[:, : block.width]) for state in (head, published)]
            found += [sizes[0] / sizes[1]] if all(sizes) else []
    return max(found)


def _size(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0
