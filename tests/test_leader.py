"""Which mix and which decay lead: the best so far, forgetting; rows that say so; what is planted is found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import SECOND, USER_KEYS, Lab, checkerboard, key, part, settings

from freshet.asking import ask, item_rows, last_context, newest, on_offer
from freshet.errors import SettingsError
from freshet.head import Head, digests
from freshet.leader import FORGETTING, choices, follow, follow_interest, interest, leader
from freshet.models.contract import Events, Mix
from freshet.pipelines.assembly import half_lives
from freshet.schema import INTEREST, MIX, POPULARITY

MIXES = (Mix(1.0, 0.0, 1.0), Mix(0.5, 1.0, 0.0), Mix(0.0, 0.0, 1.0))
LIVES = (60e6, math.inf)


def told(head: Head, among, ndcg: list[float], events: int = 10, at: int = 5) -> None:
    rows = follow(head, among, np.array(ndcg), events, at)
    head.put(MIX, rows, digests(head.blocks[MIX], rows))


def test_a_choice_is_a_mix_with_a_half_life_where_popularity_counts() -> None:
    among = choices(MIXES, LIVES)
    assert [(choice.mix, choice.number) for choice in among] == [
        (MIXES[0], 0), (MIXES[0], 1), (MIXES[1], 0), (MIXES[2], 0), (MIXES[2], 1)]
    assert str(among[0]) == "1 factors + 1 popularity of 60 s" and str(among[2]) == "0.5 factors + 1 counts"
    assert str(among[4]) == "1 popularity of all time"
    assert len(choices(MIXES[:1], LIVES)) == 1


def test_the_best_so_far_leads_and_the_first_where_nothing_was_ranked() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    assert leader(head, among) == 0
    told(head, among, [1.0, 2.0, 3.0, 3.0, 0.0])
    assert leader(head, among) == 2  # of equals the first
    for _ in range(20):
        told(head, among, [1.0, 2.0, 1.0, 3.0, 4.0])
    assert leader(head, among) == 4


def test_what_is_long_ago_is_forgotten() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    for _ in range(100):
        told(head, among, [5.0, 0.0, 0.0, 0.0, 0.0])
    turns = 0
    while leader(head, among) != 1:
        told(head, among, [0.0, 5.0, 0.0, 0.0, 0.0])
        turns += 1
    # sum of f^k over the old against the new: (1 - f^100) f^n < 1 - f^n
    assert turns == math.ceil(math.log(1 / (2 - FORGETTING**100)) / math.log(FORGETTING))


def test_the_rows_say_what_each_choice_is_and_how_it_did() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    told(head, among, [1.0, 2.0, 3.0, 4.0, 5.0], events=8, at=77)
    rows, known = head.gather(MIX, np.arange(5))
    assert known.all() and rows.count.tolist() == [8] * 5 and rows.last_at.tolist() == [77] * 5
    assert rows.values[1].tolist() == [2.0, 8.0, 1.0, 0.0, 1.0, 0.0]
    assert rows.values[0].tolist() == pytest.approx([1.0, 8.0, 1.0, 0.0, 1.0, 60.0])


DECAYS = ("model.query.decay=0.8", "model.query.also=[0.1,1.0]", "model.query.groups=[8]", "model.positive_from=null")
WALK, SHELF = 24, 40  # items that are walked along, items of each taste


def newcomers(n: int) -> Events:
    """A user's first eight items are a walk that often begins anew, so only the last of them says what is next; then he takes
    what is of his taste four times of five, in any order."""
    random, user, item = np.random.default_rng(6), np.zeros(n, np.int64), np.zeros(n, np.int64)
    met, last, active = dict[int, int](), dict[int, int](), list(range(30))
    for e in range(n):
        place = random.integers(len(active))
        user[e] = who = active[place]
        met[who] = met.get(who, 0) + 1
        taste = (who + (random.random() > 0.8)) % 2
        last[who] = (last.get(who, 0) + 1) % WALK if random.random() < 0.6 else random.integers(WALK)
        item[e] = last[who] if met[who] <= 8 else WALK + taste * SHELF + random.integers(SHELF)
        if met[who] == 40:
            active[place] = max(active) + 1
    number = np.arange(n)
    return Events(key(1, user), key(2, item), np.full(n, 5.0), np.ones(n), 10**15 + number * SECOND, key(3, number))


def test_each_group_of_users_gets_the_decay_that_ranks_its_events_best() -> None:
    lab, events = Lab(settings("model.name=history", "model.factors=8", *DECAYS)), newcomers(4800)
    for start in range(0, 4800, 240):
        lab.learn(part(events, slice(start, start + 240)))
    head, model = lab.head, lab.learner.model
    users, count = np.unique(events.user_key, return_counts=True)
    found = interest(head, model, users)
    assert found is not None and set(found[count < 8]) == {0.1} and not set(found[count >= 8]) & {0.1}
    values = head.gather(INTEREST, np.arange(6))[0].values
    assert values[:, 2].tolist() == pytest.approx([0.8, 0.1, 1.0] * 2) and values[:, 3].tolist() == [0, 0, 0, 8, 8, 8]
    ndcg = (values[:, 0] / values[:, 1]).reshape(2, 3)
    assert ndcg[0, 1] > ndcg[0].min() + 0.02 and ndcg[1, 1] < ndcg[1].max() - 0.005


def test_decays_are_followed_by_group_and_begin_with_the_one_that_is_learned_with() -> None:
    lab = Lab(settings("model.name=history", *DECAYS))
    head, model = lab.head, lab.learner.model
    assert set(interest(head, model, USER_KEYS)) == {0.8}  # type: ignore[arg-type]
    rows = follow_interest(head, model, USER_KEYS[:2], np.array([[0.0, 1.0, 0.5], [0.25, 0.0, 0.5]]), 7)
    assert rows.values[:3, :2].tolist() == [[0.25, 2.0], [1.0, 2.0], [1.0, 2.0]] and not rows.values[3:, :2].any()
    assert rows.count.tolist() == [2] * 3 + [0] * 3
    head.put(INTEREST, rows, digests(head.blocks[INTEREST], rows))
    assert set(interest(head, model, USER_KEYS)) == {0.1}  # type: ignore[arg-type]  # of equals the first


def test_lists_and_their_parts_are_made_with_the_decay_of_the_group() -> None:
    lab = Lab(settings("model.name=history", *DECAYS))
    lab.learn(checkerboard(300))
    head, model, user = lab.head, lab.learner.model, USER_KEYS[:1]
    item = head.tables[POPULARITY].keys[3:4].copy()
    said = {}
    for best in range(3):
        rows = follow_interest(head, model, user, 100.0 * np.eye(3)[[best]], 7)
        head.put(INTEREST, rows, digests(head.blocks[INTEREST], rows))
        asked = ask(head, model, user, *newest(head, user, model.recent), last_context(head, user))
        on = on_offer(head, model, head.lookup(POPULARITY, item), half_lives(lab.chosen))
        score = float(model.queries(asked)[0] @ on.vectors[0] + on.bias[0])
        parts, _ = model.parts(asked, int(item[0]), item_rows(head, model, head.lookup(POPULARITY, item)))
        assert sum(part.amount for part in parts) == pytest.approx(score, rel=1e-4)
        said[best] = score
    assert len(set(said.values())) == 3


def test_without_further_decays_there_is_no_choice_and_no_row() -> None:
    lab = Lab(settings("model.name=history"))
    assert INTEREST not in lab.head.blocks and interest(lab.head, lab.learner.model, USER_KEYS) is None
    for wrong in ("model.query.groups=[64,8]", "model.query.also=[1.5]"):
        with pytest.raises(SettingsError, match=r"model\.query"):
            settings(wrong)
