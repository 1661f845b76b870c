"""From cleaned records to accepted events: late, duplicate and colliding ones are told apart, nothing is lost.

What is decided here needs the head (the event clock, the events already seen, the ids already known), so it is decided
on the driver, after cleaning and before learning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from freshet.head import Head
from freshet.models.contract import FEATURE, ITEM, USER, Events
from freshet.rates import Asked
from freshet.revisions import NEW
from freshet.schema import ACCEPTED, CORRECTED, DUPLICATE, LATE, QUARANTINED

COLLISION = "id_collision"
USER_CAP, PAIR_CAP = "user_cap", "pair_cap"
CAPS = (USER_CAP, PAIR_CAP)
KEYS = {USER: ("user_key", "user_check"), ITEM: ("item_key", "item_check")}


@dataclass(frozen=True)
class Admitted:
    """What became of the cleaned records: masks over them (each record in exactly one), the accepted as Events. Of these
    `dedup_keys`, `revision` and the accepted revision that each `corrects` (revisions.NEW: none).

    `new_ids[space]` are the records that show a key for the first time, one each; `new_features` (records, columns) those
    that show a feature for the first time. `clock` is the event clock after this micro-batch.
    """

    accepted: np.ndarray
    refused: dict[str, np.ndarray]
    events: Events
    dedup_keys: np.ndarray
    revision: np.ndarray
    corrects: np.ndarray
    new_ids: dict[str, np.ndarray]
    new_features: tuple[np.ndarray, np.ndarray]
    clock: int
    counts: dict[str, int] = field(default_factory=dict)


def admit(head: Head, columns: Mapping[str, np.ndarray], dedup_window: int, quarantined: int) -> Admitted:
    """Sort out records in canonical order.

    columns: user_key, item_key, user_check, item_check, event_hash, dedup_key, event_at, arrived_at int64[n] (times in
    microseconds), value, weight float64[n], features int64[n, F], maybe revision int64[n]. An event older than the clock minus
    `dedup_window` microseconds is late; one whose dedup key was accepted inside the window, or stands in this batch too, is a
    duplicate unless its revision is higher; one whose natural id shares its key with another id is a collision (features may:
    they are hashed on purpose); one beyond what its user, or its user and item, may have in an hour is capped.
    `quarantined` records were refused before and only counted.
    """
    n = len(columns["event_at"])
    oldest = head.clock - dedup_window
    late = columns["event_at"] < oldest
    again = np.zeros(n, bool)
    timely = np.flatnonzero(~late)
    again[timely[repeats({name: column[timely] for name, column in columns.items()})]] = True
    before = head.revisions.before(columns["dedup_key"], head.seen.contains(columns["dedup_key"], oldest))
    revision = revisions_of(columns)
    duplicate = ~late & (again | (revision <= before))
    collision = ~late & ~duplicate & _collisions(head, columns)
    accepted = ~(late | duplicate | collision)
    capped = _capped(head, columns, accepted, before != NEW)
    accepted &= ~(capped[USER_CAP] | capped[PAIR_CAP])
    at = np.flatnonzero(accepted)
    corrects = before[at]
    events = replace(events_of(columns, at), corrects=corrects != NEW)
    clock = max(head.clock, int(np.minimum(events.event_at, columns["arrived_at"][at]).max())) if len(at) else head.clock
    counts = {
        "read": n + quarantined,
        ACCEPTED: len(at),
        QUARANTINED: quarantined + int(collision.sum()) + sum(int(mask.sum()) for mask in capped.values()),
        DUPLICATE: int(duplicate.sum()),
        LATE: int(late.sum()),
        CORRECTED: int(events.corrects.sum()),
    }
    refused = {LATE: late, DUPLICATE: duplicate, COLLISION: collision, **capped}
    return Admitted(
        accepted, refused, events, columns["dedup_key"][at], revision[at], corrects,
        {space: _first_sight(head, space, columns, at) for space in KEYS}, _new_features(head, columns["features"], at), clock,
        counts,
    )


def _capped(
    head: Head, columns: Mapping[str, np.ndarray], passed: np.ndarray, corrects: np.ndarray
) -> dict[str, np.ndarray]:
    """Reason -> bool[n]: of the records that `passed` so far those beyond a cap of their hour."""
    found = {reason: np.zeros(len(passed), bool) for reason in CAPS}
    if head.rates.limited:
        at = np.flatnonzero(passed)
        over = head.rates.over(Asked(columns["user_key"], columns["item_key"], columns["event_at"], corrects).at(at))
        for reason, mask in zip(CAPS, over, strict=True):
            found[reason][at] = mask
    return found


def events_of(columns: Mapping[str, np.ndarray], at: np.ndarray) -> Events:
    """The records at these positions as events; without the column `propensity` no event has one."""
    return Events(**{one.name: columns[one.name][at] for one in fields(Events) if one.name in columns})


def revisions_of(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """int64[n]; without the column `revision` nothing is ever corrected."""
    return columns["revision"] if "revision" in columns else np.zeros_like(columns["dedup_key"])


def repeats(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Positions of all but the first record of each dedup key, the highest revision first; of several of that by content, so file
    and position never decide."""
    key = columns["dedup_key"]
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    if not same.any():
        return np.empty(0, np.int64)
    tied = np.zeros(len(key), bool)
    tied[order[1:][same]] = True
    tied[order[:-1][same]] = True
    at = np.flatnonzero(tied)
    by = [columns[name][at] for name in ("weight", "value", "item_key", "user_key", "event_at")]
    at = at[np.lexsort([*by, -revisions_of(columns)[at], key[at]])]
    return at[1:][key[at][1:] == key[at][:-1]]


