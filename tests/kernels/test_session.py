"""Choices by a user's newest items, against a plain twin in float64."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.kernels.choice import BPR, CHOICES, LOGISTIC, SOFTMAX
from freshet.kernels.dropout import mask
from freshet.kernels.optimizers import RMSPROP, SGD, Step
from freshet.kernels.query import queries
from freshet.kernels.session import Form, learn, score

FACTORS, ITEMS, EVENTS, NEGATIVES, RECENT, FEATURES = 10, 12, 60, 5, 4, 6
DECAY, POWER = 0.7, 0.5
FORM = Form(FACTORS, DECAY, POWER, SOFTMAX)
UNMASKED, ZEROS = np.ones((EVENTS, FACTORS)), np.zeros((EVENTS, 1 + NEGATIVES))
NO_OFFSETS, DRAWS = np.empty((0, 0), np.float32), np.arange(EVENTS, dtype=np.uint64)


def made(slots: int, seed: int = 1, described: int = 0):
    random = np.random.default_rng(seed)
    items = np.zeros((ITEMS, 1 + FACTORS + slots), np.float32)
    past = np.zeros((ITEMS, FACTORS + min(slots, 1)), np.float32)
    items[:, : 1 + FACTORS] = random.normal(0, 0.4, (ITEMS, 1 + FACTORS))
    past[:, :FACTORS] = random.normal(0, 0.4, (ITEMS, FACTORS))
    item_ref = random.integers(0, ITEMS, (EVENTS, 1 + NEGATIVES)).astype(np.int32)
    item_ref[:, 2][random.random(EVENTS) < 0.3] = -1
    past_ref = random.integers(0, ITEMS, (EVENTS, RECENT)).astype(np.int32)
    past_ref[:, 1:][random.random((EVENTS, RECENT - 1)) < 0.4] = -1
    weight = random.uniform(0.5, 2.0, EVENTS).astype(np.float32)
    attributes = np.zeros((FEATURES, items.shape[1]), np.float32)
    attributes[:, : 1 + FACTORS] = random.normal(0, 0.4, (FEATURES, 1 + FACTORS))
    attribute_ref = random.integers(-1, FEATURES, (EVENTS, described * (1 + NEGATIVES))).astype(np.int32)
    attribute_ref[np.repeat(item_ref < 0, described, axis=1)] = -1
    features = np.zeros((FEATURES, past.shape[1]), np.float32)
    features[:, :FACTORS] = random.normal(0, 0.4, (FEATURES, FACTORS))
    feature_ref = random.integers(-1, FEATURES, (EVENTS, 2)).astype(np.int32)
    past_ref[::7] = -1  # nothing but the features is known
    return items, past, features, attributes, item_ref, past_ref, feature_ref, attribute_ref, weight


def twin_query(past: np.ndarray, refs: np.ndarray, decay: float = DECAY) -> tuple[np.ndarray, np.ndarray]:
    weights = np.where(refs >= 0, decay ** np.arange(len(refs)), 0.0)
    weights = weights / weights.sum() ** POWER if weights.any() else weights
    return weights, weights @ past[refs, :FACTORS]


def twin_choice(loss: int, s: np.ndarray) -> tuple[float, np.ndarray]:
    """Loss and its derivative in each score."""
    own, drawn = s[0], s[1:]
    if loss == SOFTMAX:
        p = np.exp(s - s.max()) / np.exp(s - s.max()).sum()
        return -np.log(p[0]), p - (np.arange(len(s)) == 0)
    if loss == BPR:
        slopes = 1 / (1 + np.exp(own - drawn)) / len(drawn)
        return np.log1p(np.exp(drawn - own)).mean(), np.append(-slopes.sum(), slopes)
    s = s - np.log(len(drawn))
    return np.log1p(np.exp(-s[0])) + np.log1p(np.exp(s[1:])).sum(), 1 / (1 + np.exp(-s)) - (np.arange(len(s)) == 0)


def twin(items, past, features, attributes, item_ref, past_ref, feature_ref, attribute_ref, weight, rate, bias_rate, loss=SOFTMAX, tied=False,
         masks=UNMASKED, offsets=ZEROS):
    """Plain descent, one event after the other, everything from before the event's own step."""
    items, past, features, attributes = (rows.astype(np.float64) for rows in (items, past, features, attributes))
    past = items[:, 1:] if tied else past
    predictions, losses = [], []
    for refs, before, known, said, w, m, offset in zip(
        item_ref, past_ref, feature_ref, attribute_ref, weight.astype(float), masks, offsets, strict=True):
        weights, q = twin_query(past, before)
        q = q + features[known[known >= 0], :FACTORS].sum(axis=0)
        there = refs[refs >= 0]
        described = [part[part >= 0] for part in said.reshape(len(refs), -1)[refs >= 0]]
        whole = items[there, : 1 + FACTORS].copy()
        for one, part in zip(whole, described, strict=True):
            one += attributes[part, : 1 + FACTORS].sum(axis=0) / max(len(part), 1) ** 0.5
        s = whole[:, 0] + whole[:, 1:] @ q + offset[refs >= 0]
        predictions.append(s[0])
        losses.append(w * twin_choice(loss, s)[0])
        g = w * twin_choice(loss, s - whole[:, 1:] @ (q - m * q))[1]
        q, to_q = m * q, m * (g @ whole[:, 1:])
        for x, gradient in zip(there, g, strict=True):
            items[x, 0] -= bias_rate * gradient
            items[x, 1 : 1 + FACTORS] -= rate * gradient * q
        for part, gradient in zip(described, g, strict=True):
            for x in part:
                attributes[x, 0] -= bias_rate * gradient / len(part) ** 0.5
                attributes[x, 1 : 1 + FACTORS] -= rate * gradient / len(part) ** 0.5 * q
        for x, share in zip(before, weights, strict=True):
            if x >= 0:
                past[x, :FACTORS] -= rate * share * to_q
        for x in known[known >= 0]:
            features[x, :FACTORS] -= rate * to_q
    return items, past, features, attributes, np.array(predictions), np.array(losses)


