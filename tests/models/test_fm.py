"""fm and linear: what is a positive, what ranks, and shards that share hot rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import ITEM_KEYS, SECOND, USER_KEYS, Lab, checkerboard, key, settings

from freshet.asking import ask, newest, on_offer
from freshet.companions import advance
from freshet.errors import BatchRefused
from freshet.models.contract import ATTRIBUTE, FEATURE, Events
from freshet.models.fm import FactorizationMachine
from freshet.pipelines.assembly import half_lives
from freshet.schema import POPULARITY
from freshet.workspace import Workspace

FURTHER = (
    "source.context=[hour,place]", "model.features.context=[hour,place]", "model.features.items=[category,genre]", "model.features.most=3",
)


@pytest.mark.parametrize(("sets", "wanted"), [
    ((), [False, True, True]), (("model.positive_from=2",), [False, False, True]), (("model.loss=squared",), [True, True, True]),
])
def test_an_impression_without_a_click_is_no_positive(sets: tuple[str, ...], wanted: list[bool]) -> None:
    model = FactorizationMachine(settings("model.name=fm", "model.positive_from=null", *sets).model)
    events = replace(checkerboard(3), value=np.array([0.0, 1.0, 2.0]))
    assert model.positive(events).tolist() == wanted


def test_lists_rank_by_the_score() -> None:
    """query . vector + bias differs from the score of user, item, context and attributes by the same for every item."""
    lab = Lab(settings("model.name=fm", *FURTHER, "model.init_scale=0.3"))
    lab.learn(checkerboard(500))
    head, model = lab.head, lab.learner.model
    context = np.concatenate([key(4, [1]), key(5, [2])])
    assert (head.lookup(FEATURE, context) >= 0).all()
    asked = ask(head, model, USER_KEYS[:1], *newest(head, USER_KEYS[:1], 0), context[None, :])
    items = on_offer(head, model, head.lookup(POPULARITY, ITEM_KEYS), half_lives(lab.chosen))
    listed = (model.queries(asked) @ items.vectors.T + items.bias)[0]
    n = len(ITEM_KEYS)
    events = Events(np.full(n, USER_KEYS[0]), ITEM_KEYS, np.ones(n), np.ones(n), np.full(n, 10**16), np.arange(n), np.tile(context, (n, 1)))
    examples = model.examples(events, advance(head, events, np.ones(n, bool), lab.learner.spec.companions).context)
    assert examples.keys[ATTRIBUTE].shape == (n, 3)
    scored, _ = model.score(Workspace(head, model.blocks(), examples, 1).snapshot_task())
    assert np.ptp(scored) > 0.1
    np.testing.assert_allclose(listed - listed[0], scored - scored[0], atol=1e-5)


def crowd(n: int, start: int) -> Events:
    """Users who come once or twice, three items, and features that every shard learns; each has a weight of its own."""
    random = np.random.default_rng([3, start])
    user, item = random.integers(1000, size=n), random.integers(3, size=n)
    features = np.stack([random.integers(4, size=n) for _ in range(8)], axis=1)
    chance = 1 / (1 + np.exp(-(np.sin(features * 7 + np.arange(8)).sum(axis=1) + item - 1)))
    keys = np.stack([key(10 + column, features[:, column]) for column in range(8)], axis=1)
    at = (start + np.arange(n)) * SECOND + 10**15
    return Events(key(1, user), ITEM_KEYS[item], (random.random(n) < chance).astype(float), np.ones(n), at, key(3, start + np.arange(n)), keys)


def crowd_loss(*sets: str) -> float:
    names = ",".join(f"c{column}" for column in range(8))
    context = (f"source.context=[{names}]", f"model.features.context=[{names}]")
    lab = Lab(settings("model.positive_from=null", "model.round_share=null", *context, *sets))
    lab.seen = lambda events: events  # they bring their features
    for number in range(2):
        metrics = lab.learn(crowd(2000, 2000 * number)).metrics
    [loss] = [m for m in metrics if (m.metric, m.scoring, m.slice) == (lab.learner.model.loss_metric, "served", "all")]
    return loss.total / loss.events


@pytest.mark.parametrize("sets", [("model.name=fm",), ("model.name=linear", "model.loss=hinge")], ids=["fm", "hinge"])
def test_shards_that_share_hot_rows_learn_as_one(sets: tuple[str, ...]) -> None:
    """What all shards correct at once must not be corrected 32 times; the plain sum of their changes does that."""
    one, shared = crowd_loss(*sets), (*sets, "model.shards=32", "model.round_events=500")
    assert crowd_loss(*shared) < 1.05 * one
    try:
        assert crowd_loss(*shared, "model.merge=sum") > 1.5 * one
    except BatchRefused as error:
        assert error.reason in ("not finite", "capped")
