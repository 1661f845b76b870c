"""Whom a list is asked by: all that a user had, in order, whether it lies in his open row, in his archive or in this micro-batch."""

from __future__ import annotations

import numpy as np
import pytest
from planted import Lab, checkerboard, part, settings

from freshet.asking import newest
from freshet.companions import advance
from freshet.models.contract import Events
from freshet.ranked import _asked_items


@pytest.fixture(scope="module")
def learned() -> tuple[Lab, Events]:
    one, events = Lab(settings("model.name=cooccurrence", "model.neighbours.asked=100", "history.items=64")), checkerboard(3000)
    for begin in range(0, 3000, 500):
        one.learn(part(events, slice(begin, begin + 500)))
    return one, events


def had(events: Events, user: int) -> list[int]:
    """The slow way: his items, newest first."""
    return events.item_key[events.user_key == user][::-1].tolist()


def test_newest_goes_back_through_the_archive(learned) -> None:
    one, events = learned
    users = np.append(np.unique(events.user_key), 12345)
    for count in (5, 16, 20, 50, 100):
        found, length = newest(one.head, users, count, history_items=64)
        for row, user in enumerate(users.tolist()):
            mine = had(events, user)[:count]
            # A history of 64 keeps the open row and the three newest archived chunks: 64 to 80 items.
            assert (length[row] == len(mine)) if len(mine) <= 64 else (64 <= length[row] <= 80), count
            assert found[row, : length[row]].tolist() == mine[: length[row]]
    assert newest(one.head, users, 100)[1].max() <= 32  # without the archive


def test_within_a_micro_batch_what_came_before_the_event_is_asked_too(learned) -> None:
    one, events = learned
    more = checkerboard(200, start=3000)
    context = advance(one.head, more, one.learner.model.positive(more), one.learner.spec.companions).context
    ranked = np.arange(0, 200, 7)
    items, length = _asked_items(one.head, one.learner.model, more, ranked, context, 64)
    for row, event in enumerate(ranked.tolist()):
        user = more.user_key[event]
        before = more.item_key[:event][more.user_key[:event] == user][::-1].tolist()
        mine = (before[:10] + had(events, user))[: length[row]]
        assert items[row, : length[row]].tolist() == mine and length[row] > 40
