"""Diversity, caps and chance against loops over sets; what every list of theirs must keep to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freshet.kernels.rerank import Offer, place_scores, rerank
from freshet.kernels.seeds import combine, mix
from freshet.kernels.topk import top_k, with_extras


def uniform(seed: np.uint64) -> float:
    return float(mix(seed) >> np.uint64(11)) * 2.0**-53


def slow_rerank(candidates, scores, k, offer, diversity, cap, exploration, seeds, left_out) -> tuple[Any, ...]:
    """As kernels.rerank says it, with sets; besides for each place the probability of every item."""
    rows, propensity, drawn, short, chances = [], [], [], [], []
    for e in range(len(candidates)):
        out = set(left_out[1][left_out[0][e] : left_out[0][e + 1]].tolist())
        there = [c for c in range(candidates.shape[1]) if candidates[e, c] >= 0]
        low, high = (float(scores[e, there[at]]) for at in (-1, 0)) if there else (0.0, 0.0)
        made: list[tuple[int, float, bool]] = []
        short.append(False)
        for place in range(k):
            taken = [row for row, _, _ in made]
            full = {g for g in offer.category.tolist() if g >= 0 and cap and [offer.category[r] for r in taken].count(g) >= cap}
            may = [r for r in range(len(offer.allowed))
                   if offer.allowed[r] and r not in out and r not in taken and offer.category[r] not in full]
            values = {}
            for c in there:
                row, relevance = int(candidates[e, c]), (float(scores[e, c]) - low) / (high - low) if high > low else 1.0
                unit = offer.unit.astype(np.float64)
                cosine = [math.fsum(unit[row] * unit[s]) for s in taken]
                values[row] = (1 - diversity) * relevance - diversity * max(cosine, default=-1.0)
            able = [row for row in values if row in may]
            if not able:
                short[-1] = bool(may)
                break
            best = max(able, key=lambda row: values[row])
            row, seed, tries = best, combine(seeds[e], np.uint64(place)), 0
            if uniform(seed) < exploration:
                row = -1
            while row not in may:
                row = int(offer.by_order[int(combine(seed, np.uint64(tries)) % np.uint64(len(offer.by_order)))])
                tries += 1
            chances.append({r: exploration / len(may) + (1 - exploration) * (r == best) for r in may})
            made.append((row, chances[-1][row], row != best))
        made += [(-1, 1.0, False)] * (k - len(made))
        for column, cells in zip((rows, propensity, drawn), zip(*made, strict=True), strict=True):
            column.append(cells)
    return np.array(rows), np.array(propensity), np.array(drawn), np.array(short), chances


def world(seed: int, n: int = 60, m: int = 12, d: int = 3, c: int = 25, groups: int = 4):
    """Candidates and scores as of top_k, an offer with some items blocked, seeds, and what each asker has."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, d)).astype(np.float32)
    vectors[random.random(n) < 0.1] = 0.0
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    bias = random.normal(size=n).astype(np.float32)
    bias[random.random(n) < 0.2] = np.nan
    order = random.permutation(n).astype(np.int64)
    category = random.integers(-1, groups, n).astype(np.int32)
    offer = Offer(vectors / np.where(length > 0, length, np.float32(1)), category, ~np.isnan(bias), np.argsort(order).astype(np.int32))
    mine = [np.sort(random.choice(n, random.integers(0, 9), replace=False)) for _ in range(m)]
    left_out = np.cumsum([0, *map(len, mine)]).astype(np.int64), np.concatenate(mine).astype(np.int32)
    queries = random.normal(size=(m, d)).astype(np.float32)
    candidates, scores = top_k(queries, vectors, bias, order, c, *left_out)
    seeds = mix(np.arange(m, dtype=np.uint64) + np.uint64(100 * seed))
    return candidates, scores, offer, seeds, left_out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("diversity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("cap", "exploration"), [(None, 0.0), (2, 0.0), (None, 0.5), (1, 0.3), (2, 1.0)])
def test_lists_are_those_of_the_slow_twin(seed: int, diversity: float, cap: int | None, exploration: float) -> None:
    candidates, scores, offer, seeds, left_out = world(seed, c=10)
    found = rerank(candidates, scores, 8, offer, diversity, cap, exploration, seeds, left_out)
    rows, propensity, drawn, short, chances = slow_rerank(
        candidates, scores, 8, offer, diversity, cap, exploration, seeds, left_out)
    assert found.rows.tolist() == rows.tolist()
    np.testing.assert_allclose(found.propensity, propensity, rtol=1e-12)
    assert found.drawn.tolist() == drawn.tolist() and found.short.tolist() == short.tolist()
    assert all(sum(chance.values()) == pytest.approx(1.0) for chance in chances)
    assert drawn.any() == (exploration > 0.0)
    plain = (diversity, cap, exploration) == (0.0, None, 0.0)
    assert np.array_equal(found.rows, candidates[:, :8]) == plain


def test_without_diversity_cap_and_chance_it_is_the_plain_list() -> None:
    candidates, scores, offer, seeds, left_out = world(5)
    found = rerank(candidates, scores, 10, offer, 0.0, None, 0.0, seeds, left_out)
    assert found.rows.tolist() == candidates[:, :10].tolist()
    assert (found.propensity == 1.0).all() and not found.drawn.any() and not found.short.any()
    other = rerank(candidates, scores, 10, offer, 0.3, None, 0.0, seeds, left_out)
    assert (other.rows[:, 0] == candidates[:, 0]).all() and (other.rows != found.rows).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1), st.integers(1, 3) | st.none(), st.floats(0, 1), st.integers(0, 30))
