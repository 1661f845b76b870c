"""How far each event of a micro-batch may move what users share, and who moved it most.

    warming    events of an account that has had n before this micro-batch move it (n + 1) / warm_up of their way, n + 1 < warm_up
    burst      Y events of young accounts, y of them on an item: together they count for no more than `burst` times
               Y (k + 100 p + 1) / (K + 100), K, k the events of the others, p the item's share of all events so far; where y is
               burst_events or more, and the model has had 100 events
    change     the lengths of the steps of one account's events add up to user_change at most in a micro-batch

A user's own row always takes its whole step. How many events an account has had is known from the head, so a replay weighs as the
stream did.
After Chirita, Nejdl and Zamfir, WIDM 2005, and Mobasher et al., ACM TOIT 7(4), 2007, for what gives fake profiles away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from freshet.head import TOTALS, Head
from freshet.kernels.rows import RowTable
from freshet.models.contract import Events, ShardResult
from freshet.schema import HISTORY, POPULARITY

FEWEST = 100  # events of a model before which nothing is unexpected
PRIOR = 100  # events that an item's share of the past counts for beside what known accounts do now
TOLD = 10  # users and items that a version names
TRIES = 4  # times a round is learned until nobody is over his limit
CROWD = 20  # users over it, from which on it may be that learning runs away
WILD = 1000.0  # times the limit: no number of events gets there by steps of an ordinary length
NEAR = 0.1  # of what the wildest moved, from which on one is held with him
SLACK, FULL = 1.001, 0.9  # times a limit: what is not worth learning again for, from where on nothing more is given
LEAST = 1e-6  # trust of those who may move nothing more: not 0, by which some steps divide
_NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class LimitSpec:
    """settings.limits as far as the learner asks for them; None: no such limit."""

    warm_up: int | None = None
    user_change: float | None = None
    young: int = 10
    burst: float | None = None
    burst_events: int = 30


NO_LIMITS = LimitSpec()


@dataclass(frozen=True)
class Mover:
    """One of those that moved, or were moved, most: `space` user or item, `change` the length of the way, and its events."""

    space: str
    key: int
    change: float
    events: int


@dataclass
class Trust:
    """Of the n events of a micro-batch: the number of each one's user among `users` (keys), of its item among `items`; `trust`
    float32[n], of no length where all have it in full; how many events, items, users each guard touched."""

    users: np.ndarray
    user: np.ndarray
    items: np.ndarray
    item: np.ndarray
    trust: np.ndarray
    told: dict[str, int] = field(default_factory=dict)

    def counted(self, events: Events) -> Events:
        """The events as what is counted takes them: with less weight where they are trusted less."""
        return replace(events, weight=events.weight * self.trust) if len(self.trust) else events


def weigh(head: Head, events: Events, spec: LimitSpec) -> Trust:
    """The trust that events, in canonical order, come with."""
    users, items = RowTable({}), RowTable({})
    user, item = users.insert(events.user_key), items.insert(events.item_key)
    rows = head.lookup(HISTORY, users.keys)
    before = np.zeros(len(rows), np.int64)
    before[rows >= 0] = head.tables[HISTORY].column("count")[rows[rows >= 0]]
    trust, told = np.ones(len(events), np.float32), {}
    if spec.burst is not None:
        young = before[user] < spec.young
        share = shares(head, items.keys)
        throttled = None if share is None else _burst(item, young, share, spec)
        if throttled is not None:
            trust[young] = throttled[item[young]]
            told = {"burst_items": int((throttled < 1).sum()), "burst_events": int((trust < 1).sum())}
    if spec.warm_up is not None:
        number = before[user] + 1
        warming = number < spec.warm_up
        if warming.any():
            trust[warming] *= (number[warming] / spec.warm_up).astype(np.float32)
            told["warming_events"] = int(warming.sum())
    return Trust(users.keys, user, items.keys, item, trust if (trust < 1).any() else _NONE, told)


def shares(head: Head, items: np.ndarray) -> np.ndarray | None:
    """float64: the share of each of these items of all events that the head has counted; None while these are too few."""
    total = int(head.tables[TOTALS].column("count").sum())
    if total < FEWEST:
        return None
    rows = head.lookup(POPULARITY, items)
    found = np.zeros(len(items))
    found[rows >= 0] = head.tables[POPULARITY].column("count")[rows[rows >= 0]] / total
    return found


def crowds(item: np.ndarray, young: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int64[items], float64[items]): events of young accounts on each item, and how many of them one may expect."""
    new, old = (np.bincount(item[which], minlength=len(share)) for which in (young, ~young))
    return new, new.sum() * (old + PRIOR * share + 1) / (old.sum() + PRIOR)


def _burst(item: np.ndarray, young: np.ndarray, share: np.ndarray, spec: LimitSpec) -> np.ndarray | None:
    """float32[items]: what an event of a young account on the item counts; None where all count in full."""
    if spec.burst is None or np.count_nonzero(young) < spec.burst_events:
        return None
    fresh, expected = crowds(item, young, share)
    most = spec.burst * expected
    over = (fresh > most) & (fresh >= spec.burst_events)
    return np.where(over, most / np.maximum(fresh, 1), 1.0).astype(np.float32) if over.any() else None


