"""What is told of users by a list each: against brute force, on a planted answer, and figures made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import ITEM_KEYS, ITEMS, USER_KEYS, USERS, Lab, checkerboard, key, likes, part, settings

from freshet.evaluation.by_event import Subject, Terms
from freshet.evaluation.by_user import Wanted, listed, lists_of, lists_worth, wanted
from freshet.evaluation.observations import figures
from freshet.lists import Rules
from freshet.schema import POPULARITY

K = 4


@pytest.fixture(scope="module")
def young() -> Lab:
    """A model whose users have not had most items."""
    made = Lab(settings("model.name=blend"))
    made.learn(checkerboard(200))
    return made


def subject(lab: Lab) -> Subject:
    return Subject(lab.learner.model.name, lab.head, lab.learner)


def pairs(who: Wanted) -> set[tuple[int, int]]:
    return {(int(user), int(item)) for u, user in enumerate(who.users) for item in who.items[who.offsets[u] : who.offsets[u + 1]]}


def had(events) -> set[tuple[int, int]]:
    liked = part(events, events.value >= 3)
    return set(zip(liked.user_key.tolist(), liked.item_key.tolist(), strict=True))


def test_wanted_is_what_was_taken_and_not_had(young) -> None:
    events = checkerboard(300, start=5000)
    who = wanted(young.head, events, events.value >= 3, 1000)
    assert pairs(who) == had(events) - had(checkerboard(200)) and len(pairs(who)) == len(who.items)
    assert (np.diff(who.users) > 0).all() and (np.diff(who.offsets) > 0).all()
    assert had(events) & had(checkerboard(200))


def test_lists_are_worth_what_brute_force_says(young) -> None:
    events = checkerboard(300, start=5000)
    who = wanted(young.head, events, events.value >= 3, 1000)
    made = lists_of([subject(young)], who, Terms(K))
    by_user = {user: {item for owner, item in pairs(who) if owner == user} for user in who.users.tolist()}
    before = had(checkerboard(200))
    for name, lists in made.lists.items():
        hits = []
        for user, row in zip(who.users.tolist(), lists, strict=True):
            items = made.keys[row[row >= 0]].tolist()
            assert not {(user, item) for item in items} & before
            hits.append(len(set(items) & by_user[user]) / len(by_user[user]))
        value = listed([subject(young)], who, Terms(K))[0].values()[name][f"recall@{K}"]
        assert value == pytest.approx(np.mean(hits))


def test_the_planted_answer_is_found_and_popularity_does_not_know_it() -> None:
    """A quarter of all pairs is kept out of what is learned; each user wants those of his that he likes."""
    lab = Lab(settings("model.name=mf", "model.init_scale=0.3"))
    out = {(int(USER_KEYS[u]), int(ITEM_KEYS[i])) for u in range(USERS) for i in range(ITEMS) if (u // 2 + i // 2) % 4 == 0}
    for number in range(12):
        events = checkerboard(300, start=300 * number)
        pairs_of = zip(events.user_key.tolist(), events.item_key.tolist(), strict=True)
        lab.learn(part(events, np.array([pair not in out for pair in pairs_of])))
    left = sorted((int(USER_KEYS[u]), int(ITEM_KEYS[i])) for u in range(USERS) for i in range(ITEMS)
                  if likes(u, i) and (int(USER_KEYS[u]), int(ITEM_KEYS[i])) in out)
    users, counts = np.unique([user for user, _ in left], return_counts=True)
    who = Wanted(users, np.concatenate([[0], np.cumsum(counts)]), np.array([item for _, item in left]))
    seen, _ = listed([subject(lab)], who, Terms(K))
    apart = {f.metric: f for f in figures(seen, 1) if f.learner == "mf - popularity" and f.slice == "all"}
    assert seen.values()["mf"][f"ndcg@{K}"] > 0.8 and apart[f"ndcg@{K}"].low > 0.2


def test_lists_may_be_of_a_sample_of_the_items(young) -> None:
    events = checkerboard(60, start=5000)
    who = wanted(young.head, events, events.value >= 3, 1000)
    made = lists_of([subject(young)], who, Terms(K, candidates=2))
    names = set(listed([subject(young)], who, Terms(K, candidates=2))[0].parts["blend"])
    assert f"ndcg@{K}~sampled" in names and f"ndcg@{K}" not in names and f"novelty@{K}" in names
    allowed = {int(k) for k in who.items} | {
        int(k) for k in young.head.tables[POPULARITY].keys}
    assert {int(made.keys[n]) for lists in made.lists.values() for n in lists.ravel() if n >= 0} <= allowed
    full = lists_of([subject(young)], who, Terms(ITEMS))
    few = lists_of([subject(young)], Wanted(who.users[:1], who.offsets[:2], who.items[: who.offsets[1]]), Terms(ITEMS, candidates=2))
    assert (few.lists["blend"] >= 0).sum() <= 2 + who.offsets[1] < (full.lists["blend"][0] >= 0).sum()


def test_rules_of_lists_are_kept(young) -> None:
    events = checkerboard(300, start=5000)
    who = wanted(young.head, events, events.value >= 3, 1000)
    plain = lists_of([subject(young)], who, Terms(K))
    banned = plain.keys[plain.lists["blend"][0, 0]]
    never = np.zeros(len(young.head.tables[POPULARITY]), np.float32)
    never[young.head.lookup(POPULARITY, np.array([banned]))] = np.nan
    made = lists_of([subject(young)], who, Terms(K), lambda one: Rules(never))
    assert int(banned) not in {int(made.keys[n]) for lists in made.lists.values() for n in lists.ravel() if n >= 0}


def test_what_lists_are_like(young) -> None:
    head = young.head
    who = Wanted(key(1, np.arange(900, 910)), np.zeros(11, np.int64), np.empty(0, np.int64))
    seen, whole = listed([subject(young)], who, Terms(K), judged=False)
    assert set(seen.parts["blend"]) == {f"novelty@{K}", f"diversity@{K}"}
    # Strangers all get the same list of popular items.
    assert whole["popularity"] == {f"coverage@{K}": K / ITEMS, f"gini@{K}": pytest.approx(1 - K / ITEMS)}
    counts = head.tables[POPULARITY].column("count").astype(float)
    lists = lists_of([subject(young)], who, Terms(K))
    rows = head.lookup(POPULARITY, lists.keys[lists.lists["popularity"][0]])
    wanted_novelty = np.mean([-math.log2(counts[row] / counts.sum()) for row in rows])
    assert seen.values()["popularity"][f"novelty@{K}"] == pytest.approx(wanted_novelty)


def test_lists_of_one_model_in_short(young) -> None:
    events = checkerboard(300, start=5000)
    who = wanted(young.head, events, events.value >= 3, 1000)
    assert lists_worth(young.head, young.learner, events, K) == listed([subject(young)], who, Terms(K))[0].values()["blend"]
