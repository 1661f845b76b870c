"""Tasks of shards: built side by side they are those built one at a time, and lead back to the workspace's rows."""

from __future__ import annotations

import numpy as np
import pytest
from planted import Lab, checkerboard, settings

from freshet.companions import advance
from freshet.kernels.shards import localize
from freshet.workspace import HANDS, Workspace


def opened() -> Workspace:
    """A workspace of 200 examples over a head that has learned 300 events."""
    lab = Lab(settings("model.name=history", "model.shards=3"))
    lab.learn(checkerboard(300))
    events, model = checkerboard(400, start=300), lab.learner.model
    context = advance(lab.head, events, model.positive(events), lab.learner.spec.companions).context
    return Workspace(lab.head, model.blocks(), model.examples(events, context), 1)


def parts_of(space: Workspace, count: int) -> list[np.ndarray]:
    owner = np.random.default_rng(count).integers(0, count, len(space.examples))
    return [np.flatnonzero(owner == number) for number in range(count)]


@pytest.mark.parametrize("count", [1, HANDS, 3 * HANDS + 1])
def test_tasks_built_side_by_side_are_those_built_one_at_a_time(count) -> None:
    space = opened()
    parts = parts_of(space, count)
    made = space.tasks(parts)
    assert len(made) == count
    for part, (task, origin) in zip(parts, made, strict=True):
        alone, its_origin = space.task(part)
        assert len(task.target) == len(part)
        for name, sheet in space.sheets.items():
            np.testing.assert_array_equal(task.refs[name], alone.refs[name])
            np.testing.assert_array_equal(origin[name], its_origin[name])
            np.testing.assert_array_equal(task.rows[name], sheet.rows.values[origin[name]])
            np.testing.assert_array_equal(task.counts[name], sheet.rows.count[origin[name]])
            there = task.refs[name] >= 0
            np.testing.assert_array_equal(origin[name][task.refs[name][there]], sheet.refs[part][there])
            assert there.any() and (sheet.stamps == -1).all()


def test_a_stamp_that_is_not_clean_would_be_seen() -> None:
    """The subject that must fail: two tasks built on one stamp at the same time number rows that the other has numbered."""
    space = opened()
    sheet = next(iter(space.sheets.values()))
    dirty = sheet.stamps[0].copy()
    dirty[sheet.refs[0, 0]] = 7
    assert not np.array_equal(localize(sheet.refs, dirty)[0], localize(sheet.refs, sheet.stamps[0])[0])


def test_tasks_hold_copies() -> None:
    space = opened()
    before = {name: sheet.rows.values.copy() for name, sheet in space.sheets.items()}
    for task, _ in space.tasks(parts_of(space, 3)):
        for rows in task.rows.values():
            rows += 1
    assert all((before[name] == sheet.rows.values).all() for name, sheet in space.sheets.items())
