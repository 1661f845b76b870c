"""fm: factorization machine over user, item, the event's features and the item's attributes; learns a label or a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from freshet.kernels import fm as kernel
from freshet.kernels.losses import CODES
from freshet.models.contract import (
    ATTRIBUTE,
    FEATURE,
    ITEM,
    USER,
    Asked,
    Block,
    Context,
    Events,
    Examples,
    Mix,
    Part,
    ShardResult,
    ShardTask,
    View,
)
from freshet.models.defaults import Base
from freshet.models.steps import Defaults, moved, steps
from freshet.registry import pick
from freshet.settings import ModelSettings

BASE, BASE_KEY = "base", 0
LOSS_METRICS = {"squared": "rmse", "logistic": "logloss", "hinge": "hinge", "perceptron": "perceptron"}

# Chosen on the first 70 % of frappe-partial (docs/benchmarks.md).
DEFAULTS = {
    "sgd": Defaults(rate=0.05, bias_rate=0.2),
    "adagrad": Defaults(rate=0.15, bias_rate=0.5),
    "rms": Defaults(rate=0.005, bias_rate=0.05),
    "rmsprop": Defaults(rate=0.005, bias_rate=0.02, decay=0.999),
    "momentum": Defaults(rate=0.005, bias_rate=0.02),
    "adam": Defaults(rate=0.01, bias_rate=0.05, decay=0.999),
    "ftrl": Defaults(rate=0.15, bias_rate=0.5),
}


@dataclass(frozen=True)
class Joined:
    """The rows a task's examples touch as one matrix: users first, then items, features, attributes; `refs` int32[n, m] into it."""

    rows: np.ndarray
    refs: np.ndarray
    counts: np.ndarray
    starts: np.ndarray


