"""What may be lost while the metric gets better: coverage of lists, and recall of new users, of two states of one model.

    coverage   = different items in the lists of K that the users of these events would get / items the published version knows
    new users  = events of users the published version has not met whose item is in the list of K / such events

Both states are asked for the same users and the same events, before either has learned them. Users are a sample, so of coverage
only the comparison says something. Rules of the house are left out: they are the same for both.
"""

from __future__ import annotations

import numpy as np

from freshet.head import Head
from freshet.kernels.ranking import recall_at
from freshet.learner import Learner
from freshet.lists import shelf, top_items
from freshet.models.contract import Events
from freshet.policy.gate import COVERAGE, NEW_USERS
from freshet.schema import HISTORY, POPULARITY
from freshet.settings import GuardMargins

Sums = tuple[float, float, int]


def guarded(learner: Learner, head: Head, published: Head, events: Events, margins: GuardMargins) -> dict[str, Sums]:
    """Guard -> (of the head, of the published version, items or events), of those that have a margin and something to count."""
    found: dict[str, Sums] = {}
    known = len(published.tables[POPULARITY])
    if margins.coverage is not None and known and len(events):
        users = np.unique(events.user_key)
        found[COVERAGE] = float(covered(learner, head, users)), float(covered(learner, published, users)), known
    if margins.new_users is not None:
        new = published.lookup(HISTORY, events.user_key) < 0
        one, other = (learner.ranks(state, events) for state in (head, published))
        # What one of the two cannot rank (the user already has the item) is left out for both.
        number, mine, its = np.intersect1d(one[0], other[0], return_indices=True)
        asked, k = new[number], learner.spec.metrics.k
        hits = [float(recall_at(rank[asked], k).sum()) for rank in (one[1][mine], other[1][its])]
        found[NEW_USERS] = (hits[0], hits[1], int(asked.sum()))
    return found


def covered(learner: Learner, head: Head, users: np.ndarray) -> int:
    """Different items in the lists of these users."""
    spec = learner.spec.metrics
    order = np.argsort(np.argsort(head.tables[POPULARITY].keys))
    if not len(order):
        return 0
    on = shelf(head, learner.model, spec.half_lives, order, segment=spec.segment)
    lists = top_items(head, learner.model, on, users, spec.k, spec.history_items)
    there = np.arange(spec.k) < lists.length[:, None]
    return len(np.unique(lists.items[there]))

