"""The rows a micro-batch touches, copied from the head: what shards learn on and merge into, round after round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from freshet.head import Head
from freshet.kernels.digest import block_seed
from freshet.kernels.forgetting import earliest, forget
from freshet.kernels.merge import Part, Span, add_counts, merge_parts
from freshet.kernels.optimizers import slot_contractions
from freshet.kernels.rows import RowTable
from freshet.kernels.seeds import initial_rows
from freshet.kernels.settling import follows, settle, unsettled
from freshet.kernels.shards import kept, latest, localize
from freshet.models.contract import ITEM, Block, Examples, Rows, ShardResult, ShardTask

HANDS = 4  # tasks of shards that are built at the same time


@dataclass
class Sheet:
    """One block's touched rows; `refs` int32[n, m] the row of each touch of each example, -1 for none, `stamps` int32[HANDS, r]
    scratch of `localize`, `began` the vectors of rows of items as they were."""

    block: Block
    rows: Rows
    known: np.ndarray
    refs: np.ndarray
    touched: np.ndarray
    stamps: np.ndarray
    began: np.ndarray

    def head_refs(self, part: slice) -> np.ndarray:
        """The references of some examples as a snapshot sees them: rows it does not have are -1."""
        return kept(self.refs[part], self.known)


class Workspace:
    """Private copies of every row the examples touch; nothing here reaches the head before the commit."""

    def __init__(self, head: Head, blocks: tuple[Block, ...], examples: Examples, seed: int) -> None:
        self.examples, self._seed = examples, seed
        self.trust = np.empty(0, np.float32)  # as ShardTask.trust, of the examples
        learned = [block for block in blocks if block.name in examples.keys]
        with ThreadPoolExecutor(max(len(learned), 1)) as pool:  # of different blocks, so they share nothing that changes
            opened = [pool.submit(_open_sheet, head, block, examples, seed) for block in learned]
            self.sheets = {block.name: sheet.result() for block, sheet in zip(learned, opened, strict=True)}

    def forget(self, half_lives: Mapping[str, float], event_at: np.ndarray) -> None:
        """Let what a block's rows had learned fade by half every so many microseconds from a row's last event to the first of
        these (see kernels.forgetting). Before anything is learned; scores of the snapshot no longer follow from it then."""
        at = event_at[self.examples.event]
        for name, half_life in half_lives.items():
            sheet = self.sheets.get(name)
            if sheet is not None:
                first = np.full(len(sheet.rows), np.iinfo(np.int64).max)
                earliest(at, sheet.refs, first)
                old = np.flatnonzero(sheet.known & (first > sheet.rows.last_at))
                faded = sheet.rows.values[old]
                forget(faded, starts(sheet.block, sheet.rows.keys[old], self._seed), (first - sheet.rows.last_at)[old] / half_life)
                sheet.rows.values[old] = faded

    def snapshot_task(self, part: slice = slice(None)) -> ShardTask:
        """Examples, all or some, against the rows as the head has them, for the served score."""
        refs = {name: sheet.head_refs(part) for name, sheet in self.sheets.items()}
        return self._task(refs, part, {name: sheet.rows.values for name, sheet in self.sheets.items()})

    def task(self, chosen: np.ndarray, hand: int = 0) -> tuple[ShardTask, dict[str, np.ndarray]]:
        """The task of a shard for the chosen examples and, per block, the workspace row behind each of its rows; two of one hand
        must not be built at the same time."""
        refs, origin, rows = {}, {}, {}
        for name, sheet in self.sheets.items():
            refs[name], origin[name] = localize(np.take(sheet.refs, chosen, axis=0), sheet.stamps[hand])
            rows[name] = np.take(sheet.rows.values, origin[name], axis=0)
        task = self._task(refs, chosen, rows)
        for name, sheet in self.sheets.items():
            task.counts[name] = sheet.rows.count[origin[name]]
        return task, origin

    def tasks(self, parts: Sequence[np.ndarray]) -> list[tuple[ShardTask, dict[str, np.ndarray]]]:
        """`task` of each part of the examples, in their order, built side by side."""
        with ThreadPoolExecutor(HANDS) as pool:
            made = list(pool.map(lambda hand: [self.task(part, hand) for part in parts[hand::HANDS]], range(HANDS)))
        return [made[number % HANDS][number // HANDS] for number in range(len(parts))]

    def _task(self, refs: dict[str, np.ndarray], chosen: np.ndarray | slice, rows: dict[str, np.ndarray]) -> ShardTask:
        examples = self.examples
        given = (examples.draws, examples.offset, self.trust)
        draws, offset, trust = (one[chosen] if len(one) else one for one in given)
        return ShardTask(rows, {}, refs, examples.target[chosen], examples.weight[chosen], draws, offset, trust)

    def merge(self, results: list[ShardResult], origins: list[dict[str, np.ndarray]]) -> None:
        """Merge what the shards learned, in shard order, by each block's rule; blocks side by side."""
        with ThreadPoolExecutor(max(len(self.sheets), 1)) as pool:
            list(pool.map(lambda name: self._merge(name, results, origins), self.sheets))

    def _merge(self, name: str, results: list[ShardResult], origins: list[dict[str, np.ndarray]]) -> None:
        sheet = self.sheets[name]
        parts = [
            Part(origin[name], result.rows[name], result.contraction[name], result.touched[name])
            for origin, result in zip(origins, results, strict=True)
        ]
        if follows(sheet.block.groups):
            merge_following(sheet.block, sheet.rows.values, parts, sheet.rows.count)
        else:
            merge_parts(sheet.block.merge, sheet.rows.values, parts, spans_of(sheet.block), sheet.rows.count)
        for part in parts:
            add_counts(part.rows, part.counts, sheet.rows.count, sheet.touched)

    def note_times(self, event_at: np.ndarray) -> None:
        """Set the last event time of every touched row to the latest of the events behind its touches."""
        for sheet in self.sheets.values():
            latest(event_at[self.examples.event], sheet.refs, sheet.rows.last_at)

    def ways(self) -> tuple[np.ndarray, np.ndarray]:
        """(keys, float64): how far each learned row of the items was moved; an item may have rows in several blocks."""
        found = [(np.empty(0, np.int64), np.empty(0))]
        for sheet in self.sheets.values():
            if sheet.block.ids == ITEM:
                at = np.flatnonzero(sheet.touched)
                way = sheet.rows.values[at, : sheet.block.width].astype(np.float64) - sheet.began[at]
                found.append((sheet.rows.keys[at], np.sqrt((way * way).sum(axis=1))))
        keys, ways = zip(*found, strict=True)
        return np.concatenate(keys), np.concatenate(ways)

    def changed(self, name: str) -> Rows:
        """The rows of a block that were learned on."""
        sheet = self.sheets[name]
        at = np.flatnonzero(sheet.touched)
        rows = sheet.rows
        return Rows(rows.keys[at], rows.values[at], rows.links[at], rows.filled[at], rows.count[at], rows.last_at[at])


