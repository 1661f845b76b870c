"""Events ranked for the metrics: each one's item against the items that are known, as a list of then would have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from freshet.asking import Items, ask, extra_rows, newest, on_offer
from freshet.head import Head
from freshet.kernels.history import CHUNK, archive_keys, earlier_in_batch, ring_of
from freshet.kernels.mixing import ranks_mixed
from freshet.kernels.ranking import ranks, ranks_shared
from freshet.kernels.seeds import mix
from freshet.leader import Choice, choices, leader
from freshet.models.contract import Asked, Context, Events, Model
from freshet.schema import HISTORY, HISTORY_ARCHIVE, POPULARITY
from freshet.segments import SegmentSpec, segment_ranks

SAMPLED = "~sampled"  # ends the name of a metric of ranks among a sample of the items
RANKED_AT_ONCE = 8192  # events: of a model with extras they take far more memory than their ranks


@dataclass(frozen=True)
class MetricSpec:
    """Events ranked per micro-batch (0: all), K, most items ranked against, half-lives of popularity in microseconds (the
    first is that of the baseline), history bound, seed, popularity by segment (None: it is not measured), decays of
    interest that are compared (none: there is one)."""

    sample: int
    k: int
    max_items: int
    half_lives: tuple[float, ...]
    history_items: int
    seed: int
    segment: SegmentSpec | None = None
    decays: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """The events that were ranked, their ranks int32[m, choices] by the model under each choice, int32[m] by popularity,
    int32[m, 0 or 1] by that of segments and int32[m, decays] by the model with each decay under the choice that leads (0: an
    item the snapshot does not know), which that is, whether items were sampled and the item is unknown."""

    events: np.ndarray
    by_choice: np.ndarray
    popular: np.ndarray
    by_segment: np.ndarray
    by_decay: np.ndarray
    among: tuple[Choice, ...]
    best: int
    sampled: bool
    unknown_item: np.ndarray

    @property
    def rank(self) -> np.ndarray:
        """int32[m]: by the choice that leads."""
        return np.ascontiguousarray(self.by_choice[:, self.best])


def ranked_events(
    head: Head, model: Model, events: Events, positive: np.ndarray, context: Context, spec: MetricSpec
) -> Ranked | None:
    """The sampled positive events, each one's item ranked against the known items; None where there is nothing to rank.

    Items the user already has are left out; events of an item the user already has are not ranked. With more than
    `max_items` items it is ranked against a seeded sample of them.
    """
    items = head.tables[POPULARITY].keys
    sampled = sample_events(events, positive, spec)
    if not len(items) or not len(sampled):
        return None
    number, row, repeat = seen_rows(head, events, sampled, spec.history_items)
    target = head.lookup(POPULARITY, events.item_key[sampled])
    candidates = candidate_rows(items, target, spec)
    kept = np.flatnonzero(~repeat)
    if not len(kept):
        return None
    among = choices(model.mixes, spec.half_lives)
    best, some = leader(head, among), len(candidates) < len(items)

    def ranks_of(part: np.ndarray) -> tuple[np.ndarray, ...]:
        at = sampled[part]
        recent, length = _asked_items(head, model, events, at, context, spec.history_items)
        asked = ask(head, model, events.user_key[at], recent, length, events.features[at])
        seen = _exclusions(number, row, part)
        return _ranks(head, model, asked, events.features[at], candidates, target[part], seen, among, best, spec)

    parts = [kept[start : start + RANKED_AT_ONCE] for start in range(0, len(kept), RANKED_AT_ONCE)]
    whole = (np.concatenate(ranks) for ranks in zip(*map(ranks_of, parts), strict=True))
    by_choice, popular, by_segment, by_decay = whole
    return Ranked(sampled[kept], by_choice, popular, by_segment, by_decay, among, best, some, target[kept] < 0)


def _asked_items(
    head: Head, model: Model, events: Events, ranked: np.ndarray, context: Context, history_items: int
) -> tuple[np.ndarray, np.ndarray]:
    """(int64[m, r], int32[m]): the newest items of each ranked event's user that a list would be asked by, newest first, and how
    many; of this micro-batch the newest MOST_RECENT at most."""
    recent, length = context.recent[ranked], context.length[ranked]
    if model.asked <= model.recent:
        return recent, length
    order = np.argsort(events.user_key, kind="stable")
    _, first, size = np.unique(events.user_key[order], return_index=True, return_counts=True)
    before = np.empty(len(events), np.int64)
    before[order] = np.arange(len(events)) - np.repeat(first, size)
    own = np.minimum(before[ranked], length)[:, None]
    older, count = newest(head, events.user_key[ranked], model.asked, history_items)
    column = np.arange(recent.shape[1] + older.shape[1])
    now = np.take_along_axis(recent, np.broadcast_to(np.minimum(column, recent.shape[1] - 1), (len(ranked), len(column))), axis=1)
    then = np.take_along_axis(older, np.clip(column - own, 0, older.shape[1] - 1), axis=1)
    return np.where(column < own, now, then), np.minimum(own[:, 0] + count, model.asked).astype(np.int32)


def sample_events(events: Events, positive: np.ndarray, spec: MetricSpec) -> np.ndarray:
    """Event numbers, in order: the positive events of smallest hash, so the same ones wherever the batch is learned."""
    chosen = np.flatnonzero(positive)
    if spec.sample and len(chosen) > spec.sample:
        order = mix(events.event_hash[chosen].view(np.uint64) ^ np.uint64(spec.seed))
        chosen = np.sort(chosen[np.argpartition(order, spec.sample)[: spec.sample]])
    return chosen


def candidate_rows(items: np.ndarray, target: np.ndarray, spec: MetricSpec) -> np.ndarray:
    """Rows of `popularity` that are ranked against; the true items are always among them."""
    if len(items) <= spec.max_items:
        return np.arange(len(items), dtype=np.int32)
    order = mix(items.view(np.uint64) + np.uint64(spec.seed))
    sample = np.argpartition(order, spec.max_items)[: spec.max_items]
    return np.union1d(sample, target[target >= 0]).astype(np.int32)


def seen_rows(
    head: Head, events: Events, sampled: np.ndarray, history_items: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sample number, popularity row) of every known item a sampled event's user already had, sorted, each once; and
    bool[samples] whether the event's own item, known or not, is one he already had."""
    order = np.lexsort((np.arange(len(events)), events.user_key))
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    number, keys = earlier_in_batch(order, inverse, events.user_key, events.item_key, sampled)
    old_number, old_keys = history_items_of(head, events.user_key[sampled], history_items)
    number, keys = np.concatenate([number, old_number]), np.concatenate([keys, old_keys])
    repeat = np.zeros(len(sampled), bool)
    repeat[number[keys == events.item_key[sampled][number]]] = True
    row = head.lookup(POPULARITY, keys)
    known = row >= 0
    pairs = np.unique(number[known] * np.int64(2**32) + row[known])
    return pairs >> 32, (pairs & np.int64(2**32 - 1)).astype(np.int32), repeat


