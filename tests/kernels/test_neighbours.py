"""Counts of what follows what, against dicts; the lists of follow-ups, against sums."""

from __future__ import annotations

import math

import numpy as np
import pytest

from freshet.kernels.neighbours import FLOOR, count, follow_ups, follow_ups_of

KEYS = np.arange(100, 110)
DECAY, REVERSE = 0.8, 0.3


def stream(n: int = 300, seed: int = 1):
    random = np.random.default_rng(seed)
    item_ref = random.integers(0, len(KEYS), n).astype(np.int32)
    recent_ref = random.integers(-1, len(KEYS), (n, 3)).astype(np.int32)
    return item_ref, recent_ref, np.sort(random.integers(1000, 9000, n)), random.uniform(0.5, 2.0, n)


def empty(places: int):
    rows = len(KEYS)
    return (np.zeros((rows, 1 + places)), np.zeros((rows, places), np.int64), np.zeros(rows, np.int32),
            np.zeros(rows, np.int64), np.zeros(rows, np.int64))


def counted(state, events, half_life: float = math.inf, reverse: float = REVERSE):
    values, links, filled, last_at, touched = state
    count(values, links, filled, last_at, touched, KEYS, *events, DECAY, reverse, half_life)
    return [dict(zip(links[r, : filled[r]].tolist(), values[r, 1 : 1 + filled[r]].tolist(), strict=True)) for r in range(len(KEYS))]


def twin(events, half_life: float, reverse: float = REVERSE):
    """Every count at the time of its row: what each event added, faded since."""
    added: list[list[tuple[int, float, int]]] = [[] for _ in KEYS]
    for item, recent, at, weight in zip(*(part.tolist() for part in events), strict=True):
        for d, other in enumerate(recent):
            if other >= 0 and other != item:
                added[other].append((KEYS[item], weight * DECAY**d, at))
                added[item].append((KEYS[other], weight * DECAY**d * reverse, at))
    found, totals = [], []
    for mine in added:
        last = max((at for _, w, at in mine if w), default=0)
        counts: dict[int, float] = {}
        for key, w, at in mine:
            if w:
                counts[int(key)] = counts.get(int(key), 0.0) + w * 2.0 ** (-(last - at) / half_life)
        found.append(counts)
        totals.append(sum(counts.values()))
    return found, totals


@pytest.mark.parametrize("half_life", [math.inf, 2000.0])
@pytest.mark.parametrize("reverse", [REVERSE, 0.0])
def test_with_room_for_all_the_counts_are_the_twins(half_life, reverse) -> None:
    state, events = empty(len(KEYS)), stream()
    found = counted(state, events, half_life, reverse)
    wanted, totals = twin(events, half_life, reverse)
    for mine, exact in zip(found, wanted, strict=True):
        assert mine == pytest.approx(exact, rel=1e-3)
    np.testing.assert_allclose(state[0][:, 0], totals, rtol=1e-3)
    assert state[4].min() > 0


def test_an_event_that_comes_late_counts_for_less_and_turns_no_clock_back() -> None:
    state = empty(4)
    one = np.array([1], np.int32), np.array([[0]], np.int32)
    counted(state, (*one, np.array([5000]), np.ones(1)), 1000.0)
    found = counted(state, (*one, np.array([4000]), np.ones(1)), 1000.0)
    assert found[0] == {101: pytest.approx(1.5)} and state[3][0] == 5000


def test_a_full_row_gives_up_its_smallest_count_and_the_newcomer_starts_from_nothing() -> None:
    state = empty(2)
    for item, times in ((1, 3), (2, 2), (3, 1)):
        events = np.full(times, item, np.int32), np.zeros((times, 1), np.int32), np.full(times, 7), np.ones(times)
        found = counted(state, events, reverse=0.0)
    assert found[0] == {101: 3.0, 103: 1.0}
    assert state[0][0, 0] == 6.0  # the sum of all there ever were


def one_event_after_the_other(state, events, half_life: float, reverse: float) -> None:
    """The module's words: each event in its turn, each pair in its turn, a full row gives up its smallest count."""
    values, links, filled, last_at, touched = state

    def fade(r: int, at: int) -> float:
        gap = at - last_at[r]
        if values[r, 0] == 0.0 or gap >= 0:
            values[r] *= 2.0 ** (-max(gap, 0) / half_life) if values[r, 0] else 1.0
            last_at[r] = max(last_at[r], at)
            return 1.0
        return 2.0 ** (gap / half_life)

    def add(r: int, key: int, w: float) -> None:
        mine = links[r, : filled[r]].tolist()
        values[r, 0] += w
        if key in mine:
            values[r, 1 + mine.index(key)] += w
            return
        place = filled[r] if filled[r] < links.shape[1] else int(np.argmin(values[r, 1:]))
        filled[r] = max(filled[r], place + 1)
        links[r, place], values[r, 1 + place] = key, w

    for item, recent, at, weight in zip(*(part.tolist() for part in events), strict=True):
        others = [(weight * DECAY**d, other) for d, other in enumerate(recent) if other >= 0 and other != item]
        for w, other in others:
            add(other, KEYS[item], w * fade(other, at))
            touched[other] += 1
            if reverse:
                add(item, KEYS[other], w * reverse * fade(item, at))
        touched[item] += bool(others and reverse)


