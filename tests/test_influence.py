"""What an account, or many new ones, may move: nothing changes below the limits, and what is beyond is held to them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import ITEM_KEYS, SECOND, USER_KEYS, Lab, checkerboard, key, part, settings

from freshet.influence import WILD, LimitSpec, _most, shares, weigh
from freshet.kernels.optimizers import OPTIMIZERS
from freshet.learner import Learned
from freshet.models import MODELS as REGISTERED
from freshet.models.contract import Events

MODELS = [name for name in REGISTERED if name != "cooccurrence"]  # which counts, and takes no steps
STEPPED = [name for name in MODELS if name not in ("biases", "rating")]
OFF = ["limits.user_change=null", "limits.burst=null"]


def lab(name: str, *sets: str) -> Lab:
    return Lab(settings(f"model.name={name}", "model.shards=4", "model.loss=squared", *OFF, *sets))


def flood(n: int, user: int = 3, start: int = 0) -> Events:
    """Events of one account, which likes and likes not what it wants."""
    events = checkerboard(n, seed=7, start=start)
    value = np.where(np.random.default_rng(start).random(n) < 0.5, 5.0, 1.0)
    return replace(events, user_key=np.full(n, USER_KEYS[user]), value=value)


def mixed(*many: Events) -> Events:
    """The events together in canonical order."""
    columns = {name: np.concatenate([getattr(one, name) for one in many]) for name in Events.__dataclass_fields__}
    order = np.lexsort((columns["event_hash"], columns["event_at"]))
    return part(Events(**columns), order)


def limit_between(name: str, *sets: str) -> float:
    """A limit far above what others move beside a flood, and far below what the flood would."""
    learned = flooded(lab(name, *sets))
    others = max(m.change for m in learned.movers if m.space == "user" and m.key != int(USER_KEYS[3]))
    assert way_of(learned, 3) > 4 * others
    return 2 * others


def flooded(one: Lab) -> Learned:
    """What a lab makes of a flood in its second micro-batch."""
    one.learn(checkerboard(600))
    return one.learn(mixed(checkerboard(300, start=600), flood(900, start=600)))


def way_of(learned: Learned, user: int) -> float:
    return {mover.key: mover.change for mover in learned.movers if mover.space == "user"}.get(int(USER_KEYS[user]), 0.0)


@pytest.mark.parametrize("name", MODELS)
def test_below_its_limits_a_model_learns_the_same_bits(name: str) -> None:
    free, held = lab(name), lab(name, "limits.user_change=1e9", "limits.burst=1e9", "limits.warm_up=1")
    for number in range(3):
        one, other = free.learn(checkerboard(400, start=400 * number)), held.learn(checkerboard(400, start=400 * number))
        assert one.digest == other.digest and one.movers == other.movers and not other.limited


@pytest.mark.parametrize("name", MODELS)
def test_one_account_moves_what_is_shared_no_farther_than_it_may(name: str) -> None:
    """However many events it sends; and the items come to lie farther from where they were without the limit."""
    limit = limit_between(name)
    free, held = lab(name), lab(name, f"limits.user_change={limit}")
    without, within = flooded(free), flooded(held)
    assert 0.5 * limit < way_of(within, 3) <= limit * 1.002 < way_of(without, 3)
    assert within.limited == {"clipped_users": 1} and not without.limited
    if name not in ("biases", "linear", "rating", "fm"):  # what these steps add up to is less than what one wrong one would do
        return
    begun = lab(name)
    begun.learn(checkerboard(600))
    way = [np.abs(one.head.values("item") - begun.head.values("item"))[:, 0].max() for one in (free, held)]
    assert way[1] < way[0]


@pytest.mark.parametrize("name", MODELS)
def test_where_most_go_too_far_it_is_learning_that_runs_away_and_nobody_is_trimmed(name: str) -> None:
    held, free = lab(name, "limits.user_change=0.01"), lab(name)
    trimmed, plain = held.learn(checkerboard(600)), free.learn(checkerboard(600))
    assert trimmed.digest == plain.digest and trimmed.limited == {"runs_away": 1}


@pytest.mark.parametrize("name", ["biases", "rating"])
def test_however_loud_one_account_is_it_is_held_and_the_others_are_not(name: str) -> None:
    """What moves things a thousand times as far as it may is one account all the same, and no reason to let everybody go."""
    limit, loud = limit_between(name), flood(300, start=600)
    loud = replace(loud, value=np.where(loud.value > 3, 1e6, -1e6))
    free, held = lab(name), lab(name, f"limits.user_change={limit}")
    for one in (free, held):
        one.learn(checkerboard(600))
    without, within = (one.learn(mixed(checkerboard(300, start=600), loud)) for one in (free, held))
    assert way_of(without, 3) > WILD * limit
    assert within.limited == {"clipped_users": 1} and way_of(within, 3) <= limit * 1.002


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STEPPED)
def test_the_limit_holds_for_every_kind_of_step(name: str, optimizer: str) -> None:
    """Steps that follow from squared gradients do not care how much an event weighs: so steps are held, not weights."""
    sets = (f"model.optimizer.name={optimizer}",)
    limit = limit_between(name, *sets)
    learned = flooded(lab(name, f"limits.user_change={limit}", *sets))
    assert 0 < way_of(learned, 3) <= limit * 1.002
    assert all(np.isfinite(rows.values).all() for rows, _ in learned.changes.values())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", STEPPED)
def test_what_nobody_trusts_leaves_no_more_in_the_slots_than_in_the_vectors(name: str, optimizer: str) -> None:
    """The event after a flood is learned as if there had been none: momentum and squares would give the flood away, or hide it."""
    one = lab(name, f"model.optimizer.name={optimizer}", "limits.warm_up=10000000")
    one.learn(checkerboard(600))
    before = {block: one.head.values(block).copy() for block in ("item", "past") if block in one.head.tables}
    keys = {block: one.head.tables[block].keys.copy() for block in before}
    one.learn(flood(200, start=600))
    for block, values in before.items():
        after = one.head.values(block)[one.head.lookup(block, keys[block])]
        np.testing.assert_allclose(after, values, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("user_row", [True, False])
def test_a_user_s_own_row_in_the_query_learns_in_full(user_row: bool) -> None:
    sets = (f"model.query.user_row={user_row}",)
    one, warm = lab("history", *sets), lab("history", "limits.warm_up=10", *sets)
    one.learn(checkerboard(400))
    few = checkerboard(3)
    new = replace(few, user_key=key(1, np.array([77, 78, 79])), value=np.full(3, 5.0), event_at=few.event_at + 500 * SECOND)
    told, slow = (of.learner.learn(one.head, new, of.one_by_one) for of in (one, warm))
    assert slow.limited == {"warming_events": 3}
    if user_row:
        np.testing.assert_array_equal(told.changes["user"][0].keys, slow.changes["user"][0].keys)
        first = [of.changes["user"][0].values for of in (told, slow)]
        np.testing.assert_allclose(first[0], first[1], rtol=0.05, atol=1e-3)
        whole, tenth = (sum(m.change for m in of.movers if m.space == "user") for of in (told, slow))
        assert tenth == pytest.approx(whole / 10, rel=0.05)
    else:
        assert "user" not in told.changes


def test_nobody_is_held_for_another_who_went_too_far() -> None:
    """An account just below the limit, in the micro-batch of a flood, in many rounds."""
    sets = ("model.round_events=100", "model.round_share=null")
    one = lab("mf", *sets)
    one.learn(checkerboard(600))
    busy = mixed(checkerboard(300, start=600), flood(900, start=600), flood(200, user=4, start=600))
    free = one.learner.learn(one.head, busy, one.one_by_one)
    limit = way_of(free, 4) * 1.05
    assert limit < 0.5 * way_of(free, 3)
    held = lab("mf", *sets, f"limits.user_change={limit}")
    told = held.learner.learn(one.head, busy, held.one_by_one)
    assert told.limited == {"clipped_users": 1}
    assert way_of(told, 4) == pytest.approx(way_of(free, 4), rel=0.05)


def test_three_who_act_together_are_held_each() -> None:
    one = lab("mf")
    one.learn(checkerboard(600))
    crowd = mixed(checkerboard(20, start=600), *(flood(400, user=user, start=600) for user in (3, 4, 5)))
    free = one.learner.learn(one.head, crowd, one.one_by_one)
    limit = 0.5 * min(way_of(free, user) for user in (3, 4, 5))
    held = lab("mf", f"limits.user_change={limit}")
    told = held.learner.learn(one.head, crowd, held.one_by_one)
    assert told.limited == {"clipped_users": 3} and all(way_of(told, user) <= limit * 1.002 for user in (3, 4, 5))


@pytest.mark.parametrize("name", MODELS)
def test_the_limit_is_of_the_micro_batch_whatever_its_rounds(name: str) -> None:
    for rounds in (100, 10_000):
        sets = (f"model.round_events={rounds}", "model.round_share=null")
        limit = limit_between(name, *sets)
        assert way_of(flooded(lab(name, f"limits.user_change={limit}", *sets)), 3) <= limit * 1.002


@pytest.mark.parametrize("name", ["bpr", "mf", "rating", "fm"])
def test_warming_slows_what_is_shared_and_not_the_account_s_own_row(name: str) -> None:
    one = lab(name)
    one.learn(checkerboard(400))
    warm = lab(name, "limits.warm_up=10")  # what it would make of the same head
    events = checkerboard(1)
    new = Events(
        key(1, np.array([77])), events.item_key, events.value, events.weight, events.event_at + 500 * SECOND, key(3, np.array([5000])))
    told, slow = (of.learner.learn(one.head, new, of.one_by_one) for of in (one, warm))
    assert slow.limited == {"warming_events": 1} and not told.limited
    whole, tenth = (sum(m.change for m in of.movers if m.space == "user") for of in (told, slow))
    assert tenth == pytest.approx(whole / 10, rel=1e-3)
    np.testing.assert_array_equal(told.changes["user"][0].values, slow.changes["user"][0].values)


def test_warming_goes_by_what_an_account_did_before_the_micro_batch() -> None:
    """All that a new account does at once counts as its first event does."""
    one = lab("mf")
    events = mixed(*(replace(flood(8, user), event_at=flood(8, user).event_at + user) for user in (1, 2)))
    np.testing.assert_allclose(weigh(one.head, events, LimitSpec(warm_up=4)).trust, 0.25)
    one.learn(events)
    later = replace(events, event_at=events.event_at + 10**9)
    np.testing.assert_allclose(weigh(one.head, later, LimitSpec(warm_up=12)).trust, 0.75)
    assert len(weigh(one.head, later, LimitSpec(warm_up=9)).trust) == 0


def strangers(n: int, item: int, start: int) -> Events:
    """One event each of n accounts that nobody knows."""
    events = checkerboard(n, start=start)
    return replace(events, user_key=key(1, 1000 + start + np.arange(n)), item_key=np.full(n, ITEM_KEYS[item]), value=np.full(n, 5.0))


@pytest.mark.parametrize("name", REGISTERED)
def test_a_crowd_of_new_accounts_on_one_item_counts_for_what_one_may_expect(name: str) -> None:
    free, held = lab(name), lab(name, "limits.burst=2", "limits.burst_events=20")
    for one in (free, held):
        one.learn(checkerboard(2400))
    crowd = mixed(checkerboard(400, start=2400), strangers(300, 7, 2400), strangers(15, 8, 2400))
    without, within = free.learn(crowd), held.learn(crowd)
    assert without.limited == {} and within.limited["burst_items"] == 1 and within.limited["burst_events"] == 300
    column = free.head.blocks["popularity"].width - 1
    popular = [one.head.values("popularity")[one.head.lookup("popularity", ITEM_KEYS[7:8])[0]] for one in (free, held)]
    assert popular[1][0] < 0.5 * popular[0][0] and column >= 1  # counts are held to it too


def test_a_burst_is_judged_against_those_who_are_known() -> None:
    one = lab("mf")
    one.learn(checkerboard(2400))
    known, spec = checkerboard(400, start=2400), LimitSpec(burst=2.0, burst_events=20, young=10)
    everybody = mixed(known, *(strangers(25, item, 2400 + 30 * item) for item in range(24)))
    assert len(weigh(one.head, everybody, spec).trust) == 0  # new ones everywhere alike are no burst
    assert len(weigh(lab("mf").head, everybody, spec).trust) == 0  # nobody is known: nothing to hold it against
    crowd = mixed(known, strangers(200, 7, 2400))
    trust = weigh(one.head, crowd, spec)
    old, share = int((known.item_key == ITEM_KEYS[7]).sum()), shares(one.head, ITEM_KEYS[7:8])[0]
    assert 0.02 < share < 0.07
    most = 2.0 * 200 * (old + 100 * share + 1) / 500
    assert trust.trust.sum() == pytest.approx(400 + most, rel=1e-5)
    assert (trust.trust[np.isin(crowd.user_key, USER_KEYS)] == 1).all()
    again = weigh(one.head, crowd, replace(spec, burst_events=500))
    assert len(again.trust) == 0 and again.told == {}


def test_movers_are_the_ten_that_moved_most_and_were_moved_most(monkeypatch) -> None:
    """Of all users and items: what would be told if a hundred were."""
    events = mixed(checkerboard(400, start=500), flood(300, start=500))
    found = []
    for told in (100, 10):
        monkeypatch.setattr("freshet.influence.TOLD", told)
        one = lab("bpr")
        one.learn(checkerboard(500))
        found.append(one.learn(events).movers)
    everybody, ten = found
    assert [m.space for m in ten] == ["user"] * 10 + ["item"] * 10
    for space, known in (("user", len(USER_KEYS)), ("item", len(ITEM_KEYS))):
        every = [m for m in everybody if m.space == space]
        assert len(every) == known  # more than are told of
        assert [m for m in ten if m.space == space] == sorted(every, key=lambda m: -m.change)[:10]
    assert ten[0].key == int(USER_KEYS[3]) and ten[0].events >= 300


def test_of_many_the_first_ten_are_those_of_all_put_in_order() -> None:
    """Then only a part is put in order; many ways are equally long, and of some accounts as many events."""
    random = np.random.default_rng(4)
    keys, change, events = random.permutation(5000), random.integers(0, 40, 5000) / 8.0, random.integers(1, 5, 5000)
    order = sorted(range(5000), key=lambda at: (-change[at], -events[at], keys[at]))[:10]
    assert [(m.key, m.change, m.events) for m in _most("user", keys, change, events)] == [
        (keys[at], change[at], events[at]) for at in order]


def ways_of_items(one: Lab, events: Events) -> tuple[Learned, dict[int, float]]:
    """What a lab makes of events, and the length of what the rows of each item it knew have changed by."""
    before = {name: (one.head.tables[name].keys.copy(), one.head.values(name).copy()) for name in ("item", "past") if name in one.head.tables}
    learned, squares = one.learn(events), dict.fromkeys(ITEM_KEYS.tolist(), 0.0)
    for name, (keys, values) in before.items():
        width = one.head.blocks[name].width
        after = one.head.values(name)[one.head.lookup(name, keys)]
        for key_, square in zip(keys, ((after[:, :width].astype(np.float64) - values[:, :width]) ** 2).sum(1), strict=True):
            squares[int(key_)] += float(square)
    return learned, {key_: square**0.5 for key_, square in squares.items()}


@pytest.mark.parametrize("name", ["bpr", "history"])
def test_the_items_told_of_are_those_whose_rows_changed_most_and_by_how_much(name: str) -> None:
    one = lab(name)
    one.learn(checkerboard(500))
    learned, ways = ways_of_items(one, checkerboard(40, start=500))
    told = {m.key: m.change for m in learned.movers if m.space == "item"}
    first = sorted(ways, key=lambda item: -ways[item])[:10]
    assert list(told) == first
    assert list(told.values()) == pytest.approx([ways[item] for item in first], rel=1e-5)


def test_a_step_s_length_is_that_of_the_change_it_made() -> None:
    """One event of one user, one shard: what the kernel says it moved is what the items' rows show."""
    for name in ("mf", "bpr", "rating", "biases"):
        one = Lab(settings(f"model.name={name}", *OFF))
        one.learn(checkerboard(500))
        several = (replace(checkerboard(1, start=500 + n), value=np.full(1, 5.0)) for n in range(20))
        tried = (one.learner.learn(one.head, event, one.one_by_one) for event in several)
        learned = next(found for found in tried if "item" in found.changes)  # not every event finds an item to be held against
        total = 0.0
        for row, after in zip(learned.changes["item"][0].keys, learned.changes["item"][0].values, strict=True):
            width = one.head.blocks["item"].width
            change = after[:width].astype(np.float64) - one.head.values("item")[one.head.lookup("item", np.array([row]))[0]][:width]
            total += abs(change[0]) + float(np.linalg.norm(change[1:]))
        told = sum(m.change for m in learned.movers if m.space == "user")
        assert told == pytest.approx(total, rel=1e-3), name


def test_a_flood_over_the_limit_is_the_same_whoever_runs_the_shards() -> None:
    labs = [lab("mf", f"limits.user_change={limit_between('mf')}") for _ in range(2)]
    for one in labs:
        one.learn(checkerboard(600))
    many = mixed(checkerboard(300, start=600), flood(900, start=600))
    backwards = labs[1].learn(many, lambda tasks: [labs[1].one_by_one([task])[0] for task in tasks[::-1]][::-1])
    assert labs[0].learn(many).digest == backwards.digest