class Budget:
    """What the users of a micro-batch's examples have moved, round after round, and may move yet."""

    def __init__(self, trust: Trust, event: np.ndarray, most: float | None) -> None:
        self.trust = trust.trust[event] if len(trust.trust) else _NONE
        self.clipped: set[int] = set()
        self.runs_away = False
        self.moved = np.zeros(len(trust.users))
        self._user, self._most, self._n, self._final = trust.user[event], most, len(event), False
        self._whole: np.ndarray | None = None  # the trust a round began with, once somebody was held in it
        self._before: frozenset[int] = frozenset()

    def over(self, parts: Sequence[np.ndarray], results: Sequence[ShardResult], last: bool) -> list[int]:
        """Numbers of the parts of a round, examples shard by shard, that must be learned again, for an account in them went over
        what it may. Its events are trusted less from here on, and next to not at all if this was the `last` try."""
        at = np.concatenate(parts)
        way = np.concatenate([result.moved for result in results])
        round_ = np.bincount(self._user[at], way, len(self.moved))
        found = np.empty(0, np.int64)
        if self._most is not None and np.isfinite(round_).all():
            found = np.flatnonzero((self.moved + round_ > SLACK * self._most) & (round_ > 0))
        if not len(found) or self._final:
            self._pass(round_)
            return []
        wild = round_.max() > WILD * (self._most or 0.0)
        most_do = 2 * len(found) > np.count_nonzero(round_ > 0) and (len(found) >= CROWD or wild)
        if most_do and (last or not wild):
            return self._let_go(parts, round_)
        # What others do about what one did goes far, too: so he is held first, and they are looked at again.
        who = found[round_[found] >= NEAR * round_.max()] if wild and not last else found
        self._clip(at, who, round_, last)
        return [number for number, part in enumerate(parts) if np.isin(self._user[part], who).any()]

    def _let_go(self, parts: Sequence[np.ndarray], round_: np.ndarray) -> list[int]:
        """Where most go too far it is no account that does, it is learning that runs away: to trim that would hide it from the
        guards of values that are not finite or at the norm cap."""
        self.runs_away = True
        whole, held = self._whole, self.trust
        if whole is None:
            self._pass(round_)
            return []
        self.trust, self.clipped, self._final = whole, set(self._before), True
        whole = whole if len(whole) else np.ones(self._n, np.float32)
        return [number for number, part in enumerate(parts) if (whole[part] != held[part]).any()]

    def _pass(self, round_: np.ndarray) -> None:
        self.moved += round_
        self._final, self._whole = False, None
        full = [user for user in self.clipped if self.moved[user] >= FULL * (self._most or 0.0)]
        if full:
            self.trust[np.isin(self._user, full)] = LEAST

    def _clip(self, at: np.ndarray, over: np.ndarray, round_: np.ndarray, last: bool) -> None:
        assert self._most is not None
        if self._whole is None:
            self._whole, self._before = self.trust, frozenset(self.clipped)
        self.trust = self.trust.copy() if len(self.trust) else np.ones(self._n, np.float32)
        share = np.ones(len(self.moved))
        # A little less than what would just do: shorter steps leave longer gradients.
        share[over] = LEAST if last else np.clip(0.98 * (self._most - self.moved[over]) / round_[over], LEAST, 1.0)
        self.trust[at] *= share[self._user[at]].astype(np.float32)
        self.clipped.update(over.tolist())
        self._final = last

    @property
    def told(self) -> dict[str, int]:
        """What there is to tell of it."""
        return {name: count for name, count in (("clipped_users", len(self.clipped)), ("runs_away", int(self.runs_away))) if count}


def movers(trust: Trust, moved: np.ndarray, changed: tuple[np.ndarray, np.ndarray]) -> tuple[Mover, ...]:
    """Of users by what they moved, float64[users], and of items by how far they were moved, (keys, float64) of rows, the first TOLD
    that moved or were moved at all."""
    index = RowTable({})
    index.insert(trust.items)  # keys as there, and then those that were only drawn
    keys, way = changed
    way = np.sqrt(np.bincount(index.insert(keys), way**2, len(index))) if len(keys) else np.zeros(len(index))
    of_users = np.bincount(trust.user, minlength=len(trust.users))
    of_items = np.bincount(trust.item, minlength=len(index))
    return (*_most("user", trust.users, moved, of_users), *_most("item", index.keys, way, of_items))


def _most(space: str, keys: np.ndarray, change: np.ndarray, events: np.ndarray) -> list[Mover]:
    """By change, then events, then key, so that a tie is decided alike everywhere."""
    at = np.arange(len(keys))
    if len(at) > 100 * TOLD:  # only those that can be among the first are put in order
        edge = np.partition(change, len(change) - TOLD)[len(change) - TOLD]
        at = np.flatnonzero(change >= edge)
    first = at[np.lexsort((keys[at], -events[at], -change[at]))][:TOLD]
    return [Mover(space, int(keys[k]), float(change[k]), int(events[k])) for k in first if change[k] > 0]
