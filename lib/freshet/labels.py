"""Impressions, and what becomes of them once the wait for an answer is over.

An impression of user u and item i, shown at t, is exactly one of

    matured    an answer of u and i at t <= at <= t + wait is accepted, or the event clock has passed t + wait without one:
               then it is learned, once, as an event of value 0 at t, in the micro-batch whose clock passes t + wait
    expired    the clock had passed t + wait before it was accepted: nothing is learned of it
    pending    neither yet

All of it follows from the accepted events and the clocks of the micro-batches, which are rows: so does what is waited for, after a
start. An answer is learned by itself, as the event it is. A correction of an impression changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from freshet.models.contract import Events

ORDINARY, IMPRESSION, ANSWER = range(3)
IMPRESSIONS, MATURED, PENDING, EXPIRED = "impressions", "matured", "pending", "expired"


@dataclass(frozen=True)
class Waiting:
    """Impressions that are pending, and the answers an impression may still come to: key of user and item, time in
    microseconds."""

    pending: Events
    answers: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.pending)


@dataclass(frozen=True)
class Settled:
    """What is learned of a micro-batch, in canonical order; what is waited for after it; how many impressions it brought, how
    many matured and expired in it and how many are pending after it."""

    events: Events
    waiting: Waiting | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def settle(waiting: Waiting | None, events: Events, kinds: np.ndarray, wait: int, before: int, clock: int) -> Settled:
    """Take accepted events with their kinds int8[n] (ORDINARY, IMPRESSION, ANSWER). `wait`, `before` and `clock`, the event clock
    before and after them, in microseconds."""
    shown = take(events, (kinds == IMPRESSION) & ~events.corrects)
    timely = shown.event_at >= before - wait
    answers = answers_of(take(events, kinds == ANSWER))
    open_ = take(shown, timely)
    if waiting is not None:
        open_ = join(waiting.pending, open_)
        answers = {name: np.concatenate([waiting.answers[name], cells]) for name, cells in answers.items()}
    answered, over = is_answered(open_, answers, wait), open_.event_at < clock - wait
    after = Waiting(take(open_, ~answered & ~over), _since(answers, clock - wait))
    counts = {
        IMPRESSIONS: len(shown), MATURED: int((answered | over).sum()), PENDING: len(after), EXPIRED: int((~timely).sum()),
    }
    return Settled(_learned(take(open_, ~answered & over), take(events, kinds != IMPRESSION)), after, counts)


def remembered(events: Events, kinds: np.ndarray, wait: int, clock: int) -> Waiting:
    """What is waited for at a clock, from the accepted events up to it; of those before clock - wait none is needed."""
    answers = answers_of(take(events, kinds == ANSWER))
    shown = take(events, (kinds == IMPRESSION) & ~events.corrects & (events.event_at >= clock - wait))
    return Waiting(take(shown, ~is_answered(shown, answers, wait)), _since(answers, clock - wait))


def at_once(events: Events, kinds: np.ndarray, wait: int, clock: int, waiting: Waiting | None = None) -> tuple[Events, np.ndarray]:
    """What a model learns that learns these events, in canonical order, all at once at this clock; and where each stands among
    them (-1: it is one of those that were `waiting` before)."""
    place = np.arange(len(events))
    if waiting is not None and len(waiting):
        kinds, place = np.append(kinds, np.full(len(waiting), IMPRESSION, kinds.dtype)), np.append(place, np.full(len(waiting), -1))
        events = Events(*(np.concatenate(pair) for pair in zip(_cells(events), _cells(waiting.pending), strict=True)))
    answers = answers_of(take(events, kinds == ANSWER))
    if waiting is not None:
        answers = {name: np.concatenate([waiting.answers[name], cells]) for name, cells in answers.items()}
    shown = kinds == IMPRESSION
    silent = shown & (events.event_at < clock - wait)
    silent[silent] = ~is_answered(take(events, silent), answers, wait)
    kept = np.flatnonzero(~shown | silent)
    kept = kept[np.lexsort((kept, events.event_hash[kept], events.event_at[kept]))]
    found = take(events, kept)
    return replace(found, value=np.where(silent[kept], 0.0, found.value)), place[kept]


def is_answered(shown: Events, answers: Mapping[str, np.ndarray], wait: int) -> np.ndarray:
    """bool[n]: there is an answer of the same user and item from the impression's time to `wait` after it."""
    n = len(shown)
    user, item, at = (np.concatenate([getattr(shown, name), cells]) for name, cells in answers.items())
    is_answer = np.arange(len(at)) >= n
    order = np.lexsort((is_answer, at, item, user))  # an answer at the very time of an impression comes after it
    where = np.where(is_answer[order], np.arange(len(order)), len(order))
    following = np.minimum.accumulate(where[::-1])[::-1]
    found = following < len(order)
    answer = order[np.minimum(following, max(len(order) - 1, 0))]
    found &= (user[answer] == user[order]) & (item[answer] == item[order]) & (at[answer] - at[order] <= wait)
    out = np.empty(len(order), bool)
    out[order] = found
    return out[:n]


def answers_of(events: Events) -> dict[str, np.ndarray]:
    """What of answers is compared with impressions."""
    return {name: getattr(events, name) for name in ("user_key", "item_key", "event_at")}


def take(events: Events, at: np.ndarray) -> Events:
    """The events at these positions."""
    return Events(*(cells[at] for cells in _cells(events)))


def _cells(events: Events) -> list[np.ndarray]:
    return [getattr(events, one.name) for one in fields(Events)]


def join(one: Events, other: Events) -> Events:
    """The events of both in canonical order."""
    both = Events(*(np.concatenate(pair) for pair in zip(_cells(one), _cells(other), strict=True)))
    return take(both, np.lexsort((both.event_hash, both.event_at)))


def _since(answers: Mapping[str, np.ndarray], oldest: int) -> dict[str, np.ndarray]:
    kept = answers["event_at"] >= oldest
    return {name: cells[kept] for name, cells in answers.items()}


def _learned(unanswered: Events, others: Events) -> Events:
    """What is learned, in canonical order: impressions without an answer, of the value 0, and all that is no impression."""
    if not len(unanswered):
        return others
    return join(replace(unanswered, value=np.zeros(len(unanswered))), others)