class FactorizationMachine(Base):
    """score = w_0 + sum of weights + sum over pairs of v_i . v_j (see kernels.fm for loss and layout)."""

    name = "fm"
    negatives = 0
    mixes: tuple[Mix, ...] = (Mix(1.0, 0.0, 0.0),)

    def __init__(self, settings: ModelSettings) -> None:
        self.factors = settings.factors or 16
        self.limit = settings.max_norm
        self.code = pick("loss", settings.loss, CODES)
        self.loss_metric = LOSS_METRICS[settings.loss]
        self.labels = settings.loss != "squared"
        self.positive_from = settings.positive_from
        further = {FEATURE: settings.features.context, ATTRIBUTE: settings.features.items}
        self.spaces = (USER, ITEM, *(name for name, columns in further.items() if columns))
        self.step, self.bias_step = steps(settings, "adagrad", DEFAULTS)
        self.base_step = self.bias_step._replace(l2=0.0)  # pulled to 0 the base rate would be wrong for all
        self.merge = settings.merge
        self.scale = 0.05 if settings.init_scale is None else settings.init_scale

    def positive(self, events: Events) -> np.ndarray:
        """A label is positive above 0 where no other border is set: an impression that was not clicked has the value 0."""
        if self.labels and self.positive_from is None:
            return np.asarray(events.value > 0)
        return super().positive(events)

    def blocks(self) -> tuple[Block, ...]:
        parts = ((1, self.bias_step), *(((self.factors, self.step),) if self.factors else ()))
        rows = (moved(name, name, parts, self.merge, self.scale, zeros=1) for name in self.spaces)
        return (moved(BASE, None, ((1, self.base_step),), self.merge, 0.0), *rows)

    def examples(self, events: Events, context: Context) -> Examples:
        n = len(events)
        keys = {BASE: np.full((n, 1), BASE_KEY, np.int64), USER: events.user_key[:, None], ITEM: events.item_key[:, None]}
        present = {}
        for name in self.spaces[2:]:
            keys[name] = events.features if name == FEATURE else context.attributes(events.item_key)
            present[name] = keys[name] != 0
        target = self.positive(events) if self.labels else events.value
        return Examples(np.arange(n), keys, target.astype(np.float32), events.weight.astype(np.float32), present)

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        prediction, loss = np.empty(len(task.target)), np.empty(len(task.target))
        joined = self._joined(task)
        kernel.score(
            task.rows[BASE], joined.rows, task.refs[BASE][:, 0], joined.refs, task.target, task.weight, self.factors, self.code,
            prediction, loss,
        )
        return prediction, loss

    def learn(self, task: ShardTask) -> ShardResult:
        n, joined, base = len(task.target), self._joined(task), task.rows[BASE]
        base_a, rows_a = np.zeros(len(base)), np.zeros(len(joined.rows))
        prediction, loss, moved_by = np.empty(n), np.empty(n), np.zeros(n)
        capped = kernel.learn(
            base, joined.rows, joined.refs, task.target, task.weight, self.factors, self.code, self.base_step, self.bias_step,
            self.step, self.limit, task.counts[BASE].copy(), joined.counts, base_a, rows_a, task.trust, prediction, loss,
            moved_by,
        )
        touched = np.bincount(joined.refs[joined.refs >= 0], minlength=len(joined.rows))
        return ShardResult(
            self._parted(base, joined.rows, joined), self._parted(base_a, rows_a, joined),
            self._parted(np.full(len(base), n), touched, joined), prediction, loss, capped, moved_by,
        )

    def _joined(self, task: ShardTask) -> Joined:
        starts = np.cumsum([0, *(len(task.rows[name]) for name in self.spaces)])
        refs = [
            np.where(task.refs[name] >= 0, task.refs[name] + start, -1)
            for name, start in zip(self.spaces, starts[:-1], strict=True)
        ]
        rows = np.concatenate([task.rows[name] for name in self.spaces])
        counts = np.concatenate([task.counts.get(name, np.empty(0, np.int64)) for name in self.spaces])  # none to score by
        return Joined(rows, np.concatenate(refs, axis=1).astype(np.int32), counts, starts)

    def _parted(self, base: np.ndarray, joint: np.ndarray, joined: Joined) -> dict[str, np.ndarray]:
        parts = np.split(joint, joined.starts[1:-1])
        return {BASE: base, **dict(zip(self.spaces, parts, strict=True))}

    def known(self, asked: Asked) -> np.ndarray:
        return np.any([refs >= 0 for _, refs, _ in self._query_side(asked)], axis=0)

    def queries(self, asked: Asked) -> np.ndarray:
        """float32[m, k]: sum of the vectors of user and context; what else is in the score is the same for all items."""
        none = np.zeros((len(asked.user[USER]), self.factors), np.float32)
        return sum((factors for _, _, factors in self._query_side(asked)), none)

    def item_matrix(self, views: Mapping[str, View], rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Of an item and its attributes: the sum of their vectors; the sum of their weights and the pairs among them."""
        bias, vectors = np.zeros(len(rows[ITEM]), np.float32), np.zeros((len(rows[ITEM]), self.factors), np.float32)
        for _, _, amount, factors in self._item_side(views, rows):
            bias += amount
            vectors += factors
        return vectors, bias

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        vectors, _ = self.item_matrix(asked.views, rows)
        items = [
            Part("bias" if name == ITEM else "attribute", name, int(refs[0]), float(amount[0]))
            for name, refs, amount, _ in self._item_side(asked.views, rows) if name == ITEM or refs[0] >= 0
        ]
        askers = [
            Part("user" if name == USER else "context", name, int(refs[0]), float(factors[0] @ vectors[0]))
            for name, refs, factors in self._query_side(asked) if self.factors and refs[0] >= 0
        ]
        return [*items, *askers], []

    def _query_side(self, asked: Asked) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(block, rows int32[m], factors float32[m, k]) of the user, then of each column of the context."""
        context = asked.features[FEATURE].T if FEATURE in self.spaces else ()
        for name, refs in ((USER, asked.user[USER]), *((FEATURE, column) for column in context)):
            yield name, refs, asked.views[name].take(refs)[:, 1 : 1 + self.factors]

    def _item_side(
        self, views: Mapping[str, View], rows: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
        """(block, rows int32[n], weight and pairs with those before it float32[n], factors float32[n, k]) of the items, then of
        each place among their attributes."""
        before = np.zeros((len(rows[ITEM]), self.factors), np.float32)
        attributes = rows[ATTRIBUTE].T if ATTRIBUTE in self.spaces else ()
        for name, refs in ((ITEM, rows[ITEM]), *((ATTRIBUTE, column) for column in attributes)):
            values = views[name].take(refs)
            factors = values[:, 1 : 1 + self.factors]
            yield name, refs, values[:, 0] + (before * factors).sum(axis=1), factors
            before = before + factors
