"""The other side of `requests`: asking the learner that holds a model, and waiting for its answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from freshet.errors import CheckFailed, FreshetError
from freshet.program import actor
from freshet.schema import REQUESTS
from freshet.store.decisions import CANNOT, REQUEST_ID, decisions, evidence_of, request
from freshet.store.lock import model_lock
from freshet.store.snapshots import History
from freshet.store.tables import Tables

LOOK_EVERY = 2.0  # seconds between two looks, a listing of one folder each
PATIENCE = 300.0


def ask(tables: Tables, kind: str, arguments: Mapping[str, Any], reason: str | None = None) -> str:
    """Put a request into `requests`, one process at a time; its id."""
    with model_lock(tables.path(REQUESTS.name)):
        return request(tables, kind, arguments, actor(), reason)


def answer(tables: Tables, request_id: str, patience: float = PATIENCE) -> dict[str, Any]:
    """Wait for the decision that answers a request; what was done. Raises CheckFailed where it was refused, FreshetError where
    no answer comes."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        told = decisions(tables, History.load(tables))
        for one, known in zip(told, evidence_of(told), strict=True):
            if known.get(REQUEST_ID) != request_id:
                continue
            if one["kind"] == "refuse":
                refused = FreshetError if known.get(CANNOT) else CheckFailed  # as without a learner: not to be done, or not allowed
                raise refused(f"The learner refused: {one['reason']}", version=one["version"], request_id=request_id)
            return {"decision": one["kind"], "reason": one["reason"], **known}
        time.sleep(LOOK_EVERY)
    raise FreshetError(
        f"The learner has not answered request {request_id} within {patience:g} seconds.",
        remedy="It may be in a long micro-batch; see `freshet decisions`, the request stands.", request_id=request_id,
    )
