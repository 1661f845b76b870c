"""What is learned beside every model: popularity, histories, the window of recent items; and the negatives drawn from it.

All of it is additive or sequential bookkeeping, so it runs once per micro-batch in canonical order instead of in shards:
there is nothing to merge, and every event sees exactly what came before it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from freshet.head import TOTALS, TOTALS_KEY, WINDOW_LINKS, Head
from freshet.kernels.history import CHUNK, ring_of, walk
from freshet.kernels.popularity import add_events
from freshet.kernels.rows import RowTable
from freshet.models.contract import Context, Events, Rows
from freshet.schema import HISTORY, HISTORY_ARCHIVE, LAST_CONTEXT, POPULARITY, SEGMENT, WINDOW
from freshet.segments import SegmentSpec, count_segments


@dataclass(frozen=True)
class CompanionSpec:
    """Numbers the companions need: half-lives in microseconds (infinite: never), bound of a history and of the window
    in items, how negatives are drawn (`recent`, `uniform`, `popularity`), how many and in how many tries, the seed, how
    many of a user's newest items are noted for each event, popularity by segment (None: it is not counted)."""

    half_lives: tuple[float, ...]
    history_items: int
    window_events: int
    draw: str
    negatives: int
    tries: int
    seed: int
    recent: int = 0
    segment: SegmentSpec | None = None


@dataclass(frozen=True)
class Advance:
    """Rows of the companions after the micro-batch, and what was known at each event on the way."""

    rows: dict[str, Rows]
    context: Context


def advance(head: Head, events: Events, positive: np.ndarray, spec: CompanionSpec) -> Advance:
    """Take the events, in order, into copies of the companions' rows; the head stays as it is. What corrects an event is in no
    count: that event is."""
    every, liked = events, positive
    if events.corrects.any():
        events, positive = _first_said(events), positive[~events.corrects]
    recent = _recent_items(head, events, positive, spec.window_events)
    pool, cumulative = _pool(head, recent, spec) if spec.negatives else (recent[:0], np.empty(0))
    histories, context = _walk(head, every, liked, pool, cumulative, spec)
    rows = {
        POPULARITY: _count(head, POPULARITY, events.item_key, events, positive, spec.half_lives),
        TOTALS: _count(head, TOTALS, np.full(len(events), TOTALS_KEY), events, positive, spec.half_lives),
        WINDOW: _window(head, events, positive, spec.window_events),
        **histories,
    }
    if events.features.shape[1]:
        rows[LAST_CONTEXT] = _last_context(head, events)
    if spec.segment is not None:
        rows[SEGMENT] = count_segments(head, events, positive, spec.segment)
    return Advance({name: changed for name, changed in rows.items() if len(changed)}, context)


def _first_said(events: Events) -> Events:
    return Events(*(getattr(events, one.name)[~events.corrects] for one in fields(Events)))


def _count(
    head: Head, block: str, keys: np.ndarray, events: Events, positive: np.ndarray, half_lives: tuple[float, ...]
) -> Rows:
    index = RowTable({})
    refs = index.insert(keys, positive)
    rows, _ = head.gather(block, index.keys.copy())
    values = rows.values.astype(np.float64)
    touched = np.zeros(len(rows), np.int64)
    last_at = rows.last_at.copy()
    add_events(values, last_at, touched, refs, events.event_at, events.weight, events.value, np.array(half_lives))
    return Rows(rows.keys, values.astype(np.float32), rows.links, rows.filled, rows.count + touched, last_at)


def _recent_items(head: Head, events: Events, positive: np.ndarray, window: int) -> np.ndarray:
    """Items of recent events, this micro-batch's included: a pool that is never empty when there is an event."""
    return np.concatenate([head.window(), events.item_key[positive]])[-window:]


def _pool(head: Head, recent: np.ndarray, spec: CompanionSpec) -> tuple[np.ndarray, np.ndarray]:
    if spec.draw == "recent":
        return recent, np.empty(0)
    if spec.draw == "uniform":
        return np.unique(recent), np.empty(0)
    known = head.tables[POPULARITY].keys
    if not len(known):
        return np.unique(recent), np.empty(0)
    order = np.argsort(known, kind="stable")
    # Relative to one instant for all items, so that the weights are comparable; any instant gives the same shares.
    age = (head.clock - head.tables[POPULARITY].column("last_at")[order]) / spec.half_lives[0]
    weight = head.values(POPULARITY)[order, 0].astype(np.float64) * np.exp2(-age)
    return known[order].copy(), np.cumsum(weight)


