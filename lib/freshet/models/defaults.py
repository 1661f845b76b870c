"""What models have in common: which events are positive, how a user's own row and an item's become a score."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from freshet.kernels.described import item_vectors
from freshet.kernels.optimizers import CONSTANT, Step
from freshet.kernels.seeds import mix
from freshet.models.contract import (
    ATTRIBUTE,
    ITEM,
    USER,
    Asked,
    Context,
    Events,
    Extras,
    Gather,
    Part,
    Rows,
    ShardResult,
    ShardTask,
    View,
)


class Base:
    """Defaults of the contract: nothing counted, no further scores, no wish for a user's newest items."""

    recent = 0
    asked = 0
    labels = False
    positive_from: float | None = None
    factors: int
    decays: tuple[float, ...] = ()
    groups: tuple[int, ...] = ()

    def positive(self, events: Events) -> np.ndarray:
        if self.positive_from is None:
            return np.ones(len(events), bool)
        return np.asarray(events.value >= self.positive_from)

    def tally(self, gather: Gather, events: Events, positive: np.ndarray, context: Context) -> dict[str, Rows]:
        return {}

    def extras(self, asked: Asked) -> Extras | None:
        return None

    def item_matrix(self, views: Mapping[str, View], rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        values = views[ITEM].take(rows[ITEM])
        if ATTRIBUTE in rows:
            values = np.zeros((len(values), 1 + self.factors), np.float32)
            item_vectors(views[ITEM].values, rows[ITEM][:, None], views[ATTRIBUTE].values, rows[ATTRIBUTE], values.shape[1], values)
        return np.ascontiguousarray(values[:, 1 : 1 + self.factors]), np.ascontiguousarray(values[:, 0])


class RowsOfUsers(Base):
    """Models with a row for every user, whose factors begin at column `user_factors`."""

    user_factors: int

    def known(self, asked: Asked) -> np.ndarray:
        return asked.user[USER] >= 0

    def queries(self, asked: Asked) -> np.ndarray:
        values = asked.views[USER].take(asked.user[USER])
        return np.ascontiguousarray(values[:, self.user_factors : self.user_factors + self.factors])

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        vectors, bias = self.item_matrix(asked.views, rows)
        product = float(self.queries(asked)[0] @ vectors[0])
        return [
            Part("bias", ITEM, int(rows[ITEM][0]), float(bias[0])), Part("user", USER, int(asked.user[USER][0]), product),
        ], []


def against(events: Events, context: Context, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(item keys int64[m, 1 + c], bool of that shape: which there are): each chosen event's item, then its negatives."""
    keys = np.concatenate([events.item_key[chosen, None], context.negatives[chosen]], axis=1)
    there = np.concatenate([np.ones((len(chosen), 1), bool), context.drawn[chosen]], axis=1)
    return keys, there


def draws(seed: int, dropout: float, events: Events, chosen: np.ndarray) -> np.ndarray:
    """uint64[m] seeds of the chosen events' masks, none where no factor is dropped; apart from those of their negatives."""
    if not dropout:
        return np.empty(0, np.uint64)
    return np.asarray(mix(mix(mix(np.uint64(seed))) ^ events.event_hash[chosen].view(np.uint64)))


def untouched(task: ShardTask, step: Step | None = None) -> ShardResult:
    """The result of a task before its first event: its own rows, nothing counted, room for predictions and losses.

    `touched` begins at the events behind each row where the step's schedule asks for them (see `counted`)."""
    n = len(task.target)
    contraction = {name: np.zeros(len(rows)) for name, rows in task.rows.items()}
    touched = {name: np.zeros(len(rows), np.int64) for name, rows in task.rows.items()}
    if step is not None and step.schedule != CONSTANT:
        touched = {name: count.copy() for name, count in task.counts.items()}
    return ShardResult(task.rows, contraction, touched, np.empty(n), np.empty(n), 0, np.zeros(n))


def counted(task: ShardTask, made: ShardResult, step: Step) -> dict[str, np.ndarray]:
    """The events of the task that touched each row, of a result that began as `untouched` with this step."""
    if step.schedule == CONSTANT:
        return made.touched
    return {name: count - task.counts[name] for name, count in made.touched.items()}
