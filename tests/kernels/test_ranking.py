from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from freshet.kernels.ranking import ndcg_at, pairs_won, ranks, ranks_shared, recall_at, reciprocal


def slow_scores(query: np.ndarray, items: np.ndarray, bias: np.ndarray) -> np.ndarray:
    scores = bias.copy()
    for c in range(items.shape[1]):
        scores = scores + query[c] * items[:, c]
    return scores


def slow_rank(scores: np.ndarray, keys: np.ndarray, target: int, excluded: set[int]) -> int:
    if target < 0:
        return 0
    others = [j for j in range(len(scores)) if j != target and j not in excluded]
    if np.isnan(scores[target]):
        return 1 + len(others)
    return 1 + sum(
        bool(scores[j] > scores[target] or (scores[j] == scores[target] and keys[j] < keys[target])) for j in others
    )


def world(n: int, d: int, m: int = 40, seed: int = 0, grid: bool = False) -> dict[str, Any]:
    """Random items and events; `grid` makes many equal scores."""
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        drawn = rng.integers(-1, 2, size=shape) if grid else rng.normal(size=shape)
        return drawn.astype(np.float32)

    counts = rng.integers(0, 9, size=m)
    return {
        "queries": numbers(m, d), "items": numbers(n, d), "item_bias": numbers(n),
        "item_keys": rng.permutation(np.arange(n) * 7 - 3 * n), "target": rng.integers(-1, n, size=m).astype(np.int32),
        "excluded_offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "excluded_rows": rng.integers(-1, n, size=counts.sum()).astype(np.int32),
    }


def slow_ranks(w: dict[str, Any]) -> list[int]:
    cut = w["excluded_offsets"]
    return [
        slow_rank(
            slow_scores(w["queries"][e], w["items"], w["item_bias"]), w["item_keys"], int(t),
            set(w["excluded_rows"][cut[e] : cut[e + 1]].tolist()),
        )
        for e, t in enumerate(w["target"])
    ]


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 3), (255, 16), (256, 4), (257, 5), (900, 32), (30, 0)])
def test_ranks_equal_the_twin(n: int, d: int, grid: bool) -> None:
    given = world(n, d, grid=grid)
    assert ranks(**given).tolist() == slow_ranks(given)


@pytest.mark.parametrize("grid", [False, True])
def test_shared_ranks_equal_ranks_and_the_twin(grid: bool) -> None:
    given = world(300, 4, grid=grid)
    given["queries"][:] = 0
    shared = ranks_shared(
        given["item_bias"], given["item_keys"], given["target"], given["excluded_offsets"], given["excluded_rows"])
    assert shared.tolist() == ranks(**given).tolist() == slow_ranks(given)


def test_exclusions_count() -> None:
    given = world(300, 4)
    without = given | {"excluded_rows": np.full_like(given["excluded_rows"], -1)}
    assert ranks(**given).tolist() != ranks(**without).tolist()


def test_a_score_that_is_not_a_number_is_last() -> None:
    given = world(50, 3)
    given["items"][7] = np.nan
    given["target"][:5] = 7
    assert ranks(**given).tolist() == slow_ranks(given)
    scores = given["items"][:, 0].copy()
    rest = [given[name] for name in ("item_keys", "target", "excluded_offsets", "excluded_rows")]
    cut = given["excluded_offsets"]
    assert ranks_shared(scores, *rest).tolist() == [
        slow_rank(scores, given["item_keys"], int(t), set(given["excluded_rows"][cut[e] : cut[e + 1]].tolist()))
        for e, t in enumerate(given["target"])
    ]


def test_no_events() -> None:
    given = world(5, 2, m=0)
    assert len(ranks(**given)) == 0


def test_what_a_rank_is_worth() -> None:
    rank = np.array([0, 1, 3, 10, 11], np.int32)
    assert recall_at(rank, 10).tolist() == [0, 1, 1, 1, 0]
    assert ndcg_at(rank, 10) == pytest.approx([0, 1, 0.5, 1 / np.log2(11), 0])
    assert reciprocal(rank) == pytest.approx([0, 1, 1 / 3, 0.1, 1 / 11])


@pytest.mark.parametrize("grid", [True, False])
def test_pairs_won_equal_the_twin(grid: bool) -> None:
    random = np.random.default_rng(6)
    score = random.integers(0, 5, 60).astype(float) if grid else random.normal(size=60)
    positive = random.random(60) < 0.3
    pairs = [(a > b) + 0.5 * (a == b) for a in score[positive] for b in score[~positive]]
    assert pairs_won(score, positive) == (sum(pairs), len(pairs))
    assert pairs_won(score, np.ones(60, bool)) == pairs_won(score[:0], positive[:0]) == (0.0, 0)
