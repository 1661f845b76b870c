"""Records of absurd size or depth: refused before anything is made of them, and what is kept of each is short."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.spark

GOOD: dict[str, Any] = {
    "event_id": "e1", "user_id": "u1", "item_id": "i1", "event_type": "view", "value": 3.5, "event_at": "2023-11-14T22:13:20Z", "c": "x",
}  # fmt: skip
SOURCE: dict[str, Any] = {"event_types": ["view"], "context": ["c"]}
DEEP = "[" * 10_000 + "]" * 10_000
MANY = {f"f{number}": 1 for number in range(70_000)}  # just below the length from which on a line is not parsed


def with_deep(name: str) -> str:
    return json.dumps({**GOOD, name: "here"}).replace('"here"', DEEP)


def test_what_is_too_long_or_too_deep_is_refused_and_its_neighbours_are_not(write, read) -> None:
    features = json.dumps({**GOOD, "c": {f"f{number}": 1 for number in range(1_000_000)}})
    absurd = [json.dumps({**GOOD, "pad": "x" * (64 << 20)}), features, *map(with_deep, (*GOOD, "pad"))]
    lines = [json.dumps(GOOD), *absurd, json.dumps({**GOOD, "event_id": "e2"})]
    batch = read(write("absurd.json", lines), SOURCE, {"max_raw_length": 1000})
    assert batch.accepted.column("event_id").to_pylist() == ["e1", "e2"]
    assert batch.read == 12 and set(batch.quarantined.column("reason").to_pylist()) == {"unreadable"}
    assert batch.quarantined.column("position").to_pylist() == list(range(1, 11))
    # What comes to the driver is bounded by the settings, whatever was in the file.
    assert max(map(len, batch.quarantined.column("raw").to_pylist())) <= 1000 and batch.quarantined.nbytes < 20_000


def test_many_keys_in_a_line_that_is_parsed_are_a_long_text_or_nobodys(write, read) -> None:
    """Nothing is made of a key that no setting names; an object in the place of a text is its text, and too long."""
    lines = [json.dumps({**GOOD, **MANY}), json.dumps({**GOOD, "event_id": "e2", "c": MANY}), json.dumps({**GOOD, "event_id": "e3"})]
    assert 800_000 < len(lines[0]) < 1 << 20
    batch = read(write("many.json", lines), SOURCE, {"max_raw_length": 1000})
    assert set(batch.accepted.column("event_id").to_pylist()) == {"e1", "e3"}
    assert batch.accepted.column("context").to_pylist() == [[("c", "x")]] * 2
    assert batch.quarantined.column("reason").to_pylist() == ["context_length"]
    assert len(batch.quarantined.column("raw")[0].as_py()) <= 1000 and batch.accepted.nbytes < 10_000
