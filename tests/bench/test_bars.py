"""Figures, bars and the report of the benchmarks: arithmetic that decides between met and missed."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def module() -> Iterator[object]:
    sys.path.insert(0, str(BENCH))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    sys.path.remove(str(BENCH))


def test_the_files_bars_are_read_and_each_has_its_reason(module) -> None:
    bars = module("bars").Bars.load(BENCH / "bars.yaml")
    assert bars.of("small.bpr").limit == 1.8
    assert bars.of("kernel.mf.16").direction == "least"
    assert bars.of("no.such.figure") is None


def test_every_bar_speaks_of_a_benchmark_that_is_registered(module) -> None:
    names = set(module("run").BENCHMARKS) | {"kernel"}
    bars = module("bars").Bars.load(BENCH / "bars.yaml")
    assert {name.split(".")[0] for name in bars._bars} <= names


@pytest.mark.parametrize(
    ("direction", "value", "met"),
    [("most", 1.8, True), ("most", 1.81, False), ("least", 3.0, True), ("least", 2.9, False), ("most", math.nan, False)],
)
def test_a_bar_is_met_or_missed(module, direction: str, value: float, met: bool) -> None:
    bar = module("bars").Bar(1.8 if direction == "most" else 3.0, direction, "why")
    assert bar.met(value) is met


def test_an_exact_name_goes_before_a_pattern_and_what_is_missing_is_not_missed(module) -> None:
    bars, figures = module("bars"), module("figures")
    held = bars.Bars({"a.*": bars.Bar(1, "most", "w"), "a.b": bars.Bar(2, "most", "w")})
    found = [figures.Figure("a.b", "", 1.5), figures.Figure("a.c", "", 1.5), figures.missing("a.d", "", "not installed")]
    verdicts = held.judge([*found, figures.Figure("z", "", 9.0)])
    assert {name: verdict.missed for name, verdict in verdicts.items()} == {"a.b": False, "a.c": True, "a.d": False, "z": False}


@pytest.mark.parametrize("text", ["a: 3", "a: {limit: 3, why: w}", "a: {limit: 3, direction: above, why: w}"])
def test_a_file_with_something_else_in_it_is_refused(module, tmp_path: Path, text: str) -> None:
    path = tmp_path / "bars.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="a wants limit"):
        module("bars").Bars.load(path)


def test_the_interval_holds_the_median_in_95_of_100_samples_and_not_in_all(module) -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        _, low, high = module("figures").middle(rng.exponential(size=20).tolist())
        held += low <= math.log(2) <= high
    assert 0.93 * 400 <= held < 400


def test_a_ratio_is_taken_pair_by_pair(module) -> None:
    figure = module("figures").ratio("r", "r", [2.0, 30.0, 400.0], [1.0, 10.0, 100.0])
    assert (figure.value, figure.low, figure.high) == (3.0, 2.0, 4.0)


def test_numbers_are_shown_by_the_digits_that_matter(module) -> None:
    shown = module("figures").shown
    assert [shown(value) for value in (0.01234, 1.234, 12.34, 1234.5, None)] == ["0.0123", "1.23", "12.3", "1,234", "-"]
    assert shown(0.95312, 4) == "0.9531"


def test_a_section_replaces_its_own_and_leaves_the_others(module, tmp_path: Path) -> None:
    report, figures, bars = module("report"), module("figures"), module("bars")
    path = tmp_path / "benchmarks.md"
    for name, value in (("b", 1.0), ("a", 1.0), ("b", 2.0)):
        result = figures.Result("How.", [figures.Figure(f"{name}.x", f"figure of {name}", value)])
        judged = bars.Bars({"b.x": bars.Bar(1.5, "most", "w")}).judge(result.figures)
        report.write(path, report.Written(name, f"Part {name}", "make bench", 1.0), result, judged, ["a", "b"])
    text = path.read_text()
    assert text.index("## Part a") < text.index("## Part b") and text.count("## ") == 2
    assert "| figure of b | 2.00 | at most 1.5 | MISSED |" in text


def test_the_learner_over_arrays_takes_what_it_learned(module) -> None:
    import numpy as np

    arrays, figures = module("arrays"), module("figures")
    made = arrays.Arrays(arrays.chosen("source.path=none", "model.name=mf"))
    batch = arrays.events(np.arange(20), np.arange(20) % 5, np.ones(20), np.arange(20) + 10**15)
    made.step(batch, figures.Stages())
    assert made.head.row_counts["user"] == 20
    arrays.fill(made.head, 1000, 50, 1, at_once=300)
    assert made.head.row_counts["user"] == 1000  # the 20 are among them
