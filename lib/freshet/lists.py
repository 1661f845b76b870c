"""Top-K lists from a head: one exact path for every model that gives queries, an item matrix and extras.

    score(user, item) = dense * (query . vector + bias) + sparse * extra + popularity * log(decayed popularity) + added

with the weights of the mix that leads at that version (see freshet.leader) and what the rules of the house add to an
item. Items the user already has are left out; a user of whom the head knows nothing gets the popular items, those of
his segment where segments are counted (freshet.segments). Ties go to the smaller natural id. Rules may then give a place to
another item than the next best (see kernels.rerank).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from freshet.asking import Items, ask, extra_rows, last_context, newest, on_offer
from freshet.head import Head
from freshet.kernels.rerank import Offer, Reranked, place_scores, rerank
from freshet.kernels.seeds import mix as hashed
from freshet.kernels.topk import top_k, with_extras
from freshet.leader import Choice, choices, leader
from freshet.models.contract import ITEM, Asked, Model
from freshet.ranked import history_items_of, mixed_bias
from freshet.schema import POPULARITY, REASONS
from freshet.segments import SegmentSpec, segment_extras

ASKERS_AT_ONCE = 2048
CANDIDATES_AT_ONCE = 2**21  # of all askers that are looked at together
_MORE = 4  # so many times the candidates where they do not fill a list
_EXPLORATION, _NEIGHBOURS, _SESSION, _USER, _FEATURES, _SEGMENT, _POPULARITY = (
    list(REASONS).index(name) for name in ("exploration", "neighbours", "session", "user", "features", "segment", "popularity"))


@dataclass(frozen=True)
class Rules:
    """What lists keep to beside the score, for the n items of a head in its order of rows.

    added float32[n] goes on top of an item's score, not a number: it is never listed; category int32[n], -1 for none
    (None: nothing is added, nothing has one). `cap`, `diversity`, `exploration` as in kernels.rerank, of at least so many
    `candidates`; `seed` of all chance.
    """

    added: np.ndarray | None = None
    category: np.ndarray | None = None
    cap: int | None = None
    diversity: float = 0.0
    exploration: float = 0.0
    candidates: int = 100
    seed: int = 0

    @property
    def rerank(self) -> bool:
        """Whether a list may be another than the items of the highest score."""
        return self.cap is not None or self.diversity > 0.0 or self.exploration > 0.0


@dataclass(frozen=True)
class Lists:
    """For each user K item keys int64[m, k] with scores float32[m, k], what each place rests on (int8[m, k], number in
    schema.REASONS) and the probability of the item at its place, given those above (float64[m, k]); `length` int64[m]
    how many there are; `known` bool[m], False where popularity answered."""

    items: np.ndarray
    scores: np.ndarray
    reasons: np.ndarray
    propensity: np.ndarray
    length: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class Shelf:
    """All known items of a head, ready to be ranked: what they are, their order of ties, the mix that leads, what each item
    gets of it whoever asks and what by popularity alone (float32[n]); whether it has a vector, and one of its own (bool[n]).
    """

    items: Items
    order: np.ndarray
    choice: Choice
    bias: np.ndarray
    popular: np.ndarray
    placed: np.ndarray
    met: np.ndarray
    rules: Rules
    offer: Offer
    segment: SegmentSpec | None = None


def shelf(
    head: Head, model: Model, half_lives: tuple[float, ...], order: np.ndarray, rules: Rules | None = None,
    segment: SegmentSpec | None = None,
) -> Shelf:
    """The shelf of a head; order int64[n] ranks its items (rows of `popularity`) by natural id."""
    rules = rules or Rules()
    among = choices(model.mixes, half_lives)
    every = np.arange(len(head.tables[POPULARITY]), dtype=np.int32)
    items, choice = on_offer(head, model, every, half_lives), among[leader(head, among)]
    bias, popular = mixed_bias(items, choice), items.log_count[choice.number]
    if rules.added is not None:
        bias, popular = bias + rules.added, popular + rules.added
    unit, category = items.vectors[:, :0], rules.category
    if rules.diversity > 0.0:
        length = np.linalg.norm(items.vectors, axis=1, keepdims=True)
        unit = items.vectors / np.where(length > 0.0, length, np.float32(1.0))
    offer = Offer(
        np.ascontiguousarray(unit), np.full(len(every), -1, np.int32) if category is None else category, ~np.isnan(bias),
        np.argsort(order).astype(np.int32))
    placed, met = (items.vectors != 0.0).any(axis=1), np.zeros(len(every), bool)
    for block in model.blocks():
        if block.ids == ITEM:
            met |= head.item_rows(block.name)[every] >= 0
    return Shelf(items, order, choice, bias, popular, placed, met, rules, offer, segment)


@dataclass(frozen=True)
class Asking:
    """m askers scored alike, by query . vector + bias + extras, with the rows of what each does not get."""

    users: np.ndarray
    queries: np.ndarray
    vectors: np.ndarray
    bias: np.ndarray
    left_out: tuple[np.ndarray, np.ndarray]
    extras: tuple[np.ndarray, np.ndarray, np.ndarray]

    def some(self, at: np.ndarray) -> Asking:
        """The askers with these numbers, ascending."""
        first, left_out = _chosen(at, *self.left_out)
        offsets, rows, values = _chosen(at, *self.extras)
        return replace(
            self, users=self.users[at], queries=self.queries[at], left_out=(first, left_out), extras=(offsets, rows, values))

    def best(self, order: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows int32[m, k], scores float32[m, k]) of the k best, exactly."""
        rows, scores = top_k(self.queries, self.vectors, self.bias, order, k, *self.left_out)
        if len(self.extras[1]):
            rows, scores = with_extras(rows, scores, self.queries, self.vectors, self.bias, order, self.left_out, self.extras)
        return rows, scores


