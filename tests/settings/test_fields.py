"""Durations: what is read, and how they are written back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from freshet.settings.fields import duration_text, seconds
from freshet.settings.model import Settings
from freshet.settings.names import find, nearest


@given(st.integers(1, 10**6), st.sampled_from(["millisecond", "second", "minute", "hour", "day"]))
def test_a_duration_comes_back(count: int, unit: str) -> None:
    value = seconds(f"{count} {unit}s")
    assert seconds(duration_text(value)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "soon", "5", "5 moons", "-5 seconds", "five minutes", True, None, [5]])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(PydanticCustomError):
        seconds(text)


def test_find_follows_sections_and_maps() -> None:
    inner = find(Settings, "spark.conf.spark.sql.shuffle.partitions")
    assert inner is not None
    assert inner.path == ("spark", "conf", "spark.sql.shuffle.partitions")
    assert find(Settings, "model.factors.x") is None
    assert find(Settings, "nothing") is None


def test_nearest_finds_slips_and_wrong_sections() -> None:
    assert nearest(Settings, "model.factor") == "model.factors"
    assert nearest(Settings, "learning.half_life") == "popularity.half_life"
    assert nearest(Settings, "zzz.qqq") == ""
