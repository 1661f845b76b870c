"""bpr: ranking from implicit events by pairwise logistic loss against drawn negatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from freshet.kernels import bpr as kernel
from freshet.models.contract import ITEM, USER, Block, Context, Events, Examples, Mix, ShardResult, ShardTask
from freshet.models.defaults import RowsOfUsers, against, counted, draws, untouched
from freshet.models.steps import Defaults, moved, steps
from freshet.settings import ModelSettings

DEFAULTS = {
    "sgd": Defaults(rate=0.05, bias_rate=0.05),
    "adagrad": Defaults(rate=0.1, bias_rate=0.1),
    "rms": Defaults(rate=0.03, bias_rate=0.05),
    "rmsprop": Defaults(rate=0.03, bias_rate=0.05),
    "momentum": Defaults(rate=0.01, bias_rate=0.005),
    "adam": Defaults(rate=0.01, bias_rate=0.005, decay=0.999),
    "ftrl": Defaults(rate=0.07, bias_rate=0.05),
}


class BayesianPersonalizedRanking(RowsOfUsers):
    """score(u, i) = b_i + p_u . q_i, plus popularity_weight * log(decayed popularity) when ranking."""

    name = "bpr"
    user_factors = 0
    loss_metric = "logloss"

    def __init__(self, settings: ModelSettings) -> None:
        self.factors = settings.factors or 16
        self.seed, self.dropout, self.limit = settings.seed, settings.dropout, settings.max_norm
        self.positive_from = settings.positive_from
        self.negatives = settings.negatives or 1
        self.mixes: tuple[Mix, ...] = (Mix(1.0, 0.0, settings.popularity_weight),)
        self.step, self.bias_step = steps(settings, "rms", DEFAULTS)
        self.merge = settings.merge
        self.scale = 0.5 / self.factors**0.5 if settings.init_scale is None else settings.init_scale

    def blocks(self) -> tuple[Block, ...]:
        factors = (self.factors, self.step)
        return (
            moved(USER, USER, [factors], self.merge, self.scale),
            moved(ITEM, ITEM, [(1, self.bias_step), factors], self.merge, self.scale, zeros=1),
        )

    def examples(self, events: Events, context: Context) -> Examples:
        chosen = np.flatnonzero(self.positive(events) & context.drawn.any(axis=1))
        items, found = against(events, context, chosen)
        keys = {USER: events.user_key[chosen, None], ITEM: items}
        weight = events.weight[chosen].astype(np.float32)
        return Examples(
            chosen, keys, np.ones(len(chosen), np.float32), weight, {ITEM: found}, draws(self.seed, self.dropout, events, chosen))

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        prediction, loss = np.empty(len(task.target)), np.empty(len(task.target))
        kernel.score(
            task.rows[USER], task.rows[ITEM], task.refs[USER][:, 0], task.refs[ITEM], task.weight, self.factors,
            prediction, loss,
        )
        return prediction, loss

    def learn(self, task: ShardTask) -> ShardResult:
        made = untouched(task, self.step)
        capped = kernel.learn(
            task.rows[USER], task.rows[ITEM], task.refs[USER][:, 0], task.refs[ITEM], task.weight, task.draws,
            self.dropout, self.factors, self.bias_step, self.step, self.limit, made.contraction[USER],
            made.contraction[ITEM], made.touched[USER], made.touched[ITEM], task.trust, made.prediction, made.loss, made.moved,
        )
        return replace(made, touched=counted(task, made, self.step), capped=capped)
