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


def with_deep(name: str) -> str:
    return json.dumps({**GOOD, name: "here"}).replace('"here"', DEEP)


def test_what_is_too_long_or_too_deep_is_refused_and_its_neighbours_are_not(write, read) -> None:
    features = json.dumps({**GOOD, "c": {f"f{number}": 1 for number in range(1_000_000)}})
    absurd = [json.dumps({**GOOD, "pad": "x" * (64 << 20)}), features, *map(with_deep, ("item_id", "value", "c", "pad"))]
    lines = [json.dumps(GOOD), *absurd, json.dumps({**GOOD, "event_id": "e2"})]
    batch = read(write("absurd.json", lines), SOURCE, {"max_raw_length": 1000})
    assert batch.accepted.column("event_id").to_pylist() == ["e1", "e2"]
    assert batch.read == 8 and set(batch.quarantined.column("reason").to_pylist()) == {"unreadable"}
    assert batch.quarantined.column("position").to_pylist() == [1, 2, 3, 4, 5, 6]
    # What comes to the driver is bounded by the settings, whatever was in the file.
    assert max(map(len, batch.quarantined.column("raw").to_pylist())) <= 1000 and batch.quarantined.nbytes < 20_000