@pytest.mark.parametrize("places", [1, 2, 5])
@pytest.mark.parametrize(("half_life", "reverse"), [(math.inf, REVERSE), (2000.0, REVERSE), (300.0, 0.0)])
def test_rows_that_are_full_hold_what_one_event_after_the_other_leaves(places, half_life, reverse) -> None:
    item_ref, recent_ref, at, weight = stream()
    at[::7] -= 900  # some come late
    mine, wanted = empty(places), empty(places)
    counted(mine, (item_ref, recent_ref, at, weight), half_life, reverse)
    one_event_after_the_other(wanted, (item_ref, recent_ref, at, weight), half_life, reverse)
    for a, b in zip(mine[1:], wanted[1:], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(mine[0], wanted[0], rtol=1e-12)
    assert (mine[2] == places).all()


def test_of_equal_counts_the_first_gives_way() -> None:
    state = empty(3)
    counted(state, (np.array([1, 2, 3, 4, 5], np.int32), np.zeros((5, 1), np.int32), np.full(5, 7), np.ones(5)), reverse=0.0)
    assert state[1][0].tolist() == [105, 102, 103]


def test_events_cut_into_other_pieces_give_the_same_bits() -> None:
    events = stream()
    whole, pieces = empty(4), empty(4)
    counted(whole, events, 2000.0)
    for start, stop in ((0, 7), (7, 150), (150, 300)):
        counted(pieces, tuple(part[start:stop] for part in events), 2000.0)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(whole, pieces, strict=True))


def test_follow_ups_are_shares_of_the_newest_items_rows() -> None:
    state, clock, shrink, life = empty(6), 9500, 5.0, 2000.0
    found = counted(state, stream(), life)
    values, links, filled, last_at, _ = state
    refs = np.array([[0, 1, 2], [3, -1, 0], [-1, -1, -1], [4, 4, 5]], np.int32)
    offsets, keys, scores = follow_ups(values.astype(np.float32), links, filled, last_at, refs, clock, DECAY, shrink, life)
    for a, mine in enumerate(refs.tolist()):
        wanted: dict[int, float] = {}
        for d, r in enumerate(mine):
            if r >= 0:
                faded = 2.0 ** (-(clock - last_at[r]) / life)
                for key, c in found[r].items():
                    wanted[key] = wanted.get(key, 0.0) + DECAY**d * c * faded / (values[r, 0] * faded + shrink)
        part = slice(offsets[a], offsets[a + 1])
        got = dict(zip(keys[part].tolist(), scores[part].tolist(), strict=True))
        assert got == pytest.approx({key: math.log1p(c / FLOOR) for key, c in wanted.items()}, rel=1e-4)
    assert offsets[3] == offsets[2] and len(keys) == len(scores) == offsets[-1] > 15


def test_scores_of_some_items_are_those_among_all_follow_ups() -> None:
    state = empty(6)
    counted(state, stream(), 2000.0)
    values, links, filled, last_at, _ = state
    rows = values.astype(np.float32), links, filled, last_at
    random = np.random.default_rng(4)
    refs, items = random.integers(-1, len(KEYS), (20, 3)).astype(np.int32), random.integers(98, 112, (20, 5))
    found = np.empty(items.shape, np.float32)
    follow_ups_of(*rows, refs, items, 9500, DECAY, 5.0, 2000.0, found)
    offsets, keys, scores = follow_ups(*rows, refs, 9500, DECAY, 5.0, 2000.0)
    for e in range(len(refs)):
        mine = slice(offsets[e], offsets[e + 1])
        all_of_them = dict(zip(keys[mine].tolist(), scores[mine].tolist(), strict=True))
        np.testing.assert_allclose(found[e], [all_of_them.get(key, 0.0) for key in items[e].tolist()], rtol=1e-6)
    assert (found > 0).any() and (found == 0).any()


def test_what_faded_to_nothing_says_nothing() -> None:
    state = empty(3)
    counted(state, (np.array([1], np.int32), np.array([[0]], np.int32), np.array([1]), np.ones(1)), 10.0)
    values, links, filled, last_at, _ = state
    refs = np.array([[0]], np.int32)
    offsets, _, _ = follow_ups(values.astype(np.float32), links, filled, last_at, refs, 10**6, DECAY, 0.0, 10.0)
    assert offsets.tolist() == [0, 0]


def test_without_a_row_there_is_nothing_to_follow() -> None:
    offsets, keys, scores = follow_ups(empty(3)[0][:0].astype(np.float32), *(part[:0] for part in empty(3)[1:4]), np.full((2, 3), -1, np.int32), 5, DECAY, 1.0, math.inf)
    assert offsets.tolist() == [0, 0, 0] and len(keys) == len(scores) == 0
