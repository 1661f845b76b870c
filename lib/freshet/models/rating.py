"""rating and biases: explicit values by Kalman updates, with factors and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from freshet.kernels import kalman as kernel
from freshet.kernels.described import item_vectors
from freshet.models.contract import ATTRIBUTE, ITEM, USER, Asked, Block, Context, Events, Examples, ShardResult, ShardTask
from freshet.models.mf import MatrixFactorization
from freshet.settings import ModelSettings


class Rating(MatrixFactorization):
    """score(u, i) = mean + b_u + b_i + sigma p_u . q_i; a row's steps are as long as it is unsure (see kernels.kalman)."""

    name = "rating"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.dropout = 0.0  # a filter that knows how unsure it is has no use for one
        self.priors = kernel.Priors(**settings.kalman.model_dump())
        self.described = bool(settings.features.items)
        self.scale = 0.03 if settings.init_scale is None else settings.init_scale

    def blocks(self) -> tuple[Block, ...]:
        slots = 2 if self.factors else 1
        rows = [
            Block(name, name, 1 + self.factors, slots, merge=self.merge, init_scale=self.scale, zeros=1, slots_add=True)
            for name in (USER, ITEM, ATTRIBUTE)[: 3 if self.described else 2]
        ]
        return (Block("mean", None, 2, merge="mean"), *rows)

    def examples(self, events: Events, context: Context) -> Examples:
        plain = super().examples(events, context)
        if not self.described:
            return plain
        attributes = context.attributes(events.item_key)
        return replace(plain, keys={**plain.keys, ATTRIBUTE: attributes}, present={ATTRIBUTE: attributes != 0})

    def deviation(self, mean: np.ndarray) -> float:
        return float(kernel.deviation(mean))

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        if not self.described:
            return super().score(task)
        n, width = len(task.target), 1 + self.factors
        whole = np.zeros((n, width), np.float32)
        item_vectors(task.rows[ITEM], task.refs[ITEM], task.rows[ATTRIBUTE], task.refs[ATTRIBUTE], width, whole)
        each = np.arange(n, dtype=np.int32)[:, None]
        return super().score(replace(task, rows={**task.rows, ITEM: whole}, refs={**task.refs, ITEM: each}))

    def descend(self, task: ShardTask, made: ShardResult, mean_count: int) -> int:
        n, width = len(task.target), 1 + self.factors
        return int(kernel.learn(
            task.rows["mean"], task.rows[USER], task.rows[ITEM], task.rows.get(ATTRIBUTE, np.empty((0, width), np.float32)),
            mean_count, task.refs[USER][:, 0], task.refs[ITEM][:, 0], task.refs.get(ATTRIBUTE, np.empty((n, 0), np.int32)),
            task.target, task.weight, self.factors, self.priors, self.limit, made.contraction[USER], made.contraction[ITEM],
            made.contraction.get(ATTRIBUTE, np.empty(0)), task.trust, made.prediction, made.loss, made.moved,
        ))

    def queries(self, asked: Asked) -> np.ndarray:
        return super().queries(asked) * np.float32(self.deviation(asked.views["mean"].values))


class Biases(Rating):
    """score(u, i) = mean + b_u + b_i: `rating` without factors."""

    name = "biases"

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__(settings)
        self.factors = 0