def _open_sheet(head: Head, block: Block, examples: Examples, seed: int) -> Sheet:
    keys = examples.keys[block.name]
    present = examples.present.get(block.name)
    index = RowTable({})
    refs = index.insert(keys.ravel(), None if present is None else present.ravel()).reshape(keys.shape)
    rows, known = head.gather(block.name, index.keys.copy())
    if not known.all() and block.init_scale > 0.0:
        rows.values[~known, : block.width] = starts(block, rows.keys[~known], seed)
    began = rows.values[:, : block.width].copy() if block.ids == ITEM else rows.values[:0]
    return Sheet(block, rows, known, refs, np.zeros(len(rows), np.int64), np.full((HANDS, len(rows)), -1, np.int32), began)


def starts(block: Block, keys: np.ndarray, seed: int) -> np.ndarray:
    """float32[r, width]: what new rows of these keys begin with."""
    fresh = np.zeros((len(keys), block.width), np.float32)
    if block.init_scale > 0.0:
        # The block is part of the seed: a user and an item of the same natural id must not start alike.
        initial_rows(keys, fresh, block.init_scale, seed ^ block_seed(block.name), block.zeros)
    return fresh


def spans_of(block: Block) -> list[Span]:
    """The columns of a block's rows that are merged alike: its vector, then its slots."""
    contractions = np.full(block.slots, 0.0 if block.slots_add else -1.0)
    for group in block.groups:
        own = slot_contractions(group.step, group.width)
        contractions[group.slot - block.width : group.slot - block.width + len(own)] = own
    cuts = [0, *(1 + np.flatnonzero(np.diff(contractions))).tolist(), block.slots] if block.slots else []
    slots = [
        Span(block.width + start, block.width + stop, *((2.0, 0.0) if contractions[start] < 0.0 else (0.0, contractions[start])))
        for start, stop in pairwise(cuts)
    ]
    return [Span(0, block.width, 1.0, 0.0), *slots]


def merge_following(block: Block, values: np.ndarray, parts: list[Part], counts: np.ndarray) -> None:
    """merge_parts where weights follow from slots: first the slots, then in their units the weights."""
    row, news, a, touched = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    several = np.bincount(row[touched > 0], minlength=len(values)) > 1
    # Only rows of several shards go through the merge: to others, with what follows from what, it would do something.
    alone = (touched > 0) & ~several[row]
    values[row[alone]] = news[alone]
    met = (touched > 0) & several[row]
    place, before = (np.cumsum(several) - 1).astype(np.int32)[row[met]], values[several]
    merged, (vector, *slots) = before.copy(), spans_of(block)
    merge_parts(block.merge, merged, [Part(place, news[met], a[met], touched[met])], slots, counts[several])
    own, units = unsettled(before, merged, block.groups), unsettled(news[met], merged[place], block.groups)
    merge_parts(block.merge, own, [Part(place, units, a[met], touched[met])], [vector], counts[several])
    merged[:, : block.width] = own[:, : block.width]
    settle(merged, block.groups)
    values[several] = merged
