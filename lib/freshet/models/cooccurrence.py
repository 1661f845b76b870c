"""cooccurrence: what follows what, counted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from freshet.kernels import neighbours as kernel
from freshet.kernels.rows import RowTable
from freshet.models.contract import (
    ITEM,
    Asked,
    Block,
    Context,
    Events,
    Examples,
    Extras,
    Gather,
    Mix,
    Part,
    Rows,
    ShardResult,
    ShardTask,
    View,
)
from freshet.models.defaults import Base
from freshet.settings import ModelSettings

NEIGHBOURS = "neighbours"
MICROSECONDS = 1e6


class Cooccurrence(Base):
    """score(u, j) = log(1 + c / floor), c the shares that j has among the followers of the user's newest items.

    Nothing is learned by descent: the rows are counts, taken in the order of events (see kernels.neighbours).
    """

    name = "cooccurrence"
    loss_metric = "logloss"
    negatives = 0
    # What is popular breaks the ties of all that follows nothing.
    mixes: tuple[Mix, ...] = (Mix(0.0, 1.0, 0.05),)

    def __init__(self, settings: ModelSettings) -> None:
        chosen = settings.neighbours
        self.positive_from = settings.positive_from
        self.factors = 0
        self.recent, self.links, self.decay = chosen.items, chosen.links, chosen.decay
        self.asked = self.asked_items = chosen.asked or chosen.items
        self.asked_decay = chosen.decay if chosen.asked_decay is None else chosen.asked_decay
        self.reverse, self.shrink = chosen.reverse, chosen.shrink
        self.half_life = math.inf if chosen.half_life is None else chosen.half_life * MICROSECONDS

    def blocks(self) -> tuple[Block, ...]:
        return (Block(NEIGHBOURS, ITEM, 1 + self.links, links=self.links, merge="sum"),)

    def examples(self, events: Events, context: Context) -> Examples:
        return Examples(np.empty(0, np.int64), {}, np.empty(0, np.float32), np.empty(0, np.float32))

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError("there are no examples to score")

    def learn(self, task: ShardTask) -> ShardResult:
        raise NotImplementedError("there are no examples to learn")

    def tally(self, gather: Gather, events: Events, positive: np.ndarray, context: Context) -> dict[str, Rows]:
        chosen = np.flatnonzero(positive & (context.length > 0))
        index = RowTable({})
        item_ref = index.insert(events.item_key[chosen])
        recent_ref = self._recent(index, context, chosen)
        rows, _ = gather(NEIGHBOURS, index.keys.copy())
        touched, values = np.zeros(len(rows), np.int64), rows.values.astype(np.float64)
        kernel.count(
            values, rows.links, rows.filled, rows.last_at, touched, rows.keys, item_ref, recent_ref,
            events.event_at[chosen], events.weight[chosen], self.decay, self.reverse, self.half_life,
        )
        at = np.flatnonzero(touched)
        changed = values[at].astype(np.float32)
        count = (rows.count + touched)[at]
        return {NEIGHBOURS: Rows(rows.keys[at], changed, rows.links[at], rows.filled[at], count, rows.last_at[at])}

    def _recent(self, index: RowTable, context: Context, chosen: np.ndarray) -> np.ndarray:
        """int32[m, d] rows of an index for the newest items at each of the chosen events."""
        recent = context.recent[chosen, : self.recent]
        there = np.arange(recent.shape[1]) < context.length[chosen, None]
        return index.insert(recent.ravel(), there.ravel()).reshape(recent.shape)

    def scores_of(self, context: Context, chosen: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32[m, c]: the extras that the items int64[m, c] had at the chosen events, by the counts of the snapshot."""
        index = RowTable({})
        refs = self._recent(index, context, chosen)
        rows, _ = context.gather(NEIGHBOURS, index.keys.copy())
        out = np.empty(items.shape, np.float32)
        kernel.follow_ups_of(
            rows.values, rows.links, rows.filled, rows.last_at, refs, np.ascontiguousarray(items), context.clock, self.decay,
            self.shrink, self.half_life, out)
        return out

    def known(self, asked: Asked) -> np.ndarray:
        return np.asarray((asked.recent[NEIGHBOURS][:, : self.asked_items] >= 0).any(axis=1))

    def item_matrix(self, views: Mapping[str, View], rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        n = len(rows[NEIGHBOURS])
        return np.zeros((n, 0), np.float32), np.zeros(n, np.float32)

    def queries(self, asked: Asked) -> np.ndarray:
        return np.zeros((len(asked.recent[NEIGHBOURS]), 0), np.float32)

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        """The whole of the logarithm, shared out as the counts inside of it are."""
        refs = asked.recent[NEIGHBOURS][:1, : self.asked_items]
        places = np.flatnonzero(refs[0] >= 0)
        alone = np.full((len(places), refs.shape[1]), -1, np.int32)
        alone[np.arange(len(places)), places] = refs[0, places]
        each, whole = (self._follow_ups(asked, one) for one in (alone, refs))
        shares = np.zeros(len(places))
        for place in range(len(places)):
            mine = slice(each.offsets[place], each.offsets[place + 1])
            shares[place] = np.expm1(each.values[mine][each.keys[mine] == item].astype(np.float64)).sum()
        amount = float(whole.values[whole.keys == item].sum())
        return [], [
            Part("follows", NEIGHBOURS, int(refs[0, place]), amount * share / shares.sum())
            for place, share in zip(places, shares, strict=True) if share > 0.0
        ]

    def extras(self, asked: Asked) -> Extras:
        return self._follow_ups(asked, asked.recent[NEIGHBOURS][:, : self.asked_items])

    def _follow_ups(self, asked: Asked, refs: np.ndarray) -> Extras:
        view, refs = asked.views[NEIGHBOURS], np.ascontiguousarray(refs)
        return Extras(*kernel.follow_ups(
            view.values, view.links, view.filled, view.last_at, refs, asked.clock, self.asked_decay, self.shrink, self.half_life))
