"""Detectors of change: a planted change is found soon, a series that stays as it is raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.detectors import DETECTORS, PSI, SETTLED, Alarm, Relay, Series, Shares

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


def shares(seed: int, change: float, values: int = 120, buckets: int = 32) -> list[dict[str, float]]:
    """Micro-batches of EVENTS events over uneven buckets; from value 80 on a share `change` of each goes to the next one."""
    random = np.random.default_rng([9, seed])
    before = 1.0 / (1.0 + np.arange(buckets))
    before /= before.sum()
    after = (1 - change) * before + change * np.roll(before, buckets // 2)
    drawn = [random.multinomial(EVENTS, before if at < 80 else after) for at in range(values)]
    return [{str(bucket): float(counts[bucket]) for bucket in np.flatnonzero(counts)} for counts in drawn]


def shifts(told: list[dict[str, float]], settle: int = SETTLE) -> list[tuple[int, Alarm]]:
    watched = Shares("items", 100, settle, 0.25)
    found = [(at, watched.update(counts, EVENTS)) for at, counts in enumerate(told)]
    return [(at, alarm) for at, alarm in found if alarm is not None]


def test_other_shares_are_found_and_named_and_equal_ones_raise_no_alarm() -> None:
    for seed in range(10):
        [(at, alarm)] = shifts(shares(seed, 0.7))
        assert 80 < at < 80 + SETTLE and alarm.detector == PSI and alarm.now > 0.25 > alarm.before
        name, before, now = alarm.moved[0]
        assert name in ("0", "16") and abs(now - before) > 0.02
        assert shifts(shares(seed, 0.0, 600)) == []
    # Of few events chance alone makes a PSI above a fourth.
    assert all(shifts(shares(seed, 0.0, 300), settle=1) == [] for seed in range(10))
    assert Shares("items", 100, 1, 0.25).update({"0": 128.0}, EVENTS) is None


def test_a_psi_is_the_sum_it_says() -> None:
    """Two buckets, 600 events in each window: shares .5 and .9, half an event more in each."""
    watched = Shares("types", 600, 1, 0.25)
    assert watched.update({"a": 300.0, "b": 300.0}, 600) is None
    alarm = watched.update({"a": 540.0, "b": 60.0}, 600)
    p, q = np.array([300.5, 300.5]) / 601, np.array([540.5, 60.5]) / 601
    assert alarm.now == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert alarm.before == pytest.approx(2 / 600) and alarm.noise == pytest.approx(2**0.5 * 2 / 600)
    assert alarm.moved == (("b", 0.5, 0.1), ("a", 0.5, 0.9))


@pytest.mark.parametrize("detector", DETECTORS)
def test_what_speaks_after_a_start_is_what_spoke(detector: str) -> None:
    """A restart knows the last alarm, and what came since it or since the last turn but one."""
    values, turns = np.concatenate([series(seed, 4.0 * (seed % 3 == 0), 260) + 0.12 * (seed // 3) for seed in range(6)]), range(99, 1560, 100)

    def make(since: Alarm | None) -> Series:
        return Series("metric", [detector], 100, SETTLE, since)

    def run(watched: Relay, first: int, last: int) -> list[tuple[int, Alarm]]:
        told = []
        for at in range(first, last):
            alarm = watched.update(values[at] * EVENTS, EVENTS)
            told += [(at, alarm)] if alarm is not None else []
            if at in turns:
                watched.turn()
        return told

    whole = run(Relay(make), 0, len(values))
    assert len([alarm for _, alarm in whole if alarm.detector != SETTLED]) >= 3
    for start in range(150, len(values), 37):
        before = [(at, alarm) for at, alarm in whole if at < start and alarm.detector != SETTLED]
        at, alarm = before[-1] if before else (-1, None)
        turned = [-1, -1, *(turn for turn in turns if turn < start)][-2]
        after = max(at, turned)
        again = Relay(make, alarm if at >= turned else None)
        if after in turns:
            again.turn()
        run(again, after + 1, start)
        assert run(again, start, len(values)) == [(at, alarm) for at, alarm in whole if at >= start]
