"""history: the user is his newest items; the next one is learned as a choice among drawn ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from freshet.kernels import query as asking
from freshet.kernels import session as kernel
from freshet.kernels.choice import CHOICES
from freshet.models.contract import (
    ATTRIBUTE,
    FEATURE,
    ITEM,
    MOST_RECENT,
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
)
from freshet.models.defaults import Base, against, counted, draws, untouched
from freshet.models.steps import Defaults, moved, steps
from freshet.registry import pick
from freshet.schema import INTEREST
from freshet.settings import ModelSettings

PAST = "past"
Four = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # of items, past, features, attributes: the kernel's order

# Chosen on movielens-100k and two sequence sets, their last 30 % included: figures for those flatter. Of momentum, adam and
# ftrl on the first 70 % of movielens-100k, from a few rates each.
DEFAULTS = {
    "sgd": Defaults(rate=0.05, bias_rate=0.01),
    "adagrad": Defaults(rate=0.15, bias_rate=0.05),
    "rms": Defaults(rate=0.01, bias_rate=0.005, decay=0.999),
    "rmsprop": Defaults(rate=0.004, bias_rate=0.002, decay=0.999),
    "momentum": Defaults(rate=0.02, bias_rate=0.002),
    "adam": Defaults(rate=0.01, bias_rate=0.003, decay=0.999),
    "ftrl": Defaults(rate=0.1, bias_rate=0.05),
}


class History(Base):
    """score(u, i) = b_i + q . y_i, q made of the user's newest items (see kernels.session)."""

    name = "history"
    loss_metric = "logloss"

    def __init__(self, settings: ModelSettings) -> None:
        self.factors = settings.factors or 32
        self.limit = settings.max_norm
        self.positive_from = settings.positive_from
        self.negatives = settings.negatives or 16
        self.query_items = min(settings.query.items, MOST_RECENT)
        self.recent = self.query_items
        self.asked = self.asked_items = settings.query.asked or self.query_items
        self.features, self.described = len(settings.features.context), bool(settings.features.items)
        chosen = settings.query
        self.seed = settings.seed
        self.form = kernel.Form(
            self.factors, chosen.decay, chosen.power, pick("loss", chosen.loss, CHOICES), int(chosen.tied), settings.dropout,
            int(chosen.user_row))
        self.past = ITEM if chosen.tied else PAST
        # Blocks whose rows join the query as they are.
        self.joined = (*((FEATURE,) if self.features else ()), *((USER,) if chosen.user_row else ()))
        self.decays, self.groups = (chosen.decay, *chosen.also), chosen.groups
        self.mixes: tuple[Mix, ...] = (Mix(1.0, 0.0, settings.popularity_weight),)
        self.step, self.bias_step = steps(settings, "rmsprop", DEFAULTS)
        self.merge = settings.merge
        self.scale = 0.5 / self.factors**0.5 if settings.init_scale is None else settings.init_scale

    def blocks(self) -> tuple[Block, ...]:
        factors = (self.factors, self.step)
        biased = {ITEM: ITEM, **({ATTRIBUTE: ATTRIBUTE} if self.described else {})}
        plain = ({PAST: ITEM} if self.past == PAST else {}) | {name: name for name in self.joined}
        return (
            *(moved(name, ids, [(1, self.bias_step), factors], self.merge, self.scale, zeros=1) for name, ids in biased.items()),
            *(moved(name, ids, [factors], self.merge, self.scale) for name, ids in plain.items()),
            *([Block(INTEREST, None, 4, merge="sum")] if len(self.decays) > 1 else []),
        )

    def examples(self, events: Events, context: Context) -> Examples:
        asked = (context.length > 0) | (events.features != 0).any(axis=1) | (USER in self.joined)
        chosen = np.flatnonzero(self.positive(events) & context.drawn.any(axis=1) & asked)
        items, found = against(events, context, chosen)
        past = context.recent[chosen, : self.query_items]
        there = np.arange(past.shape[1]) < context.length[chosen, None]
        weight = events.weight[chosen].astype(np.float32)
        keys, present = {ITEM: items, PAST: past}, {ITEM: found, PAST: there}
        if self.past == ITEM:
            keys, present = ({ITEM: np.concatenate([one[ITEM], one[PAST]], axis=1)} for one in (keys, present))
        if self.features:
            keys[FEATURE] = events.features[chosen]
            present[FEATURE] = keys[FEATURE] != 0
        if USER in self.joined:
            keys[USER] = events.user_key[chosen, None]
        if self.described:
            attributes = context.attributes(items)
            wide = (len(chosen), items.shape[1] * attributes.shape[2])
            keys[ATTRIBUTE] = attributes.reshape(wide)
            present[ATTRIBUTE] = ((attributes != 0) & found[:, :, None]).reshape(wide)
        chance = draws(self.seed, self.form.dropout, events, chosen)
        return Examples(chosen, keys, np.ones(len(chosen), np.float32), weight, present, chance)

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        prediction, loss = np.empty(len(task.target)), np.empty(len(task.target))
        kernel.score(*self._rows(task), *self._refs(task), task.weight, task.offset, self.form, prediction, loss)
        return prediction, loss

    def learn(self, task: ShardTask) -> ShardResult:
        made = untouched(task, self.step)
        rows, a, touched = self._rows(task), self._per_row(made.contraction, np.float64), self._per_row(made.touched, np.int64)
        capped = kernel.learn(
            *rows, *self._refs(task), task.weight, task.offset, task.draws, self.form, self.bias_step, self.step, self.limit, *a,
            *touched, task.trust, made.prediction, made.loss, made.moved,
        )
        if len(self.joined) > 1:  # what was put together goes back
            for whole, own in ((rows[2], made.rows), (a[2], made.contraction), (touched[2], made.touched)):
                cut = len(own[self.joined[0]])
                own[self.joined[0]][:], own[self.joined[1]][:] = whole[:cut], whole[cut:]
        return replace(made, touched=counted(task, made, self.step), capped=capped)

    def _rows(self, task: ShardTask) -> Four:
        none = np.empty((0, 1 + self.factors), np.float32)
        return task.rows[ITEM], task.rows[self.past], self._together(task.rows, none), task.rows.get(ATTRIBUTE, none)

    def _refs(self, task: ShardTask) -> Four:
        none = np.empty((len(task.target), 0), np.int32)
        items, past = task.refs[ITEM], task.refs[self.past]
        if self.past == ITEM:
            items, past = (np.ascontiguousarray(part) for part in np.split(items, [1 + self.negatives], axis=1))
        joined = [task.refs[name] for name in self.joined]
        if len(joined) > 1:
            joined[1] = np.where(joined[1] >= 0, joined[1] + np.int32(len(task.rows[self.joined[0]])), np.int32(-1))
        return items, past, np.concatenate([none, *joined], axis=1), task.refs.get(ATTRIBUTE, none)

    def _per_row(self, values: dict[str, np.ndarray], kind: type) -> Four:
        none: np.ndarray = np.empty(0, kind)
        return values[ITEM], values[self.past], self._together(values, none), values.get(ATTRIBUTE, none)

    def _together(self, values: dict[str, np.ndarray], none: np.ndarray) -> np.ndarray:
        """What there is of each row that joins the query, one block after the other; of one block the very array."""
        parts = [values[name] for name in self.joined] or [none]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        vectors, _ = self.item_matrix(asked.views, rows)
        own = float(asked.views[ITEM].take(rows[ITEM])[0, 0])
        attributes = rows[ATTRIBUTE][0][rows[ATTRIBUTE][0] >= 0] if self.described else np.empty(0, np.int32)
        found = [Part("bias", ITEM, int(rows[ITEM][0]), own)]
        for row in attributes:
            amount = float(asked.views[ATTRIBUTE].values[row, 0]) / len(attributes) ** 0.5
            found.append(Part("attribute", ATTRIBUTE, int(row), amount))
        refs, past = asked.recent[self.past][0, : self.asked_items], asked.views[self.past].values[:, self.form.start :]
        weights = np.where(refs >= 0, self._decay(asked)[0] ** np.arange(len(refs)), 0.0)
        weights /= max(weights.sum(), 1e-300) ** self.form.power
        for row, weight in zip(refs.tolist(), weights.tolist(), strict=True):
            if row >= 0:
                found.append(Part("had", self.past, row, weight * float(past[row, : self.factors] @ vectors[0])))
        for row in asked.features[FEATURE][0].tolist() if self.features else []:
            if row >= 0:
                found.append(Part("context", FEATURE, row, float(asked.views[FEATURE].values[row, : self.factors] @ vectors[0])))
        if USER in self.joined and asked.user[USER][0] >= 0:
            found.append(Part("user", USER, int(asked.user[USER][0]), float(self._of_users(asked)[0] @ vectors[0])))
        return found, []

    def _of_users(self, asked: Asked) -> np.ndarray:
        return asked.views[USER].take(asked.user[USER])[:, : self.factors]

    def known(self, asked: Asked) -> np.ndarray:
        known = (asked.recent[self.past][:, : self.asked_items] >= 0).any(axis=1)
        if self.features:
            known = known | (asked.features[FEATURE] >= 0).any(axis=1)
        return np.asarray(known | (asked.user[USER] >= 0) if USER in self.joined else known)

    def queries(self, asked: Asked) -> np.ndarray:
        refs = np.ascontiguousarray(asked.recent[self.past][:, : self.asked_items])
        features = asked.features.get(FEATURE, np.empty((len(refs), 0), np.int32))
        out = np.zeros((len(refs), self.factors), np.float32)
        past, context = (asked.views[name].values if name in asked.views else out[:0] for name in (self.past, FEATURE))
        asking.queries(past, refs, context, features, self.factors, self._decay(asked), self.form.power, self.form.start, out)
        return out + self._of_users(asked) if USER in self.joined else out

    def _decay(self, asked: Asked) -> np.ndarray:
        return np.full(len(asked.recent[self.past]), self.form.decay) if asked.decay is None else asked.decay
