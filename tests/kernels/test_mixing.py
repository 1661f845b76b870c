"""Ranks under several mixes and lists with extras, against sorting everything."""

from __future__ import annotations

import numpy as np

from freshet.kernels.mixing import ranks_mixed
from freshet.kernels.topk import top_k, with_extras

M, N, D, LIVES = 20, 400, 5, 3
MIXES = np.array([[1, 0, 0], [0.5, 1, 0.6], [0, 1, 0.05], [0, 0, 1]], np.float32)
LIFE = np.array([0, 1, 2, 2], np.int32)


def made(seed: int = 1):
    random = np.random.default_rng(seed)
    queries, items = (random.normal(size=(size, D)).astype(np.float32) for size in (M, N))
    bias = random.normal(size=N).astype(np.float32)
    # Few levels: equal scores are common.
    log_count = random.integers(0, 4, (LIVES, N)).astype(np.float32)
    keys = random.permutation(N).astype(np.int64)
    target = random.integers(0, N, M).astype(np.int32)
    target[3] = -1
    return queries, items, bias, log_count, keys, target


def some(random: np.random.Generator, most: int):
    """(offsets, rows) with each item at most once an event."""
    rows = [np.sort(random.choice(N, random.integers(0, most), replace=False)) for _ in range(M)]
    return np.cumsum([0, *map(len, rows)]), np.concatenate(rows).astype(np.int32)


def whole_scores(queries, items, bias, log_count, mix, life, extras):
    score = mix[0] * (bias + (queries[:, None, :] * items[None]).astype(np.float32).cumsum(axis=2, dtype=np.float32)[:, :, -1])
    score = score + mix[2] * log_count[life]
    offsets, rows, values = extras
    for e in range(M):
        part = slice(offsets[e], offsets[e + 1])
        score[e, rows[part]] += mix[1] * values[part]
    return score


def test_ranks_are_places_in_the_sorted_list_of_all() -> None:
    queries, items, bias, log_count, keys, target = made()
    queries, bias = np.round(queries), np.round(bias)  # whole numbers add up alike in any order
    items = np.round(items)
    random = np.random.default_rng(2)
    excluded, (offsets, rows) = some(random, 60), some(random, 80)
    extras = (offsets, rows, random.integers(1, 5, len(rows)).astype(np.float32))
    found = ranks_mixed(queries, items, bias, log_count, MIXES, LIFE, keys, target, excluded, extras)
    without = ranks_mixed(queries, items, bias, log_count, MIXES, LIFE, keys, target, excluded, (offsets * 0, rows[:0], extras[2][:0]))
    for c, (mix, life) in enumerate(zip(MIXES, LIFE, strict=True)):
        score = whole_scores(queries, items, bias, log_count, mix, life, extras)
        for e, t in enumerate(target.tolist()):
            left_out = set(excluded[1][excluded[0][e] : excluded[0][e + 1]].tolist()) - {t}
            order = sorted((j for j in range(N) if j not in left_out), key=lambda j: (-score[e, j], keys[j]))
            assert found[e, c] == (order.index(t) + 1 if t >= 0 else 0)
    assert (found[:, [0, 3]] == without[:, [0, 3]]).all() and (found[:, 1:3] != without[:, 1:3]).any()


def test_lists_with_extras_are_those_of_sorting_everything() -> None:
    queries, items, bias, log_count, order, _ = made()
    random = np.random.default_rng(3)
    excluded, (offsets, rows) = some(random, 60), some(random, 80)
    extras = (offsets, rows, random.uniform(0, 4, len(rows)).astype(np.float32))
    for k in (1, 10, 390):
        plain = top_k(queries, items, bias, order, k, *excluded)
        found, scores = with_extras(*plain, queries, items, bias, order, excluded, extras)
        exact = whole_scores(queries, items, bias, log_count, np.float32([1, 1, 0]), 0, extras)
        for e in range(M):
            left_out = set(excluded[1][excluded[0][e] : excluded[0][e + 1]].tolist())
            wanted = sorted((j for j in range(N) if j not in left_out), key=lambda j: (-exact[e, j], order[j]))[:k]
            there = found[e] >= 0
            assert there.sum() == len(wanted)
            np.testing.assert_allclose(scores[e][there], exact[e, wanted], rtol=1e-4, atol=1e-5)
            assert np.mean(found[e][there] == wanted) > 0.98  # sums in another order may part near ties
        assert k > 10 or (found != plain[0]).any()
