"""Conditions on events as people write them, `user_id not in ('u1', 'u2') and event_at < '2026-11-01'`: parsed, never run as SQL.

A condition is made of columns of `events`, `context['NAME']`, literals, = != < <= > >=, in, between, is null, and, or, not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlglot
from sqlglot import expressions as sql

from freshet.errors import FreshetError
from freshet.schema import EVENTS

_TEXT, _NUMBER, _TIME = "text", "number", "time"
_KINDS = {"string": _TEXT, "double": _NUMBER, "bigint": _NUMBER, "int": _NUMBER, "timestamp": _TIME}
_COMMIT = ("branch", "snapshot_version", "commit_id")
COLUMNS = {one.name: _KINDS[one.type] for one in EVENTS.columns if one.type in _KINDS and one.name not in _COMMIT}
_COMPARED: dict[type, Callable[..., Any]] = {
    sql.EQ: pc.equal, sql.NEQ: pc.not_equal, sql.LT: pc.less, sql.LTE: pc.less_equal, sql.GT: pc.greater, sql.GTE: pc.greater_equal,
}


def check(text: str) -> None:
    """Raises FreshetError where the text is no condition."""
    holds(text, _NOTHING)


def holds(text: str, events: pa.Table) -> np.ndarray:
    """bool[n]: of which events (columns of `events`) the condition is true; false and unknown (null) are not."""
    try:
        return np.asarray(pc.fill_null(_of(_parsed(text), events, text), False).to_numpy(), bool)
    except RecursionError:
        raise _refused(text[:80] + "...", "it goes too deep") from None


_ARROW = {_TEXT: pa.string(), _NUMBER: pa.float64(), _TIME: pa.timestamp("us", tz="UTC")}
_NOTHING = pa.schema([
    *((name, _ARROW[kind]) for name, kind in COLUMNS.items()), ("context", pa.map_(pa.string(), pa.string())),
]).empty_table()


def _parsed(text: str) -> Any:
    try:
        return sqlglot.parse_one(text, read="spark", into=sql.Condition)
    except sqlglot.errors.SqlglotError as error:
        first: dict[str, Any] = next(iter(getattr(error, "errors", [])), {})
        raise _refused(text, str(first.get("description") or "it does not parse").rstrip(".")) from error


def _of(node: Any, events: pa.Table, text: str) -> Any:
    """The truth of a condition for each event, null for unknown."""
    if isinstance(node, sql.Paren):
        return _of(node.this, events, text)
    if isinstance(node, sql.Not):
        return pc.invert(_of(node.this, events, text))
    if isinstance(node, sql.And | sql.Or):
        join = pc.and_kleene if isinstance(node, sql.And) else pc.or_kleene
        return join(_of(node.left, events, text), _of(node.right, events, text))
    if isinstance(node, sql.Is) and isinstance(node.expression, sql.Null):
        return pc.is_null(_column(node.this, events, text)[0])
    if isinstance(node, sql.In) and node.expressions:
        column, kind = _column(node.this, events, text)
        values = pa.array([_literal(one, kind, text).as_py() for one in node.expressions], column.type)
        return pc.if_else(pc.is_null(column), pa.scalar(None, pa.bool_()), pc.is_in(column, value_set=values))
    if isinstance(node, sql.Between):
        column, kind = _column(node.this, events, text)
        low, high = (_literal(node.args[name], kind, text) for name in ("low", "high"))
        return pc.and_kleene(pc.greater_equal(column, low), pc.less_equal(column, high))
    if type(node) in _COMPARED:
        column, kind = _column(node.left, events, text)
        return _COMPARED[type(node)](column, _literal(node.right, kind, text))
    raise _refused(text, f"{node.sql()} is no condition on an event")


def _column(node: Any, events: pa.Table, text: str) -> tuple[pa.ChunkedArray, str]:
    if isinstance(node, sql.Bracket) and node.this.name == "context" and len(node.expressions) == 1:
        entry = node.expressions[0]
        if isinstance(entry, sql.Literal) and entry.is_string:
            return pc.map_lookup(events.column("context"), entry.this, "first"), _TEXT
    if isinstance(node, sql.Column) and not node.table and node.name in COLUMNS:
        return events.column(node.name), COLUMNS[node.name]
    raise _refused(text, f"{node.sql()} is no column of events")


def _literal(node: Any, kind: str, text: str) -> pa.Scalar:
    sign = -1 if isinstance(node, sql.Neg) else 1
    literal = node.this if isinstance(node, sql.Neg) else node
    if not isinstance(literal, sql.Literal) or (literal.is_string if kind == _NUMBER else sign < 0):
        raise _refused(text, f"{node.sql()} is no {kind}")
    if kind == _NUMBER:
        return pa.scalar(sign * float(literal.this))
    if kind == _TEXT:
        return pa.scalar(literal.this)  # ids are texts, also those that look like numbers
    try:
        at = datetime.fromisoformat(literal.this)
    except ValueError:
        raise _refused(text, f"{node.sql()} is no time such as '2026-11-01 12:00:00'") from None
    return pa.scalar(at if at.tzinfo else at.replace(tzinfo=UTC), pa.timestamp("us", tz="UTC"))


def _refused(text: str, why: str) -> FreshetError:
    return FreshetError(
        f"The condition {text!r} cannot be used: {why}.",
        remedy=f"Columns: {', '.join(COLUMNS)}, context['NAME']; such as \"user_id not in ('u1', 'u2') and value >= 2\".",
        condition=text,
    )
