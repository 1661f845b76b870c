"""Several passes: what is counted is counted once, what is learned gets better, the best pass is the one that is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from planted import ITEMS, Lab, checkerboard, part, settings

from freshet.errors import FreshetError
from freshet.head import Head
from freshet.models.contract import USER, Events
from freshet.normalising import MEAN, MIN_MAX, NORMALISATIONS, OFFSETS, Z_SCORE, offsets
from freshet.pipelines.assembly import new_head
from freshet.retraining import (
    ANYWHERE,
    LEAVE_LAST_OUT,
    RANDOM,
    TIME,
    Pass,
    Plan,
    Progress,
    Retrained,
    anywhere,
    learned_blocks,
    retrain,
    split,
    take,
)

PLAN = Plan(passes=3, patience=3, validation=0.0, test=0.0, split=TIME, metric=None, sample=0, micro_batch=200, seed=1)
MODELS = pytest.mark.parametrize("name", ["mf", "rating", "bpr", "history", "blend", "fm"])


def again(one: Lab, events: Events, plan: Plan, weights: Head | None = None, watch: Sequence = ()) -> Retrained:
    said = list(watch)
    return retrain(
        one.learner, lambda: new_head(one.learner.model, one.chosen), one.head, events, plan, one.one_by_one, weights, said.append)


def bits(one: Lab, head: Head) -> dict:
    shown = Lab(one.chosen)
    shown.head = head
    return shown.bits()


@MODELS
def test_the_first_pass_is_the_stream(name: str) -> None:
    one, events = Lab(settings(f"model.name={name}", "model.shards=3")), checkerboard(900)
    made = again(one, events, replace(PLAN, passes=1))
    assert len(one.head) == 0  # the heads that were given stay as they are
    for begin in range(0, 900, 200):
        one.learn(part(events, slice(begin, begin + 200)))
    assert made.head.digest == one.head.digest


def test_a_pass_tells_what_the_limits_touched() -> None:
    one, events = Lab(settings("model.name=mf", "limits.user_change=0.01")), checkerboard(900)
    made = again(one, events, replace(PLAN, passes=2))
    stream: Counter[str] = Counter()
    for begin in range(0, 900, 200):
        stream.update(one.learn(part(events, slice(begin, begin + 200))).limited)
    assert made.passes[0].limited == stream and stream.total() > 0
    assert sum(made.passes[1].limited.values()) > 0
    free = Lab(settings("model.name=mf", "limits.user_change=null"))
    assert not any(one_pass.limited for one_pass in again(free, events, PLAN).passes)


@MODELS
def test_what_is_counted_is_counted_once(name: str) -> None:
    one, events = Lab(settings(f"model.name={name}")), checkerboard(900)
    once, thrice = (bits(one, again(one, events, replace(PLAN, passes=passes)).head) for passes in (1, 3))
    learned = learned_blocks(one.learner, one.head, take(events, slice(0)))
    counted = set(once) - learned - {"mix"}
    assert {"history", "popularity", "totals", "window"} <= counted and ("neighbours" in counted) == (name == "blend")
    for block in once:
        assert (once[block] == thrice[block]) == (block in counted or block == "mix"), block
    # Learning the same events again as if they were new ones does count twice.
    for _ in range(2):
        one.learn(events)
    assert one.bits()["popularity"] != once["popularity"]


def test_a_value_seen_again_makes_a_row_no_surer() -> None:
    one, events = Lab(settings("model.name=rating")), checkerboard(900)
    once, thrice = (again(one, events, replace(PLAN, passes=passes)).head for passes in (1, 3))
    worth = [np.median(head.values("item")[:, -2]) for head in (once, thrice)]
    assert 0.7 * worth[0] < worth[1] < 1.2 * worth[0]
    for begin in range(0, 900, 200):
        one.learn(part(events, slice(begin, begin + 200)))
    one.learn(events)
    assert np.median(one.head.values("item")[:, -2]) > 1.5 * worth[0]


def test_passes_find_what_one_pass_does_not() -> None:
    one, events = Lab(settings("model.name=mf")), checkerboard(1500)
    made = again(one, events, replace(PLAN, passes=10, validation=0.1, test=0.1))
    assert made.metric == "rmse" and made.best.value < 0.3 * made.passes[0].value
    assert [one.number for one in made.passes] == list(range(1, len(made.passes) + 1))
    assert made.passes[-1].loss < made.passes[0].loss
    [tested] = [metric.mean for metric in made.test if (metric.metric, metric.learner, metric.slice) == ("rmse", "mf", "all")]
    assert tested < 0.3 * made.passes[0].value


def noise(n: int) -> Events:
    """Values that nothing tells: whoever learns them by heart is wrong about the next ones."""
    events = checkerboard(n)
    return replace(events, value=np.random.default_rng(5).choice([1.0, 5.0], n))


def test_the_best_pass_is_kept_and_patience_ends_the_rest() -> None:
    one = Lab(settings("model.name=mf", "model.optimizer.learning_rate=0.1", "model.init_scale=0.3", "model.factors=16"))
    said: list[Pass | Progress] = []
    plan = replace(PLAN, passes=12, patience=2, split=RANDOM, validation=0.3)
    events = noise(1200)
    made = retrain(one.learner, lambda: new_head(one.learner.model, one.chosen), one.head, events, plan, one.one_by_one, None, said.append)
    values = [made_pass.value for made_pass in made.passes]
    best = int(np.argmin(values))
    assert made.best.number == best + 1 and len(values) == best + 3 < 12
    [again_measured] = [
        metric.mean for metric in one.learner.measure(made.head, take(events, split(events, plan)[1]))[0]
        if (metric.metric, metric.learner, metric.slice) == ("rmse", "mf", "all")
    ]
    assert again_measured == values[best] < values[-1]
    assert [made_pass for made_pass in said if isinstance(made_pass, Pass)] == list(made.passes)
    done = [(step.number, step.done) for step in said if isinstance(step, Progress) and step.number == 1]
    assert done[-1] == (1, said[0].events) and [count for _, count in done] == sorted(count for _, count in done)


def test_what_was_held_out_by_time_is_learned_at_last() -> None:
    one, events = Lab(settings("model.name=bpr")), checkerboard(1000)
    plan = replace(PLAN, passes=1, validation=0.1, test=0.1)
    made = again(one, events, plan)
    for begin in (0, 200, 400, 600, 800):
        one.learn(part(events, slice(begin, begin + 200)))
    assert made.head.digest == one.head.digest
    assert again(one, events, replace(plan, split=RANDOM, validation=0.0)).head.digest != one.head.digest


def test_a_warm_start_begins_where_the_weights_are() -> None:
    one, events = Lab(settings("model.name=mf")), checkerboard(1500)
    cold = again(one, events, replace(PLAN, passes=4))
    warm = again(one, events, replace(PLAN, passes=1), weights=cold.head)
    assert warm.passes[0].loss < 0.6 * cold.passes[0].loss
    assert bits(one, warm.head)["history"] == bits(one, cold.head)["history"]


def test_splits() -> None:
    events = checkerboard(1000)
    for how in (TIME, LEAVE_LAST_OUT, RANDOM):
        parts = split(events, replace(PLAN, split=how, validation=0.2, test=0.1))
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000)), how
        assert all((np.diff(one) > 0).all() for one in parts)
    first, second, third = split(events, replace(PLAN, validation=0.2, test=0.1))
    assert (len(first), len(second), len(third)) == (700, 200, 100) and first[-1] < second[0] and second[-1] < third[0]
    _, last_but_one, last = split(events, replace(PLAN, split=LEAVE_LAST_OUT, validation=0.2, test=0.1))
    for user in np.unique(events.user_key):
        mine = np.flatnonzero(events.user_key == user)
        assert np.isin(mine[-1], last) and np.isin(mine[-2], last_but_one) and not np.isin(mine[:-2], [*last, *last_but_one]).any()
    plan = replace(PLAN, split=RANDOM, test=0.25)
    _, _, chance = split(events, plan)
    for user in np.unique(events.user_key):
        mine = events.user_key == user
        assert mine[chance].sum() == mine.sum() // 4
    assert np.array_equal(split(events, plan)[2], chance) and not np.array_equal(split(events, replace(plan, seed=2))[2], chance)
    # By the id of the event, not by its place: without the first user the others are split as they were.
    rest = np.flatnonzero(events.user_key != events.user_key[0])
    assert np.array_equal(rest[split(take(events, rest), plan)[2]], np.intersect1d(chance, rest))


def test_a_metric_that_is_not_there_and_nothing_left_to_learn_are_refused() -> None:
    one, events = Lab(settings("model.name=bpr")), checkerboard(400)
    with pytest.raises(FreshetError) as refused:
        again(one, events, replace(PLAN, validation=0.2, metric="rmse"))
    assert refused.value.facts["metric"] == "rmse" and f"ndcg@{min(10, ITEMS)}" in str(refused.value)
    with pytest.raises(FreshetError):
        again(one, take(events, slice(0)), PLAN)


@pytest.mark.parametrize("how", NORMALISATIONS)
def test_rows_learned_of_normalised_values_say_values(how: str) -> None:
    one, events = Lab(settings("model.name=mf")), checkerboard(1500)
    made = again(one, events, replace(PLAN, passes=12, patience=12, validation=0.1, normalise=how))
    assert made.best.value < 0.5
    assert 2.9 < made.head.values("mean")[0, 0] < 3.1


def test_on_a_scale_of_its_own_a_value_is_learned_whatever_its_unit() -> None:
    one = Lab(settings("model.name=mf"))
    plan, events = replace(PLAN, passes=8, patience=8, validation=0.1), checkerboard(1500)
    dear = replace(events, value=1000.0 + 250.0 * events.value)  # from 1250 to 2250, of which sgd makes infinity
    plain = again(one, events, replace(plan, normalise=Z_SCORE))
    for how in (Z_SCORE, MIN_MAX):
        values = [again(one, some, replace(plan, normalise=how)).best.value for some in (events, dear)]
        assert values[1] == pytest.approx(250.0 * values[0], rel=0.02), how
    with pytest.raises(FreshetError):
        again(one, dear, plan)
    counted = (bits(one, made.head)["popularity"] for made in (plain, again(one, events, replace(plan, normalise=MEAN))))
    assert len(set(map(str, counted))) == 1  # companions count values as they are


def test_offsets_are_the_damped_means() -> None:
    events = replace(checkerboard(600), value=np.random.default_rng(3).normal(3.0, 1.0, 600))
    mean, found = offsets(events)
    item = events.item_key == events.item_key[0]
    of_item = (events.value[item] - mean).sum() / (25 + item.sum())
    keys, which, bias = found["item"]
    assert bias[keys == events.item_key[0]] == pytest.approx(of_item) and (keys[which] == events.item_key).all()
    user = events.user_key == events.user_key[0]
    left = events.value[user] - mean - bias[which[user]]
    keys, _, bias = found[USER]
    assert bias[keys == events.user_key[0]] == pytest.approx(left.sum() / (10 + user.sum()))
    one = Lab(settings("model.name=mf"))
    rated = {how: again(one, events, replace(PLAN, passes=1, normalise=how)).passes[0].loss for how in ("none", OFFSETS)}
    assert rated[OFFSETS] < rated["none"]


def test_beside_an_item_any_other_of_the_user_may_stand_and_never_its_own_event() -> None:
    events = checkerboard(400)
    one_item = events.item_key.copy()
    one_item[:] = np.arange(400)  # so that an item tells its event
    events = replace(events, item_key=one_item, user_key=np.where(np.arange(400) == 7, -5, events.user_key))
    items, length = anywhere(events, 16, seed=1)
    assert length[7] == 0 and (np.delete(length, 7) == 16).all()
    rest = np.delete(np.arange(400), 7)
    assert (events.user_key[items[rest]] == events.user_key[rest, None]).all() and (items[rest] != rest[:, None]).all()
    first = events.user_key == events.user_key[0]
    met = np.unique(items[first])
    assert np.array_equal(met, np.flatnonzero(first))  # all of them, those after an event as well
    assert not np.array_equal(anywhere(events, 16, seed=2)[0], items)


def test_what_is_counted_is_counted_in_the_order_of_the_stream_whatever_stands_beside() -> None:
    one, events = Lab(settings("model.name=blend")), checkerboard(900)
    stream, mixed = (again(one, events, replace(PLAN, context=context)).head for context in ("stream", ANYWHERE))
    rows = bits(one, stream), bits(one, mixed)
    assert rows[0]["neighbours"] == rows[1]["neighbours"] and rows[0]["history"] == rows[1]["history"]
    assert rows[0]["past"] != rows[1]["past"]
