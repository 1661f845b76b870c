"""A candidate: a whole state on a branch of its own, `retrain@N`, beside the line that learns.

It holds every row of its state, and for each row of its parent's state that it does not have one that says `deleted`: so the
state at its version, the newest row per key on its path, is the candidate and nothing else. While a learner holds the
model nobody else may append to its tables: then the candidate waits as files under `_candidates/<id>` of the root, and a row
in `requests` asks the learner to commit it between two micro-batches.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from freshet.errors import AlreadyRunning, FreshetError
from freshet.failpoint import failpoint
from freshet.head import Head
from freshet.pipelines.requesting import ask
from freshet.pipelines.rows import deleted, to_arrow
from freshet.pipelines.starting import as_writer
from freshet.roots import local_folder
from freshet.schema import DECISIONS
from freshet.settings import Settings
from freshet.store.commit import Writer
from freshet.store.decisions import REQUEST_ID, decision_row, open_requests
from freshet.store.snapshots import RETRAIN, History, Snapshot
from freshet.store.tables import Tables

FOLDER, TOLD = "_candidates", "candidate.json"
LEFT_AFTER = 86_400.0  # seconds: by then nobody is still writing it or about to ask


@dataclass(frozen=True)
class Told:
    """What a candidate's snapshot and decision rows say: its parent, digest, rows of each block, event clock (microseconds),
    metrics, settings as JSON, why it was made, by whom, and the numbers that speak for it."""

    parent: int
    digest: str
    row_counts: Mapping[str, int]
    event_clock: int
    metrics: list[dict[str, Any]]
    settings: str
    reason: str
    actor: str
    evidence: Mapping[str, Any]


def rows_of(head: Head, parent: Head) -> pa.Table:
    """All rows of the candidate, and a deletion of each that only its parent has, in the columns of `parameters`."""
    parts = [to_arrow(head.blocks, {name: head.gather(name, table.keys.copy())[0] for name, table in head.tables.items()})]
    for name, table in parent.tables.items():
        gone = table.keys[head.lookup(name, table.keys) < 0] if name in head.blocks else table.keys
        if len(gone):
            parts.append(deleted(name, gone, RETRAIN))
    return pa.concat_tables(parts)


def hand_over(tables: Tables, settings: Settings, parts: Mapping[str, pa.Table], told: Told) -> dict[str, Any]:
    """Commit the candidate, its rows by table, or leave it to the learner that holds the model; `version`, or the request's id and
    who is asked."""
    try:
        with as_writer(tables, settings, RETRAIN) as writer:
            return {"version": commit(writer, parts, told).version}
    except AlreadyRunning as running:
        folder = _folder(settings.store.root)
        candidate = secrets.token_hex(8)
        made = folder / candidate
        made.mkdir(parents=True)
        for name, rows in parts.items():
            pq.write_table(rows, made / f"{name}.parquet")
        (made / TOLD).write_text(json.dumps(asdict(told), allow_nan=False), encoding="utf-8")
        failpoint("candidate_waits", path=made / TOLD)
        asked = ask(tables, RETRAIN, {"candidate": candidate}, told.reason)
        return {REQUEST_ID: asked, "asked": running.facts["holder"]}


def commit(writer: Writer, parts: Mapping[str, pa.Table], told: Told, answers: str | None = None) -> Snapshot:
    """Commit the candidate as the one who holds the model, its decision row with it, so that it answers the request in the
    same moment."""
    fields = {
        "digest": told.digest, "row_counts": dict(told.row_counts), "event_clock": told.event_clock, "metrics": told.metrics,
        "settings": told.settings,
    }
    evidence = {**told.evidence, **({} if answers is None else {REQUEST_ID: answers})}
    with writer.exclusive():
        number = writer.history.next_version()
        decision = decision_row(RETRAIN, number, told.reason, evidence, told.actor, from_version=told.parent)
        return writer.branch_off(RETRAIN, told.parent, told.reason, fields, {**parts, DECISIONS.name: decision})


def commit_waiting(writer: Writer, root: str, candidate: str, request_id: str) -> Snapshot:
    """Commit a candidate that waits as files, for the request that names it; the files go. Raises FreshetError without them."""
    made = _folder(root) / candidate
    if not re.fullmatch(r"[0-9a-f]{16}", candidate):
        raise _gone(candidate, made)
    try:
        told = Told(**json.loads((made / TOLD).read_text(encoding="utf-8")))
        parts = {path.stem: pq.read_table(path) for path in sorted(made.glob("*.parquet"))}
    except FileNotFoundError as error:
        raise _gone(candidate, made) from error
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:  # half written by a machine that went down
        if isinstance(error, OSError) and not isinstance(error, PermissionError) and error.errno is not None:
            raise  # the disk's own error may pass: the next start tries again
        what = f"Candidate {candidate} in {made.parent} cannot be read: {error}."
        remedy = "Retrain again, as the user who runs the learner." if isinstance(error, PermissionError) else "Retrain again."
        raise FreshetError(what, remedy=remedy, candidate=candidate) from error
    snapshot = commit(writer, parts, told, request_id)
    failpoint("candidate_committed", snapshot.version)
    shutil.rmtree(made, ignore_errors=True)  # what stays is removed by maintenance
    return snapshot


def _gone(candidate: str, made: Path) -> FreshetError:
    return FreshetError(f"There is no candidate {candidate} in {made.parent}.", remedy="Retrain again.", candidate=candidate)


def remove_left(tables: Tables, history: History) -> int:
    """Remove candidates that wait for nobody: a process ended before it asked, or after its request was answered. How many."""
    folder = local_folder(tables.root)
    if folder is None or not (folder / FOLDER).is_dir():
        return 0
    asked = {json.loads(one["arguments"] or "{}").get("candidate") for one in open_requests(tables, history)}
    since, removed = time.time() - LEFT_AFTER, 0
    for made in sorted((folder / FOLDER).iterdir()):
        if re.fullmatch(r"[0-9a-f]{16}", made.name) and made.name not in asked and made.stat().st_mtime < since:
            shutil.rmtree(made, ignore_errors=True)  # of another user, or in use: no reason to end
            removed += not made.exists()
    return removed


def _folder(root: str) -> Path:
    folder = local_folder(root)
    if folder is None:
        raise FreshetError(f"{root} is not on this machine's disk.", remedy="Retrain while no learner runs.", root=root)
    return folder / FOLDER
