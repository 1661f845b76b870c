"""Head and published version on the same events."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from planted import Lab, checkerboard, part, settings

from freshet.head import Head
from freshet.models.contract import Events
from freshet.paired import HEAD, as_metrics, from_metrics, norm_growth, of_some_users, pair
from freshet.pipelines.assembly import new_head
from freshet.policy.gate import ALL, COVERAGE, NEW_USERS
from freshet.report import Metric
from freshet.settings import GuardMargins


def lab_of(name: str, *sets: str) -> Lab:
    return Lab(settings(f"model.name={name}", "model.init_scale=0.3", *sets))


def copied(lab: Lab) -> Head:
    other = new_head(lab.learner.model, lab.chosen)
    for name, table in lab.head.tables.items():
        other.put(name, lab.head.gather(name, table.keys)[0])
    other.clock = lab.head.clock
    return other


def kept_apart(events: Events, held: bool) -> Events:
    """The events of every fourth pair of user and item, or of the others: what a user has is not ranked again."""
    return part(events, ((events.user_key ^ events.item_key) % 4 == 0) == held)


@pytest.mark.parametrize(("name", "metric", "sign"), [("bpr", "ndcg@10", 1), ("mf", "mae", -1), ("fm", "logloss", -1), ("history", "ndcg@10", 1)])
def test_the_one_that_learned_more_is_better_and_itself_is_equal(name: str, metric: str, sign: int) -> None:
    lab = lab_of(name, "metrics.k=10")
    lab.learn(kept_apart(checkerboard(300), False))
    published = copied(lab)
    for start in range(1000, 9000, 1000):
        lab.learn(kept_apart(checkerboard(1000, start=start), False))
    events = lab.seen(kept_apart(checkerboard(1200, start=20_000), True))
    found = pair(lab.learner, lab.head, published, events, 1000)
    assert found.metric == metric and found.sums[ALL][2] > 20
    assert sign * (found.sums[ALL][0] - found.sums[ALL][1]) > 0
    same = pair(lab.learner, lab.head, copied(lab), events, 1000)
    assert same.sums[ALL][0] == same.sums[ALL][1]
    assert norm_growth(lab.learner.model, lab.head, published) > 1.0 == norm_growth(lab.learner.model, lab.head, lab.head)
    parts = [found.sums[name] for name in ("new_user", "known_user")]
    assert found.sums[ALL][2] == sum(part[2] for part in parts)


def test_an_empty_published_version_ranks_nothing_right() -> None:
    lab = lab_of("bpr")
    lab.learn(checkerboard(600))
    # New items for everybody, or each would be one the user has.
    events = checkerboard(200, start=5000)
    events = replace(events, user_key=events.user_key + 1)
    found = pair(lab.learner, lab.head, new_head(lab.learner.model, lab.chosen), events, 1000)
    assert found.sums[ALL][0] > 0 == found.sums[ALL][1]


def test_users_stay_whole_and_are_drawn_by_their_events_alone() -> None:
    events = checkerboard(3000)
    some = of_some_users(events, 300, seed=1)
    assert 300 <= len(some) < 600
    whole = np.isin(events.user_key, some.user_key)
    assert whole.sum() == len(some)
    turned = Events(*(getattr(events, one.name)[whole] for one in fields(Events)))
    assert turned.event_hash.tobytes() == some.event_hash.tobytes()
    other = of_some_users(checkerboard(3000, start=50_000), 300, seed=1)
    assert set(other.user_key) != set(some.user_key)
    assert len(of_some_users(events, 5000, seed=1)) == 3000


def test_metrics_carry_it_there_and_back() -> None:
    lab = lab_of("mf")
    lab.learn(checkerboard(400))
    found = pair(lab.learner, lab.head, copied(lab), checkerboard(100, start=900), 50)
    rows = as_metrics(found)
    assert from_metrics([Metric("rmse", "served", "mf", "all", 1.0, 1), *rows]) == found
    assert {row.learner for row in rows} == {HEAD, "published"} and from_metrics([]) is None


BOTH = GuardMargins(coverage=0.1, new_users=0.1)


@pytest.mark.parametrize("name", ["bpr", "mf", "fm", "history"])
def test_guards_count_lists_and_new_users_of_both(name: str) -> None:
    lab = lab_of(name, "metrics.k=4")
    lab.learn(kept_apart(checkerboard(400), False))
    published, events = copied(lab), lab.seen(kept_apart(checkerboard(1000, start=20_000), True))
    strangers = part(events, np.arange(len(events)) % 2 == 0)
    strangers = replace(strangers, user_key=strangers.user_key + 1)
    events = Events(*(np.concatenate([getattr(one, column.name) for one in (events, strangers)]) for column in fields(Events)))
    events = part(events, np.lexsort((events.event_hash, events.event_at)))
    found = pair(lab.learner, lab.head, published, events, 10**6, BOTH)
    assert found.guards[COVERAGE][0] == found.guards[COVERAGE][1] > 4 and found.guards[COVERAGE][2] == len(lab.head.tables["popularity"])
    hits, its, asked = found.guards[NEW_USERS]
    positive = lab.learner.model.positive(events)
    new = published.lookup("history", events.user_key) < 0
    assert 0 < hits == its < asked <= (positive & new).sum()
    rows = as_metrics(found)
    assert from_metrics([Metric("rmse", "served", "mf", "all", 1.0, 1), *rows]) == found
    assert pair(lab.learner, lab.head, published, events, 10**6).guards == {}


def test_lists_that_became_the_same_cover_less() -> None:
    """A head whose item rows have taken to six items, whoever asks."""
    lab = lab_of("bpr", "metrics.k=2")
    lab.learn(checkerboard(200))
    published = copied(lab)
    rows, _ = lab.head.gather("item", lab.head.tables["item"].keys.copy())
    values = rows.values.copy()
    values[:6, 0] += 50.0  # the bias
    lab.head.put("item", replace(rows, values=values))
    mine, its, known = pair(lab.learner, lab.head, published, lab.seen(checkerboard(300, start=9000)), 10**6, BOTH).guards[COVERAGE]
    assert mine < 0.8 * its and its <= known
