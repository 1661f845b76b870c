"""Streams are the same however they are cut; users come when they are born and click an item once."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from freshet import schema
from freshet.demo.generator import CHUNK, Events, Stream, events, item_ids, items_table, user_ids
from freshet.demo.truth import World, plant
from freshet.demo.words import titles

SMALL = World(users=300, items=200, events=20_000, seed=3)


def assert_equal(one: Events, other: Events) -> None:
    for field in fields(Events):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


def assert_clicked_once(drawn: Events) -> None:
    assert len(np.unique(drawn.user * 1_000_000 + drawn.item)) == len(drawn)


def assert_nobody_early(world: World, drawn: Events) -> None:
    truth = plant(world)
    assert (truth.user_born[drawn.user] <= drawn.ordinal).all()
    assert (truth.item_born[drawn.item] <= drawn.ordinal).all()


def test_a_stream_does_not_depend_on_how_it_is_cut():
    stream = Stream(SMALL)
    for count in (1, CHUNK - 1, 0, CHUNK + 5, 17):
        start = int(stream_position(stream))
        assert_equal(stream.take(count), events(SMALL, start, start + count))


def stream_position(stream: Stream) -> int:
    return stream._chunk * CHUNK - len(stream._rest)


def test_another_seed_is_another_stream():
    with pytest.raises(AssertionError):
        assert_equal(events(SMALL, 0, 500), events(replace(SMALL, seed=4), 0, 500))


def test_a_user_clicks_an_item_once():
    assert_clicked_once(events(SMALL, 0, SMALL.events // 4))


def test_where_there_is_nothing_new_left_the_check_fails_and_the_stream_goes_on():
    drawn = events(replace(SMALL, items=2, users=3), 0, 50)
    assert len(drawn) == 50
    with pytest.raises(AssertionError):
        assert_clicked_once(drawn)


def test_nobody_acts_before_birth():
    drawn = events(SMALL, 0, SMALL.events)
    assert_nobody_early(SMALL, drawn)
    with pytest.raises(AssertionError):
        assert_nobody_early(SMALL, replace(drawn, ordinal=drawn.ordinal - 5000))


def test_a_stream_can_be_read_past_its_length_and_then_everybody_is_there():
    drawn = events(replace(SMALL, events=2000, items=3000), 2000, 12_000)
    assert len(np.unique(drawn.user)) > .99 * SMALL.users


def test_activity_is_heavy_tailed():
    drawn = events(replace(SMALL, born_later=0), 0, SMALL.events)
    counts = np.sort(np.bincount(drawn.user, minlength=SMALL.users))[::-1]
    assert counts[:30].sum() > 2 * counts.sum() * 30 / SMALL.users
    assert counts[:30].sum() < counts.sum() / 2


def test_times_go_forward_but_for_a_little_jitter():
    drawn = events(SMALL, 0, 3000)
    behind = np.maximum.accumulate(drawn.event_at) - drawn.event_at
    assert 0 < behind.max() <= 20 * SMALL.gap_us


def test_ids_and_items():
    assert user_ids(np.array([0, 12])).to_pylist() == ["u0", "u12"]
    table = items_table(SMALL)
    assert table.column_names == schema.ITEMS.names
    assert table["item_id"].to_pylist() == item_ids(np.arange(SMALL.items)).to_pylist()
    assert len(set(table["title"].to_pylist())) == SMALL.items
    assert len(set(table["category"].to_pylist())) > 5


def test_titles_stay_different_when_the_words_are_used_up():
    names = titles(6000, seed=1)
    assert len(set(names)) == 6000
    assert names == titles(6000, seed=1) != titles(6000, seed=2)


def test_items_of_one_category_are_liked_together():
    truth = plant(SMALL)
    near = truth.item_factors[0] @ truth.item_factors[0].T
    same = truth.category[:, None] == truth.category
    assert near[same].mean() > near[~same].mean() + .4


def test_a_large_world_shares_marks_and_still_draws():
    world = World(users=100_000, items=50_000, events=100_000)
    assert_clicked_once(events(world, 0, 2 * CHUNK))