def _walk(
    head: Head, events: Events, positive: np.ndarray, pool: np.ndarray, cumulative: np.ndarray, spec: CompanionSpec
) -> tuple[dict[str, Rows], Context]:
    n = len(events)
    index = RowTable({})
    refs = index.insert(events.user_key)
    rows, _ = head.gather(HISTORY, index.keys.copy())
    drawn = np.zeros((n, spec.negatives), np.int64)
    found = np.zeros((n, spec.negatives), bool)
    recent, length = np.zeros((n, spec.recent), np.int64), np.zeros(n, np.int32)
    most = n // CHUNK + len(rows)
    keys, links = np.zeros(most, np.int64), np.zeros((most, 1 + CHUNK), np.int64)
    counts, at = np.zeros(most, np.int64), np.zeros(most, np.int64)
    archived = walk(
        rows.links, rows.filled, rows.count, rows.keys, refs, events.item_key, positive, events.corrects, events.event_hash,
        ring_of(spec.history_items), pool, cumulative, np.uint64(spec.seed), spec.tries, drawn, found, keys, links,  # type: ignore[arg-type]
        counts, at, recent, length,
    )
    counted = ~events.corrects
    np.maximum.at(rows.last_at, refs[counted], events.event_at[counted])
    archive = _archive(keys[:archived], links[:archived], counts[:archived], events.event_at[at[:archived]])
    context = Context(drawn, found, recent, length, head.attributes, head.gather, head.clock)
    if not counted.all():
        rows = _some(rows, np.unique(refs[counted]))
    return {HISTORY: rows, HISTORY_ARCHIVE: archive}, context


def _some(rows: Rows, at: np.ndarray) -> Rows:
    return Rows(*(getattr(rows, one.name)[at] for one in fields(Rows)))


def _archive(keys: np.ndarray, links: np.ndarray, counts: np.ndarray, at: np.ndarray) -> Rows:
    # A ring slot written twice in one micro-batch keeps what was written last.
    _, first_from_end = np.unique(keys[::-1], return_index=True)
    last = np.sort(len(keys) - 1 - first_from_end)
    filled = np.full(len(last), links.shape[1], np.int32)
    return Rows(keys[last], np.empty((len(last), 0), np.float32), links[last], filled, counts[last], at[last])


def _last_context(head: Head, events: Events) -> Rows:
    """What was known of each user's newest event: who asks for a list is taken to be where he was then."""
    keys, from_end, count = np.unique(events.user_key[::-1], return_index=True, return_counts=True)
    rows, _ = head.gather(LAST_CONTEXT, keys)
    last = len(events) - 1 - from_end
    newer = events.event_at[last] >= rows.last_at  # what was held back, or came late, says nothing of where he is now
    rows.links[newer], rows.filled[newer] = events.features[last][newer], events.features.shape[1]
    rows.count[:] += count
    np.maximum(rows.last_at, events.event_at[last], out=rows.last_at)
    return rows


def _window(head: Head, events: Events, positive: np.ndarray, window: int) -> Rows:
    """The ring of recent items: event number n lies in slot (n // 32) mod slots, place n mod 32."""
    slots = max(1, window // WINDOW_LINKS)
    items, at = events.item_key[positive], events.event_at[positive]
    before = head.events_in_window()
    # More events than the ring holds: the older ones would be overwritten at once.
    skip = max(0, len(items) - slots * WINDOW_LINKS)
    number = before + np.arange(skip, len(items))
    slot = (number // WINDOW_LINKS) % slots
    # Ascending, so that the rows of a ring that still grows lie in slot order in the head.
    keys, row = np.unique(slot, return_inverse=True)
    rows, _ = head.gather(WINDOW, keys.astype(np.int64))
    rows.links[row, number % WINDOW_LINKS] = items[skip:]
    np.maximum.at(rows.filled, row, (number % WINDOW_LINKS + 1).astype(np.int32))
    np.maximum.at(rows.count, row, number + 1)
    np.maximum.at(rows.last_at, row, at[skip:])
    return rows