def history_items_of(head: Head, users: np.ndarray, history_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(number of the user in `users`, item key) of everything in their histories, archive included."""
    rows, _ = head.gather(HISTORY, users)
    who, place = np.nonzero(np.arange(rows.links.shape[1]) < rows.filled[:, None])
    numbers, keys = [who], [rows.links[who, place]]
    ring = ring_of(history_items)
    chunks = np.minimum((rows.count - rows.filled) // CHUNK, ring)
    owner = np.repeat(np.arange(len(users)), chunks)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(chunks) - chunks, chunks)
    if len(owner):
        archive, found = head.gather(HISTORY_ARCHIVE, archive_keys(users[owner], slot))
        numbers.append(np.repeat(owner[found], CHUNK))
        keys.append(archive.links[found, 1:].ravel())
    return np.concatenate(numbers), np.concatenate(keys)


def _exclusions(number: np.ndarray, row: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(offsets int64[m + 1], rows) of the kept samples' seen items."""
    chosen = np.isin(number, kept)
    counts = np.bincount(np.searchsorted(kept, number[chosen]), minlength=len(kept))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), row[chosen]


def _ranks(
    head: Head, model: Model, asked: Asked, features: np.ndarray, candidates: np.ndarray, target: np.ndarray,
    seen: tuple[np.ndarray, np.ndarray], among: tuple[Choice, ...], best: int, spec: MetricSpec,
) -> tuple[np.ndarray, ...]:
    """Ranks as Ranked has them: by the model, by popularity, by that of segments, by decay."""
    local = np.full(len(head.tables[POPULARITY]), -1, np.int32)
    local[candidates] = np.arange(len(candidates), dtype=np.int32)
    target = np.where(target >= 0, local[target], -1).astype(np.int32)
    offsets, seen_row = _localized(seen, local)
    items = on_offer(head, model, candidates, spec.half_lives)
    popular = ranks_shared(items.log_count[0], items.keys, target, offsets, seen_row)
    by_segment = np.empty((len(target), 0), np.int32)
    if spec.segment is not None:
        by_segment = segment_ranks(head, items, features, target, (offsets, seen_row), spec.segment, local)
    extras = model.extras(asked)
    further = extra_rows(head, extras, len(target), local)

    def by_model(asked: Asked, among: Sequence[Choice]) -> np.ndarray:
        queries = model.queries(asked)
        if len(among) == 1 and extras is None:
            bias = mixed_bias(items, among[0])
            dense = np.float32(among[0].mix.dense)
            return ranks(queries * dense, items.vectors, bias, items.keys, target, offsets, seen_row)[:, None]
        weights = np.array([(choice.mix.dense, choice.mix.sparse, choice.mix.popularity) for choice in among], np.float32)
        lives = np.array([choice.number for choice in among], np.int32)
        return ranks_mixed(
            queries, items.vectors, items.bias, items.log_count, weights, lives, items.keys, target, (offsets, seen_row), further)

    by_decay = np.empty((len(target), len(spec.decays)), np.int32)
    for number, decay in enumerate(spec.decays):
        other = replace(asked, decay=np.full(len(target), decay))
        by_decay[:, number] = by_model(other, among[best : best + 1])[:, 0]
    return by_model(asked, among), popular, by_segment, by_decay


def mixed_bias(items: Items, choice: Choice) -> np.ndarray:
    """float32[n]: what a choice gives each item whoever asks."""
    log_count = items.log_count[choice.number]
    return (np.float32(choice.mix.dense) * items.bias + np.float32(choice.mix.popularity) * log_count).astype(np.float32)


def _localized(seen: tuple[np.ndarray, np.ndarray], local: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exclusions in candidate numbers, those that are no candidates dropped."""
    offsets, row = seen
    mapped = local[row]
    kept = mapped >= 0
    before = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    return before[offsets], mapped[kept]
