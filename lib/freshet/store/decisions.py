"""Decisions and requests as rows: what was chosen and why, and what is asked of the learner."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from freshet.schema import DECISIONS, REQUESTS
from freshet.store.files import Condition, all_rows, rows_of
from freshet.store.snapshots import History
from freshet.store.tables import Tables

_TIME = pa.timestamp("us", tz="UTC")
DECISION = pa.schema([
    ("decision_id", pa.string()), ("kind", pa.string()), ("version", pa.int64()), ("from_version", pa.int64()),
    ("reason", pa.string()), ("evidence", pa.string()), ("actor", pa.string()), ("decided_at", _TIME),
])  # fmt: skip
# A decision that answers a request names it in its evidence under this key: answered requests are known by that.
REQUEST_ID = "request_id"
CANNOT = "cannot"  # in the evidence of a refusal of what nobody could have done, rules or not
GATE, STRATEGY = "gate", "strategy"  # the actors of what they decide


def decision_row(
    kind: str, version: int | None, reason: str, evidence: Mapping[str, Any] | None = None, actor: str = "freshet",
    from_version: int | None = None,
) -> pa.Table:
    """One row of `decisions`, to be committed as a part beside the snapshot row it belongs to."""
    record = {
        "decision_id": secrets.token_hex(8), "kind": kind, "version": version, "from_version": from_version,
        "reason": reason, "evidence": json.dumps(dict(evidence or {}), sort_keys=True, allow_nan=False),
        "actor": actor, "decided_at": time.time_ns() // 1000,
    }
    return pa.Table.from_pylist([record], schema=DECISION)


def request(tables: Tables, kind: str, arguments: Mapping[str, Any], actor: str, reason: str | None = None) -> str:
    """Append a request for the learner to find between two micro-batches; the id of the request.

    On local disk only the process that holds the model's lock may append (two Java processes can lose a Delta commit
    there): with no learner running the command takes the lock.
    """
    request_id = secrets.token_hex(8)
    record = {
        "request_id": request_id, "kind": kind, "arguments": json.dumps(dict(arguments), sort_keys=True),
        "reason": reason, "actor": actor, "requested_at": time.time_ns() // 1000,
    }
    schema = tables.arrow_schema(REQUESTS.name)
    tables.append(REQUESTS.name, pa.Table.from_pylist([record], schema=schema), note=request_id)
    return request_id


def open_requests(tables: Tables, history: History) -> list[dict[str, Any]]:
    """The requests no committed decision has answered, oldest first."""
    asked = all_rows(tables, REQUESTS.name, REQUESTS.names).to_pylist()
    if not asked:
        return []
    answered = {answer.get(REQUEST_ID) for answer in evidence_of(decisions(tables, history))}
    waiting = [row for row in asked if row[REQUEST_ID] not in answered]
    return sorted(waiting, key=lambda row: (row["requested_at"], row[REQUEST_ID]))


def evidence_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each of some decisions rests on."""
    return [json.loads(row["evidence"] or "{}") for row in rows]


def decisions(tables: Tables, history: History, *conditions: Condition) -> list[dict[str, Any]]:
    """The committed rows of `decisions` of every branch for which the conditions hold, by version of their commit."""
    oldest = max((int(least) for name, how, least in conditions if (name, how) == ("snapshot_version", ">=")), default=0)
    rows = rows_of(tables, DECISIONS.name, history.since(oldest), DECISIONS.names, *conditions).to_pylist()
    return sorted(rows, key=lambda row: (row["snapshot_version"], row["decided_at"], row["decision_id"]))
