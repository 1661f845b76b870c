"""What becomes of cleaned records: each has exactly one fate, and content decides, never place."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.head import Head
from freshet.intake import COLLISION, PAIR_CAP, USER_CAP, Admitted, admit, note_ids, remember, repeats
from freshet.models.contract import FEATURE, ITEM, USER
from freshet.rates import Rates
from freshet.schema import ACCEPTED, CORRECTED, DUPLICATE, LATE, QUARANTINED

WINDOW = 100
NAMES = ("user_key", "item_key", "user_check", "item_check", "event_hash", "dedup_key", "event_at", "arrived_at", "revision")


record = st.fixed_dictionaries({
    "user_key": st.integers(0, 3), "item_key": st.integers(0, 3), "user_check": st.integers(0, 1),
    "item_check": st.just(0), "event_hash": st.integers(0, 5), "dedup_key": st.integers(0, 5),
    "event_at": st.integers(1000, 1300), "arrived_at": st.integers(1000, 1400), "value": st.sampled_from([1.0, 2.0]),
    "weight": st.sampled_from([1.0, 0.5]), "revision": st.sampled_from([0, 0, 1, 2]),
})


def columns(records: list[dict[str, Any]], canonical: bool = True) -> dict[str, np.ndarray]:
    """Records as columns, in canonical order unless told otherwise."""
    if canonical:
        records = sorted(records, key=lambda r: (r["event_at"], r["event_hash"]))
    numbers = {name: np.array([r[name] for r in records], np.int64) for name in NAMES}
    features = np.array([r.get("features", (0, 0)) for r in records], np.int64).reshape(-1, 2)
    return {**numbers, **{name: np.array([r[name] for r in records], np.float64) for name in ("value", "weight")}, "features": features}


def one(**cells: Any) -> dict[str, Any]:
    """A record that would be accepted."""
    plain = dict.fromkeys(NAMES, 1) | {"revision": 0, "user_check": 0, "item_check": 0, "event_at": 1000, "arrived_at": 1000}
    return {**plain, "value": 1.0, "weight": 1.0, **cells}


def take(head: Head, records: list[dict[str, Any]], quarantined: int = 0) -> Admitted:
    cells = columns(records)
    admitted = admit(head, cells, WINDOW, quarantined)
    remember(head, cells, admitted, WINDOW)
    return admitted


def fate(admitted: Admitted) -> list[str]:
    """The fate of each record; fails when one has none, or two."""
    masks = {ACCEPTED: admitted.accepted, **admitted.refused}
    assert (np.sum(list(masks.values()), axis=0) == 1).all()
    return [next(name for name, mask in masks.items() if mask[n]) for n in range(len(admitted.accepted))]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(record, max_size=12), max_size=4), st.integers(0, 3))
def test_every_record_has_exactly_one_fate_and_an_event_is_accepted_once(batches, quarantined) -> None:
    head, accepted = Head((), WINDOW), []
    for records in batches:
        clock = head.clock
        admitted = take(head, records, quarantined)
        fates, cells, counts = fate(admitted), columns(records), admitted.counts
        assert counts["read"] == len(records) + quarantined
        assert counts["read"] == sum(counts[name] for name in (ACCEPTED, QUARANTINED, DUPLICATE, LATE))
        assert counts[ACCEPTED] == fates.count(ACCEPTED) == len(admitted.events) == len(admitted.dedup_keys)
        assert counts[QUARANTINED] == quarantined + fates.count(COLLISION)
        assert [f == LATE for f in fates] == [int(at) < clock - WINDOW for at in cells["event_at"]]
        for n, name in enumerate(fates):
            if name == ACCEPTED:
                accepted.append(tuple(int(cells[name][n]) for name in ("dedup_key", "event_at", "revision")))
        assert counts[CORRECTED] == admitted.events.corrects.sum() <= counts[ACCEPTED]
        latest = [min(int(cells["event_at"][n]), int(cells["arrived_at"][n])) for n, f in enumerate(fates) if f == ACCEPTED]
        assert head.clock == admitted.clock == max([clock, *latest])
    # Twice accepted only where it says more, or where the first was so old that the window had forgotten it.
    for n, (key, at, revision) in enumerate(accepted):
        for earlier, before, less in accepted[:n]:
            assert earlier != key or less < revision or before < at or before < head.clock - WINDOW


@settings(max_examples=100, deadline=None)
@given(st.lists(record, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_files_decides_nothing(records, random) -> None:
    """Which of several records of one key is kept is decided by content: the same one for any order of reading."""
    shuffled = records.copy()
    random.shuffle(shuffled)
    kept, decided = [], ("dedup_key", "revision", "event_at", "user_key", "item_key", "value", "weight")
    for found in (records, shuffled):
        cells = columns(found, canonical=False)
        again = set(repeats(cells).tolist())
        kept.append(sorted(tuple(cells[name][n] for name in decided) for n in range(len(found)) if n not in again))
        assert len(kept[-1]) == len({r["dedup_key"] for r in records})
    assert kept[0] == kept[1]


def test_the_kept_one_of_a_key_is_the_first_by_content() -> None:
    records = [one(event_at=1005, value=1.0), one(event_at=1003, value=9.0), one(event_at=1003, value=2.0)]
    admitted = take(Head((), WINDOW), records)
    assert sorted(fate(admitted)) == [ACCEPTED, DUPLICATE, DUPLICATE]
    assert (admitted.events.event_at.tolist(), admitted.events.value.tolist()) == ([1003], [2.0])


def test_late_is_older_than_the_window_and_the_edge_is_not() -> None:
    head = Head((), WINDOW)
    take(head, [one(event_at=1200, arrived_at=1300)])
    records = [one(dedup_key=key, event_at=at, arrived_at=1300) for key, at in ((2, 1099), (3, 1100), (4, 1300))]
    assert fate(take(head, records)) == [LATE, ACCEPTED, ACCEPTED]
    assert head.clock == 1300


def test_a_duplicate_is_known_across_batches_until_it_is_late() -> None:
    head = Head((), WINDOW)
    assert fate(take(head, [one()])) == [ACCEPTED]
    assert fate(take(head, [one()])) == [DUPLICATE]
    assert fate(take(head, [one(dedup_key=2)])) == [ACCEPTED]
    take(head, [one(dedup_key=3, event_at=1101, arrived_at=1101)])
    assert fate(take(head, [one()])) == [LATE]


def test_a_far_future_event_moves_the_clock_no_further_than_its_arrival() -> None:
    head = Head((), WINDOW)
    take(head, [one(event_at=9_000_000, arrived_at=1010)])
    assert head.clock == 1010
    assert fate(take(head, [one(dedup_key=2, event_at=1000)])) == [ACCEPTED]


def test_two_ids_of_one_key_are_told_apart_by_their_second_hash() -> None:
    head = Head((), WINDOW)
    same = [one(dedup_key=n, event_hash=n, user_check=check) for n, check in ((1, 7), (2, 8), (3, 7))]
    assert fate(take(head, same)) == [ACCEPTED, COLLISION, ACCEPTED]
    later = [one(dedup_key=n, event_hash=n, user_check=check) for n, check in ((4, 8), (5, 7))]
    assert fate(take(head, later)) == [COLLISION, ACCEPTED]
    assert fate(take(head, [one(dedup_key=6, user_check=7, item_check=1)])) == [COLLISION]
    other = Head((), WINDOW)
    note_ids(other, ITEM, np.array([1]), np.array([5]))
    assert fate(take(other, [one()])) == [COLLISION]


def test_a_collision_counts_as_quarantined_and_does_not_block_its_event_key() -> None:
    head = Head((), WINDOW)
    note_ids(head, USER, np.array([1]), np.array([5]))
    admitted = take(head, [one()], quarantined=2)
    assert (admitted.counts[QUARANTINED], admitted.counts["read"]) == (3, 3)
    assert fate(take(head, [one(user_check=5)])) == [ACCEPTED]


def test_first_sight_is_noted_once_and_only_of_accepted_records() -> None:
    head = Head((), WINDOW)
    three = [one(user_key=4), one(dedup_key=2, event_hash=2, user_key=4), one(dedup_key=2, event_hash=3, user_key=9)]
    admitted = take(head, three)
    assert [len(admitted.new_ids[space]) for space in (USER, ITEM)] == [1, 1]
    assert head.ids[USER].keys.tolist() == [4]
    again = take(head, [one(dedup_key=8, user_key=4), one(dedup_key=9, event_hash=2, user_key=10)])
    assert [len(again.new_ids[space]) for space in (USER, ITEM)] == [1, 0]


def test_features_are_noted_at_first_sight_and_none_is_no_feature() -> None:
    head = Head((), WINDOW, features=2)
    three = [one(features=(7, 0)), one(dedup_key=2, event_hash=2, features=(7, 9)), one(dedup_key=2, event_hash=3, features=(8, 8))]
    admitted = take(head, three)
    assert admitted.events.features.tolist() == [[7, 0], [7, 9]]
    assert [part.tolist() for part in admitted.new_features] == [[0, 1], [0, 1]]  # 7 of the first record, 9 of the second
    assert sorted(head.ids[FEATURE].keys.tolist()) == [7, 9]
    again = take(head, [one(dedup_key=8, event_hash=8, features=(9, 3))])
    assert [part.tolist() for part in again.new_features] == [[0], [1]]


def test_a_higher_revision_corrects_and_any_other_repeats() -> None:
    head = Head((), WINDOW)
    assert fate(take(head, [one(value=5.0)])) == [ACCEPTED]
    more = take(head, [one(revision=2, value=1.0), one(dedup_key=2, event_hash=2)])
    assert (fate(more), more.events.corrects.tolist(), more.corrects.tolist()) == ([ACCEPTED, ACCEPTED], [True, False], [0, -1])
    assert (more.counts[ACCEPTED], more.counts[CORRECTED]) == (2, 1)
    for revision, wanted in ((0, DUPLICATE), (1, DUPLICATE), (2, DUPLICATE), (3, ACCEPTED), (3, DUPLICATE)):
        assert fate(take(head, [one(revision=revision, value=9.0)])) == [wanted]


def test_a_correction_is_one_more_event_of_its_user_and_none_on_an_item() -> None:
    head = Head((), WINDOW)
    head.rates = Rates(5, 1)
    known = [one(dedup_key=n, event_hash=n, item_key=n) for n in range(4)]
    assert fate(take(head, known)) == [ACCEPTED] * 4
    again = [one(dedup_key=n, event_hash=n, item_key=7, revision=1) for n in range(4)]
    assert sorted(fate(take(head, again))) == [ACCEPTED] + [USER_CAP] * 3
    assert fate(take(head, [one(dedup_key=9, event_hash=9, item_key=8, event_at=1050)])) == [USER_CAP]
    pairs = Head((), WINDOW)
    pairs.rates = Rates(None, 1)
    take(pairs, known)
    assert fate(take(pairs, again)) == [ACCEPTED] * 4
    assert fate(take(pairs, [one(dedup_key=n, event_hash=n, item_key=7) for n in (8, 9)])) == [ACCEPTED, PAIR_CAP]


def test_within_a_micro_batch_the_highest_revision_alone_is_accepted() -> None:
    records = [one(revision=revision, value=float(revision)) for revision in (1, 3, 0, 3, 2)]
    admitted = take(Head((), WINDOW), records)
    assert sorted(fate(admitted)) == [ACCEPTED] + [DUPLICATE] * 4
    assert (admitted.events.value.tolist(), admitted.counts[CORRECTED]) == ([3.0], 0)  # it corrects nothing that was learned


def test_a_revision_of_what_the_window_forgot_is_late_or_an_event_of_its_own() -> None:
    head = Head((), WINDOW)
    take(head, [one()])
    take(head, [one(dedup_key=2, event_at=1101, arrived_at=1101)])
    assert fate(take(head, [one(revision=1)])) == [LATE]
    moved = take(head, [one(revision=1, event_at=1050, arrived_at=1101)])
    assert (fate(moved), moved.counts[CORRECTED]) == ([ACCEPTED], 0)


def test_revisions_are_held_as_long_as_their_events_and_take_no_memory_without() -> None:
    head = Head((), WINDOW)
    for start in range(0, 20_000, 2000):
        records = [one(dedup_key=n, event_hash=n, revision=1, event_at=1000 + n, arrived_at=1000 + n) for n in range(start, start + 2000)]
        take(head, records)
    assert len(head.revisions) < 6000
    assert fate(take(head, [one(dedup_key=19_999, revision=1, event_at=20_999, arrived_at=20_999)])) == [DUPLICATE]
    plain = Head((), WINDOW)
    take(plain, [one(dedup_key=n, event_hash=n) for n in range(50)])
    assert len(plain.revisions) == 0
