"""What the demo says, without Spark: where tastes change and what is written."""

from __future__ import annotations

import re

import pytest

from freshet.models import MODELS
from freshet.pipelines import showcase
from freshet.pipelines.assembly import new_head, new_learner
from freshet.report import BatchReport
from freshet.settings import load

SETTINGS = showcase.demo_settings(load(sets=["demo.events=1000", "demo.drift_at=0.5"])[0], quick=False)


def report(number: int, so_far: int) -> BatchReport:
    return BatchReport(
        version=number, kind="learn", batch_id=number, read=110, accepted=100, quarantined=10, duplicate=0, late=0, seconds=1.0,
        lag_seconds=1.0, users=1, items=1, so_far={"read": so_far + so_far // 10, "accepted": so_far},
    )  # fmt: skip


@pytest.mark.parametrize("first", [1, 4, 5])
def test_tastes_change_at_the_same_batch_after_a_restart(first: int) -> None:
    told: list[BatchReport] = []
    follower = showcase.Follower(None, SETTINGS, None, told.append)  # type: ignore[arg-type]
    for number in range(first, 10):
        follower(report(number, 100 * number))
    assert [one.batch_id for one in told if one.note] == [5]


@pytest.mark.parametrize("model", sorted(MODELS))
def test_the_users_shown_are_found_with_every_model(model: str) -> None:
    settings = load(sets=[f"model.name={model}"])[0]
    asked = re.findall(r"p\.block = '(\w+)'", showcase.QUERY_USERS)
    assert asked and set(asked) <= set(new_head(new_learner(settings).model, settings).blocks)


def test_what_is_written_is_what_is_missing() -> None:
    assert showcase.writing(1000, SETTINGS) == "writing 1,000 events to freshet-demo/events, 2,000 a second"
    assert showcase.writing(300, SETTINGS).startswith("writing the 300 events of 1,000 that are missing")
    assert showcase.writing(0, SETTINGS) == "all 1,000 events are in freshet-demo/events already"
