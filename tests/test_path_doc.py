"""The page that follows one event says what the code computes, and the numbers fit together."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from freshet.path_doc import Walk, contraction, markdown, shard_row

PAGE = Path(__file__).parents[1] / "docs" / "path.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown()


def test_the_merged_row_follows_the_formula_of_the_page() -> None:
    walk = Walk()
    before = walk.row("item", "tin drum").astype(float)
    shards = [[0, 1], [2]]
    a = np.array([contraction(walk, chosen) for chosen in shards])
    change = np.array([shard_row(walk, chosen) - before for chosen in shards])
    total = a.sum()
    merged = before + (1 - np.exp(-total)) / total * ((a / (1 - np.exp(-a)))[:, None] * change).sum(axis=0)
    printed = re.search(r"merged: \[(.*?)\]", PAGE.read_text(encoding="utf-8"))
    assert printed is not None
    assert [float(value) for value in printed[1].split(",")] == pytest.approx(list(merged), abs=1e-4)
