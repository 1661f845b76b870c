"""Triples for benchmarks: the asked shape, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from freshet.demo.shapes import Shaped, shaped


def assert_heavy_tailed(triples: Shaped, items: int) -> None:
    counts = np.sort(np.bincount(triples.item, minlength=items))[::-1]
    assert counts[: items // 100].sum() > 10 * counts.sum() / 100


def test_shape_and_seed():
    triples = shaped(users=1000, items=5000, events=100_000, seed=2)
    assert triples.user.max() < 1000 and triples.item.max() < 5000 and len(triples.value) == 100_000
    assert_heavy_tailed(triples, 5000)
    again, other = shaped(1000, 5000, 100_000, 2), shaped(1000, 5000, 100_000, 3)
    np.testing.assert_array_equal(triples.item, again.item)
    assert (triples.item != other.item).any()


def test_uniform_ids_are_not_the_shape():
    uniform = np.random.default_rng(0).integers(5000, size=100_000)
    with pytest.raises(AssertionError):
        assert_heavy_tailed(Shaped(uniform, uniform, np.ones(100_000, dtype=np.float32)), 5000)