def run(data, step: Step, bias_step: Step, limit: float = 1e6, form: Form = FORM, offsets=NO_OFFSETS):
    rows, rest = [array.copy() for array in data[:4]], data[4:]
    sizes = (ITEMS, ITEMS, FEATURES, FEATURES)
    out = [*(np.zeros(n) for n in sizes), *(np.zeros(n, np.int64) for n in sizes), np.empty(0, np.float32), np.empty(EVENTS), np.empty(EVENTS), np.empty(EVENTS)]
    if form.start:
        rows[1], out[1], out[5] = rows[0], out[0], out[4]
    capped = learn(*rows, *rest, offsets, DRAWS, form, bias_step, step, limit, *out)
    del out[8]  # trust: what is left are the arrays that are filled
    return rows, out, capped


@pytest.mark.parametrize(("described", "loss"), [(0, SOFTMAX), (2, SOFTMAX), (0, BPR), (2, BPR), (0, LOGISTIC), (2, LOGISTIC)])
def test_plain_descent_is_the_twins(described, loss) -> None:
    data = made(0, described=described)
    rows, out, capped = run(
        data, Step(SGD, 0.05, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.02, 0.9, 1e-6, 0, 0.0), form=FORM._replace(loss=loss))
    wanted = twin(*data, 0.05, 0.02, loss)
    for found, exact in zip((*rows, *out[8:10]), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)
    assert capped == 0
    for refs, a, counts in zip(data[4:8], out[:4], out[4:8], strict=True):
        np.testing.assert_array_equal(counts, np.bincount(refs[refs >= 0], minlength=len(counts)))
        assert (a > 0).all() or not refs.size
    for wrong in (data[4][:, ::-1], data[6][::-1], data[7][::-1])[: 3 if described else 2]:  # the subjects that must fail
        changed = [wrong if array.shape == wrong.shape and array.dtype == np.int32 else array for array in data]
        assert np.abs(twin(*changed, 0.05, 0.02, loss)[0] - rows[0]).max() > 0.01
    for other in set(CHOICES.values()) - {loss}:
        assert np.abs(twin(*data, 0.05, 0.02, other)[0] - rows[0]).max() > 0.01


@pytest.mark.parametrize("described", [0, 2])
def test_tied_vectors_are_the_twins(described) -> None:
    data, form = made(0, described=described), FORM._replace(start=1)
    step = Step(SGD, 0.05, 0.9, 1e-6, 0, 0.0)
    rows, out, _ = run(data, step, step, form=form)
    wanted = twin(*data, 0.05, 0.05, tied=True)
    for found, exact in zip((*rows[::2], rows[3], *out[8:10]), (*wanted[:3:2], *wanted[3:]), strict=True):
        np.testing.assert_allclose(found, exact, rtol=2e-4, atol=2e-5)
    touches = np.concatenate([data[4][data[4] >= 0], data[5][data[5] >= 0]])
    np.testing.assert_array_equal(out[4], np.bincount(touches, minlength=ITEMS))
    asked = np.empty((EVENTS, FACTORS), np.float32)
    queries(data[0], data[5], data[2], data[6], FACTORS, np.full(EVENTS, DECAY), POWER, 1, asked)
    prediction, lost = np.empty(EVENTS), np.empty(EVENTS)
    score(data[0], data[0], *data[2:], NO_OFFSETS, form, prediction, lost)
    assert lost[0] == pytest.approx(out[9][0], rel=1e-5)
    if not described:
        own = data[0][data[4][:, 0]]
        np.testing.assert_allclose(prediction, own[:, 0] + (asked * own[:, 1 : 1 + FACTORS]).sum(axis=1), rtol=1e-3, atol=1e-5)
    assert np.abs(rows[0] - twin(*data, 0.05, 0.05)[0]).max() > 0.01  # two vectors an item are another model


