"""Sampled softmax over a user's newest items, against a plain twin in float64."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels.optimizers import RMSPROP, SGD, Step
from freshet.kernels.session import learn, queries, score

FACTORS, ITEMS, EVENTS, NEGATIVES, RECENT = 10, 12, 60, 5, 4
DECAY, POWER = 0.7, 0.5


def made(slots: int, seed: int = 1):
    random = np.random.default_rng(seed)
    items = np.zeros((ITEMS, 1 + FACTORS + slots), np.float32)
    past = np.zeros((ITEMS, FACTORS + min(slots, 1)), np.float32)
    items[:, : 1 + FACTORS] = random.normal(0, 0.4, (ITEMS, 1 + FACTORS))
    past[:, :FACTORS] = random.normal(0, 0.4, (ITEMS, FACTORS))
    item_ref = random.integers(0, ITEMS, (EVENTS, 1 + NEGATIVES)).astype(np.int32)
    item_ref[:, 2][random.random(EVENTS) < 0.3] = -1
    past_ref = random.integers(0, ITEMS, (EVENTS, RECENT)).astype(np.int32)
    past_ref[:, 1:][random.random((EVENTS, RECENT - 1)) < 0.4] = -1
    return items, past, item_ref, past_ref, random.uniform(0.5, 2.0, EVENTS).astype(np.float32)


def twin_query(past: np.ndarray, refs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = np.where(refs >= 0, DECAY ** np.arange(len(refs)), 0.0)
    weights = weights / weights.sum() ** POWER if weights.any() else weights
    return weights, weights @ past[refs, :FACTORS]


def twin(items, past, item_ref, past_ref, weight, rate, bias_rate):
    """Plain descent, one event after the other, everything from before the event's own step."""
    items, past = items.astype(np.float64), past.astype(np.float64)
    predictions, losses = [], []
    for refs, before, w in zip(item_ref, past_ref, weight.astype(float), strict=True):
        weights, q = twin_query(past, before)
        there = refs[refs >= 0]
        s = items[there, 0] + items[there, 1 : 1 + FACTORS] @ q
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        predictions.append(s[0])
        losses.append(-w * np.log(p[0]))
        g = w * (p - (np.arange(len(there)) == 0))
        to_q = g @ items[there, 1 : 1 + FACTORS]
        for x, gradient in zip(there, g, strict=True):
            items[x, 0] -= bias_rate * gradient
            items[x, 1 : 1 + FACTORS] -= rate * gradient * q
        for x, share in zip(before, weights, strict=True):
            if x >= 0:
                past[x, :FACTORS] -= rate * share * to_q
    return items, past, np.array(predictions), np.array(losses)


def run(data, step: Step, bias_step: Step, limit: float = 1e6):
    items, past, item_ref, past_ref, weight = (array.copy() for array in data)
    out = [np.zeros(ITEMS), np.zeros(ITEMS), np.zeros(ITEMS, np.int64), np.zeros(ITEMS, np.int64), np.empty(EVENTS), np.empty(EVENTS)]
    capped = learn(items, past, item_ref, past_ref, weight, FACTORS, DECAY, POWER, bias_step, step, limit, *out)
    return items, past, out, capped


def test_plain_descent_is_the_twins() -> None:
    data = made(0)
    items, past, (item_a, past_a, item_n, past_n, prediction, loss), capped = run(
        data, Step(SGD, 0.05, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.02, 0.9, 1e-6, 0, 0.0))
    wanted = twin(*data, 0.05, 0.02)
    for found, exact in zip((items, past, prediction, loss), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)
    assert capped == 0
    for refs, counts, a in ((data[2], item_n, item_a), (data[3], past_n, past_a)):
        np.testing.assert_array_equal(counts, np.bincount(refs[refs >= 0], minlength=ITEMS))
        assert (a > 0).all()
    swapped = twin(*data[:2], data[2][:, ::-1], *data[3:], 0.05, 0.02)  # the subject that must fail
    assert np.abs(swapped[0] - items).max() > 0.01


def test_scores_of_the_first_event_are_what_learning_saw() -> None:
    data = made(0)
    prediction, loss = np.empty(EVENTS), np.empty(EVENTS)
    score(*data[:5], FACTORS, DECAY, POWER, prediction, loss)
    _, _, out, _ = run(data, Step(SGD, 0.0, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.0, 0.9, 1e-6, 0, 0.0))
    np.testing.assert_allclose(prediction, out[4], rtol=1e-6)
    np.testing.assert_allclose(loss, out[5], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_repeating_an_event_brings_its_loss_down(rate) -> None:
    data = made(2)
    _, _, item_ref, past_ref, weight = data
    item_ref[:], past_ref[:], weight[:] = np.arange(1 + NEGATIVES), np.arange(RECENT) + 6, 1.0
    _, _, out, _ = run(data, Step(RMSPROP, rate, 0.99, 1e-6, 0, 0.0), Step(RMSPROP, rate, 0.99, 1e-6, 0, 0.0))
    assert out[5][-1] < 0.1 * out[5][0]


def test_long_rows_are_cut_and_counted() -> None:
    items, past, _, capped = run(made(0), Step(SGD, 5.0, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.1, 0.9, 1e-6, 0, 0.0), limit=1.0)
    assert capped > 10
    assert np.linalg.norm(items[:, 1:], axis=1).max() < 1.5 and np.linalg.norm(past, axis=1).max() < 1.5


def test_queries_are_decayed_sums_of_the_rows_there_are() -> None:
    _, past, _, past_ref, _ = made(0)
    past_ref[0] = -1
    past_ref[1] = [-1, 3, -1, 4]
    out = np.ones((EVENTS, FACTORS), np.float32)
    queries(past, past_ref, FACTORS, DECAY, POWER, out)
    for e in range(EVENTS):
        np.testing.assert_allclose(out[e], twin_query(past, past_ref[e])[1], rtol=1e-4, atol=1e-5)
    assert not out[0].any()
