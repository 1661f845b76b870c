"""Caps by hour against a plain twin; what a restart knows; what is let go."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from planted import ITEM_KEYS, USER_KEYS

from freshet import rates
from freshet.rates import HOUR, Rates


def stream(n: int, seed: int, hours: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Events of few users on few items, out of order."""
    rng = np.random.default_rng(seed)
    user, item = rng.zipf(1.5, n) % 6, rng.integers(0, 4, n)
    return USER_KEYS[user], ITEM_KEYS[item], 10**15 + rng.integers(0, hours * HOUR, n)


def twin(events: tuple[np.ndarray, ...], most_user: int, most_pair: int, users: Counter, pairs: Counter) -> list[str]:
    """One event after the other; the counters go on."""
    found = []
    for user, item, at in zip(*(column.tolist() for column in events), strict=True):
        hour = at // HOUR
        if users[user, hour] >= most_user:
            found.append("user")
        elif pairs[user, item, hour] >= most_pair:
            found.append("pair")
        else:
            found.append("")
            users[user, hour] += 1
            pairs[user, item, hour] += 1
    return found


def judged(held: Rates, events: tuple[np.ndarray, ...]) -> list[str]:
    by_user, by_pair = held.over(*events)
    return ["user" if one else "pair" if other else "" for one, other in zip(by_user, by_pair, strict=True)]


@pytest.mark.parametrize(("most_user", "most_pair"), [(30, 12), (1, 1), (10_000, 3), (20, None), (None, 5)])
def test_what_is_too_much_is_what_a_plain_count_says(most_user: int | None, most_pair: int | None) -> None:
    held, users, pairs = Rates(most_user, most_pair), Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    every = set()
    for number in range(6):
        events = stream(300, number)
        found = judged(held, events)
        assert found == twin(events, most_user or 10**9, most_pair or 10**9, users, pairs)
        passed = np.array(found) == ""
        held.note(*(column[passed] for column in events))
        every |= set(found)
    assert every >= {"", "user" if most_pair is None else "pair"} or most_user == 1


def test_asking_counts_nothing_and_what_is_refused_does_not_count() -> None:
    held, events = Rates(5, None), stream(200, 1)
    assert judged(held, events) == judged(held, events)
    passed = ~held.over(*events)[0]
    held.note(*(column[passed] for column in events))
    again = stream(200, 1)
    assert set(judged(held, again)) <= {"", "user"} and judged(held, again).count("") < 200


def test_counting_in_another_order_is_the_same_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart reads events back in no order."""
    one, other, events = Rates(1000, 1000), Rates(1000, 1000), stream(500, 2)
    order = np.random.default_rng(0).permutation(500)
    one.note(*events)
    other.note(*(column[order] for column in events))
    for limits in ((10, 3), (40, 20)):
        one._most = other._most = limits
        assert judged(one, stream(300, 3)) == judged(other, stream(300, 3))


def test_hours_that_are_over_are_let_go_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_FEWEST", 8)
    held, kept, events = Rates(40, 10), Rates(40, 10), stream(600, 4)
    held._full = 8
    held.note(*events)
    late = events[2] >= 10**15 + 3 * HOUR
    kept.note(*(column[late] for column in events))
    before = held.nbytes
    held.forget(10**15 + 3 * HOUR)
    fresh = stream(300, 5)
    fresh = (fresh[0], fresh[1], 10**15 + 3 * HOUR + fresh[2] % (2 * HOUR))
    inside = fresh[2] // HOUR > (10**15 + 3 * HOUR) // HOUR
    fresh = tuple(column[inside] for column in fresh)
    assert judged(held, fresh) == judged(kept, fresh) and "user" in judged(held, fresh)
    assert held.nbytes <= before and len(held._tables[0]) < 40


def test_without_limits_nothing_is_held_and_unlimited_still_counts() -> None:
    free, events = Rates(), stream(100, 6)
    free.note(*events)
    assert judged(free, events) == [""] * 100 and len(free._tables[0]) == 0
    held = Rates(2, None)
    with held.unlimited():
        assert judged(held, events) == [""] * 100
        held.note(*events)
    assert judged(held, events).count("user") > 90
