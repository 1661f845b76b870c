"""Histories against a plain list per user; negatives against what the user had at that moment."""

from __future__ import annotations

import numpy as np

from freshet.kernels.history import CHUNK, OPEN, archive_key, earlier_in_batch, ring_of, walk


def run(users: int, refs, items, negatives=0, pool=(), ring=3, seed=5, start=None, newest=0, noted=None, again=None):
    n = len(refs)
    links, filled, count = start or (np.zeros((users, OPEN), np.int64), np.zeros(users, np.int32), np.zeros(users, np.int64))
    drawn, found = np.zeros((n, negatives), np.int64), np.zeros((n, negatives), bool)
    most = n // CHUNK + users
    recent, length = np.zeros((n, newest), np.int64), np.zeros(n, np.int32)
    archive = np.zeros(most, np.int64), np.zeros((most, 1 + CHUNK), np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64)
    written = walk(
        links, filled, count, np.arange(100, 100 + users), np.array(refs, np.int32), np.array(items), np.ones(n, bool),
        np.zeros(n, bool) if again is None else np.array(again), np.arange(n) * 7919, ring, np.array(pool, np.int64), np.empty(0), np.uint64(seed), 4, drawn, found, *archive,
        recent, length,
    )
    if noted is not None:
        noted.extend(mine[:many].tolist() for mine, many in zip(recent, length, strict=True))
    return (links, filled, count), [part[:written] for part in archive], drawn, found


def test_open_rows_and_archive_hold_the_history_in_order() -> None:
    random = np.random.default_rng(2)
    refs = random.integers(0, 4, 600)
    items = random.integers(1000, 2000, 600)
    (links, filled, count), (keys, chunks, counts, _), _, _ = run(4, refs, items, ring=1000)
    for user in range(4):
        history = items[refs == user]
        mine = chunks[:, 0] == 100 + user
        order = np.argsort(counts[mine])
        together = np.concatenate([*chunks[mine][order][:, 1:], links[user, : filled[user]]])
        np.testing.assert_array_equal(together, history)
        assert count[user] == len(history)
        assert CHUNK <= filled[user] <= OPEN
        assert [archive_key(100 + user, c // CHUNK - 1) for c in counts[mine][order]] == list(keys[mine][order])


def test_a_click_at_a_time_is_the_same_as_all_at_once() -> None:
    items = np.arange(200)
    whole, archive, _, _ = run(1, np.zeros(200, int), items)
    state, keys = None, []
    for item in items:
        state, piece, _, _ = run(1, [0], [item], start=state)
        keys.extend(piece[0])
    for left, right in zip(whole, state, strict=True):
        np.testing.assert_array_equal(left, right)
    assert keys == list(archive[0])


def test_the_ring_bounds_a_history() -> None:
    _, (keys, _, counts, _), _, _ = run(1, np.zeros(2000, int), np.arange(2000), ring=ring_of(100))
    assert len(set(keys)) == ring_of(100) == 5
    assert len(keys) == counts[-1] // CHUNK


def test_the_newest_items_are_those_before_the_event_newest_first() -> None:
    random = np.random.default_rng(3)
    refs, items, noted = random.integers(0, 4, 500), random.integers(0, 1000, 500), []
    run(4, refs, items, newest=CHUNK, noted=noted)
    history: dict[int, list[int]] = {user: [] for user in range(4)}
    for user, item, newest in zip(refs.tolist(), items.tolist(), noted, strict=True):
        assert newest == history[user][::-1][:CHUNK]
        history[user].append(item)


def test_negatives_are_never_the_users_own_recent_items() -> None:
    random = np.random.default_rng(4)
    refs, items, pool = random.integers(0, 5, 400), random.integers(0, 40, 400), np.arange(40)
    _, _, drawn, found = run(5, refs, items, negatives=2, pool=pool)
    recent: dict[int, list[int]] = {user: [] for user in range(5)}
    for e, user in enumerate(refs):
        own = {*recent[user][-CHUNK:], items[e]}
        assert not own & set(drawn[e][found[e]])
        recent[user].append(items[e])
    assert found.mean() > 0.5
    assert len(np.unique(drawn[found])) == 40


def test_no_negative_where_everything_is_the_users_own() -> None:
    _, _, _, found = run(1, [0, 0, 0], [1, 2, 1], negatives=1, pool=[1, 2])
    assert found[:, 0].tolist()[2] is False


def test_draws_follow_the_event_and_not_its_place() -> None:
    _, _, drawn, _ = run(3, [0, 1, 2], [1, 2, 3], negatives=3, pool=np.arange(10, 30))
    _, _, other, _ = run(3, [0, 1, 2], [1, 2, 3], negatives=3, pool=np.arange(10, 30), seed=6)
    assert not np.array_equal(drawn, other)


def test_earlier_in_batch_lists_the_users_own_earlier_items() -> None:
    users, items = np.array([1, 2, 1, 1, 2]), np.array([10, 20, 11, 12, 21])
    order = np.lexsort((np.arange(5), users))
    inverse = np.empty(5, np.int64)
    inverse[order] = np.arange(5)
    number, keys = earlier_in_batch(order, inverse, users, items, np.array([0, 3, 4]))
    assert sorted(zip(number.tolist(), keys.tolist(), strict=True)) == [(1, 10), (1, 11), (2, 20)]


def test_an_event_that_comes_again_is_in_no_history_twice_and_not_before_itself() -> None:
    noted: list[list[int]] = []
    (links, filled, count), _, _, _ = run(1, [0, 0, 0, 0], [7, 8, 7, 9], newest=4, noted=noted, again=[False, False, True, False])
    assert noted == [[], [7], [8], [8, 7]]
    assert (links[0, : filled[0]].tolist(), count.tolist()) == ([7, 8, 9], [3])