def _collisions(head: Head, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """bool[n]: the second hash of the natural id differs from that of the id first seen under its key."""
    found = np.zeros(len(columns["event_at"]), bool)
    for space, (key, check) in KEYS.items():
        table = head.ids[space]
        row = table.lookup(columns[key])
        known = row >= 0
        if known.any():
            found[known] |= table.gather("check", row[known]) != columns[check][known]
        fresh = np.flatnonzero(~known)
        _, first, which = np.unique(columns[key][fresh], return_index=True, return_inverse=True)
        found[fresh] |= columns[check][fresh][first][which] != columns[check][fresh]
    return found


def _first_sight(head: Head, space: str, columns: Mapping[str, np.ndarray], accepted: np.ndarray) -> np.ndarray:
    keys = columns[KEYS[space][0]][accepted]
    fresh = accepted[head.ids[space].lookup(keys) < 0]
    _, first = np.unique(columns[KEYS[space][0]][fresh], return_index=True)
    return fresh[first]


def _new_features(head: Head, features: np.ndarray, accepted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    keys = features[accepted]
    shown, first = np.unique(keys, return_index=True)
    fresh = (head.ids[FEATURE].lookup(shown) < 0) & (shown != 0)
    record, column = np.unravel_index(first[fresh], keys.shape) if keys.size else (shown[:0], shown[:0])
    return accepted[record], np.asarray(column)


def remember(head: Head, columns: Mapping[str, np.ndarray], admitted: Admitted, dedup_window: int) -> None:
    """After the commit: take ids, dedup keys and clock into the head."""
    for space, (key, check) in KEYS.items():
        at = admitted.new_ids[space]
        note_ids(head, space, columns[key][at], columns[check][at])
    features = columns["features"][admitted.new_features]
    note_ids(head, FEATURE, features, np.zeros_like(features))
    head.seen.add(admitted.dedup_keys, admitted.events.event_at)
    head.revisions.note(admitted.dedup_keys, admitted.revision)
    events = admitted.events
    head.rates.note(Asked(events.user_key, events.item_key, events.event_at, events.corrects))
    head.clock = admitted.clock
    head.rates.forget(head.clock - dedup_window)
    head.seen.forget(head.clock - dedup_window)
    head.revisions.forget(head.seen, head.clock - dedup_window)


def note_ids(head: Head, space: str, keys: np.ndarray, checks: np.ndarray) -> None:
    """Know natural ids by key and second hash."""
    table = head.ids[space]
    rows = table.insert(keys)
    table.column("check")[rows] = checks
