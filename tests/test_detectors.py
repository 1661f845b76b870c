"""Detectors of change: a planted change is found soon, a series that stays as it is raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.detectors import DETECTORS, SETTLED, Alarm, Series

EVENTS, SETTLE, CHANGE = 128, 30, 200


def series(seed: int, shift: float = 0.0, values: int = 400, noise: float = 0.03) -> np.ndarray:
    """Means of noise `noise`, worse by `shift` times the noise from CHANGE on."""
    found = 0.3 + noise * np.random.default_rng([7, seed]).normal(size=values)
    found[CHANGE:] += shift * noise
    return found


def alarms(watched: Series, values: np.ndarray) -> list[tuple[int, Alarm]]:
    told = [(at, watched.update(value * EVENTS, EVENTS)) for at, value in enumerate(values)]
    return [(at, alarm) for at, alarm in told if alarm is not None]


def watched(detector: str, events: int = 100) -> Series:
    return Series("metric", [detector], events, SETTLE)


@pytest.mark.parametrize(("detector", "most"), [("adwin", 14), ("page_hinkley", 9)])
def test_a_change_of_three_times_the_noise_is_found_soon(detector: str, most: int) -> None:
    delays = []
    for seed in range(20):
        at, alarm = alarms(watched(detector), series(seed, 3.0))[0]
        delays.append(at - CHANGE + 1)
        assert alarm.detector == detector and alarm.before == pytest.approx(0.3, abs=0.02) and alarm.now > alarm.before
        assert alarm.noise == pytest.approx(0.03, rel=0.5)
    assert min(delays) > 0 and np.quantile(delays, 0.9) <= most


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_what_stays_as_it_is_or_becomes_better_raises_no_alarm(detector: str, shift: float) -> None:
    """At most one false alarm in 2,000 values of noise without memory."""
    assert sum(len(alarms(watched(detector), series(seed, shift, 1000))) for seed in range(4)) <= 2


@pytest.mark.parametrize("detector", DETECTORS)
def test_learning_that_goes_well_raises_none(detector: str) -> None:
    at = np.arange(600)
    falling = 0.3 + 0.3 * np.exp(-at / 100) + series(3, 0.0, 600) - 0.3
    assert alarms(watched(detector), falling) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_share_that_was_always_nothing_has_the_noise_of_one_event(detector: str) -> None:
    share = np.zeros(120)
    share[100:] = 0.2
    at, alarm = alarms(watched(detector), share)[0]
    assert at < 110 and alarm.noise == 1 / EVENTS
    share[100:] = 0.0
    share[100] = 1 / EVENTS
    assert alarms(watched(detector), share) == []


@pytest.mark.parametrize("detector", DETECTORS)
def test_after_an_alarm_it_says_whether_the_loss_is_still_there(detector: str) -> None:
    values = series(5, 4.0)
    first, stayed = alarms(watched(detector), values)
    assert stayed[1].detector == SETTLED and stayed[0] == first[0] + SETTLE and stayed[1].before == first[1].before
    values[CHANGE + 15 :] -= 4.0 * 0.03
    assert [alarm.detector for _, alarm in alarms(watched(detector), values)] == [detector]


@pytest.mark.parametrize("detector", DETECTORS)
def test_it_says_when_half_of_a_loss_is_regained(detector: str) -> None:
    values, told = series(5, 4.0), watched(detector)
    values[CHANGE + 20 :] -= 4.0 * 0.03
    well = []
    for value in values[: CHANGE + 30]:
        told.update(value * EVENTS, EVENTS)
        well.append(told.recovered)
    assert not any(well[: CHANGE + 20]) and well[CHANGE + 25]


def test_small_micro_batches_are_gathered() -> None:
    """The same events in fourths make the same values, and the same alarm."""
    values = series(1, 4.0)
    whole, parts = alarms(watched("adwin"), values), watched("adwin", EVENTS)
    told = [(at // 4, parts.update(value * EVENTS / 4, EVENTS // 4)) for at, value in enumerate(np.repeat(values, 4))]
    assert [(at, alarm.values) for at, alarm in told if alarm] == [(at, alarm.values) for at, alarm in whole]
    assert watched("adwin").update(0.0, 0) is None


def test_it_goes_on_from_its_last_alarm() -> None:
    """What a restart knows is that alarm and what came since."""
    values = np.concatenate([series(8, 4.0), series(9, 4.0) + 0.12])
    all_of_them = alarms(watched("page_hinkley"), values)
    at, alarm = all_of_them[0]
    again = Series("metric", ["page_hinkley"], 100, SETTLE, alarm)
    assert [(at + 1 + later, told) for later, told in alarms(again, values[at + 1 :])] == all_of_them[1:] != []
