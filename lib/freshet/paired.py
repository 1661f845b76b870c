"""Two states of one model on the same events: the head and the version that is published.

Each scores with its own rows and with what it knows of the users' pasts, as it would serve them; the user's own earlier
events of the same micro-batch count as known for both. What one of the two cannot judge (the user already has the item) is
left out for both.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from freshet.head import Head
from freshet.kernels.seeds import mix
from freshet.learner import Learner
from freshet.models.contract import ITEM, Events, Model
from freshet.policy.gate import ALL, Paired
from freshet.report import Metric
from freshet.schema import HISTORY

PAIRED = "paired"
HEAD, PUBLISHED = "head", "published"


def pair(learner: Learner, head: Head, published: Head, events: Events, sample: int) -> Paired:
    """Sums over the same events of some users, by slice: new and known are those of the published version."""
    chosen = of_some_users(events, sample, learner.spec.seed)
    one, other = learner.judged(head, chosen), learner.judged(published, chosen)
    number, mine, its = np.intersect1d(one[0], other[0], return_indices=True)
    values = one[1][mine], other[1][its]
    new_user = published.lookup(HISTORY, chosen.user_key[number]) < 0
    slices = {ALL: np.ones(len(number), bool), "new_user": new_user, "known_user": ~new_user}
    sums = {
        name: (float(values[0][among].sum()), float(values[1][among].sum()), int(among.sum())) for name, among in slices.items()
    }
    return Paired(learner.judged_by, sums)


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
    """As rows of `metrics`: scoring `paired`, learner `head` and `published`."""
    return [
        Metric(paired.metric, PAIRED, learner, name, sums[place], sums[2])
        for name, sums in paired.sums.items() for place, learner in enumerate((HEAD, PUBLISHED))
    ]


def from_metrics(rows: list[Metric]) -> Paired | None:
    """What `as_metrics` made, found among other metrics; None where it is not there."""
    mine = [row for row in rows if row.scoring == PAIRED]
    if not mine:
        return None
    totals = {(row.learner, row.slice): row for row in mine}
    names = [row.slice for row in mine if row.learner == HEAD]
    return Paired(mine[0].metric, {
        name: (totals[HEAD, name].total, totals[PUBLISHED, name].total, totals[HEAD, name].events) for name in names
    })


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
