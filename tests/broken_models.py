"""Models with one thing put wrong: each must be caught by a check of tests/models/test_contract.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from freshet.models.contract import Examples, ShardResult, ShardTask


class Broken:
    """A model with one method put wrong."""

    def __init__(self, model: Any, **wrong: Callable[..., Any]) -> None:
        self._model = model
        for name, method in wrong.items():
            setattr(self, name, lambda *given, method=method: method(model, *given))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def half_step(model: Any, task: ShardTask) -> ShardResult:
    before = {name: rows.copy() for name, rows in task.rows.items()}
    result = model.learn(task)
    return replace(result, rows={name: (before[name] + rows) / np.float32(2) for name, rows in result.rows.items()})


def score_not_finite(model: Any, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
    prediction, loss = model.score(task)
    big = any(np.abs(rows).max(initial=0) > 10 for rows in task.rows.values())
    return (prediction, np.full_like(loss, np.inf)) if big else (prediction, loss)


def score_nan_for_unknown(model: Any, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
    prediction, loss = model.score(task)
    return np.where(next(iter(task.refs.values()))[:, 0] < 0, np.nan, prediction), loss


def score_that_learns(model: Any, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
    found = model.score(task)
    for rows in task.rows.values():
        rows *= np.float32(1.001)
    return found


def score_halved(model: Any, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
    prediction, loss = model.score(task)
    return prediction / 2, loss / 2


def examples_need_events(model: Any, events: Any, context: Any) -> Examples:
    return model.examples(replace(events, weight=events.weight / events.weight.max()), context)


def learns_nothing(model: Any, task: ShardTask) -> ShardResult:
    before = {name: rows.copy() for name, rows in task.rows.items()}
    return replace(model.learn(task), rows=before)


def touches_nothing_first(model: Any, task: ShardTask) -> ShardResult:
    result = model.learn(task)
    for touched in result.touched.values():
        touched[:1] = 0
    return result


def remembers(model: Any, task: ShardTask) -> ShardResult:
    model.calls = getattr(model, "calls", 0) + 1
    result = model.learn(task)
    for rows in result.rows.values():
        rows += np.float32(model.calls)
    return result


def looks_at_size(model: Any, task: ShardTask) -> ShardResult:
    result = model.learn(task)
    if len(task.target) < 100:
        next(iter(result.rows.values()))[:] *= np.float32(1.0001)
    return result


def ignores_weight(model: Any, task: ShardTask) -> ShardResult:
    return model.learn(replace(task, weight=np.ones_like(task.weight)))


def forgets_the_bias(model: Any, asked: Any, item: int, rows: Any) -> tuple[list[Any], list[Any]]:
    dense, sparse = model.parts(asked, item, rows)
    return dense[1:], sparse
