"""What is learned beside every model, against plain twins: a deque, a closed form, a list for each user."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from planted import ITEM_KEYS, SECOND, USER_KEYS, USERS, checkerboard, part

from freshet.companions import CompanionSpec, advance
from freshet.head import TOTALS, TOTALS_KEY, Head, digests
from freshet.kernels.history import CHUNK, OPEN
from freshet.kernels.popularity import count_column, log_popularity
from freshet.models.contract import Events
from freshet.ranked import history_items_of
from freshet.schema import HISTORY, HISTORY_ARCHIVE, LAST_CONTEXT, POPULARITY, WINDOW

SPEC = CompanionSpec(half_lives=(math.inf,), history_items=64, window_events=96, draw="recent", negatives=2, tries=4, seed=1)


def take(head: Head, events: Events, positive: np.ndarray | None = None, spec: CompanionSpec = SPEC):
    ahead = advance(head, events, np.ones(len(events), bool) if positive is None else positive, spec)
    for name, rows in ahead.rows.items():
        head.put(name, rows, digests(head.blocks[name], rows))
    head.clock = max(head.clock, int(events.event_at.max(initial=0)))
    return ahead


def restarted(head: Head) -> Head:
    """A head read back from rows in key order, as a start does it."""
    fresh = Head((), 10)
    for name, table in head.tables.items():
        rows, _ = head.gather(name, np.sort(table.keys))
        for at in (slice(0, 2), slice(2, None)):  # in pieces, as Arrow batches come
            piece = type(rows)(*(getattr(rows, field)[at] for field in rows.__dataclass_fields__))
            fresh.put(name, piece, digests(fresh.blocks[name], piece))
    fresh.clock = head.clock
    assert fresh.digest == head.digest
    return fresh


@limits(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 260), max_size=8), st.sampled_from([32, 64, 96, 128]), st.booleans())
def test_the_window_is_a_deque_across_wraps_and_restarts(sizes, window, restart) -> None:
    head, twin = Head((), 10), deque(maxlen=window)
    spec, start = replace(SPEC, window_events=window), 0
    for size in sizes:
        events = checkerboard(size, start=start)
        start += size
        positive = events.value > 3
        take(head, events, positive, spec)
        twin.extend(events.item_key[positive].tolist())
        if restart:
            head = restarted(head)
        assert head.window().tolist() == list(twin)
    assert head.tables[WINDOW].keys.tolist() == sorted(head.tables[WINDOW].keys.tolist())


def test_a_window_cut_into_other_batches_is_the_same_rows() -> None:
    events = checkerboard(400)
    whole, parts = Head((), 10), Head((), 10)
    take(whole, events)
    for start, stop in pairwise((0, 7, 96, 97, 250, 400)):
        take(parts, part(events, slice(start, stop)))
    for name in (WINDOW, HISTORY, HISTORY_ARCHIVE):
        keys = whole.tables[name].keys.copy()
        assert len(keys) == len(parts.tables[name])
        (a, _), (b, known) = whole.gather(name, keys), parts.gather(name, keys)
        assert known.all()
        for field in ("links", "filled", "count", "last_at"):
            assert np.array_equal(getattr(a, field), getattr(b, field)), (name, field)


def counted(events: Events, half_life: float, at: int, chosen: np.ndarray) -> tuple[float, float]:
    """sum over events of weight * 2^-((at - event_at) / half_life), and of weight * value: the closed form."""
    decay = events.weight[chosen] * np.exp2(-(at - events.event_at[chosen]) / half_life)
    return float(decay.sum()), float((decay * events.value[chosen]).sum())


@pytest.mark.parametrize("half_life", [math.inf, 50.0 * SECOND, 5000.0 * SECOND])
def test_popularity_is_the_decayed_sum_whatever_the_batches_and_the_order_of_times(half_life) -> None:
    events = checkerboard(900)
    random = np.random.default_rng(2)
    shaken = np.sort(events.event_at + random.integers(-30, 30, len(events)) * SECOND)
    events = replace(events, weight=random.uniform(0.2, 2.0, len(events)), event_at=shaken)
    head, spec = Head((), 10), replace(SPEC, half_lives=(half_life,))
    order = np.concatenate([np.arange(0, 900, 2), np.arange(1, 900, 2)])  # the second half is older than the clock
    for piece in np.array_split(order, 7):
        take(head, part(events, np.sort(piece)), None, spec)
    for item in ITEM_KEYS:
        chosen = events.item_key == item
        [row] = head.gather(POPULARITY, np.array([item]))[0].values
        [last_at] = head.gather(POPULARITY, np.array([item]))[0].last_at
        assert last_at == events.event_at[chosen].max()
        assert row == pytest.approx(counted(events, half_life, last_at, chosen), rel=1e-5)
    totals, _ = head.gather(TOTALS, np.array([TOTALS_KEY]))
    assert totals.values[0] == pytest.approx(counted(events, half_life, totals.last_at[0], np.ones(900, bool)), rel=1e-5)
    assert totals.count[0] == 900 == head.tables[POPULARITY].column("count").sum()


def test_log_popularity_is_the_log_of_the_count_decayed_to_the_clock() -> None:
    events, half_life = checkerboard(500), 100.0 * SECOND
    head = Head((), 10)
    take(head, events, None, replace(SPEC, half_lives=(half_life,)))
    table, out = head.tables[POPULARITY], np.empty(len(head.tables[POPULARITY]), np.float32)
    for clock in (head.clock, head.clock + 300 * SECOND, head.clock + 10**12):
        log_popularity(head.values(POPULARITY)[:, 0].copy(), table.column("last_at"), clock, half_life, 1e-3, out)
        wanted = [counted(events, half_life, clock, events.item_key == item)[0] for item in table.keys]
        np.testing.assert_allclose(out, np.log(np.maximum(wanted, 1e-3)), atol=1e-4)


def test_each_half_life_is_the_count_that_it_alone_would_give() -> None:
    lives = (math.inf, 50.0 * SECOND, 5000.0 * SECOND)
    together = Head((), 10, len(lives))
    alone = {life: Head((), 10) for life in lives}
    for number in range(3):
        events = checkerboard(200, start=200 * number)
        take(together, events, None, replace(SPEC, half_lives=lives))
        for life, head in alone.items():
            take(head, events, None, replace(SPEC, half_lives=(life,)))
    for number, life in enumerate(lives):
        wanted = alone[life].values(POPULARITY)[:, 0]
        np.testing.assert_array_equal(together.values(POPULARITY)[:, count_column(number)], wanted)
    np.testing.assert_array_equal(together.values(POPULARITY)[:, 1], alone[math.inf].values(POPULARITY)[:, 1])


@pytest.mark.parametrize("restart", [False, True])
def test_a_history_has_the_newest_items_of_its_user_and_no_others(restart) -> None:
    head, lists = Head((), 10), {user: [] for user in USER_KEYS.tolist()}
    for number in range(8):
        events = checkerboard(500, start=500 * number)
        take(head, events, events.value > 3)
        for user, item in zip(events.user_key.tolist(), events.item_key.tolist(), strict=True):
            lists[user].append(item)  # whatever was thought of it: the user has it
        if restart:
            head = restarted(head)
    number, keys = history_items_of(head, USER_KEYS, SPEC.history_items)
    for n, user in enumerate(USER_KEYS.tolist()):
        found = sorted(keys[number == n].tolist())
        assert SPEC.history_items - CHUNK < len(found) <= SPEC.history_items + OPEN - CHUNK
        assert found == sorted(lists[user][-len(found):])
    assert head.tables[HISTORY].column("count").sum() == sum(len(found) for found in lists.values())
    assert len(head.tables[HISTORY]) == USERS


@pytest.mark.parametrize("draw", ["recent", "uniform", "popularity"])
def test_negatives_are_never_the_item_itself_nor_what_the_user_just_had(draw) -> None:
    head, spec = Head((), 10), replace(SPEC, draw=draw, negatives=3)
    had = {user: deque(maxlen=OPEN - CHUNK) for user in USER_KEYS.tolist()}
    found = 0
    for number in range(3):
        events = checkerboard(40, start=40 * number)
        context = take(head, events, None, spec).context
        for e, (user, item) in enumerate(zip(events.user_key.tolist(), events.item_key.tolist(), strict=True)):
            negatives = context.negatives[e][context.drawn[e]].tolist()
            assert item not in negatives and not set(had[user]) & set(negatives)
            assert set(negatives) <= set(ITEM_KEYS.tolist())
            found += len(negatives)
            had[user].append(item)
    assert found > 250


def test_negatives_depend_on_the_event_and_not_on_its_place_in_the_batch() -> None:
    head = Head((), 10)
    take(head, checkerboard(500))
    events = checkerboard(100, start=500)
    whole = advance(head, events, np.ones(100, bool), replace(SPEC, window_events=32, draw="popularity"))
    some = np.flatnonzero(events.user_key == events.user_key[0])
    alone = advance(head, part(events, some), np.ones(len(some), bool), replace(SPEC, window_events=32, draw="popularity"))
    assert np.array_equal(whole.context.negatives[some], alone.context.negatives)
    other = advance(head, events, np.ones(100, bool), replace(SPEC, window_events=32, draw="popularity", seed=2))
    assert not np.array_equal(whole.context.negatives, other.context.negatives)


def test_the_last_context_is_that_of_the_latest_event_whenever_it_is_learned() -> None:
    head, one = Head((), 10, features=1), np.ones(1)
    for user, at, value in ((0, 100, 77), (0, 50, 33), (1, 60, 44), (0, 100, 88)):
        events = Events(USER_KEYS[[user]], ITEM_KEYS[[at % 7]], one, one, np.array([at]), np.array([at + value]), np.array([[value]]))
        take(head, events)
    rows, _ = head.gather(LAST_CONTEXT, USER_KEYS[:2])
    assert rows.links.ravel().tolist() == [88, 44] and rows.last_at.tolist() == [100, 60] and rows.count.tolist() == [3, 1]


def test_advancing_leaves_the_head_as_it_is() -> None:
    head = Head((), 10)
    take(head, checkerboard(200))
    before = (head.digest, head.row_counts, head.window().tolist())
    advance(head, checkerboard(200, start=200), np.ones(200, bool), SPEC)
    assert (head.digest, head.row_counts, head.window().tolist()) == before