def top_items(
    head: Head, model: Model, on: Shelf, users: np.ndarray, n: int, history_items: int, features: np.ndarray | None = None
) -> Lists:
    """The list of n items of each user key; each in the context int64[m, F] he asks in, or else in his last one.

    A part of the users is asked at a time: extras take far more memory than lists.
    """
    context, parts = last_context(head, users) if features is None else features, []
    for start in range(0, max(len(users), 1), ASKERS_AT_ONCE):
        part = slice(start, start + ASKERS_AT_ONCE)
        asked = ask(head, model, users[part], *newest(head, users[part], model.asked, history_items), context[part])
        parts.append(_lists(head, model, on, users[part], asked, context[part], n, history_items))
    return Lists(*(np.concatenate([getattr(part, name) for part in parts]) for name in Lists.__dataclass_fields__))


def popular_items(head: Head, on: Shelf, users: np.ndarray, n: int, history_items: int) -> np.ndarray:
    """int32[m, n]: rows of the most popular items, by the first half-life, that each user does not have; -1 for none."""
    m, bias = len(users), on.items.log_count[0]
    if on.rules.added is not None:
        bias = bias + on.rules.added
    extras = (np.zeros(m + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
    seen = seen_items(head, users, history_items)
    return Asking(users, np.empty((m, 0), np.float32), on.items.vectors[:, :0], bias, seen, extras).best(on.order, n)[0]


def _lists(
    head: Head, model: Model, on: Shelf, users: np.ndarray, asked: Asked, features: np.ndarray, n: int, history_items: int
) -> Lists:
    known, mix = model.known(asked), on.choice.mix
    offsets, numbers, values = extra_rows(head, model.extras(asked) if mix.sparse else None, len(users), on.items.rows)
    askers = Asking(
        users, model.queries(asked) * np.float32(mix.dense), on.items.vectors, on.bias, seen_items(head, users, history_items),
        (offsets, numbers, values * np.float32(mix.sparse)))
    by_segment = (np.zeros_like(offsets), numbers[:0], values[:0])
    if on.segment is not None:
        by_segment = segment_extras(head, on.items, on.choice, features, on.segment, on.items.rows)
    strangers = replace(
        askers, queries=askers.queries[:, :0], vectors=askers.vectors[:, :0], bias=on.popular, extras=by_segment)
    rows, scores = np.empty((len(users), n), np.int32), np.empty((len(users), n), np.float32)
    propensity, (drawn, followed) = np.empty((len(users), n)), np.empty((2, len(users), n), bool)
    for which, group in ((known, askers), (~known, strangers)):
        some = group.some(np.flatnonzero(which))
        made = _ranked(some, on, n, n)
        rows[which], propensity[which], drawn[which] = made.rows, made.propensity, made.drawn
        scores[which], followed[which] = place_scores(made.rows, some.queries, some.vectors, some.bias, some.extras)
    listed = rows >= 0
    items = np.zeros(rows.shape, np.int64)
    items[listed] = on.items.keys[rows[listed]]
    by_vectors, by_extras = _by_vectors(on, asked, askers.queries, rows), np.where(known, _NEIGHBOURS, _SEGMENT)[:, None]
    reasons = np.select([drawn, followed], [_EXPLORATION, by_extras], by_vectors).astype(np.int8)
    return Lists(items, scores, reasons, propensity, listed.sum(axis=1), known)


def _by_vectors(on: Shelf, asked: Asked, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """int[m, k]: what places [m, k] rest on by vectors, where asker and item have one; popularity where not."""
    nobody = np.zeros(len(queries), bool)
    session = np.any([nobody, *((refs >= 0).any(axis=1) for refs in asked.recent.values())], axis=0)
    user = np.any([nobody, *(refs >= 0 for refs in asked.user.values())], axis=0)
    spoken = (queries != 0.0).any(axis=1)[:, None] & np.append(on.placed, False)[rows]
    met = np.append(on.met, False)[rows]
    return np.select(
        [~spoken, session[:, None] & met, user[:, None] & met], [_POPULARITY, _SESSION, _USER], _FEATURES)


def _ranked(asking: Asking, on: Shelf, n: int, k: int) -> Reranked:
    """Lists of n: the best, or by the rules out of at least k candidates of each asker, of more where a list was short."""
    rules, m = on.rules, len(asking.users)
    if not rules.rerank:
        rows, _ = asking.best(on.order, n)
        return Reranked(rows, np.ones(rows.shape), np.zeros(rows.shape, bool), np.zeros(m, bool))
    # Chance alone never looks below place n.
    k = min(max(k, n if rules.cap is None and not rules.diversity else rules.candidates), len(on.items.keys))
    at_once, parts = max(CANDIDATES_AT_ONCE // max(k, 1), 1), []
    for start in range(0, max(m, 1), at_once):
        some = asking.some(np.arange(start, min(start + at_once, m)))
        seeds = hashed(hashed(np.uint64(rules.seed)) ^ some.users.view(np.uint64))
        made = rerank(*some.best(on.order, k), n, on.offer, rules.diversity, rules.cap, rules.exploration, seeds, some.left_out)
        again = np.flatnonzero(made.short)
        if len(again) and k < len(on.items.keys):
            wider = _ranked(some.some(again), on, n, k * _MORE)
            made.rows[again], made.propensity[again], made.drawn[again] = wider.rows, wider.propensity, wider.drawn
        parts.append(made)
    return Reranked(*(np.concatenate(cells) for cells in zip(*parts, strict=True)))


def seen_items(head: Head, users: np.ndarray, history_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, popularity rows) of what each user already has, each once."""
    number, keys = history_items_of(head, users, history_items)
    row = head.lookup(POPULARITY, keys)
    pairs = np.unique(number[row >= 0] * np.int64(2**32) + row[row >= 0])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs >> 32, minlength=len(users)))]).astype(np.int64)
    return offsets, (pairs & np.int64(2**32 - 1)).astype(np.int32)


def _chosen(at: np.ndarray, offsets: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of arrays with a stretch for each asker those of some askers, with the offsets of their stretches."""
    counts = np.diff(offsets)
    kept = np.zeros(len(counts), bool)
    kept[at] = True
    mine = np.repeat(kept, counts)
    return np.concatenate([[0], np.cumsum(counts[at])]).astype(np.int64), *(array[mine] for array in arrays)
