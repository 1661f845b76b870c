"""Every rule refuses its own dirt and nothing else does; whatever was read is accepted or quarantined."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from freshet.engine import sources
from freshet.engine.clean import CLEANED, _converted, clean
from freshet.engine.rules import RULES, Plan, first_broken
from freshet.settings import CleanSettings, SourceSettings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from freshet.engine.batch import CleanBatch

Write = Callable[..., list[str]]
Read = Callable[..., "CleanBatch"]

MTIME = 1_700_000_000  # of the files: 2023-11-14 22:13:20 UTC

GOOD: dict[str, Any] = {
    "event_id": "e1", "user_id": "u1", "item_id": "i1", "event_type": "view", "value": 3.5,
    "event_at": "2023-11-14T22:13:20Z", "c": "x", "d": "y",
}  # fmt: skip

SOURCE: dict[str, Any] = {"event_types": ["view", "buy"], "context": ["c", "d"]}
LIMITS: dict[str, Any] = {"max_age": 86400.0, "max_id_length": 20, "max_context_columns": 1, "max_context_length": 10}


def line(**changes: Any) -> str:
    """A good record with changes; a value of `...` takes the field away."""
    record = {**GOOD, "d": None, **changes}
    return json.dumps({name: value for name, value in record.items() if value is not ...})


# Dirt by the rule that must refuse it. Each of them is accepted when that one rule is left out (tested below).
DIRT: dict[str, list[str]] = {
    "unreadable": [
        line() + "," + line(event_id="e2"), line() + "]",
        line(user_id="\ud83d"), line(user_id="\ude00x"), line().replace('"u1"', "1e18"), line().replace('"u1"', "1.50"),
    ],
    "required": [line(event_at=...)],
    "id_blank": [line(user_id=""), line(item_id="  "), line(event_id="")],
    "id_length": [line(user_id="u" * 21), line(event_id="e" * 21)],
    "id_characters": [line(user_id="a\u0000b"), line(item_id="a\nb"), line(event_id="\x1b[2J"),
                      line(user_id="a\ufffd")],
    "event_type_unknown": [line(event_type="sell"), line(event_type=...), line(event_type="View")],
    "value_missing": [line(value=...), line(value=None)],
    "value_not_a_number": [line(value="five"), line(value="5d"), line(value="0x10"), line(value=True),
                           line(value={"a": 1})],
    "value_not_finite": [line(value=float("nan")), line(value=float("-inf")), line().replace("3.5", "1e999"),
                         line(value="NaN")],
    "value_range": [line(value=1e7), line(value=-1e308)],
    "weight": [line(weight=0), line(weight=-1), line(weight=float("inf")), line(weight="x"), line(weight=float("nan")),
               line(weight=1.1e6)],
    "propensity": [line(propensity=0), line(propensity=1.5), line(propensity="x"), line(propensity=float("nan"))],
    "revision": [line(revision=-1), line(revision=1.5), line(revision="x"), line(revision=2**63)],
    "event_at_unreadable": [],
    "event_at_range": [],
    "future": [line(event_at="2023-11-14T22:24:00Z"), line(event_at="2031-01-01T00:00:00Z")],
    "too_old": [line(event_at="2023-11-13T22:13:19Z"), line(event_at="1997-09-20T00:00:00Z")],
    "context_columns": [line(d="y")],
    "context_length": [line(c="x" * 11)],
}
# Refused as well, but by more than one rule: without the first another one would.
MORE_DIRT: dict[str, list[str]] = {
    "unreadable": [line() + " rubbish", line() + line(event_id="e2"), "{bad", "null", "5", '"text"', "[" + line() + "]",
                   line()[:-5], "\ufeff" + line(), "\x00" + line(),
                   line().replace('"', "'"), '{"user_id": 01}', line(pad="x" * (1 << 20)),
                   "[" * 5000 + "]" * 5000, "not json at all"],
    "required": [line(user_id=None), line(item_id=...), line(event_id=...), line(user_id=float("nan")), "{}"],
    "event_at_unreadable": [line(event_at=at) for at in ("12:30", "now", "today", "", "soon", "2024", 1700000000)],
    "event_at_range": [line(event_at=at) for at in ("1970-01-01", "0001-01-01", "9999-12-31", "2100-01-02")],
}  # fmt: skip
CLEAN = [
    line(), line(user_id=" u"), line(user_id="007"), line(user_id=-1), line(user_id=2**64), line(user_id=2**63),
    line(user_id="1.50"), line(user_id="1e18"), line(user_id="İı😀\u200bא"), line(user_id="é"), line(user_id="e\u0301"),
    line(value="3.5"), line(value=" 3.5 "), line(value=-0.0), line(value="1e-320"), line(weight=0.5),
    line(propensity=1e-6),
    line(revision=3), line(event_at="2023-11-14 9:59"), line(event_at="2023-11-14T23:13:20+01:00"), line(extra=[1, {}]),
    line(event_at="2023-11-14T22:23:20Z"), line(user_id="\U0001f600"), " " + line() + " \t",
]  # fmt: skip


def expected(dirt: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(reason, text) for reason, lines in dirt.items() for text in lines]


@pytest.fixture
def frame(spark: SparkSession, write: Write) -> Any:
    def make(lines: list[str]) -> tuple[Any, SourceSettings]:
        paths = write("dirt.json", lines)
        source = SourceSettings.model_validate({**SOURCE, "path": paths[0]})
        return sources.files(spark, source, paths), source

    return make


def test_every_rule_refuses_its_dirt(write: Write, read: Read) -> None:
    wanted = expected(DIRT) + expected(MORE_DIRT)
    batch = read(write("dirt.json", [*[text for _, text in wanted], *CLEAN]), SOURCE, LIMITS)
    reasons = batch.quarantined.column("reason").to_pylist()
    shown = [text[:60] for _, text in wanted]
    assert list(zip(reasons, shown, strict=False)) == list(zip([reason for reason, _ in wanted], shown, strict=True))
    assert batch.read == len(wanted) + len(CLEAN) == batch.accepted.num_rows + batch.quarantined.num_rows
    assert batch.accepted.num_rows == len(CLEAN)


def test_of_a_key_given_twice_the_last_counts(write: Write, read: Read) -> None:
    twice = line().replace('"user_id": "u1"', '"user_id": "first", "user_id": "last"').replace("3.5", '1, "value": 2')
    spoilt = line(event_id="e2").replace("3.5", '1, "value": "five"')
    batch = read(write("twice.json", [twice, spoilt]), SOURCE, LIMITS)
    assert batch.accepted.select(["user_id", "value"]).to_pylist() == [{"user_id": "last", "value": 2.0}]
    assert batch.quarantined.column("reason").to_pylist() == ["value_not_a_number"]


def test_a_mark_of_byte_order_is_skipped_at_the_start_of_a_file(write: Write, read: Read) -> None:
    batch = read(write("marked.json", ["\ufeff" + line(), "\ufeff" + line(event_id="e2")]), SOURCE, LIMITS)
    assert batch.accepted.column("event_id").to_pylist() == ["e1"]
    assert batch.quarantined.column("reason").to_pylist() == ["unreadable"]


def test_dirt_passes_where_its_rule_is_left_out(frame: Any) -> None:
    wanted = expected(DIRT)
    records, source = frame([text for _, text in wanted])
    plan = Plan(source, CleanSettings.model_validate(LIMITS), True)
    without = {name: {other: rule for other, rule in RULES.items() if other != name} for name in RULES}
    columns = [first_broken(rules, plan).alias(name) for name, rules in without.items()]
    for (reason, text), found in zip(wanted, _converted(records, source).select(*columns).collect(), strict=True):
        assert found[reason] is None, (reason, text)


def test_every_rule_has_dirt() -> None:
    assert {*DIRT, *MORE_DIRT} == set(RULES)
    assert all(DIRT[name] or MORE_DIRT[name] for name in RULES)


def test_ids_are_kept_byte_for_byte(write: Write, read: Read) -> None:
    ids = [" u", "007", "-1", "18446744073709551616", "1e18", "İı😀\u200bא", "é", "e\u0301", "a.b", '"q"', "\\u"]
    batch = read(write("ids.json", [line(user_id=name, event_id=f"e{at}") for at, name in enumerate(ids)]))
    found = dict(zip(*(batch.accepted.column(name).to_pylist() for name in ("event_id", "user_id")), strict=True))
    assert [found[f"e{at}"] for at in range(len(ids))] == ids
    assert len(set(batch.accepted.column("user_key").to_pylist())) == len(ids)


def test_bytes_that_are_no_text_are_refused(write: Write, read: Read) -> None:
    text = line(user_id="X").replace("X", "a\udcffb")  # one byte 0xff
    batch = read(write("bytes.json", [text, line()]))
    assert batch.quarantined.column("reason").to_pylist() == ["id_characters"]


@pytest.mark.parametrize(
    ("unit", "given", "micros"),
    [
        ("s", 1_700_000_000, MTIME * 1_000_000), ("s", 1_700_000_000.25, MTIME * 1_000_000 + 250_000),
        ("ms", 1_700_000_000_123, MTIME * 1_000_000 + 123_000),
        ("us", 1_700_000_000_123_456, MTIME * 1_000_000 + 123_456),
        ("s", "1700000000", MTIME * 1_000_000), ("s", 1_700_000_000_123, None), ("ms", 1_700_000_000, None),
        ("us", 1_700_000_000_123, None), ("s", -5, None), ("s", "NaN", None), ("s", 1e300, None),
    ],
)  # fmt: skip
def test_numeric_times_by_unit(write: Write, read: Read, unit: str, given: float, micros: int | None) -> None:
    batch = read(write("t.json", [line(event_at=given)]), {"time_unit": unit})
    if micros is None:
        assert batch.quarantined.column("reason").to_pylist() == ["event_at_range"]
    else:
        assert batch.accepted.column("event_at").cast("int64").to_pylist() == [micros]


def test_times_by_a_pattern(write: Write, read: Read) -> None:
    lines = [line(event_at="14.11.2023 22:13"), line(event_at="2023-11-14 22:13")]
    batch = read(write("t.json", lines), {"time_format": "dd.MM.yyyy HH:mm"})
    assert batch.accepted.column("event_at").cast("int64").to_pylist() == [(MTIME - 20) * 1_000_000]
    assert batch.quarantined.column("reason").to_pylist() == ["event_at_unreadable"]


def test_value_of_the_type_goes_before_the_column_and_the_default_fills(write: Write, read: Read) -> None:
    lines = [line(event_type="buy", value=9), line(value=9, event_id="b"), line(value=..., event_id="c")]
    batch = read(write("v.json", lines), {"values": {"buy": 5.0}, "default_value": 1.0, "constants": {"weight": "0.5"}})
    found = {row["event_id"]: (row["value"], row["weight"]) for row in batch.accepted.to_pylist()}
    assert found == {"e1": (5.0, 0.5), "b": (9.0, 0.5), "c": (1.0, 0.5)}


def test_raw_is_cut_and_context_holds_what_was_given(write: Write, read: Read) -> None:
    batch = read(write("r.json", [line(c="x", d=None), "x" * 500]), SOURCE, {"max_raw_length": 100})
    assert batch.quarantined.column("raw").to_pylist() == ["x" * 100]
    assert batch.accepted.column("context").to_pylist() == [[("c", "x")]]


def test_the_plan_is_cheap(frame: Any) -> None:
    records, source = frame([line()])
    cleaned = clean(records, source, CleanSettings())
    plan = cleaned._jdf.queryExecution().executedPlan().toString()
    for costly in ("Exchange", "Python", "Sort", "current_", "now("):
        assert costly not in plan
    assert cleaned.columns == list(CLEANED)
