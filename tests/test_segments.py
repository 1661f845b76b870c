"""Popularity by segment against its formula: counts, lists of strangers, what is planted, bounds, settings."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from planted import SECOND, Lab, key, part, settings

from freshet.companions import advance
from freshet.errors import SettingsError
from freshet.lists import Lists, shelf, top_items
from freshet.models.contract import Events
from freshet.pipelines.assembly import half_lives, segments
from freshet.schema import POPULARITY, REASONS, SEGMENT

ITEMS, COUNTRIES = 40, 3
COUNTRY = key(4, np.arange(COUNTRIES))
NOWHERE = key(4, np.array([77]))
CONTEXT = ("source.context=[device,country]", "model.features.context=[device,country]")
WITH = (*CONTEXT, "popularity.segment=country", "popularity.segment_prior=50", "model.positive_from=null")
STRANGERS = key(1, 5000 + np.arange(COUNTRIES + 1))


def visits(n: int, start: int = 0) -> Events:
    """Three events of four go to the tenth of the items that is the country's own, the others anywhere; every 20th comes
    from nowhere."""
    random, number = np.random.default_rng([3, start]), start + np.arange(n)
    country = random.integers(COUNTRIES, size=n)
    item = np.where(random.random(n) < 0.75, country * 4 + random.integers(4, size=n), random.integers(ITEMS, size=n))
    features = np.stack([key(5, number % 2), COUNTRY[country]], axis=1)
    features[number % 20 == 0, 1] = 0
    user, at = key(1, random.integers(400, size=n)), 10**15 + number * SECOND
    return Events(user, key(2, item), np.full(n, 5.0), random.uniform(0.5, 2.0, n), at, key(3, number), features)


def learned(*sets: str, name: str = "bpr", size: int = 300) -> tuple[Lab, Events]:
    lab, events = Lab(settings(f"model.name={name}", *WITH, *sets)), visits(900)
    for start in range(0, 900, size):
        piece = slice(start, start + size)
        made = replace(part(events, piece), features=events.features[piece])
        lab.seen = lambda given: given  # the events have features of their own
        lab.learn(made)
    return lab, events


def asked(lab: Lab, users: np.ndarray, country: np.ndarray, n: int = 8) -> Lists:
    table = lab.head.tables[POPULARITY]
    spec = segments(lab.chosen)
    on = shelf(lab.head, lab.learner.model, half_lives(lab.chosen), np.argsort(np.argsort(table.keys)), None, spec)
    context = np.stack([np.zeros(len(users), np.int64), country], axis=1)
    return top_items(lab.head, lab.learner.model, on, users, n, 1000, context)


def decayed(events: Events, half_life: float, at: int, chosen: np.ndarray) -> float:
    return float((events.weight * np.exp2(-(at - events.event_at) / half_life))[chosen].sum())


@pytest.mark.parametrize("half_life", [math.inf, 200.0])
@pytest.mark.parametrize("size", [900, 130])
def test_a_row_counts_the_items_of_its_segment_decayed(half_life, size) -> None:
    lab, events = learned(f"popularity.half_life={'never' if math.isinf(half_life) else half_life}", size=size)
    rows, known = lab.head.gather(SEGMENT, COUNTRY)
    assert known.all() and len(lab.head.tables[SEGMENT]) == COUNTRIES
    for row, country in enumerate(COUNTRY):
        here, at = events.features[:, 1] == country, int(rows.last_at[row])
        assert at == events.event_at[here].max() and rows.count[row] == here.sum()
        assert rows.values[row, 0] == pytest.approx(decayed(events, half_life * SECOND, at, here), rel=1e-5)
        links = rows.links[row, : rows.filled[row]]
        assert set(links.tolist()) == set(events.item_key[here].tolist())
        wanted = [decayed(events, half_life * SECOND, at, here & (events.item_key == item)) for item in links]
        np.testing.assert_allclose(rows.values[row, 1 : 1 + len(links)], wanted, rtol=1e-5)


def test_strangers_get_the_smoothed_popularity_of_their_segment() -> None:
    """By p(i | s) as it stands in the formula, over all items."""
    lab, events = learned("popularity.half_life=200", name="cooccurrence")
    life, clock, keys = 200.0 * SECOND, int(events.event_at.max()), lab.head.tables[POPULARITY].keys
    everything = np.ones(len(events), bool)
    for country, user in zip(COUNTRY, STRANGERS, strict=False):
        here = events.features[:, 1] == country
        share = np.array([decayed(events, life, clock, events.item_key == item) for item in keys]) / decayed(
            events, life, clock, everything)
        own = np.array([decayed(events, life, clock, here & (events.item_key == item)) for item in keys])
        chance = (own + 50.0 * share) / (decayed(events, life, clock, here) + 50.0)
        found = asked(lab, user[None], country[None], ITEMS)
        assert found.items[0, : found.length[0]].tolist() == keys[np.argsort(-chance)].tolist()
        between = found.scores[0, :-1] - found.scores[0, 1:]
        np.testing.assert_allclose(between, -np.diff(np.log(np.sort(chance)[::-1])), atol=1e-4)


def test_who_asks_from_somewhere_gets_what_is_popular_there_and_the_reason_says_so() -> None:
    lab, _ = learned()
    found = asked(lab, STRANGERS, np.concatenate([COUNTRY, NOWHERE]), 4)
    words = np.array(list(REASONS))[found.reasons]
    for country in range(COUNTRIES):
        assert set(found.items[country].tolist()) == set(key(2, country * 4 + np.arange(4)).tolist())
        assert set(words[country]) == {"segment"}
    assert set(words[-1]) == {"popularity"} and not found.known.any()
    assert asked(lab, STRANGERS[:1], np.zeros(1, np.int64), 4).items.tolist() == found.items[-1:].tolist()
    known = visits(1).user_key
    assert set(np.array(list(REASONS))[asked(lab, known, COUNTRY[:1], 4).reasons[0]]) <= {"user", "popularity"}


def test_a_model_that_has_vectors_of_contexts_ranks_by_them_first() -> None:
    lab, _ = learned(name="history")
    found = asked(lab, STRANGERS[[0, -1]], np.array([COUNTRY[0], NOWHERE[0]]), 4)
    words = np.array(list(REASONS))[found.reasons]
    assert set(words[0]) == {"features"} and set(words[1]) == {"popularity"}


def test_a_row_is_bounded_and_keeps_what_is_popular() -> None:
    lab, _ = learned("popularity.segment_items=6", "popularity.half_life=never")
    rows, _ = lab.head.gather(SEGMENT, COUNTRY)
    assert rows.links.shape[1] == 6 and (rows.filled == 6).all()
    for country in range(COUNTRIES):
        assert set(key(2, country * 4 + np.arange(4)).tolist()) <= set(rows.links[country].tolist())


def test_the_metric_of_segments_is_on_the_events_of_popularity_and_sees_what_is_planted() -> None:
    lab, _ = learned()
    events = visits(400, start=5000)
    totals = {(m.metric, m.learner): (m.total, m.events) for m in lab.learn(events).metrics if m.slice == "all"}
    mine, beside = totals["ndcg@10", "segment"], totals["ndcg@10", "popularity"]
    assert mine[1] == beside[1] > 100 and mine[0] > 1.1 * beside[0]


def test_what_is_not_positive_or_has_no_segment_is_not_counted() -> None:
    lab, events = learned(), visits(100, start=900)
    lab, spec = lab[0], lab[0].learner.spec.companions
    ahead = advance(lab.head, replace(events, features=np.zeros_like(events.features)), np.ones(100, bool), spec)
    assert SEGMENT not in ahead.rows
    assert SEGMENT not in advance(lab.head, events, np.zeros(100, bool), spec).rows


def test_segments_are_a_column_that_the_model_knows() -> None:
    with pytest.raises(SettingsError) as refused:
        load_with("popularity.segment=region")
    assert "region" in str(refused.value) and "model.features.context" in str(refused.value)
    assert segments(load_with()) is None and SEGMENT not in Lab(load_with()).head.blocks


def load_with(*sets: str):
    return settings(*CONTEXT, *sets)
