"""Lists and the rules of the house: what is added, never listed, capped, spread and left to chance; what places rest on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import SECOND, Lab, key, settings

from freshet import lists
from freshet.lists import Lists, Rules, shelf, top_items
from freshet.models.contract import Events
from freshet.pipelines.assembly import half_lives
from freshet.schema import HISTORY, POPULARITY, REASONS

USERS, ITEMS, GROUPS = 50, 200, 5
STRANGERS = key(1, np.arange(900, 904))


def visits(n: int, start: int = 0) -> Events:
    """Users walk through the items in steps of one, each beginning elsewhere."""
    number = start + np.arange(n)
    user = number % USERS
    item = (user * 7 + number // USERS) % ITEMS
    return Events(key(1, user), key(2, item), np.full(n, 5.0), np.ones(n), 10**15 + number * SECOND, key(3, number))


@pytest.fixture(scope="module", params=["blend", "bpr", "history"])
def lab(request) -> Lab:
    made = Lab(settings(f"model.name={request.param}"))
    for start in (0, 500):
        made.learn(visits(500, start))
    return made


def rows(lab: Lab) -> int:
    return len(lab.head.tables[POPULARITY])


def asked(lab: Lab, n: int, rules: Rules | None = None, users: np.ndarray | None = None) -> Lists:
    head, model = lab.head, lab.learner.model
    order = np.argsort(np.argsort(head.tables[POPULARITY].keys))
    on = shelf(head, model, half_lives(lab.chosen), order, rules)
    everybody = np.concatenate([head.tables[HISTORY].keys, STRANGERS])
    return top_items(head, model, on, everybody if users is None else users, n, 1000)


def groups(lab: Lab) -> np.ndarray:
    """A category for three items of four."""
    row = np.arange(rows(lab))
    return np.where(row % 4, row % GROUPS, -1).astype(np.int32)


def group_of(lab: Lab, found: Lists) -> np.ndarray:
    row = lab.head.lookup(POPULARITY, found.items.ravel()).reshape(found.items.shape)
    return np.where(np.arange(found.items.shape[1]) < found.length[:, None], groups(lab)[row], -1)


def same(one: Lists, other: Lists) -> bool:
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in Lists.__dataclass_fields__)


EVERYTHING = {"cap": 2, "diversity": 0.3, "exploration": 0.2, "candidates": 12, "seed": 4}


def test_lists_do_not_depend_on_how_many_are_asked_for_at_once(lab, monkeypatch) -> None:
    ruled = Rules(category=groups(lab), **EVERYTHING)
    for rules in (None, ruled):
        whole = asked(lab, 10, rules)
        monkeypatch.setattr(lists, "ASKERS_AT_ONCE", 7)
        monkeypatch.setattr(lists, "CANDIDATES_AT_ONCE", 30)
        assert same(asked(lab, 10, rules), whole)
        monkeypatch.undo()
    assert not same(asked(lab, 10), asked(lab, 10, ruled))
    assert asked(lab, 10, ruled, STRANGERS[:0]).items.shape == (0, 10)


def test_rules_that_say_nothing_change_nothing(lab) -> None:
    plain = asked(lab, 10)
    assert same(asked(lab, 10, Rules(np.zeros(rows(lab), np.float32), groups(lab))), plain)
    assert (plain.propensity == 1.0).all() and (np.diff(plain.scores) <= 0.0).all()


def test_what_is_never_listed_is_in_no_list_and_a_boost_leads_it(lab) -> None:
    plain, added = asked(lab, 10), np.zeros(rows(lab), np.float32)
    popular = np.unique(plain.items, return_counts=True)
    never, first = popular[0][np.argsort(popular[1])[[-1, 0]]]
    added[lab.head.lookup(POPULARITY, np.array([never, first]))] = np.nan, 100.0
    for rules in (Rules(added), Rules(added, groups(lab), **EVERYTHING)):
        found = asked(lab, 60, rules)
        assert never not in found.items and not np.isnan(found.scores).any()
    found = asked(lab, 10, Rules(added))
    has = (found.items == first).any(axis=1)
    assert has.sum() > USERS // 2  # all but those who had it
    assert (found.items[has, 0] == first).all() and has[-len(STRANGERS) :].all()


def test_a_capped_list_is_the_greedy_one_over_all_items(lab) -> None:
    """However few candidates are taken at first."""
    whole = asked(lab, rows(lab))
    group = group_of(lab, whole)
    for cap, candidates in ((1, 10), (2, 1), (3, 100)):
        found = asked(lab, 12, Rules(category=groups(lab), cap=cap, candidates=candidates))
        for user, (items, length) in enumerate(zip(whole.items.tolist(), whole.length, strict=True)):
            used, wanted = dict.fromkeys(range(GROUPS), 0), []
            for item, g in zip(items[:length], group[user].tolist(), strict=False):
                if len(wanted) < 12 and (g < 0 or used[g] < cap):
                    wanted.append(item)
                    used[g] = used.get(g, 0) + 1
            assert found.items[user, : found.length[user]].tolist() == wanted


def test_diversity_spreads_a_list_in_the_space_of_its_vectors(lab) -> None:
    def likeness(found: Lists) -> float:
        head, model = lab.head, lab.learner.model
        on = shelf(head, model, half_lives(lab.chosen), np.arange(rows(lab)), Rules(diversity=0.1))
        unit = on.offer.unit[head.lookup(POPULARITY, found.items.ravel())].reshape(*found.items.shape, -1)
        between = np.einsum("uid,ujd->uij", unit, unit)
        return float(between[:, ~np.eye(found.items.shape[1], dtype=bool)].mean())

    shares = (0.0, 0.2, 0.5, 1.0)
    found = [asked(lab, 8, Rules(diversity=share)) for share in shares]
    spread = [likeness(one) for one in found]
    assert spread == sorted(spread, reverse=True) and spread[-1] < spread[0] - 0.1
    assert same(found[0], asked(lab, 8))
    assert all((one.items[:, 0] == found[0].items[:, 0]).all() for one in found)


def test_chance_gives_the_same_list_again_and_another_at_another_version(lab) -> None:
    rules = Rules(exploration=0.3, seed=1)
    found = asked(lab, 10, rules)
    assert same(asked(lab, 10, rules), found)
    assert np.array_equal(asked(lab, 10, rules, STRANGERS[1:2]).items[0], found.items[-3])  # whoever asks beside
    other = asked(lab, 10, Rules(exploration=0.3, seed=2))
    by_chance = found.reasons == list(REASONS).index("exploration")
    assert 0.1 < by_chance.mean() < 0.5 and (other.items != found.items).any()
    assert (found.propensity[by_chance] < 0.01).all() and (found.propensity[~by_chance] > 0.7).all()
    assert (asked(lab, 10).propensity == 1.0).all()


def test_reasons_are_the_chain_from_what_a_user_did_down_to_popularity() -> None:
    wanted = {"blend": "neighbours", "cooccurrence": "neighbours", "history": "session", "bpr": "user", "mf": "user"}
    for name, reason in wanted.items():
        lab = Lab(settings(f"model.name={name}"))
        lab.learn(visits(1000))
        found = asked(lab, 3)
        words = np.array(list(REASONS))[found.reasons]
        assert set(words[-len(STRANGERS) :].ravel()) == {"popularity"}
        assert set(words[: -len(STRANGERS), 0]) == {reason}
        novelty, at = key(2, np.array([5000])), np.array([2 * 10**15])
        lab.learn(Events(key(1, np.array([901])), novelty, np.full(1, 5.0), np.ones(1), at, at))
        found = asked(lab, ITEMS)
        [(user, place), *_] = np.argwhere(found.items[:USERS] == novelty)
        word = list(REASONS)[found.reasons[user, place]]
        # Of an item met once, by a stranger, a model that learns by what came before it knows nothing.
        assert word == ("popularity" if name in ("blend", "cooccurrence", "history") else "user")


def test_a_stranger_with_a_context_is_ranked_by_it(monkeypatch) -> None:
    lab = Lab(settings("model.name=history", "source.context=[device]", "model.features.context=[device]"))
    devices = key(4, np.arange(2))
    events = visits(1000)
    lab.learn(replace(events, features=devices[(events.user_key % 2).astype(int)][:, None]))
    order = np.argsort(np.argsort(lab.head.tables[POPULARITY].keys))
    on = shelf(lab.head, lab.learner.model, half_lives(lab.chosen), order)
    users, context = np.tile(STRANGERS[:3], 2), np.array([*devices, 0, *devices, 0])[:, None]
    found = top_items(lab.head, lab.learner.model, on, users, 5, 1000, context)
    words = np.array(list(REASONS))[found.reasons]
    assert [set(row) for row in words[:3].tolist()] == [{"features"}, {"features"}, {"popularity"}]
    assert found.items[0].tolist() != found.items[1].tolist()
    monkeypatch.setattr(lists, "ASKERS_AT_ONCE", 4)
    assert same(top_items(lab.head, lab.learner.model, on, users, 5, 1000, context), found)


def test_no_items_no_list() -> None:
    lab = Lab(settings("model.name=blend"))
    for rules in (None, Rules(**EVERYTHING)):
        found = asked(lab, 4, rules)
        assert found.items.shape == (len(STRANGERS), 4) and not found.length.any()
