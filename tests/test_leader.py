"""Which mix leads: the best so far, forgetting; rows that say so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from freshet.head import Head, digests
from freshet.leader import FORGETTING, choices, follow, leader
from freshet.models.contract import Mix
from freshet.schema import MIX

MIXES = (Mix(1.0, 0.0, 1.0), Mix(0.5, 1.0, 0.0), Mix(0.0, 0.0, 1.0))
LIVES = (60e6, math.inf)


def told(head: Head, among, ndcg: list[float], events: int = 10, at: int = 5) -> None:
    rows = follow(head, among, np.array(ndcg), events, at)
    head.put(MIX, rows, digests(head.blocks[MIX], rows))


def test_a_choice_is_a_mix_with_a_half_life_where_popularity_counts() -> None:
    among = choices(MIXES, LIVES)
    assert [(choice.mix, choice.number) for choice in among] == [
        (MIXES[0], 0), (MIXES[0], 1), (MIXES[1], 0), (MIXES[2], 0), (MIXES[2], 1)]
    assert str(among[0]) == "1 factors + 1 popularity of 60 s" and str(among[2]) == "0.5 factors + 1 counts"
    assert str(among[4]) == "1 popularity of all time"
    assert len(choices(MIXES[:1], LIVES)) == 1


def test_the_best_so_far_leads_and_the_first_where_nothing_was_ranked() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    assert leader(head, among) == 0
    told(head, among, [1.0, 2.0, 3.0, 3.0, 0.0])
    assert leader(head, among) == 2  # of equals the first
    for _ in range(20):
        told(head, among, [1.0, 2.0, 1.0, 3.0, 4.0])
    assert leader(head, among) == 4


def test_what_is_long_ago_is_forgotten() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    for _ in range(100):
        told(head, among, [5.0, 0.0, 0.0, 0.0, 0.0])
    turns = 0
    while leader(head, among) != 1:
        told(head, among, [0.0, 5.0, 0.0, 0.0, 0.0])
        turns += 1
    # sum of f^k over the old against the new: (1 - f^100) f^n < 1 - f^n
    assert turns == math.ceil(math.log(1 / (2 - FORGETTING**100)) / math.log(FORGETTING))


def test_the_rows_say_what_each_choice_is_and_how_it_did() -> None:
    head, among = Head((), 10), choices(MIXES, LIVES)
    told(head, among, [1.0, 2.0, 3.0, 4.0, 5.0], events=8, at=77)
    rows, known = head.gather(MIX, np.arange(5))
    assert known.all() and rows.count.tolist() == [8] * 5 and rows.last_at.tolist() == [77] * 5
    assert rows.values[1].tolist() == [2.0, 8.0, 1.0, 0.0, 1.0, 0.0]
    assert rows.values[0].tolist() == pytest.approx([1.0, 8.0, 1.0, 0.0, 1.0, 60.0])
