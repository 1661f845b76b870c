"""The memory of revisions, and which of several is learned."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from freshet.revisions import NEW, Revisions, last_said, newest


def test_what_is_held_is_the_last_that_was_noted_and_only_of_what_is_remembered() -> None:
    held, keys = Revisions(), np.array([5, 6, 7])
    assert held.before(keys, np.array([True, False, True])).tolist() == [0, NEW, 0]
    held.note(keys, np.array([2, 0, 1]))
    assert len(held) == 2
    held.note(np.array([5, 7]), np.array([4, 0]))  # 7 was forgotten and has begun anew
    assert held.before(keys, np.ones(3, bool)).tolist() == [4, 0, 0]
    assert held.before(keys, np.zeros(3, bool)).tolist() == [NEW] * 3


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30))
def test_of_several_versions_the_last_row_of_each_chain_is_learned(rows) -> None:
    """A chain is an event and its corrections; its event lies before all rows where it begins with a correction."""
    keys, corrects = (np.array([row[n] for row in rows], kind) for n, kind in ((0, np.int64), (1, bool)))
    chains: dict[int, list[list[int]]] = {}
    for at, (key, correction) in enumerate(rows):
        mine = chains.setdefault(key, [])
        if correction and mine:
            mine[-1].append(at)
        else:
            mine.append([at])
    wanted = sorted((chain[-1], bool(corrects[chain[0]])) for mine in chains.values() for chain in mine)
    at, before = last_said(keys, np.arange(len(rows)), corrects)
    assert list(zip(at.tolist(), before.tolist(), strict=True)) == wanted


def test_the_newest_row_of_a_key_is_that_of_the_latest_version() -> None:
    assert sorted(newest(np.array([1, 2, 1, 2]), np.array([9, 1, 8, 3])).tolist()) == [0, 3]
    assert newest(np.empty(0, np.int64), np.empty(0, np.int64)).tolist() == []
