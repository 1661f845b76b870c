"""mf: biased matrix factorization of explicit values (squared loss)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from freshet.kernels import mf as kernel
from freshet.models.contract import ITEM, USER, Block, Context, Events, Examples, Mix, ShardResult, ShardTask
from freshet.models.defaults import RowsOfUsers, draws, untouched
from freshet.models.steps import Defaults, moved, steps
from freshet.settings import ModelSettings

MEAN_KEY = 0

# Chosen on the first 70 % of movielens-100k in time order (docs/benchmarks.md).
DEFAULTS = {
    "sgd": Defaults(rate=0.06, bias_rate=0.06),
    "adagrad": Defaults(rate=0.1, bias_rate=0.2),
    "rms": Defaults(rate=0.01, bias_rate=0.02),
    "rmsprop": Defaults(rate=0.01, bias_rate=0.02),
    "momentum": Defaults(rate=0.01, bias_rate=0.006),
    "adam": Defaults(rate=0.02, bias_rate=0.05, decay=0.999),
    "ftrl": Defaults(rate=0.1, bias_rate=0.2),
}


class MatrixFactorization(RowsOfUsers):
    """score(u, i) = mean + b_u + b_i + p_u . q_i; learns `value` (see kernels.mf for loss and layout)."""

    name = "mf"
    negatives = 0
    loss_metric = "rmse"
    mixes: tuple[Mix, ...] = (Mix(1.0, 0.0, 0.0),)
    user_factors = 1

    def __init__(self, settings: ModelSettings) -> None:
        self.factors = settings.factors or 16
        self.seed, self.dropout, self.limit = settings.seed, settings.dropout, settings.max_norm
        self.positive_from = settings.positive_from
        self.step, self.bias_step = steps(settings, "sgd", DEFAULTS)
        self.merge = settings.merge
        self.scale = 0.07 if settings.init_scale is None else settings.init_scale

    def blocks(self) -> tuple[Block, ...]:
        parts = ((1, self.bias_step), (self.factors, self.step))
        rows = (moved(name, name, parts, self.merge, self.scale, zeros=1) for name in (USER, ITEM))
        return (Block("mean", None, 1, merge="mean"), *rows)

    def examples(self, events: Events, context: Context) -> Examples:
        n = len(events)
        keys = {
            "mean": np.full((n, 1), MEAN_KEY, np.int64),
            USER: events.user_key.reshape(n, 1),
            ITEM: events.item_key.reshape(n, 1),
        }
        chance = draws(self.seed, self.dropout, events, np.arange(n))
        return Examples(np.arange(n), keys, events.value.astype(np.float32), events.weight.astype(np.float32), draws=chance)

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        out = np.empty(len(task.target), np.float64)
        refs = task.refs
        kernel.score(
            task.rows["mean"], task.rows[USER], task.rows[ITEM], refs["mean"][:, 0], refs[USER][:, 0], refs[ITEM][:, 0],
            self.factors, self.deviation(task.rows["mean"]), out,
        )
        return out, 0.5 * task.weight * (out - task.target) ** 2

    def learn(self, task: ShardTask) -> ShardResult:
        made = untouched(task, self.step)
        touched = {name: np.bincount(refs[refs >= 0], minlength=len(task.rows[name])) for name, refs in task.refs.items()}
        mean_count = int(task.counts["mean"][0]) if len(task.target) else 0
        return replace(made, touched=touched, capped=self.descend(task, made, mean_count))

    def deviation(self, mean: np.ndarray) -> float:
        """What p_u . q_i is in units of, given the rows of block `mean`."""
        return 1.0

    def descend(self, task: ShardTask, made: ShardResult, mean_count: int) -> int:
        """Learn the examples into the rows and into `made`; how often a row was cut."""
        return int(kernel.learn(
            task.rows["mean"], task.rows[USER], task.rows[ITEM], mean_count, task.refs[USER][:, 0], task.refs[ITEM][:, 0],
            task.target, task.weight, task.draws, self.dropout, self.factors, self.bias_step, self.step, self.limit,
            made.touched[USER], made.touched[ITEM], made.contraction[USER], made.contraction[ITEM], task.trust, made.prediction,
            made.loss, made.moved,
        ))
