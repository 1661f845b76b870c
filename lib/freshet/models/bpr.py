"""bpr: ranking from implicit events by pairwise logistic loss against drawn negatives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from freshet.kernels import bpr as kernel
from freshet.kernels.optimizers import SGD, slot_contraction, slots_of
from freshet.models.contract import ITEM, USER, Block, Drawn, Events, Examples, ShardResult, ShardTask
from freshet.models.steps import Defaults, steps
from freshet.settings import ModelSettings

DEFAULTS = {
    "sgd": Defaults(rate=0.05, bias_rate=0.05),
    "adagrad": Defaults(rate=0.1, bias_rate=0.1),
    "rms": Defaults(rate=0.03, bias_rate=0.05),
}


class BayesianPersonalizedRanking:
    """score(u, i) = b_i + p_u . q_i, plus popularity_weight * log(decayed popularity) when ranking."""

    name = "bpr"
    loss_metric = "logloss"

    def __init__(self, settings: ModelSettings) -> None:
        self.factors = settings.factors
        self.limit = settings.max_norm
        self.positive_from = settings.positive_from
        self.negatives = settings.negatives
        self.popularity_weight = settings.popularity_weight
        self.step, self.bias_step = steps(settings, "rms", DEFAULTS)
        self.merge = settings.merge
        self.scale = 0.5 / self.factors**0.5 if settings.init_scale is None else settings.init_scale

    def blocks(self) -> tuple[Block, ...]:
        slots = slots_of(self.step, self.factors)
        bias_slots = 0 if self.bias_step.code == SGD else 1
        own = slot_contraction(self.step)
        return (
            Block(USER, USER, self.factors, slots, merge=self.merge, init_scale=self.scale, slot_contraction=own),
            Block(ITEM, ITEM, 1 + self.factors, bias_slots + slots, merge=self.merge, init_scale=self.scale, zeros=1,
                  slot_contraction=own),
        )

    def positive(self, events: Events) -> np.ndarray:
        if self.positive_from is None:
            return np.ones(len(events), bool)
        return np.asarray(events.value >= self.positive_from)

    def examples(self, events: Events, drawn: Drawn | None) -> Examples:
        if drawn is None:
            raise ValueError("bpr needs drawn negatives")
        chosen = np.flatnonzero(self.positive(events) & drawn.found.any(axis=1))
        items = np.concatenate([events.item_key[chosen, None], drawn.keys[chosen]], axis=1)
        found = np.concatenate([np.ones((len(chosen), 1), bool), drawn.found[chosen]], axis=1)
        keys = {USER: events.user_key[chosen, None], ITEM: items}
        weight = events.weight[chosen].astype(np.float32)
        return Examples(chosen, keys, np.ones(len(chosen), np.float32), weight, {ITEM: found})

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        prediction, loss = np.empty(len(task.target)), np.empty(len(task.target))
        kernel.score(
            task.rows[USER], task.rows[ITEM], task.refs[USER][:, 0], task.refs[ITEM], task.weight, self.factors,
            prediction, loss,
        )
        return prediction, loss

    def learn(self, task: ShardTask) -> ShardResult:
        n = len(task.target)
        contraction = {name: np.zeros(len(rows)) for name, rows in task.rows.items()}
        touched = {name: np.zeros(len(rows), np.int64) for name, rows in task.rows.items()}
        prediction, loss = np.empty(n), np.empty(n)
        capped = kernel.learn(
            task.rows[USER], task.rows[ITEM], task.refs[USER][:, 0], task.refs[ITEM], task.weight, self.factors,
            self.bias_step, self.step, self.limit, contraction[USER], contraction[ITEM], touched[USER], touched[ITEM],
            prediction, loss,
        )
        return ShardResult(task.rows, contraction, touched, prediction, loss, capped)

    def queries(self, rows: Mapping[str, np.ndarray], known: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(rows[USER][:, : self.factors] * known[USER][:, None], np.float32)

    def item_matrix(self, rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return np.ascontiguousarray(rows[ITEM][:, 1 : 1 + self.factors]), np.ascontiguousarray(rows[ITEM][:, 0])
