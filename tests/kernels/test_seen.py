from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.kernels.seen import SeenEvents

times = st.integers(-50, 50)
step = st.one_of(
    st.tuples(st.just("add"), st.lists(st.tuples(st.integers(-20, 20), times), max_size=20)),
    st.tuples(st.just("ask"), times),
    st.tuples(st.just("forget"), times),
)


class SlowSeen:
    """A dict of the latest time of each key, and the floor."""

    def __init__(self) -> None:
        self.times: dict[int, int] = {}
        self.floor = -(2**63)

    def add(self, key: int, at: int) -> None:
        if at >= self.floor:
            self.times[key] = max(at, self.times.get(key, at))

    def contains(self, key: int, oldest: int) -> bool:
        return key in self.times and self.times[key] >= max(oldest, self.floor)


@settings(max_examples=100, deadline=None)
@given(st.lists(step, max_size=30))
def test_seen_equals_a_dict(steps: list[tuple]) -> None:
    seen, slow = SeenEvents(window=10), SlowSeen()
    for what, argument in steps:
        if what == "add":
            seen.add(np.array([key for key, _ in argument], np.int64), np.array([at for _, at in argument], np.int64))
            for key, at in argument:
                slow.add(key, at)
        elif what == "forget":
            seen.forget(argument)
            slow.floor = max(slow.floor, argument)
        else:
            keys = np.arange(-21, 22)
            assert seen.contains(keys, argument).tolist() == [slow.contains(key, argument) for key in keys.tolist()]


@pytest.mark.parametrize(("batch", "jitter"), [(1, 30), (50, 5), (1000, 4000)])
def test_seen_equals_a_dict_through_many_sweeps(batch: int, jitter: int) -> None:
    rng = np.random.default_rng(batch)
    seen, slow, window = SeenEvents(window=5000), SlowSeen(), 5000
    for clock in range(0, 30_000 if batch > 1 else 6000, batch):
        keys = rng.integers(-(2**63), 2**63 - 1, size=batch)
        at = clock + rng.integers(-jitter, jitter, size=batch)
        seen.add(keys, at)
        for key, when in zip(keys.tolist(), at.tolist(), strict=True):
            slow.add(key, when)
        seen.forget(clock - window)
        slow.floor = clock - window
        old = rng.choice(np.array(list(slow.times), np.int64), size=20)
        for oldest in (clock - window - 99, clock - window, clock - 300):
            assert seen.contains(old, oldest).tolist() == [slow.contains(key, oldest) for key in old.tolist()]
    every = np.array(list(slow.times), np.int64)
    assert seen.contains(every, -(2**63)).tolist() == [slow.contains(key, slow.floor) for key in every.tolist()]


def test_memory_follows_what_is_remembered() -> None:
    seen, most = SeenEvents(window=10_000), 0
    for clock in range(0, 1_000_000, 500):
        seen.add(np.arange(clock, clock + 500), np.arange(clock, clock + 500))
        seen.forget(clock - 10_000)
        most = max(most, len(seen))
    unbounded = SeenEvents(window=10_000)
    unbounded.add(np.arange(1_000_000), np.arange(1_000_000))
    assert most < 40_000 < len(unbounded)
    assert seen.nbytes < 3 * 16 * 2**16 < unbounded.nbytes


def test_a_key_seen_again_keeps_its_latest_time() -> None:
    seen = SeenEvents(window=100)
    seen.add(np.array([1, 1, 2]), np.array([10, 30, 5]))
    seen.add(np.array([1, 2]), np.array([20, 50]))
    assert seen.contains(np.array([1, 2]), 30).tolist() == [True, True]
    assert seen.contains(np.array([1, 2]), 31).tolist() == [False, True]
    assert len(seen) == 2


def test_extreme_times_and_keys() -> None:
    seen = SeenEvents(window=2**62)
    low, high = -(2**63), 2**63 - 1
    seen.add(np.array([0, low, high]), np.array([0, high, -1]))
    assert seen.contains(np.array([0, low, high, 1]), -1).tolist() == [True, True, True, False]
    assert seen.contains(np.array([0, low, high]), 0).tolist() == [True, True, False]
    seen.forget(1)
    assert seen.contains(np.array([0, low, high]), low).tolist() == [False, True, False]
