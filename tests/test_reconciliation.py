"""Rows of two heads beside each other."""

from __future__ import annotations

import numpy as np
import pytest
from planted import USERS, Lab, checkerboard, settings

from freshet.models.contract import ITEM, USER
from freshet.reconciliation import distances


def test_the_same_rows_are_no_distance_apart_and_a_moved_one_is_found() -> None:
    one, other = (Lab(settings("model.name=mf")) for _ in range(2))
    for lab in (one, other):
        lab.learn(checkerboard(900))
    for found in distances(one.head, other.head, [ITEM, USER]):
        assert (found.distance == 0).all() and (found.relative == 0).all() and found.cosine == pytest.approx(1.0)
    rows, _ = other.head.gather(USER, other.head.tables[USER].keys[3:4].copy())
    before = rows.values[0, :5].astype(np.float64)
    rows.values[0, 0] += np.float32(2.0)
    other.head.put(USER, rows)
    [_, users] = distances(one.head, other.head, [USER, ITEM])
    far = int(np.argmax(users.distance))
    assert (users.block, users.keys[far], (users.distance > 0).sum()) == (USER, rows.keys[0], 1)
    after = rows.values[0, :5].astype(np.float64)
    assert users.distance[far] == pytest.approx(np.linalg.norm(after - before)) and users.first[far] == pytest.approx(2.0, rel=1e-5)
    assert users.cosine[far] == pytest.approx(after @ before / np.linalg.norm(after) / np.linalg.norm(before))
    assert users.summary()["rows"] == USERS and users.summary()["relative_median"] == 0.0


def test_rows_that_one_alone_has_are_counted() -> None:
    one, other = (Lab(settings("model.name=mf")) for _ in range(2))
    one.learn(checkerboard(900))
    [items, users] = distances(one.head, other.head, [ITEM, USER])
    assert users.only == (USERS, 0) and not len(users.keys) and items.summary()["relative_p90"] is None
