"""The two kernels as a Python loop over events with numpy vectors in it: the same work with the default optimizers.

    mf   sgd steps; running mean, prediction and loss of every event, norm caps, contraction of both rows
    bpr  rms steps with one accumulator a row; prediction, loss, norm caps, contraction, counts

`bare_mf` and `bare_bpr` do the updates of sgd and nothing else: what a textbook shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from freshet.kernels.optimizers import Step
from freshet.models.contract import ITEM, USER, ShardTask


@dataclass(frozen=True)
class Steps:
    """Optimizer steps of factors and biases, longest norm of a row."""

    step: Step
    bias: Step
    limit: float


def mf(task: ShardTask, events: int, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, loss) of the first events; the task's rows change in place."""
    mean, users, items = float(task.rows["mean"][0, 0]), task.rows[USER], task.rows[ITEM]
    prediction, loss = np.empty(events), np.empty(events)
    user_a, item_a = np.zeros(len(users)), np.zeros(len(items))
    refs = zip(task.refs[USER][:events, 0].tolist(), task.refs[ITEM][:events, 0].tolist(), strict=True)
    values, weights = task.target[:events].tolist(), task.weight[:events].tolist()
    rate, bias_rate = np.float32(steps.step.rate), np.float32(steps.bias.rate)
    for e, (u, i) in enumerate(refs):
        user, item = users[u], items[i]
        p, q = user[1:], item[1:]
        error = mean + float(user[0]) + float(item[0]) + float(p @ q) - values[e]
        prediction[e] = error + values[e]
        loss[e] = 0.5 * error * error * weights[e]
        mean += (values[e] - mean) / (e + 1)
        g = np.float32(error * weights[e])
        norm_p, norm_q = p @ p, q @ q
        change = rate * (g * q)
        item[1:] -= rate * (g * p)
        user[1:] -= change
        user[0] -= bias_rate * g
        item[0] -= bias_rate * g
        user_a[u] += weights[e] * (steps.bias.rate + steps.step.rate * norm_q)
        item_a[i] += weights[e] * (steps.bias.rate + steps.step.rate * norm_p)
        for row in (user[1:], item[1:]):
            capped(row, steps.limit)
    return prediction, loss


def bpr(task: ShardTask, events: int, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, loss) of the first events with one negative each; the task's rows change in place."""
    users, items = task.rows[USER], task.rows[ITEM]
    k = users.shape[1] - 1
    prediction, loss = np.empty(events), np.empty(events)
    user_a, item_a = np.zeros(len(users)), np.zeros(len(items))
    user_n, item_n = np.zeros(len(users), np.int64), np.zeros(len(items), np.int64)
    refs = zip(task.refs[USER][:events, 0].tolist(), *task.refs[ITEM][:events].T.tolist(), strict=True)
    for e, (u, i, j) in enumerate(refs):
        user, item, other = users[u], items[i], items[j]
        p, d = user[:k].copy(), item[1: 1 + k] - other[1: 1 + k]
        prediction[e] = item[0] + p @ item[1: 1 + k]
        margin = float(item[0]) - float(other[0]) + float(p @ d)
        s = 1.0 / (1.0 + math.exp(min(margin, 60.0)))
        loss[e] = math.log1p(math.exp(-margin)) if margin > -30.0 else -margin
        g = np.float32(-s)
        rate_u = rms(user, slice(0, k), k, g * d, steps.step)
        rate_i = rms(item, slice(1, 1 + k), 2 + k, g * p, steps.step)
        rate_j = rms(other, slice(1, 1 + k), 2 + k, -g * p, steps.step)
        rate_b = rms_bias(item, 1 + k, g, steps.bias) + rms_bias(other, 1 + k, -g, steps.bias)
        curvature = s * (1.0 - s)
        both = curvature * ((rate_i + rate_j) * (p @ p) + rate_b)
        user_a[u] += curvature * rate_u * (d @ d)
        item_a[i] += both
        item_a[j] += both
        user_n[u] += 1
        item_n[i] += 1
        item_n[j] += 1
        for row in (user[:k], item[1: 1 + k], other[1: 1 + k]):
            capped(row, steps.limit)
    return prediction, loss


def rms(row: np.ndarray, part: slice, slot: int, gradient: np.ndarray, step: Step) -> float:
    """One row-wise rms step; the rate that was taken."""
    g2 = float(gradient @ gradient) / len(gradient)
    if g2 == 0.0:
        return 0.0
    before = float(row[slot])
    after = g2 if before == 0.0 else step.decay * before + (1.0 - step.decay) * g2
    row[slot] = after
    rate = step.rate / math.sqrt(after + step.epsilon)
    row[part] -= np.float32(rate) * gradient
    return rate


def rms_bias(row: np.ndarray, slot: int, gradient: np.float32, step: Step) -> float:
    """The same for the bias in column 0."""
    g2 = float(gradient) ** 2
    if g2 == 0.0:
        return 0.0
    before = float(row[slot])
    after = g2 if before == 0.0 else step.decay * before + (1.0 - step.decay) * g2
    row[slot] = after
    rate = step.rate / math.sqrt(after + step.epsilon)
    row[0] -= np.float32(rate) * gradient
    return rate


def capped(row: np.ndarray, limit: float) -> None:
    """Scale a row back to the norm `limit` if it is longer."""
    norm2 = float(row @ row)
    if norm2 > limit * limit:
        row *= np.float32(limit / math.sqrt(norm2))


def bare_mf(task: ShardTask, events: int, steps: Steps) -> None:
    """Only the updates, sgd."""
    users, items, rate = task.rows[USER], task.rows[ITEM], steps.step.rate
    refs = zip(task.refs[USER][:events, 0].tolist(), task.refs[ITEM][:events, 0].tolist(), task.target[:events].tolist(), strict=True)
    for u, i, wanted in refs:
        p, q = users[u, 1:], items[i, 1:]
        error = 3.0 + users[u, 0] + items[i, 0] + p @ q - wanted
        change = rate * error * q
        items[i, 1:] -= rate * error * p
        users[u, 1:] -= change
        users[u, 0] -= rate * error
        items[i, 0] -= rate * error


def bare_bpr(task: ShardTask, events: int, steps: Steps) -> None:
    """Only the updates, sgd."""
    users, items, rate = task.rows[USER], task.rows[ITEM], steps.step.rate
    k = users.shape[1] - 1
    for u, (i, j) in zip(task.refs[USER][:events, 0].tolist(), task.refs[ITEM][:events].tolist(), strict=True):
        p = users[u, :k]
        apart = items[i, 1: 1 + k] - items[j, 1: 1 + k]
        g = rate / (1.0 + np.exp(items[i, 0] - items[j, 0] + p @ apart))
        items[i, 1: 1 + k] += g * p
        items[j, 1: 1 + k] -= g * p
        items[i, 0] += g
        items[j, 0] -= g
        users[u, :k] = p + g * apart


LOOPS = {"mf": (mf, bare_mf), "bpr": (bpr, bare_bpr)}
