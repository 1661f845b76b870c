"""Growth of rows: what it is by hand, and that learning which runs away is found by it while ordinary learning is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from planted import Lab, checkerboard, settings

from freshet.detectors import Series
from freshet.growth import growth_metric
from freshet.head import Head
from freshet.learner import Learner
from freshet.pipelines.assembly import new_learner


def grown(head: Head, learner: Learner, factor: float) -> list:
    rows, _ = head.gather("item", head.tables["item"].keys.copy())
    return growth_metric(learner.model, head, head.changes({"item": replace(rows, values=rows.values * np.float32(factor))})[0])


def test_rows_twice_as_long_have_grown_by_the_log_of_two() -> None:
    lab = Lab(settings("model.name=mf"))
    lab.learn(checkerboard(400))
    [one] = grown(lab.head, lab.learner, 2.0)
    assert one.mean == pytest.approx(np.log(2.0), rel=1e-6) and one.events == len(lab.head.tables["item"])
    assert grown(lab.head, lab.learner, 1.0)[0].total == 0.0
    assert growth_metric(lab.learner.model, lab.head, {}) == []
    counted = Lab(settings("model.name=cooccurrence"))
    counted.learn(checkerboard(100))
    told = counted.learner.learn(counted.head, checkerboard(100, start=100), counted.one_by_one)
    assert growth_metric(counted.learner.model, counted.head, told.changes) == []


@pytest.mark.parametrize("rate", [1.0, 12.0])
def test_steps_that_became_too_long_are_seen(rate: float) -> None:
    lab, watched, alarms = Lab(settings("model.name=bpr", "model.max_norm=1000")), Series("growth", ["page_hinkley"], 20, 20), []
    for batch in range(120):
        if batch == 80:
            lab.learner = new_learner(lab.chosen.with_rates(rate))
        events = checkerboard(40, start=40 * batch)
        told = lab.learner.learn(lab.head, events, lab.one_by_one)
        found = growth_metric(lab.learner.model, lab.head, told.changes)
        lab.learn(events)
        alarms += [batch for one in found if watched.update(one.total, one.events) is not None]
    assert bool(alarms) == (rate > 1.0) and all(80 <= batch < 95 for batch in alarms[:1])
