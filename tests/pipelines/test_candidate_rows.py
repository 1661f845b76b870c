"""What a candidate writes, and which versions it learns of: no Spark."""

from __future__ import annotations

import pytest
from planted import USER_KEYS, Lab, checkerboard, part, settings

from freshet.errors import FreshetError, SettingsError
from freshet.pipelines.assembly import new_head
from freshet.pipelines.candidates import rows_of
from freshet.pipelines.material import between
from freshet.pipelines.retrain import Watch, check_start, plan_of
from freshet.pipelines.rows import from_arrow
from freshet.retraining import Pass, Progress
from freshet.store.snapshots import ITEMS, LEARN, Snapshot


def test_rows_over_those_of_the_parent_give_the_candidate_and_nothing_else() -> None:
    parent, candidate = (Lab(settings("model.name=mf")) for _ in range(2))
    parent.learn(checkerboard(600))
    events = checkerboard(600, seed=2)
    candidate.learn(part(events, events.user_key != USER_KEYS[4]))
    rows = rows_of(candidate.head, parent.head)
    newest = {(row["block"], row["key"]): row for row in rows.to_pylist()}
    assert len(newest) == rows.num_rows  # each key once
    gone = {key for key, row in newest.items() if row["deleted"]}
    assert {key for key in gone if key[0] in ("user", "history")} == {("user", int(USER_KEYS[4])), ("history", int(USER_KEYS[4]))}
    assert {newest[key]["deleted"] for key in gone} == {"retrain"}
    again = new_head(candidate.learner.model, candidate.chosen)
    kept = rows.filter([row["deleted"] is None for row in rows.to_pylist()])
    for name, block in again.blocks.items():
        mine = kept.filter([row == name for row in kept.column("block").to_pylist()])
        for some in from_arrow(block, mine.combine_chunks()):
            again.put(name, some)
    assert again.digest == candidate.head.digest


HOUR = 3_600_000_000
COMMITS = [
    Snapshot(0, "a", kind="start"), Snapshot(1, "b", kind=LEARN, accepted_count=5, event_clock=HOUR),
    Snapshot(2, "c", kind=ITEMS, event_clock=HOUR), Snapshot(3, "d", kind=LEARN, event_clock=HOUR),
    Snapshot(4, "e", kind=LEARN, accepted_count=7, event_clock=2 * HOUR), Snapshot(5, "f", kind=LEARN, accepted_count=7, event_clock=4 * HOUR),
]


@pytest.mark.parametrize(
    ("first", "last", "versions"),
    [
        (None, None, [1, 4, 5]), ("2", None, [4, 5]), (None, "4", [1, 4]), ("4", "4", [4]), ("1970-01-01 02:00", None, [4, 5]),
        (None, "1970-01-01T03:59:00+00:00", [1, 4]), ("1970-01-01T03:00+02:00", "4", [1, 4]),
    ],
)  # fmt: skip
def test_ranges(first: str | None, last: str | None, versions: list[int]) -> None:
    assert [one.version for one in between(COMMITS, first, last)] == versions


def test_ranges_of_nothing_and_starts_that_cannot_be_are_refused() -> None:
    for first in ("6", "1971-01-01", "soon"):
        with pytest.raises(FreshetError):
            between(COMMITS, first, None)
    for sets, version in (
        (("model.name=bpr", "retrain.start=als"), None), (("model.name=mf",), 3), (("model.name=bpr", "retrain.normalise=mean"), None),
        (("model.name=mf", "model.optimizer.name=adam", "retrain.normalise=z-score"), None),
    ):
        with pytest.raises(SettingsError):
            check_start(settings(*sets), version)
    check_start(settings("model.name=mf", "retrain.start=warm"), 3)
    check_start(settings("model.name=mf", "retrain.normalise=offsets"), None)


def test_what_is_said_of_a_pass() -> None:
    said: list[str] = []
    watch = Watch(said.append, passes=4)
    watch.begun -= 2.0
    watch(Progress(1, 500, 1000))
    watch(Progress(1, 1000, 1000))
    watch(Pass(1, 0.75, (), 0.123, True))
    assert len(said) == 1 and said[0].startswith("pass 1 of 4: ") and "0.1230 (best)" in said[0] and "at most 6 s left" in said[0]
    watch(Pass(2, 0.5, (), 0.2, False, {"clipped_users": 1200, "burst_events": 0}))
    assert said[1].count("1,200 clipped_users") == 1 and "burst" not in said[1]
    plan = plan_of(settings("retrain.metric=recall", "retrain.passes=3"))
    assert (plan.passes, plan.metric, plan.split) == (3, "recall", "time")
