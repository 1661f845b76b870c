"""Impressions against a plain twin that looks at each pair: every one has one fate, learned once, whatever was cut or restarted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from planted import part

from freshet.labels import (
    ANSWER,
    EXPIRED,
    IMPRESSION,
    IMPRESSIONS,
    MATURED,
    ORDINARY,
    PENDING,
    at_once,
    is_answered,
    remembered,
    settle,
)
from freshet.models.contract import Events

WAIT = 10
one = st.tuples(st.integers(0, 40), st.sampled_from([ORDINARY, IMPRESSION, IMPRESSION, ANSWER]), st.integers(0, 1), st.integers(0, 2))


def events_of(rows: list[tuple[int, int, int, int]], start: int = 0) -> tuple[Events, np.ndarray]:
    """(at, kind, user, item) of each as events in canonical order, numbered from `start`, and their kinds."""
    rows = sorted((*row, start + number) for number, row in enumerate(rows))
    at, kind, user, item, number = (np.array([row[n] for row in rows], np.int64) for n in range(5))
    order = np.lexsort((number, at))
    events = Events(user, item, np.full(len(rows), 5.0), np.ones(len(rows)), at, number)
    return part(events, order), kind[order].astype(np.int8)


def cut(sizes: list[int], rows: list) -> list[list]:
    edges = np.cumsum([0, *sizes])
    return [rows[low:high] for low, high in zip(edges, [*edges[1:], len(rows)], strict=True)]


@limits(max_examples=300, deadline=None)
@given(st.lists(one, max_size=40), st.lists(st.integers(0, 15), max_size=4), st.booleans())
def test_each_impression_has_one_fate_and_is_learned_at_most_once(rows, sizes, restart) -> None:
    waiting, clock, learned, totals, accepted = None, 0, [], dict.fromkeys((IMPRESSIONS, MATURED, EXPIRED), 0), []
    fate: dict[int, str] = {}
    for batch in cut(sizes, rows):
        events, kinds = events_of(batch, len(accepted))
        before, clock = clock, max([clock, *events.event_at.tolist()])
        accepted += [(*row, number) for number, row in enumerate(batch, len(accepted))]
        settled = settle(waiting, events, kinds, WAIT, before, clock)
        learned += list(zip(settled.events.event_hash.tolist(), settled.events.value.tolist(), strict=True))
        keys = list(zip(settled.events.event_at.tolist(), settled.events.event_hash.tolist(), strict=True))
        assert keys == sorted(keys)
        for number in (events.event_hash[kinds == IMPRESSION]).tolist():
            at = accepted[number][0]
            fate[number] = EXPIRED if at + WAIT < before else PENDING
        for number, now in fate.items():
            at, _, user, item, _ = accepted[number]
            answered = any(k == ANSWER and (u, i) == (user, item) and at <= t <= at + WAIT for t, k, u, i, _ in accepted)
            if now == PENDING and (answered or at + WAIT < clock):
                fate[number] = MATURED
                assert ((number, 0.0) in learned) == (not answered)
        for name in totals:
            totals[name] += settled.counts[name]
        found = {name: list(fate.values()).count(name) for name in (MATURED, PENDING, EXPIRED)}
        assert found == {MATURED: totals[MATURED], PENDING: settled.counts[PENDING], EXPIRED: totals[EXPIRED]}
        assert sum(found.values()) == totals[IMPRESSIONS] == len(fate)
        waiting = settled.waiting
        assert sorted(waiting.pending.event_hash.tolist()) == [number for number, now in sorted(fate.items()) if now == PENDING]
        if restart:
            whole, kinds = all_of(accepted)
            recent = whole.event_at >= clock - WAIT
            again = remembered(part(whole, recent), kinds[recent], WAIT, clock)
            assert again.pending.event_hash.tolist() == waiting.pending.event_hash.tolist()
            for name in ("user_key", "item_key", "event_at"):
                assert sorted(again.answers[name].tolist()) == sorted(waiting.answers[name].tolist())
            waiting = again
    numbers = [number for number, _ in learned]
    assert len(numbers) == len(set(numbers))
    others = {number for _, kind, _, _, number in accepted if kind != IMPRESSION}
    assert {number for number, value in learned if value == 5.0} == others


def all_of(accepted: list) -> tuple[Events, np.ndarray]:
    return events_of([row[:4] for row in accepted])


def test_the_edges_of_a_wait_belong_to_it() -> None:
    for at, wanted in ((100, True), (110, True), (111, False), (99, False)):
        events, kinds = events_of([(100, IMPRESSION, 0, 0), (at, ANSWER, 0, 0)])
        answers = {name: getattr(part(events, kinds == ANSWER), name) for name in ("user_key", "item_key", "event_at")}
        assert is_answered(part(events, kinds == IMPRESSION), answers, WAIT).tolist() == [wanted]
    for clock, pending in ((110, 1), (111, 0)):
        events, kinds = events_of([(100, IMPRESSION, 0, 0)])
        assert settle(None, events, kinds, WAIT, 0, clock).counts[PENDING] == pending
    for before, expired in ((110, 0), (111, 1)):
        assert settle(None, events, kinds, WAIT, before, before).counts[EXPIRED] == expired


def test_an_answer_of_another_user_or_item_is_none() -> None:
    events, kinds = events_of([(100, IMPRESSION, 0, 0), (101, ANSWER, 1, 0), (102, ANSWER, 0, 1), (130, ORDINARY, 0, 0)])
    settled = settle(None, events, kinds, WAIT, 0, 130)
    assert list(zip(settled.events.event_at.tolist(), settled.events.value.tolist(), strict=True)) == [
        (100, 0.0), (101, 5.0), (102, 5.0), (130, 5.0)]


def test_a_correction_of_an_impression_is_no_further_one() -> None:
    events, kinds = events_of([(100, IMPRESSION, 0, 0)])
    waiting = settle(None, events, kinds, WAIT, 0, 100).waiting
    corrected = replace(events, corrects=np.ones(1, bool))
    settled = settle(waiting, corrected, kinds, WAIT, 100, 100)
    assert (settled.counts, len(settled.events)) == ({IMPRESSIONS: 0, MATURED: 0, PENDING: 1, EXPIRED: 0}, 0)


def test_all_at_once_learns_what_a_stream_learns_in_pieces() -> None:
    rows = [(100, IMPRESSION, 0, 0), (101, IMPRESSION, 0, 1), (105, ANSWER, 0, 0), (120, ORDINARY, 1, 1), (125, IMPRESSION, 1, 0)]
    events, kinds = events_of(rows)
    found, place = at_once(events, kinds, WAIT, 125)
    assert (found.event_at.tolist(), found.value.tolist(), place.tolist()) == ([101, 105, 120], [0.0, 5.0, 5.0], [1, 2, 3])
    earlier = settle(None, part(events, slice(0, 2)), kinds[:2], WAIT, 0, 101).waiting
    rest, place = at_once(part(events, slice(2, 5)), kinds[2:], WAIT, 125, earlier)
    assert (rest.event_at.tolist(), rest.value.tolist(), place.tolist()) == ([101, 105, 120], [0.0, 5.0, 5.0], [-1, 0, 1])


@pytest.mark.parametrize(
    ("sets", "named"),
    [(["model.name=mf"], "model.name"), (["model.loss=squared"], "model.loss"), (["model.positive_from=0"], "model.positive_from"),
     (["source.event_types=[impression, buy]"], "labels.answers"), (["labels.answers=[impression]"], "labels.answers"),
     (["labels.impressions=[]"], "labels.impressions")],
)  # fmt: skip
def test_a_wait_that_makes_no_sense_is_refused_with_the_settings_that_do_not_fit(sets, named) -> None:
    from freshet.errors import SettingsError
    from freshet.settings import load

    load([], {}, ["labels.wait=15 minutes", "model.name=fm"])
    with pytest.raises(SettingsError) as refused:
        load([], {}, ["labels.wait=15 minutes", "model.name=fm", *sets])
    assert named in str(refused.value)
