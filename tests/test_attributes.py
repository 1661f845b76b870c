"""Ready-made vectors of items as cells: how often they are shared, and what a new item is worth by them."""

from __future__ import annotations

import numpy as np
import pytest
from planted import SECOND, Lab, key, settings

from freshet.asking import ask, last_context, newest, on_offer
from freshet.attributes import BITS, TABLES, cells
from freshet.models.contract import Events
from freshet.pipelines.assembly import half_lives
from freshet.schema import POPULARITY

GROUPS, EACH, NEW, USERS = 4, 10, 2, 40
WITH = ("model.features.items=[image]", "model.features.vectors=[image]", "model.positive_from=null", "model.factors=8")
ITEMS = key(2, np.arange(GROUPS * (EACH + NEW)))
GROUP = np.repeat(np.arange(GROUPS), EACH + NEW)
UNMET = np.tile(np.arange(EACH + NEW) >= EACH, GROUPS)


@pytest.mark.parametrize("angle", [0.2, 0.7, 1.5, 3.0])
def test_two_vectors_share_a_cell_with_the_chance_of_their_angle(angle) -> None:
    one, other = np.array([[1.0, 0.0, 0.0, 0.0]]), np.array([[np.cos(angle), np.sin(angle), 0.0, 0.0]])
    shared = np.mean([(cells(one, seed) == cells(3.0 * other, seed)).mean() for seed in range(600)])
    assert shared == pytest.approx((1.0 - angle / np.pi) ** BITS, abs=0.025)
    assert cells(one, 7).shape == (1, TABLES) and cells(one[:, :1], 7).tolist() == cells(one, 7).tolist()


def vectors() -> np.ndarray:
    """Around the middle of each group."""
    random = np.random.default_rng(1)
    return random.normal(size=(GROUPS, 12))[GROUP] + 0.4 * random.normal(size=(len(GROUP), 12))


def clicks(n: int) -> Events:
    """Everybody clicks on what his group has, but for the new items."""
    random, number = np.random.default_rng(2), np.arange(n)
    user = random.integers(USERS, size=n)
    item = (user % GROUPS) * (EACH + NEW) + random.integers(EACH, size=n)
    return Events(key(1, user), ITEMS[item], np.full(n, 5.0), np.ones(n), 10**15 + number * SECOND, key(3, number))


def of_new_items(name: str, made: np.ndarray) -> np.ndarray:
    """float[users, new items]: what the model's vectors say of items nobody has clicked, given such vectors of all items."""
    width = settings(*WITH).model.features.most + TABLES
    attributes = np.zeros((len(ITEMS), width), np.int64)
    found = cells(made, 5) + (np.arange(TABLES) << BITS)
    attributes[:, :TABLES] = key(7, found.ravel()).reshape(found.shape)
    lab = Lab(settings(f"model.name={name}", *WITH), described=(ITEMS, attributes))
    lab.learn(clicks(2000))
    head, model, users = lab.head, lab.learner.model, key(1, np.arange(USERS))
    asked = ask(head, model, users, *newest(head, users, model.recent), last_context(head, users))
    on = on_offer(head, model, head.lookup(POPULARITY, ITEMS[UNMET]), half_lives(lab.chosen))
    return model.queries(asked) @ on.vectors.T


@pytest.mark.parametrize("name", ["history", "blend"])
def test_a_new_item_is_worth_what_those_are_that_it_is_like(name) -> None:
    own = (np.arange(USERS) % GROUPS)[:, None] == GROUP[UNMET]
    scores = of_new_items(name, vectors())
    assert scores[own].mean() > scores[~own].mean() + 1.0
    assert (scores.argmax(axis=1) // NEW == np.arange(USERS) % GROUPS).mean() > 0.95
    shuffled = of_new_items(name, np.random.default_rng(3).permutation(vectors()))  # vectors of other items say nothing
    assert abs(shuffled[own].mean() - shuffled[~own].mean()) < 0.3 * (scores[own].mean() - scores[~own].mean())