@pytest.mark.parametrize(("described", "loss"), [(0, SOFTMAX), (2, SOFTMAX), (0, BPR)])
def test_dropout_and_offsets_are_the_twins(described, loss) -> None:
    data, step = made(0, described=described), Step(SGD, 0.05, 0.9, 1e-6, 0, 0.0)
    masks, offsets = np.ones((EVENTS, FACTORS), np.float32), np.random.default_rng(2).normal(0, 1, (EVENTS, 1 + NEGATIVES))
    for e in range(EVENTS):
        mask(masks, e, FACTORS, 0.4, DRAWS[e])
    assert 0.3 < (masks == 0).mean() < 0.5
    form = FORM._replace(loss=loss, dropout=0.4)
    rows, out, _ = run(data, step, step, form=form, offsets=offsets.astype(np.float32))
    wanted = twin(*data, 0.05, 0.05, loss, masks=masks.astype(float), offsets=offsets)
    for found, exact in zip((*rows, *out[8:10]), wanted, strict=True):
        np.testing.assert_allclose(found, exact, rtol=3e-4, atol=3e-5)
    for wrong in ({"masks": masks.astype(float)}, {"offsets": offsets}):
        assert np.abs(twin(*data, 0.05, 0.05, loss, **wrong)[0] - rows[0]).max() > 0.01
    prediction, lost = np.empty(EVENTS), np.empty(EVENTS)
    score(*data, offsets.astype(np.float32), form, prediction, lost)
    assert (prediction[0], lost[0]) == pytest.approx((out[8][0], out[9][0]), rel=1e-5)  # said of the event without a mask


@pytest.mark.parametrize(("described", "loss"), [(0, SOFTMAX), (2, SOFTMAX), (0, BPR), (2, LOGISTIC)])
def test_scores_of_the_first_event_are_what_learning_saw(described, loss) -> None:
    data, form = made(0, described=described), FORM._replace(loss=loss)
    prediction, lost = np.empty(EVENTS), np.empty(EVENTS)
    score(*data, NO_OFFSETS, form, prediction, lost)
    _, out, _ = run(data, Step(SGD, 0.0, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.0, 0.9, 1e-6, 0, 0.0), form=form)
    np.testing.assert_allclose(prediction, out[8], rtol=1e-6)
    np.testing.assert_allclose(lost, out[9], rtol=1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_repeating_an_event_brings_its_loss_down(rate) -> None:
    data = made(2)
    item_ref, past_ref, feature_ref, _, weight = data[4:]
    item_ref[:], past_ref[:], feature_ref[:], weight[:] = np.arange(1 + NEGATIVES), np.arange(RECENT) + 6, [1, 2], 1.0
    _, out, _ = run(data, Step(RMSPROP, rate, 0.99, 1e-6, 0, 0.0), Step(RMSPROP, rate, 0.99, 1e-6, 0, 0.0))
    assert out[9][-1] < 0.1 * out[9][0]


def test_long_rows_are_cut_and_counted() -> None:
    (items, past, features, _), _, capped = run(made(0), Step(SGD, 5.0, 0.9, 1e-6, 0, 0.0), Step(SGD, 0.1, 0.9, 1e-6, 0, 0.0), limit=1.0)
    assert capped > 10
    assert np.linalg.norm(items[:, 1:], axis=1).max() < 1.5 and np.linalg.norm(past, axis=1).max() < 1.5
    assert np.linalg.norm(features, axis=1).max() < 1.5


def test_queries_are_decayed_sums_of_the_rows_there_are() -> None:
    _, past, features, _, _, past_ref, feature_ref, _, _ = made(0)
    past_ref[0], feature_ref[0] = -1, -1
    past_ref[1] = [-1, 3, -1, 4]
    out = np.ones((EVENTS, FACTORS), np.float32)
    decays = np.where(np.arange(EVENTS) % 2, DECAY, 0.3)
    queries(past, past_ref, features, feature_ref, FACTORS, decays, POWER, 0, out)
    for e in range(EVENTS):
        wanted = twin_query(past, past_ref[e], decays[e])[1] + features[feature_ref[e][feature_ref[e] >= 0], :FACTORS].sum(axis=0)
        np.testing.assert_allclose(out[e], wanted, rtol=1e-4, atol=1e-5)
    assert not out[0].any()
