from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels.bootstrap import resampled, resampled_pairs, states_of
from freshet.kernels.ranking import pairs_won

TIMES = 4000


def test_weights_are_poisson_and_belong_to_the_user() -> None:
    users = np.arange(7, dtype=np.int64) * 10**12 - 3
    weights = resampled(np.eye(7), states_of(users, 5), TIMES)
    assert weights.mean(axis=0) == pytest.approx(1.0, abs=0.06)
    assert weights.var(axis=0) == pytest.approx(1.0, abs=0.12)
    assert np.abs(np.corrcoef(weights.T) - np.eye(7)).max() < 0.06
    assert {0.0, 1.0, 2.0, 3.0} <= set(weights.ravel())
    other = resampled(np.eye(3), states_of(users[[4, 0, 2]], 5), TIMES)
    assert np.array_equal(other, weights[:, [4, 0, 2]])
    assert not np.array_equal(resampled(np.eye(7), states_of(users, 6), TIMES), weights)


def test_the_interval_is_that_of_the_normal_law() -> None:
    """The mean of many users has the standard error that the textbook gives it; with events of one user alike it is wider."""
    random = np.random.default_rng(1)
    own = random.normal(size=400)
    for events in (1, 9):
        sums = np.stack([own * events, np.full(400, float(events))], axis=1)
        drawn = resampled(sums, states_of(np.arange(400), 2), TIMES)
        assert (drawn[:, 0] / drawn[:, 1]).std() == pytest.approx(own.std() / 20, rel=0.08)
    naive = resampled(np.repeat(np.stack([own, np.ones(400)], axis=1), 9, axis=0), states_of(np.arange(3600), 2), 500)
    assert (naive[:, 0] / naive[:, 1]).std() < own.std() / 40  # each event by itself: much too sure


@pytest.mark.parametrize("grid", [True, False])
def test_pairs_equal_the_count_over_the_events_as_often_as_drawn(grid: bool) -> None:
    random = np.random.default_rng(3)
    score = random.integers(0, 5, 90).astype(float) if grid else random.normal(size=90)
    positive, user = random.random(90) < 0.3, random.integers(0, 12, 90).astype(np.int32)
    states = states_of(np.arange(12), 1)
    found, weights = resampled_pairs(score, positive, user, states, 20), resampled(np.eye(12), states, 20).astype(int)
    for b in range(20):
        times = np.repeat(np.arange(90), weights[b, user])
        assert tuple(found[b]) == pairs_won(score[times], positive[times])
    assert resampled_pairs(score[:0], positive[:0], user[:0], states, 2).tolist() == [[0, 0], [0, 0]]