def test_what_every_list_keeps_to(seed: int, diversity: float, cap: int | None, exploration: float, k: int) -> None:
    candidates, scores, offer, seeds, left_out = world(seed, c=60)
    found = rerank(candidates, scores, k, offer, diversity, cap, exploration, seeds, left_out)
    assert not found.short.any()  # all items were candidates
    for e, rows in enumerate(found.rows.tolist()):
        listed = [row for row in rows if row >= 0]
        assert rows == listed + [-1] * (k - len(listed))  # no holes
        assert len(set(listed)) == len(listed) and offer.allowed[listed].all()
        assert not set(listed) & set(left_out[1][left_out[0][e] : left_out[0][e + 1]].tolist())
        groups = [g for g in offer.category[listed].tolist() if g >= 0]
        assert cap is None or all(groups.count(g) <= cap for g in groups)
    assert ((found.propensity > 0.0) | (exploration == 0.0)).all() and (found.propensity <= 1.0 + 1e-12).all()
    shorter = rerank(candidates, scores, k // 2, offer, diversity, cap, exploration, seeds, left_out)
    assert np.array_equal(shorter.rows, found.rows[:, : k // 2])  # a place does not depend on those below it
    part = slice(3, 7)
    alone = rerank(candidates[part], scores[part], k, offer, diversity, cap, exploration, seeds[part],
                   (left_out[0][3:8] - left_out[0][3], left_out[1][left_out[0][3] : left_out[0][7]]))
    assert np.array_equal(alone.rows, found.rows[part])  # nor on who asks beside


def test_a_list_that_the_candidates_do_not_fill_says_so() -> None:
    n = 20
    offer = Offer(np.zeros((n, 0), np.float32), np.where(np.arange(n) < 15, 0, 1).astype(np.int32), np.ones(n, bool),
                  np.arange(n, dtype=np.int32))
    seeds, nothing = np.zeros(1, np.uint64), (np.zeros(2, np.int64), np.empty(0, np.int32))
    for count, wanted, short in ((10, [0, 1, -1, -1, -1], True), (n, [0, 1, 15, 16, -1], False)):
        candidates = np.arange(count, dtype=np.int32)[None]
        scores = -candidates.astype(np.float32)
        found = rerank(candidates, scores, 5, offer, 0.0, 2, 0.0, seeds, nothing)
        assert found.rows.tolist() == [wanted] and found.short.tolist() == [short]


def test_shares_are_the_propensities() -> None:
    """Many seeds over one choice: what was shown, weighted by one over its propensity, shows every item equally often."""
    m, n = 40_000, 5
    candidates = np.tile(np.arange(n, dtype=np.int32), (m, 1))
    scores = -candidates.astype(np.float32)
    offer = Offer(np.zeros((n, 0), np.float32), np.full(n, -1, np.int32), np.ones(n, bool), np.arange(n, dtype=np.int32)[::-1].copy())
    seeds = mix(np.arange(m, dtype=np.uint64))
    found = rerank(candidates, scores, 2, offer, 0.0, None, 0.25, seeds, (np.zeros(m + 1, np.int64), np.empty(0, np.int32)))
    first = found.rows[:, 0]
    shares = np.bincount(first, minlength=n) / m
    np.testing.assert_allclose(shares, [0.8, 0.05, 0.05, 0.05, 0.05], atol=0.006)
    np.testing.assert_allclose(np.bincount(first, 1 / found.propensity[:, 0]) / m, np.ones(n), atol=0.1)
    second = found.rows[first == 0, 1]
    np.testing.assert_allclose(np.bincount(second, minlength=n) / len(second), [0, 0.8125, 0.0625, 0.0625, 0.0625], atol=0.008)


def test_scores_of_places_are_those_the_lists_came_with() -> None:
    random = np.random.default_rng(3)
    for d in (0, 1, 5, 32):
        queries, items = (random.normal(size=(size, d)).astype(np.float32) for size in (9, 300))
        bias, order = random.normal(size=300).astype(np.float32), np.arange(300)
        nothing = np.zeros(10, np.int64), np.empty(0, np.int32)
        mine = [np.sort(random.choice(300, 40, replace=False)) for _ in range(9)]
        extras = (np.arange(0, 361, 40), np.concatenate(mine).astype(np.int32), random.uniform(0, 3, 360).astype(np.float32))
        rows, scores = with_extras(*top_k(queries, items, bias, order, 20, *nothing), queries, items, bias, order, nothing, extras)
        rows[2, 15:] = -1
        found, with_extra = place_scores(rows, queries, items, bias, extras)
        assert found[rows >= 0].tobytes() == scores[rows >= 0].tobytes() and (found[2, 15:] == -np.inf).all()
        assert with_extra.tolist() == [[row in mine[e] for row in listed] for e, listed in enumerate(rows.tolist())]
