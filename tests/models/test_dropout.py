"""Events learned without some of their factors: the step is the derivative of the loss under the event's mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from broken_models import Broken
from planted import checkerboard, part
from test_contract import DROPOUT, LEARNERS, Subject, check_gradient, examples_of, heeds

from freshet.kernels.dropout import mask
from freshet.models.contract import ITEM, ShardTask

DROPPING = [name for name in LEARNERS if heeds(name, DROPOUT)]


def under_the_mask(model: Any, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
    """The score of a single example from items that lack what its mask drops."""
    items, own = task.rows[ITEM].copy(), np.ones((1, model.factors), np.float32)
    mask(own, 0, model.factors, 0.5, task.draws[0])
    items[:, 1 : 1 + model.factors] *= own
    return model.score(replace(task, rows={**task.rows, ITEM: items}))


@pytest.mark.parametrize("name", DROPPING)
def test_the_step_is_the_derivative_under_the_mask(name: str) -> None:
    check_gradient(Subject(name, ("model.dropout=0.5",), lambda model: Broken(model, score=under_the_mask)))
    with pytest.raises(AssertionError):
        check_gradient(Subject(name, ("model.dropout=0.5",)))


def test_who_drops() -> None:
    assert set(DROPPING) == {"blend", "bpr", "history", "mf"}


@pytest.mark.parametrize("name", DROPPING)
def test_masks_come_from_the_event_and_the_seed_of_the_model(name: str) -> None:
    events = checkerboard(200)
    lab = Subject(name, (DROPOUT,)).lab()
    lab.learn(events)
    whole, half = examples_of(lab, events), examples_of(lab, part(events, slice(100, 200)))
    drawn = dict(zip(whole.event.tolist(), whole.draws.tolist(), strict=True))
    again = dict(zip((100 + half.event).tolist(), half.draws.tolist(), strict=True))
    both = drawn.keys() & again.keys()  # not every event is learned whatever came before it
    assert len(both) > 20 and all(drawn[e] == again[e] for e in both)
    assert len(set(drawn.values())) == len(drawn) > 50
    other = Subject(name, (DROPOUT, "model.seed=2")).lab()
    other.learn(events)
    assert not set(examples_of(other, events).draws.tolist()) & set(drawn.values())
    assert not len(examples_of(Subject(name).lab(), events).draws)


def test_a_mask_keeps_the_mean() -> None:
    rows = np.ones((2000, 16), np.float32)
    for r in range(len(rows)):
        mask(rows, r, 16, 0.25, np.uint64(r))
    assert set(np.unique(rows).tolist()) == {0.0, float(np.float32(4 / 3))}
    assert abs(rows.mean() - 1.0) < 0.02 and np.abs(rows.mean(axis=0) - 1.0).max() < 0.06
