"""What lists are worth, against the formulas, ir-measures (trec_eval) and scikit-learn."""

from __future__ import annotations

import math

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, P, R, Success, nDCG
from sklearn.metrics import ndcg_score

from freshet.kernels.list_metrics import MEASURES, gini, spread, worth

ITEMS, USERS = 40, 60


def world(k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists, some of them short or empty, and what users wanted: items of the lists and others, some of them unknown."""
    random = np.random.default_rng(seed)
    lists = np.stack([random.permutation(ITEMS)[:k] for _ in range(USERS)]).astype(np.int32)
    length = np.where(random.random(USERS) < 0.7, k, random.integers(0, k + 1, USERS))
    lists[np.arange(k) >= length[:, None]] = -1
    sizes = random.integers(0, 12, USERS)
    sizes[:2] = 0, 1
    wanted = [np.where(random.random(n) < 0.1, -1, random.permutation(ITEMS)[:n]) for n in sizes]
    return lists, np.concatenate([[0], np.cumsum(sizes)]), np.concatenate(wanted).astype(np.int32)


def slow(lists: np.ndarray, offsets: np.ndarray, wanted: np.ndarray) -> list[list[float]]:
    found = []
    for u, made in enumerate(lists.tolist()):
        want = wanted[offsets[u] : offsets[u + 1]].tolist()
        if not want:
            found.append([math.nan] * len(MEASURES))
            continue
        hits = [item >= 0 and item in want for item in made]
        ideal = sum(1 / math.log2(1 + j) for j in range(1, min(len(want), len(made)) + 1))
        found.append([
            sum(hits) / len(want), sum(hits) / len(made),
            sum(1 / math.log2(2 + j) for j, hit in enumerate(hits) if hit) / ideal,
            sum(sum(hits[: j + 1]) / (j + 1) for j, hit in enumerate(hits) if hit) / len(want),
            1 / (1 + hits.index(True)) if any(hits) else 0.0, float(any(hits)),
        ])
    return found


@pytest.mark.parametrize("k", [1, 5, 20])
def test_worth_equals_the_formulas(k: int) -> None:
    given = world(k)
    assert worth(*given, ITEMS) == pytest.approx(np.array(slow(*given)), nan_ok=True)
    assert (np.nan_to_num(worth(*given, ITEMS)).sum(axis=0) > 0).all()


@pytest.mark.parametrize("k", [1, 5, 20])
def test_worth_equals_ir_measures(k: int) -> None:
    lists, offsets, wanted = world(k, 1)
    wanted = np.where(wanted < 0, ITEMS + np.arange(len(wanted)), wanted)  # an unknown item is one that no list has
    names = [(str(u), f"i{item}") for u in range(USERS) for item in wanted[offsets[u] : offsets[u + 1]]]
    qrels = [ir_measures.Qrel(user, item, 1) for user, item in names]
    run = [ir_measures.ScoredDoc(str(u), f"i{item}", float(-j)) for u, made in enumerate(lists) for j, item in enumerate(made) if item >= 0]
    measures = dict(zip([R @ k, P @ k, nDCG @ k, AP @ k, RR @ k, Success @ k], MEASURES, strict=True))
    theirs = np.zeros((USERS, len(MEASURES)))  # trec_eval has no line for a user without a list
    for value in ir_measures.iter_calc(list(measures), qrels, run):
        theirs[int(value.query_id), MEASURES.index(measures[value.measure])] = value.value
    counted = np.diff(offsets) > 0
    ours = worth(lists, offsets, np.where(wanted >= ITEMS, -1, wanted).astype(np.int32), ITEMS)
    assert ours[counted] == pytest.approx(theirs[counted])
    assert np.isnan(ours[~counted]).all()


def test_ndcg_equals_scikit_learn() -> None:
    lists, offsets, wanted = world(10, 2)
    score, truth = np.full((USERS, 2 * ITEMS), -99.0), np.zeros((USERS, 2 * ITEMS))
    for u, made in enumerate(lists):
        score[u, made[made >= 0]] = -np.flatnonzero(made >= 0)
        score[u, ITEMS:] = -100.0  # what no list has; a wanted unknown is one of them
        want = wanted[offsets[u] : offsets[u + 1]]
        truth[u, np.where(want < 0, ITEMS + np.arange(len(want)), want)] = 1.0
    full = (lists >= 0).all(axis=1) & (truth.sum(axis=1) > 0)  # scikit-learn has no short lists
    assert full.sum() > 20
    theirs = [ndcg_score(truth[u : u + 1], score[u : u + 1], k=10) for u in np.flatnonzero(full)]
    assert worth(lists, offsets, wanted, ITEMS)[full, MEASURES.index("ndcg")] == pytest.approx(theirs)


def test_spread_is_one_minus_the_mean_cosine_of_pairs() -> None:
    random = np.random.default_rng(3)
    unit = random.normal(size=(ITEMS, 6))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[5] = 0.0
    lists, _, _ = world(8, 4)
    lists[1] = [*range(8)]
    found = spread(lists, unit.astype(np.float32))
    for u, made in enumerate(lists.tolist()):
        pairs = [1 - unit[a] @ unit[b] for i, a in enumerate(made) for b in made[:i] if a >= 0 and b >= 0]
        assert found[u] == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True, abs=1e-6)
    assert spread(np.array([[3, 3]], np.int32), unit.astype(np.float32))[0] == pytest.approx(0.0, abs=1e-6)


def test_gini() -> None:
    assert gini(np.array([4, 4, 4])) == 0.0
    assert gini(np.array([0, 0, 0, 9])) == 0.75
    shown = np.array([1, 5, 0, 2])
    apart = sum(abs(a - b) for a in shown for b in shown) / (2 * 4 * shown.sum())  # as half the mean difference over the mean
    assert gini(shown) == pytest.approx(apart)
    assert math.isnan(gini(np.zeros(3, np.int64)))
