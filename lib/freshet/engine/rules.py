"""The rules of an event, in the order in which they are asked; a record is refused by the first it breaks.

Each rule is the condition under which a record is refused, over the columns of `clean`. A condition that is null
does not refuse, so each says what it means for what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from typing import TYPE_CHECKING, Protocol

from pyspark.sql import Column
from pyspark.sql import functions as F

from freshet.engine.times import out_of_range

if TYPE_CHECKING:
    from freshet.engine.sources import Source


FUTURE, TOO_OLD = "future", "too_old"


class Limits(Protocol):
    """The limits of the `clean` section."""

    @property
    def max_id_length(self) -> int: ...
    @property
    def max_context_columns(self) -> int: ...
    @property
    def max_context_length(self) -> int: ...
    @property
    def value_min(self) -> float: ...
    @property
    def value_max(self) -> float: ...
    @property
    def weight_max(self) -> float: ...
    @property
    def future_tolerance(self) -> float: ...
    @property
    def max_age(self) -> float | None: ...


@dataclass(frozen=True)
class Plan:
    """What the rules are asked under."""

    source: Source
    limits: Limits
    has_event_id: bool

    @property
    def ids(self) -> list[str]:
        return ["user_id", "item_id", *(["event_id"] if self.has_event_id else [])]


Rule = Callable[[Plan], Column]


def first_broken(rules: Mapping[str, Rule], plan: Plan) -> Column:
    """Name of the first rule whose condition holds, null when none does."""
    names = list(rules)
    reason = F.when(rules[names[0]](plan), names[0])
    for name in names[1:]:
        reason = reason.when(rules[name](plan), name)
    return reason


def _any(conditions: list[Column]) -> Column:
    return reduce(lambda left, right: left | right, conditions)


def _required(plan: Plan) -> Column:
    needed = [*plan.ids, *(["event_at_given"] if plan.source.order == "time" else [])]
    return _any([~F.col(name) if name.endswith("_given") else F.col(name).isNull() for name in needed])


def _blank(plan: Plan) -> Column:
    return _any([F.btrim(name) == "" for name in plan.ids])


def _long(plan: Plan) -> Column:
    return _any([F.length(name) > plan.limits.max_id_length for name in [*plan.ids, "event_type"]])


# Control characters (NUL ends a text for some readers, ESC speaks to a terminal), and the mark that stands where bytes
# were no UTF-8: two broken ids would become one.
_CHARACTERS = "[\\x00-\\x1f\\x7f-\\x9f\\ufffd]"


def _characters(plan: Plan) -> Column:
    text = F.concat_ws("", *[*plan.ids, "event_type"])
    return ~F.is_valid_utf8(text) | F.rlike(text, F.lit(_CHARACTERS))


def _type(plan: Plan) -> Column:
    known = list(plan.source.event_types)
    return F.coalesce(~F.col("event_type").isin(*known), F.lit(True)) if known else F.lit(False)


def _finite(name: str) -> Column:
    # NaN is larger than infinity in Spark's order, so one comparison finds both.
    return F.abs(name) < float("inf")


def _value_range(plan: Plan) -> Column:
    return _finite("value") & ~F.col("value").between(plan.limits.value_min, plan.limits.value_max)


def _weight(plan: Plan) -> Column:
    # NaN is larger than any limit in Spark's order.
    inside = (F.col("weight") > 0) & (F.col("weight") <= plan.limits.weight_max)
    return F.col("weight_given") & ~F.coalesce(inside, F.lit(False))


def _propensity(_: Plan) -> Column:
    inside = (F.col("propensity") > 0) & (F.col("propensity") <= 1)
    return F.col("propensity_given") & ~F.coalesce(inside, F.lit(False))


def _seconds(count: float) -> Column:
    return F.lit(timedelta(seconds=count))


def _future(plan: Plan) -> Column:
    return F.col("event_at") > F.col("_mtime") + _seconds(plan.limits.future_tolerance)


def _age(plan: Plan) -> Column:
    limit = plan.limits.max_age
    return F.lit(False) if limit is None else F.col("event_at") < F.col("_mtime") - _seconds(limit)


def _context_columns(plan: Plan) -> Column:
    if len(plan.source.context) <= plan.limits.max_context_columns:
        return F.lit(False)
    given = F.filter(F.map_values("_context"), lambda value: value.isNotNull())
    return F.size(given) > plan.limits.max_context_columns


def _context_length(plan: Plan) -> Column:
    if not plan.source.context:
        return F.lit(False)
    return F.exists(F.map_values("_context"), lambda value: F.length(value) > plan.limits.max_context_length)


RULES: dict[str, Rule] = {
    "unreadable": lambda _: F.col("_unreadable"),
    "required": _required,
    "id_blank": _blank,
    "id_length": _long,
    "id_characters": _characters,
    "event_type_unknown": _type,
    "value_missing": lambda _: ~F.col("value_given"),
    "value_not_a_number": lambda _: F.col("value_given") & F.col("value").isNull(),
    "value_not_finite": lambda _: ~_finite("value"),
    "value_range": _value_range,
    "weight": _weight,
    "propensity": _propensity,
    "revision": lambda _: F.col("revision_given") & F.coalesce(F.col("revision") < 0, F.lit(True)),
    "event_at_unreadable": lambda _: F.col("event_at_given") & ~F.col("event_at_readable"),
    "event_at_range": lambda _: F.col("event_at_readable") & out_of_range(F.col("event_at")),
    FUTURE: _future,
    TOO_OLD: _age,
    "context_columns": _context_columns,
    "context_length": _context_length,
}
