"""The planted truth can be found, is worth finding, and changes at the drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from freshet.demo.generator import Events, events
from freshet.demo.truth import World, expected_ratings, plant, scores

SMALL = World(users=300, items=200, events=20_000, seed=3)
TOP = 10


def oracle_recall(world: World, drawn: Events, asked: range, at: int | None = None) -> float:
    """Share of the asked events whose item is in the oracle's top 10 of what the user had not clicked yet.

    `at` asks the oracle about another moment than the event's own.
    """
    return _recall(drawn, asked, world.items, lambda n: scores(world, drawn.user[n:n + 1], n if at is None else at)[0])


def popularity_recall(world: World, drawn: Events, asked: range) -> float:
    """The same for the items with the most clicks so far."""
    return _recall(drawn, asked, world.items, lambda n: np.bincount(drawn.item[:n], minlength=world.items) - .5)


def _recall(drawn, asked, items, score_at):
    hits = 0
    for n in asked:
        ranked = np.array(score_at(n), dtype=np.float64)
        ranked[drawn.item[:n][drawn.user[:n] == drawn.user[n]]] = -np.inf
        hits += drawn.item[n] in np.argsort(-ranked, kind="stable")[:TOP]
    return hits / len(asked)


def assert_worth_learning(world: World) -> None:
    """Knowing the truth is far better than knowing what is popular, and that is better than guessing."""
    drawn, asked = events(world, 0, world.events // 2), range(world.events // 4, world.events // 2, 7)
    oracle, popularity = oracle_recall(world, drawn, asked), popularity_recall(world, drawn, asked)
    assert popularity > 1.3 * TOP / world.items
    assert oracle > 2 * popularity


def assert_drifts(world: World) -> None:
    """An oracle that sleeps through the drift is lost afterwards, and was right before."""
    drawn, middle = events(world, 0, world.events), world.events // 2
    before, after = range(middle // 2, middle, 11), range(middle, middle + middle // 2, 11)
    assert oracle_recall(world, drawn, after, at=middle - 1) < .75 * oracle_recall(world, drawn, after)
    assert oracle_recall(world, drawn, before, at=middle) < .75 * oracle_recall(world, drawn, before)


def test_the_truth_is_worth_learning():
    assert_worth_learning(SMALL)


def test_a_world_without_tastes_is_not():
    with pytest.raises(AssertionError):
        assert_worth_learning(replace(SMALL, concentration=0))


def test_a_world_without_popularity_is_not_either():
    with pytest.raises(AssertionError):
        assert_worth_learning(replace(SMALL, zipf=0, concentration=0, born_later=0))


def test_drift_changes_the_answer():
    assert_drifts(SMALL)


def test_a_world_without_drift_fails_the_same_check():
    with pytest.raises(AssertionError):
        assert_drifts(replace(SMALL, drift_at=None))


def test_drift_moves_the_stated_shares():
    world = World(users=5000, items=5000, drift_users=.4, drift_items=.1)
    truth = plant(world)
    assert np.mean((truth.user_factors[0] != truth.user_factors[1]).any(axis=1)) == pytest.approx(.4, abs=.03)
    assert np.mean((truth.item_factors[0] != truth.item_factors[1]).any(axis=1)) == pytest.approx(.1, abs=.02)


def test_affinity_of_a_stream_is_above_that_of_chance():
    drawn = events(SMALL, 0, 5000)
    truth = plant(SMALL)
    met = np.einsum("nk,nk->n", truth.user_factors[0, drawn.user], truth.item_factors[0, drawn.item])
    chance = np.einsum("nk,nk->n", truth.user_factors[0, drawn.user], truth.item_factors[0, np.roll(drawn.item, 1)])
    assert met.mean() > chance.mean() + .3


def test_ratings_follow_the_expected_rating():
    world = replace(SMALL, kind="ratings")
    drawn = events(world, 0, world.events)
    expected = np.clip(expected_ratings(world, drawn.user, drawn.item, drawn.ordinal), 1, 5)
    error = np.sqrt(np.mean((drawn.value - expected) ** 2))
    assert error < .75 * drawn.value.std()
    assert error == pytest.approx(world.noise, abs=.1)
    assert set(np.unique(drawn.value)) == set(np.arange(1, 5.5, .5))
    blind = drawn.value[np.random.default_rng(0).permutation(len(drawn))]
    assert np.sqrt(np.mean((blind - expected) ** 2)) > drawn.value.std()


def test_births_are_spread_and_somebody_is_there_at_once():
    truth = plant(replace(SMALL, users=4000))
    assert truth.user_born[0] == truth.item_born[0] == 0
    assert np.mean(truth.user_born > 0) == pytest.approx(SMALL.born_later, abs=.03)
    assert truth.user_born.max() > .8 * SMALL.events


@pytest.mark.parametrize("wrong", [{"kind": "views"}, {"users": 0}, {"candidates": 0}])
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ValueError):
        World(**wrong)
