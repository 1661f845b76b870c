"""Rows of ftrl through a merge: weights that follow from what was merged, and shards that agree agree afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from planted import Lab, checkerboard, settings
from slow_steps import shrink, slow_ftrl

from freshet.kernels.merge import Part
from freshet.kernels.optimizers import FTRL, Group, Step, slots_of
from freshet.kernels.settling import settle, unsettled
from freshet.models.contract import ITEM, USER, Block
from freshet.workspace import merge_following

WIDTH = 4


def group(coordinates: int, l1: float) -> Group:
    return Group(0, WIDTH, WIDTH, Step(FTRL, 0.1, 0.9, 1e-6, coordinates, 0.3, l1=l1))


def learned(group: Group, n: int, seed: int) -> np.ndarray:
    """float32[n, w] rows after 20 events each; the last one began at 0."""
    random = np.random.default_rng(seed)
    rows = np.zeros((n, WIDTH + slots_of(group.step, WIDTH)))
    rows[:-1, :WIDTH] = random.normal(size=(n - 1, WIDTH))
    squares = slice(2 * WIDTH, rows.shape[1])
    for row in rows:
        for d in random.normal(0.3, 1.0, (20, WIDTH)):
            slow_ftrl(group.step, row, slice(0, WIDTH), slice(WIDTH, 2 * WIDTH), squares, d,
                      d**2 if group.step.coordinates else np.array([np.mean(d**2)]))
    return rows.astype(np.float32)


def follow(rows: np.ndarray, group: Group) -> np.ndarray:
    """x as the formula makes it of z and n."""
    h = np.sqrt(rows[:, group.slot + group.width : rows.shape[1]].astype(np.float64) + 1e-6) / group.step.rate + group.step.l2
    h = h[:, : group.width if group.step.coordinates else 1]
    return shrink(-rows[:, group.slot : group.slot + group.width] / h, group.step.l1 / h)


@pytest.mark.parametrize("l1", [0.0, 2.0])
@pytest.mark.parametrize("coordinates", [0, 1])
def test_there_and_back_is_the_same_row(coordinates, l1) -> None:
    own = group(coordinates, l1)
    rows = learned(own, 6, 1)
    np.testing.assert_allclose(follow(rows, own), rows[:, :WIDTH], rtol=1e-3, atol=1e-5)
    back = unsettled(rows, rows, [own])
    settle(back, [own])
    np.testing.assert_allclose(back, rows, rtol=1e-4, atol=1e-4)
    assert (back[:, :WIDTH] == 0).any() == bool(l1)


@pytest.mark.parametrize("l1", [0.0, 2.0])
def test_shards_that_leave_the_weights_alone_leave_them_alone_together(l1) -> None:
    """Every shard doubles n and keeps x: the merged x is that x, and z is in units of the merged n."""
    own = group(0, l1)
    block = Block("item", ITEM, WIDTH, slots_of(own.step, WIDTH), groups=(own,))
    base = learned(own, 3, 2)
    news = np.repeat(base, 8, axis=0)
    news[:, -1] *= 2
    h = np.sqrt(news[:, -1:] + 1e-6) / own.step.rate + own.step.l2
    x = news[:, :WIDTH]
    news[:, WIDTH : 2 * WIDTH] = np.where(x == 0, news[:, WIDTH : 2 * WIDTH], -x * h - np.sign(x) * l1)
    merged, row, ones = base.copy(), np.arange(3, dtype=np.int32), np.ones(3, np.int64)
    parts = [Part(row, news[shard::8], np.full(3, 0.01), ones) for shard in range(8)]
    merge_following(block, merged, parts, np.zeros(3, np.int64))
    assert (merged[:, -1] > 6 * base[:, -1]).all()
    np.testing.assert_allclose(merged[:, :WIDTH], base[:, :WIDTH], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(follow(merged, own), merged[:, :WIDTH], rtol=1e-3, atol=1e-4)
    summed = base + (news - np.repeat(base, 8, axis=0)).reshape(3, 8, -1).sum(axis=1)  # the subject that must fail
    assert np.abs(follow(summed, own) - base[:, :WIDTH]).max() > 0.1


@pytest.mark.parametrize("l1", [0.0, 0.5])
def test_rows_of_a_sharded_model_keep_weights_that_follow(l1) -> None:
    lab = Lab(settings("model.name=mf", "model.shards=5", "model.optimizer.name=ftrl", f"model.l1={l1}"))
    for number in range(2):
        lab.learn(checkerboard(400, start=400 * number))
    for block in lab.learner.model.blocks():
        for own in (own for own in block.groups if own.width > 1):
            rows = lab.head.gather(block.name, lab.head.tables[block.name].keys.copy())[0].values
            h = np.sqrt(rows[:, own.slot + own.width, None] + own.step.epsilon) / own.step.rate + own.step.l2
            x, z = (rows[:, at : at + own.width] for at in (own.start, own.slot))
            np.testing.assert_allclose(shrink(-z / h, own.step.l1 / h), x, rtol=1e-3, atol=1e-4)
            assert (x == 0).any() == bool(l1)


def test_moments_of_a_sharded_model_are_of_all_its_events() -> None:
    """c and e of adam are 1 - momentum^t and 1 - decay^t of all events of the row, in however many shards they were."""
    lab = Lab(settings("model.name=mf", "model.shards=5", "model.optimizer.name=adam"))
    lab.learn(checkerboard(400))
    for block in lab.learner.model.blocks():
        rows = lab.head.gather(block.name, lab.head.tables[block.name].keys.copy())[0]
        for own in block.groups:
            ones = own.slot + slots_of(own.step, own.width) - 2
            for at, decay in ((ones, own.step.momentum), (ones + 1, own.step.decay)):
                np.testing.assert_allclose(rows.values[:, at], 1 - decay**rows.count, rtol=1e-4)
    assert {block.name for block in lab.learner.model.blocks()} == {USER, ITEM, "mean"}
