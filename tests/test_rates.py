"""Caps by hour against a plain twin; what a restart knows; what is let go."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from planted import ITEM_KEYS, USER_KEYS

from freshet import rates
from freshet.kernels.seeds import mix
from freshet.rates import HOUR, Accepted, Asked, Rates


def stream(n: int, seed: int, hours: int = 5) -> Asked:
    """Events of few users on few items, out of order, some of which correct others."""
    rng = np.random.default_rng(seed)
    user, item = rng.zipf(1.5, n) % 6, rng.integers(0, 4, n)
    return Asked(USER_KEYS[user], ITEM_KEYS[item], 10**15 + rng.integers(0, hours * HOUR, n), rng.random(n) < 0.2)


def twin(events: Asked, most_user: int, most_pair: int, users: Counter, pairs: Counter) -> list[str]:
    """One event after the other; the counters go on. Items count where the user has had most_pair in the hour."""
    found = []
    for user, item, at, corrects in zip(*(column.tolist() for column in events), strict=True):
        hour, heavy = at // HOUR, users[user, at // HOUR] >= most_pair and not corrects
        if users[user, hour] >= most_user:
            found.append("user")
        elif heavy and pairs[user, item, hour] >= most_pair:
            found.append("pair")
        else:
            found.append("")
            pairs[user, item, hour] += heavy
            users[user, hour] += 1
    return found


def judged(held: Rates, events: Asked) -> list[str]:
    by_user, by_pair = held.over(events)
    return ["user" if one else "pair" if other else "" for one, other in zip(by_user, by_pair, strict=True)]


@pytest.mark.parametrize(("most_user", "most_pair"), [(22, 5), (1, 1), (10_000, 3), (20, None), (None, 5)])
def test_what_is_too_much_is_what_a_plain_count_says(most_user: int | None, most_pair: int | None) -> None:
    held, users, pairs = Rates(most_user, most_pair), Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
    every = set()
    for number in range(6):
        events = stream(300, number)
        found = judged(held, events)
        assert found == twin(events, most_user or 10**9, most_pair or 10**9, users, pairs)
        passed = np.array(found) == ""
        held.note(events.at(passed))
        every |= set(found)
    assert every == {"", *(["user"] if most_user in (1, 20, 22) else []), *(["pair"] if most_pair in (3, 5, 12) else [])}


def test_asking_counts_nothing_and_what_is_refused_does_not_count() -> None:
    held, events = Rates(5, None), stream(200, 1)
    assert judged(held, events) == judged(held, events)
    passed = ~held.over(events)[0]
    held.note(events.at(passed))
    again = stream(200, 1)
    assert set(judged(held, again)) <= {"", "user"} and judged(held, again).count("") < 200


@pytest.mark.parametrize(("most_user", "most_pair"), [(60, 7), (10_000, 3), (25, None)])
def test_a_restart_knows_what_the_process_before_it_knew(most_user: int, most_pair: int | None) -> None:
    """It reads events back in no order; the parts it asks for again are those of users who had many."""
    held, told = Rates(most_user, most_pair), []
    for number in range(4):
        events = stream(300, number)
        events = events.at(np.argsort(events.event_at, kind="stable"))
        events = events.at(~np.logical_or(*held.over(events)))
        held.note(events)
        n = len(events.event_at)
        told.append(Accepted(*events, np.full(n, number), np.arange(n), np.zeros(n, np.int64)))
    shuffled = np.random.default_rng(0).permutation
    orders = [shuffled(len(part.event_at)) for part in told]
    told = [Accepted(*(column[order] for column in part)) for part, order in zip(told, orders, strict=True)]
    asked: list[int] = []
    again = Rates(most_user, most_pair)

    def every(wanted):
        asked.append(1)
        for part in told[::-1]:
            many = wanted(part.user_key, part.event_at)
            yield Accepted(*(column[many] for column in part))
    again.recall(((part.user_key, part.event_at) for part in told[::-1]), every)
    assert asked == ([1] if most_pair else [])
    for number in range(10, 14):
        events = stream(200, number)
        assert judged(again, events) == judged(held, events)
        passed = np.array(judged(held, events)) == ""
        for one in (held, again):
            one.note(events.at(passed))


def test_hours_that_are_over_are_let_go_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "_FEWEST", 8)
    held, kept, events = Rates(40, 10), Rates(40, 10), stream(600, 4)
    held._full = 8
    held.note(events)
    late = events.event_at >= 10**15 + 3 * HOUR
    kept.note(events.at(late))
    before = held.nbytes
    held.forget(10**15 + 3 * HOUR)
    fresh = stream(300, 5)
    fresh = fresh._replace(event_at=10**15 + 3 * HOUR + fresh.event_at % (2 * HOUR))
    fresh = fresh.at(fresh.event_at // HOUR > (10**15 + 3 * HOUR) // HOUR)
    assert judged(held, fresh) == judged(kept, fresh) and "user" in judged(held, fresh)
    assert held.nbytes <= before and len(held._users) < 40


def test_without_limits_nothing_is_held_and_unlimited_still_counts() -> None:
    free, events = Rates(), stream(100, 6)
    free.note(events)
    assert judged(free, events) == [""] * 100 and len(free._users) == 0
    held = Rates(2, None)
    with held.unlimited():
        assert judged(held, events) == [""] * 100
        held.note(events)
    assert judged(held, events).count("user") > 90


def test_pairs_of_few_heavy_users_are_let_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user with a thousand items an hour: his hours are few, his pairs are not."""
    monkeypatch.setattr(rates, "_FEWEST", 1000)
    held = Rates(None, 10)
    held._full = 1000
    for hour in range(40):
        n = 500
        at = 10**15 + hour * HOUR + np.arange(n)
        held.note(Asked(np.full(n, USER_KEYS[0]), mix(np.arange(n, dtype=np.uint64)).view(np.int64), at, np.zeros(n, bool)))
        held.forget(10**15 + (hour - 4) * HOUR)
    assert len(held._users) <= 8 and len(held._pairs) < 8 * 500
    assert (held._pairs.column("events") > 0).all()
