"""rating and biases through the learner: planted biases are found, shards add up what they learned, lists rank by the score."""

from __future__ import annotations

import numpy as np
import pytest
from planted import ITEM_KEYS, ITEMS, SECOND, USER_KEYS, USERS, Lab, checkerboard, key, likes, part, settings

from freshet.asking import ask, last_context, newest, on_offer
from freshet.models.contract import Events
from freshet.pipelines.assembly import half_lives
from freshet.schema import POPULARITY

NOISE = 0.5
_PLANTED = np.random.default_rng(11)
OF_USERS, OF_ITEMS = _PLANTED.normal(0, 0.5, USERS), _PLANTED.normal(0, 0.8, ITEMS)


def biased(n: int, start: int = 0, moods: np.ndarray = OF_USERS) -> Events:
    """Values 3 + b_u + b_i + noise."""
    random = np.random.default_rng([3, start])
    user, item = random.integers(USERS, size=n), random.integers(ITEMS, size=n)
    value = 3 + moods[user] + OF_ITEMS[item] + random.normal(0, NOISE, n)
    at = (start + np.arange(n)) * SECOND + 10**15
    return Events(USER_KEYS[user], ITEM_KEYS[item], value, np.ones(n), at, key(3, start + np.arange(n)))


def lab(name: str, *sets: str) -> Lab:
    return Lab(settings(f"model.name={name}", *sets))


def rmse(learned, scoring: str = "sequential") -> float:
    [found] = [m for m in learned.metrics if (m.metric, m.scoring, m.slice) == ("rmse", scoring, "all") and m.learner != "popularity"]
    return float(np.sqrt(found.total / found.events))


def rows(lab: Lab, block: str, keys: np.ndarray) -> np.ndarray:
    return lab.head.gather(block, keys)[0].values


def finds_what_was_planted(lab: Lab) -> bool:
    for number in range(4):
        learned = lab.learn(biased(1000, 1000 * number))
    found = [np.corrcoef(rows(lab, block, keys)[:, 0], planted)[0, 1]
             for block, keys, planted in (("user", USER_KEYS, OF_USERS), ("item", ITEM_KEYS, OF_ITEMS))]
    return min(found) > 0.95 and NOISE < rmse(learned, "served") < 1.1 * NOISE


@pytest.mark.parametrize("sets", [(), ("model.shards=8",)], ids=["one shard", "eight"])
@pytest.mark.parametrize("name", ["biases", "rating"])
def test_planted_biases_are_found(name: str, sets: tuple[str, ...]) -> None:
    assert finds_what_was_planted(lab(name, *sets))


def test_rows_that_are_sure_from_the_start_do_not_find_them() -> None:
    """The subject that must fail the test above."""
    assert not finds_what_was_planted(lab("biases", "model.kalman.user=1e-6", "model.kalman.drift=0"))


def test_with_drift_a_user_of_another_mood_is_followed() -> None:
    found = []
    for drift in (0.0, 0.0045):
        one = lab("biases", f"model.kalman.drift={drift}")
        one.learn(biased(6000))
        one.learn(biased(1000, 6000, moods=-OF_USERS))
        found.append(rmse(one.learn(biased(1000, 7000, moods=-OF_USERS))))
    assert found[1] < 0.8 * found[0]


def test_what_shards_learned_of_a_row_adds_up() -> None:
    """An item is as sure of itself after a round of many shards as after the same events in one, whatever the merge of vectors;
    with the contraction merge its bias is there too."""
    events, known, bias = biased(2000), {}, {}
    for sets in (("model.shards=1",), ("model.shards=16",), ("model.shards=16", "model.merge=average")):
        one = lab("biases", *sets, "model.round_share=null")
        one.learn(events)
        bias[sets], known[sets] = rows(one, "item", ITEM_KEYS).T
    (alone, shards, averaged) = known
    np.testing.assert_allclose(known[shards], known[alone], rtol=0.05)
    np.testing.assert_allclose(bias[shards], bias[alone], atol=0.25)
    with pytest.raises(AssertionError):  # averages lose what all but one shard learned
        np.testing.assert_allclose(known[averaged], known[alone], rtol=0.05)


@pytest.mark.parametrize("name", ["biases", "rating"])
def test_rounds_of_eight_shards_cost_little(name: str) -> None:
    """The sequential error over one shard's once it has begun, and with sums the subject that must lose more."""
    found = []
    for sets in (("model.shards=1",), ("model.shards=8",), ("model.shards=8", "model.merge=sum", "model.round_share=null")):
        one = lab(name, *sets)
        one.learn(biased(2000))
        found.append(rmse(one.learn(biased(4000, 2000))))
    assert found[1] < 1.01 * found[0] < found[2]


@pytest.mark.parametrize("name", ["biases", "rating"])
def test_lists_rank_by_the_expected_value(name: str) -> None:
    """query . vector + bias of two items differ by what their scores differ."""
    one = lab(name, "model.init_scale=0.3")
    for number in range(4):
        one.learn(checkerboard(1000, start=1000 * number))
    (mean, variance), users, own = rows(one, "mean", np.zeros(1, np.int64))[0], rows(one, "user", USER_KEYS), rows(one, "item", ITEM_KEYS)
    f = slice(1, 1 + one.learner.model.factors)
    wanted = own[:, 0] + np.sqrt(variance) * users[:, f] @ own[:, f].T
    assert mean == pytest.approx(3, abs=0.2) and variance == pytest.approx(4, abs=0.2)
    np.testing.assert_allclose(listed(one, ITEM_KEYS), wanted, rtol=1e-4, atol=1e-4)


def test_an_item_nobody_rated_is_known_by_its_kind() -> None:
    """Of items never rated: the lists before, and the served score when they first are; without attributes the subject that
    must fail."""
    served = []
    for sets in (("model.features.items=[genre]", "model.features.most=3"), ()):
        one = lab("rating", "model.init_scale=0.3", *sets)
        for number in range(8):
            events = checkerboard(1000, start=1000 * number)
            one.learn(part(events, np.isin(events.item_key, ITEM_KEYS[:20])))
        if sets:
            right = likes(np.arange(USERS)[:, None], np.arange(20, ITEMS)[None, :])
            scores = listed(one, ITEM_KEYS[20:])
            assert np.mean([row[mask].min() > row[~mask].max() for row, mask in zip(scores, right, strict=True)]) > 0.95
        events = checkerboard(1000, start=8000)
        served.append(rmse(one.learn(part(events, np.isin(events.item_key, ITEM_KEYS[20:]))), "served"))
    assert served[0] < 1.0 < 1.9 < served[1]


def test_nobody_is_served_before_anything_is_learned() -> None:
    """What items are is known from the start; without a single value that is no answer to be measured by."""
    for sets in ((), ("model.features.items=[genre]", "model.features.most=3")):
        one = lab("rating", *sets)
        served = [{m.metric for m in one.learn(biased(200, start)).metrics if m.scoring == "served"} for start in (0, 200)]
        assert "rmse" not in served[0] and "rmse" in served[1]


def listed(lab: Lab, item_keys: np.ndarray) -> np.ndarray:
    """query . vector + bias of every planted user and these items."""
    head, model = lab.head, lab.learner.model
    items = on_offer(head, model, head.lookup(POPULARITY, item_keys), half_lives(lab.chosen))
    asked = ask(head, model, USER_KEYS, *newest(head, USER_KEYS, model.recent), last_context(head, USER_KEYS))
    assert model.known(asked).all()
    return model.queries(asked) @ items.vectors.T + items.bias
