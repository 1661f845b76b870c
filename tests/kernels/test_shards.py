"""Times of rows, and the cut into shards, against plain loops."""

from __future__ import annotations

import numpy as np

from freshet.kernels.shards import latest, localize, members


def test_a_row_gets_the_latest_of_the_times_that_touch_it() -> None:
    random = np.random.default_rng(1)
    refs = random.integers(-1, 9, (50, 3)).astype(np.int32)
    at, before = random.integers(0, 1000, 50), random.integers(0, 1000, 10)
    found = before.copy()
    latest(at, refs, found)
    wanted = [max([before[r], *(at[e] for e in range(50) if r in refs[e])]) for r in range(10)]
    assert found.tolist() == wanted != before.tolist() and found[9] == before[9]


def test_members_keep_their_order_and_local_numbers_lead_back() -> None:
    random = np.random.default_rng(2)
    shard, refs, stamp = random.integers(0, 4, 60), random.integers(-1, 30, (60, 2)).astype(np.int32), np.full(30, -1, np.int32)
    parts = members(shard, 4)
    assert [shard[part].tolist() for part in parts] == [[s] * len(part) for s, part in enumerate(parts)]
    assert all((np.diff(part) > 0).all() for part in parts) and sum(map(len, parts)) == 60
    for part in parts:
        local, origin = localize(refs[part], stamp)
        there = refs[part] >= 0
        np.testing.assert_array_equal(origin[local[there]], refs[part][there])
        assert (local[~there] == -1).all() and len(set(origin.tolist())) == len(origin) and (stamp == -1).all()
