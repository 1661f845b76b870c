"""What came in, as counts by bucket: they add up, stay bounded and tell apart what should be."""

from __future__ import annotations

import numpy as np

from freshet.inputs import BUCKETS, ITEMS, MOST_TYPES, OTHERS, TYPES, VALUES, counts_of, input_metrics
from freshet.report import Metric


def made(n: int, values: np.ndarray | None = None, types: dict[str, int] | None = None) -> list[Metric]:
    keys = np.random.default_rng(1).integers(-(2**62), 2**62, n)
    return input_metrics(keys, np.ones(n) if values is None else values, {"click": n} if types is None else types)


def test_counts_add_up_and_come_back() -> None:
    rows = made(5000, np.random.default_rng(2).choice([1.0, 3.0, 4.0, 5.0], 5000), {"view": 4000, "buy": 1000})
    found = counts_of([Metric("ndcg@10", "served", "blend", "all", 1.0, 2), *rows])
    assert set(found) == {ITEMS, VALUES, TYPES}
    assert all(sum(counts.values()) == events == 5000 for counts, events in found.values())
    assert len(found[ITEMS][0]) == BUCKETS and max(found[ITEMS][0].values()) < 2 * 5000 / BUCKETS
    assert found[TYPES][0] == {"view": 4000.0, "buy": 1000.0}
    assert made(0, np.empty(0), {}) == [] and counts_of([]) == {}


def test_ratings_are_apart_and_prices_are_few() -> None:
    def values(given: list[float]) -> dict[str, float]:
        return counts_of(made(len(given), np.array(given)))[VALUES][0]

    assert values([0.0, -1.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == dict.fromkeys(["0", "-1", "1", "2", "2.83", "4", "5.66"], 1.0)
    assert len(values(np.linspace(0.01, 5000.0, 9000).tolist())) < 45
    assert len(values([1e-300, -1e-300, 1e300, -1e300, 1e-6])) == 4  # the ends of what is told apart


def test_of_many_types_the_rare_ones_are_one() -> None:
    types = {f"type {number}": 100 - number for number in range(40)}
    found = counts_of(made(sum(types.values()), None, types))[TYPES][0]
    assert len(found) == MOST_TYPES + 1 and sum(found.values()) == sum(types.values())
    assert found[OTHERS] == sum(sorted(types.values())[: 40 - MOST_TYPES])
    assert found == counts_of(made(sum(types.values()), None, dict(reversed(types.items()))))[TYPES][0]
