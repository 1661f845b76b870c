from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from freshet.kernels.ranking import ranks
from freshet.kernels.topk import top_k


def slow_top_k(queries: Any, items: Any, bias: Any, order: Any, k: int, offsets: Any, excluded: Any) -> tuple[Any, Any]:
    rows, scores = np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    for e, query in enumerate(queries):
        score = bias.copy()
        for c in range(items.shape[1]):
            score = score + query[c] * items[:, c]
        allowed = [j for j in range(len(items)) if j not in set(excluded[offsets[e] : offsets[e + 1]].tolist())]
        best = sorted((j for j in allowed if score[j] == score[j]), key=lambda j: (-score[j], order[j]))[:k]
        rows[e, : len(best)], scores[e, : len(best)] = best, score[best]
    return rows, scores


def world(n: int, d: int, m: int = 30, seed: int = 0, grid: bool = False) -> list[Any]:
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        drawn = rng.integers(-1, 2, size=shape) if grid else rng.normal(size=shape)
        return drawn.astype(np.float32)

    counts = rng.integers(0, 9, size=m)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    excluded = rng.integers(0, n, size=counts.sum()).astype(np.int32)
    return [numbers(m, d), numbers(n, d), numbers(n), rng.permutation(n).astype(np.int64), offsets, excluded]


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 1, 1), (5, 3, 10), (256, 4, 1), (257, 5, 7), (700, 16, 10), (40, 0, 45), (9, 2, 0)])
def test_top_k_equals_brute_force(n: int, d: int, k: int, grid: bool) -> None:
    queries, items, bias, order, offsets, excluded = world(n, d, grid=grid)
    rows, scores = top_k(queries, items, bias, order, k, offsets, excluded)
    slow_rows, slow_scores = slow_top_k(queries, items, bias, order, k, offsets, excluded)
    assert rows.tolist() == slow_rows.tolist()
    assert scores.tobytes() == slow_scores.tobytes()


def test_order_settles_ties_and_exclusions_are_respected() -> None:
    none = np.zeros(2, np.int64)
    args = np.zeros((1, 2), np.float32), np.ones((600, 2), np.float32), np.zeros(600, np.float32)
    down = np.arange(600)[::-1].copy()
    assert top_k(*args, down, 3, none, np.empty(0, np.int32))[0].tolist() == [[599, 598, 597]]
    out = np.array([598, 1, 599, 598], np.int32)
    assert top_k(*args, down, 3, np.array([0, 4]), out)[0].tolist() == [[597, 596, 595]]
    assert out.tolist() == [598, 1, 599, 598]


def test_place_in_the_list_is_the_rank() -> None:
    queries, items, bias, order, offsets, excluded = world(500, 8, m=20)
    rows, _ = top_k(queries, items, bias, order, 12, offsets, excluded)
    for place in range(12):
        rank = ranks(queries, items, bias, order, rows[:, place].copy(), offsets, excluded)
        assert (rank == place + 1).all()


def test_not_a_number_is_never_listed() -> None:
    queries, items, bias, order, offsets, excluded = world(20, 3)
    bias[::2] = np.nan
    rows, scores = top_k(queries, items, bias, order, 20, offsets, excluded)
    assert not np.isin(rows, np.arange(0, 20, 2)).any()
    assert not np.isnan(scores).any()


def test_threads_and_slices_give_the_same_lists() -> None:
    queries, items, bias, order, offsets, excluded = world(600, 8, m=2000)
    whole = top_k(queries, items, bias, order, 5, offsets, excluded)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(
            lambda at: top_k(queries[at : at + 700], items, bias, order, 5, offsets[at : at + 701], excluded),
            (0, 700, 1400),
        ))
    for number in (0, 1):
        assert np.concatenate([part[number] for part in parts]).tobytes() == whole[number].tobytes()
