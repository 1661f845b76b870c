"""The judgement of the soak: what stays where it was passes, what leaks or slows down does not."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"
AT = np.arange(20, 2001, 20.0)  # a look every 20 micro-batches


@pytest.fixture
def flatness(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("flatness")
    sys.modules.pop("flatness", None)


@pytest.mark.parametrize("seed", range(20))
def test_handles_that_come_and_go_are_flat_and_a_leak_of_one_in_ten_micro_batches_is_not(flatness: ModuleType, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(-5, 6, len(AT))
    assert flatness.trend(AT, 300 + noise).flat(10)
    leak = flatness.trend(AT, 300 + noise + AT / 10)
    assert not leak.flat(10) and leak.low > 10
    assert leak.slope == pytest.approx(100, abs=5)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_leak_that_begins_late_is_one(flatness: ModuleType, steps: int) -> None:
    noise = np.random.default_rng(1).integers(-steps, steps + 1, len(AT))
    late = flatness.trend(AT, 300 + noise + np.maximum(AT - 1600, 0) / 5)
    assert abs(late.slope) < 10 and not late.flat(10) and late.rise > 30
    assert flatness.trend(AT, 300 + noise).flat(10)


@pytest.mark.parametrize("seed", range(20))
def test_times_with_noise_are_flat_and_times_that_grow_by_a_fifth_are_not(flatness: ModuleType, seed: int) -> None:
    number = np.arange(2000)
    noise = np.random.default_rng(seed).lognormal(0, 0.2, len(number))
    for kind in (1, 2):  # medians of twenty micro-batches, means
        steady, slow = (flatness.blocks(number, 0.4 * noise * grown, 20) for grown in (1, 1 + 0.2 * number / 1000))
        assert flatness.trend(steady[0], steady[kind], 2000).relative().flat(0.1)
        found = flatness.trend(slow[0], slow[kind], 2000).relative()
        assert not found.flat(0.1) and found.slope > 0.1


def test_a_start_that_is_slow_and_some_slow_moments_are_no_growth(flatness: ModuleType) -> None:
    seconds = np.full(len(AT), 0.4)
    seconds[:8] = 5.0
    seconds[[30, 61, 97]] = 9.0
    assert flatness.trend(AT, seconds).relative().flat(0.01)


def test_noise_that_lasts_makes_the_interval_wider_and_growth_is_not_found_in_it(flatness: ModuleType) -> None:
    missed, spread = 0, {}
    for kept in (0.0, 0.9):
        widths = []
        for seed in range(100):
            rng, noise = np.random.default_rng(seed), np.zeros(len(AT))
            for n in range(1, len(AT)):
                noise[n] = kept * noise[n - 1] + rng.normal()
            found = flatness.trend(AT, 100 + noise)
            widths.append(found.high - found.low)
            missed += bool(kept) and found.low > 0
        spread[kept] = float(np.median(widths))
    assert spread[0.9] > 3 * spread[0.0]
    assert missed < 15  # of a hundred


def test_what_cannot_be_told_is_not_flat(flatness: ModuleType) -> None:
    assert not flatness.trend([1900, 2000], [1.0, 1.0], 2000).flat(10)
    assert not flatness.trend([], [], 2000).flat(10)


def test_memory_that_falls_is_flat_and_one_step_up_is_seen_in_the_tenths(flatness: ModuleType) -> None:
    assert flatness.trend(AT, 900 - AT / 100).flat(0)
    step = flatness.trend(AT, np.where(AT > 1000, 350.0, 300.0))
    assert (step.early, step.late) == (300, 350) and not step.flat(10)


def test_blocks_hold_neighbours(flatness: ModuleType) -> None:
    at, medians, means = flatness.blocks([0, 1, 2, 3, 4, 5], [1, 2, 9, 5, 5, 5], 3)
    assert (at, medians, means) == ([1, 4], [2, 5], [4, 5])
