"""The list of faults, its page and the tests it names say the same."""

from __future__ import annotations

from pathlib import Path

import matrix
import pytest

TESTS = Path(__file__).parents[1]
# How many faults of each kind are known.
KNOWN = {"A": 13, "B": 15, "C": 14, "D": 8, "E": 7, "F": 10, "G": 9, "H": 4, "I": 11, "J": 7, "K": 5, "L": 10}


def missing(names: list[str]) -> list[str]:
    return [name for name in names if name.partition("::")[2] not in matrix.functions(name.partition("::")[0])]


def test_every_test_that_is_named_is_there() -> None:
    rows = matrix.load()["rows"]
    assert [name for row in rows.values() for name in missing(row["tests"])] == []
    assert missing(["test_cli.py::test_that_nobody_wrote"]) == ["test_cli.py::test_that_nobody_wrote"]


def test_every_fault_is_tried_or_left_out_with_a_reason() -> None:
    found = matrix.load()
    known = {f"{letter}{number:02d}" for letter, count in KNOWN.items() for number in range(1, count + 1)}
    assert set(found["rows"]) | set(found["left_out"]) == known
    assert set(found["rows"]) & set(found["left_out"]) == set()
    assert all(row["tests"] or row.get("soak") for row in found["rows"].values()) and all(found["left_out"].values())


def test_every_fault_is_tried_by_make_test_too() -> None:
    rows = matrix.load()["rows"]
    soaked = {name for row in rows.values() for name in row["tests"] if matrix.is_soaked(name)}
    assert "pipelines/test_masters.py::test_the_digest_does_not_depend_on_the_master" in soaked
    assert all(set(row["tests"]) - soaked or "soak" in row for row in rows.values())


def test_the_page_names_every_test_and_measurement_of_a_row() -> None:
    found = matrix.load()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in matrix.page(found).splitlines()}
    for name, row in found["rows"].items():
        assert all(one in lines[name] for one in (*row["tests"], row.get("soak", ""))), name
    assert any("soak" in row for row in found["rows"].values())


def test_the_page_is_that_of_the_list() -> None:
    text = matrix.DOCUMENT.read_text(encoding="utf-8")
    assert text == matrix.page(matrix.load()), "run `python tests/faults/matrix.py`"


@pytest.mark.parametrize("letter", sorted(KNOWN))
def test_the_page_has_a_section_of_each_kind(letter: str) -> None:
    assert f"\n## {letter}. " in matrix.DOCUMENT.read_text(encoding="utf-8")
