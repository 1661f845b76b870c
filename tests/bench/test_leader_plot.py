"""Stretches of a leader, for the picture."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

LED = [(0, 10, "a"), (10, 20, "a"), (20, 30, "b"), (30, 40, "a"), (40, 45, "c"), (45, 50, "d"), (50, 60, "a")]


@pytest.fixture
def plot() -> Iterator[ModuleType]:
    sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
    yield importlib.import_module("leader_plot")
    sys.path.pop(0)


def test_neighbouring_micro_batches_are_one_stretch_and_order_is_that_of_first_lead(plot) -> None:
    assert plot.merged(LED) == [("a", [(0, 20), (30, 40), (50, 60)]), ("b", [(20, 30)]), ("c", [(40, 45)]), ("d", [(45, 50)])]


def test_those_that_led_least_are_one_line(plot) -> None:
    assert plot.merged(LED, most=3) == [("a", [(0, 20), (30, 40), (50, 60)]), ("b", [(20, 30)]), (plot.OTHERS, [(40, 50)])]


def test_every_event_is_drawn_once(plot) -> None:
    drawn = sorted(stretch for _, stretches in plot.merged(LED, most=2) for stretch in stretches)
    assert [begin for begin, _ in drawn[1:]] == [end for _, end in drawn[:-1]] and drawn[0][0] == 0 and drawn[-1][1] == 60
