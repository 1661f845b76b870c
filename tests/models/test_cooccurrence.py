"""Counting models: a planted chain is found, one click moves the next list, and batches do not matter."""

from __future__ import annotations

import numpy as np
import pytest
from planted import ITEM_KEYS, ITEMS, SECOND, USER_KEYS, Lab, key, part, settings

from freshet.asking import ask, last_context, newest
from freshet.head import Head
from freshet.lists import shelf, top_items
from freshet.models.contract import Events
from freshet.models.cooccurrence import NEIGHBOURS
from freshet.pipelines.assembly import half_lives
from freshet.schema import POPULARITY


def chain(n: int, start: int = 0, seed: int = 1) -> Events:
    """Who took item i takes i + 1 next, most of the time; the users take turns."""
    random = np.random.default_rng([seed, start])
    user = (start + np.arange(n)) % len(USER_KEYS)
    step = (start + np.arange(n)) // len(USER_KEYS)
    item = np.where(random.random(n) < 0.9, (user * 7 + step) % ITEMS, random.integers(0, ITEMS, n))
    at = (start + np.arange(n)) * SECOND + 10**15
    return Events(USER_KEYS[user], ITEM_KEYS[item], np.full(n, 5.0), np.ones(n), at, key(3, start + np.arange(n)))


def one_click(user: int, item: int, number: int) -> Events:
    at = np.array([10**15 + 10**9 + number * SECOND])
    return Events(np.array([user]), ITEM_KEYS[item : item + 1], np.full(1, 5.0), np.ones(1), at, key(3, np.array([10**6 + number])))


def lists(lab: Lab, users: np.ndarray, n: int):
    head, model = lab.head, lab.learner.model
    order = np.argsort(np.argsort(head.tables[POPULARITY].keys))
    return top_items(head, model, shelf(head, model, half_lives(lab.chosen), order), users, n, 1000)


def learned(name: str, *sets: str) -> Lab:
    lab = Lab(settings(f"model.name={name}", *sets))
    for number in range(6):
        lab.learn(chain(300, start=300 * number))
    return lab


@pytest.mark.parametrize("name", ["cooccurrence", "history", "blend"])
def test_one_click_of_a_stranger_gives_him_what_follows_it(name) -> None:
    lab, stranger = learned(name, "model.factors=16"), key(1, np.array([900]))
    before = lists(lab, stranger, 3)
    assert not before.known[0]
    for number, item in enumerate((5, 11, 17)):
        lab.learn(one_click(int(stranger[0]), item, number))
        found = lists(lab, stranger, 3)
        assert found.known[0] and ITEM_KEYS[item + 1] in found.items[0].tolist()
        assert found.items[0].tolist() != before.items[0].tolist()
        before = found


def test_counts_do_not_depend_on_shards_nor_much_on_how_the_stream_is_cut() -> None:
    events = chain(900)
    whole = Lab(settings("model.name=cooccurrence", "model.neighbours.links=8"))
    shards = Lab(settings("model.name=cooccurrence", "model.neighbours.links=8", "model.shards=7", "model.round_events=50"))
    cut = Lab(settings("model.name=cooccurrence", "model.neighbours.links=100"))
    roomy = Lab(settings("model.name=cooccurrence", "model.neighbours.links=100"))
    for lab in (whole, shards, roomy):
        lab.learn(events)
    assert whole.bits()["neighbours"] == shards.bits()["neighbours"]
    for start, stop in ((0, 1), (1, 400), (400, 900)):
        cut.learn(part(events, slice(start, stop)))
    for keys in ITEM_KEYS[:, None]:
        (a, _), (b, _) = cut.head.gather("neighbours", keys), roomy.head.gather("neighbours", keys)
        assert np.array_equal(a.links, b.links) and a.count == b.count
        np.testing.assert_allclose(a.values, b.values, rtol=1e-5)  # rounded to float32 once a micro-batch


def test_only_what_was_wanted_counts() -> None:
    events = chain(300)
    lab = Lab(settings("model.name=cooccurrence", "model.positive_from=6"))
    learned = lab.learn(events)
    assert not len(lab.head.tables["neighbours"]) and learned.examples == 0


@pytest.mark.parametrize("name", ["history", "blend"])
def test_the_same_bits_for_any_run_of_the_shards(name) -> None:
    digests = set()
    for backwards in (False, True):
        lab = Lab(settings(f"model.name={name}", "model.shards=5"))

        def run(tasks, lab=lab, backwards=backwards):
            done = {n: lab.learner.model.learn(tasks[n]) for n in sorted(range(len(tasks)), reverse=backwards)}
            return [done[n] for n in range(len(tasks))]

        for number in range(4):
            lab.learn(chain(300, start=300 * number), run)
        digests.add(lab.head.hex_digest)
    assert len(digests) == 1


def test_the_blend_leads_by_what_ranked_best() -> None:
    lab = learned("blend", "model.factors=16")
    rows, known = lab.head.gather("mix", lab.head.tables["mix"].keys.copy())
    assert known.all() and len(rows) > 20
    [metric] = [m for m in lab.learn(chain(300, start=1800)).metrics if m.learner.startswith("leader: ")]
    assert metric.total / metric.events > 0.3 and isinstance(lab.head, Head)
    best = np.argmax(rows.values[:, 0] / rows.values[:, 1])
    assert rows.values[best, 2] > 0 or rows.values[best, 3] > 0  # not popularity alone


def test_parts_of_a_count_are_those_of_the_items_had() -> None:
    lab = Lab(settings("model.name=cooccurrence"))
    for number in range(3):
        lab.learn(chain(400, start=400 * number))
    head, model = lab.head, lab.learner.model
    mine = USER_KEYS[:1]
    asked = ask(head, model, mine, *newest(head, mine, model.recent), last_context(head, mine))
    extras = model.extras(asked)
    for item, value in zip(extras.keys.tolist(), extras.values.tolist(), strict=True):
        dense, sparse = model.parts(asked, item, {NEIGHBOURS: np.zeros(1, np.int32)})
        assert not dense and len(sparse) > 0
        np.testing.assert_allclose(sum(part.amount for part in sparse), value, rtol=1e-4)
    assert max(len(model.parts(asked, item, {NEIGHBOURS: np.zeros(1, np.int32)})[1]) for item in extras.keys.tolist()) > 2
