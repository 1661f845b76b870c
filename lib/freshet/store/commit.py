"""The commit protocol, points 1, 2 and 5: parts first, at the same time; then ONE snapshot row, which is the commit.

    attempt = writer.begin()
    snapshot = writer.commit(attempt, {"parameters": rows, "events": events}, {"digest": digest, ...})

`commit` returns when the row stands and the table of snapshots moved by this row alone. It raises StoreFailed when an
append failed (nothing was committed: begin again), Fenced when a learner with a higher epoch has taken over (the head
must not take the changes). Every error of a part leaves rows that no snapshot row names; maintenance removes them.

Versions of other branches may come in the same commit (`beside`): then it is several snapshot rows in one append, all or none.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from freshet import __version__
from freshet.errors import Fenced, FreshetError, StoreFailed
from freshet.failpoint import failpoint
from freshet.schema import DECISIONS, MAIN, SNAPSHOTS, TABLES
from freshet.store.snapshots import BASE, MAINTAIN, ROLLBACK, START, History, Snapshot, to_record
from freshet.store.tables import Appended, Tables

EMPTY_DIGEST = "0" * 16
_KEEP_STATE = (BASE, MAINTAIN)  # kinds that may come between the begin and the commit of an attempt


@dataclass(frozen=True)
class Attempt:
    """One try to commit: its id (the epoch in 8 hexadecimal digits, then chance), version, branch and parent."""

    commit_id: str
    version: int
    branch: str
    parent: int | None


@dataclass(frozen=True)
class Beside:
    """A version of another line in the same commit: its rows by table, columns of its snapshot row."""

    line: str
    parts: Mapping[str, pa.Table]
    fields: Mapping[str, Any]


def new_commit_id(epoch: int) -> str:
    """An id that no attempt had before. The epoch stands in it, so that maintenance can tell rows of an epoch that is
    over from rows of an attempt in flight."""
    return f"{epoch:08x}-{secrets.token_hex(8)}"


def epoch_of(commit_id: str) -> int:
    """The epoch of an attempt, from its id."""
    return int(commit_id.partition("-")[0], 16)


class Writer:
    """The one that commits to a model: holds an epoch, keeps the history up to date. Calls from several threads take turns."""

    def __init__(
        self, tables: Tables, history: History, *, epoch: int, run: str, settings: str | None = None, line: str = MAIN
    ) -> None:
        self.tables, self.history = tables, history
        self.epoch, self.run = epoch, run
        self.line = line
        self.maintaining = threading.RLock()  # one maintenance at a time
        self._settings = settings
        self._lock = threading.RLock()
        self.decided: Counter[str] = Counter()  # by kind
        self._uncertain = False  # an error came after something may have been committed: look before the next attempt

    @classmethod
    def start(
        cls, tables: Tables, history: History, *, run: str, settings: str | None = None, head_digest: str | None = None,
        line: str = MAIN, reason: str | None = None,
    ) -> Writer:
        """Begin a new epoch with a row of kind `start`: version 0 and branch `line` for a new model, else the line's
        newest version + 1 with the same digest.

        Raises FreshetError when `head_digest` is not the digest of the newest version, Fenced when another learner
        started at the same moment and stands.
        """
        if tables.version(SNAPSHOTS.name) != history.table_version:  # where no lock is, another may have committed meanwhile
            history.replace(History.load(tables))
        newest = history.newest(line)
        before = EMPTY_DIGEST if newest is None else newest.digest
        if head_digest not in (None, before):
            raise FreshetError(
                f"The head has digest {head_digest} where version {newest.version if newest else None} has {before}.",
                remedy="Load the head again before the start.", found=head_digest, wanted=before,
            )
        writer = cls(tables, history, epoch=max(history.epoch, 0) + 1, run=run, settings=settings, line=line)
        row = writer.commit(writer.begin(), {}, {"kind": START, "reason": reason})
        rival = next((one for one in history.rows if one.epoch == row.epoch and one.commit_id != row.commit_id), None)
        if rival is not None:
            # Who came second sees the other here; whose commit_id is smaller must not matter, the other may be learning.
            raise _fenced(writer, rival, row.version)
        return writer

    def begin_run(self, run: str, settings: str) -> None:
        """What is committed from here on was made with these settings: a run of its own, in the same epoch."""
        with self._lock:
            self.run, self._settings = run, settings

    def begin(self, line: str | None = None) -> Attempt:
        """A new attempt at the next version, on the branch the line (default: the writer's) stands on."""
        with self._lock:  # another thread's commit is uncertain only while it runs: a look at it then would forget it
            if self._uncertain:
                self.history.replace(History.load(self.tables))
                self._uncertain = False
            newest = self.history.newest(line or self.line)
            branch = self.line if newest is None else newest.branch
            parent = None if newest is None else newest.version
            return Attempt(new_commit_id(self.epoch), self.history.next_version(), branch, parent)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """While open, commits from other threads wait."""
        with self._lock:
            yield

    def rollback(
        self, version: int, reason: str, parts: Mapping[str, pa.Table] | None = None, told: Mapping[str, Any] | None = None
    ) -> Snapshot:
        """Go on from an older version on a new branch `line@N`: the versions between stay readable and are not part of
        it. What was published of them is no longer, the version gone back to is in its stead. `told`: further columns of the
        row. Raises StateDamaged when there is no such version."""
        with self._lock:
            self.history.path_of(version)  # raises where there is no such version
            old, newest = self.history.get(version), self.history.newest(self.line)
            assert old is not None and newest is not None
            published = newest.published
            if published is not None and not self.history.on_path(version, published):
                published = version
            fields = {
                "digest": old.digest, "row_counts": old.row_counts, "event_clock": old.event_clock, "published": published,
                **(told or {}),
            }
            return self.branch_off(ROLLBACK, version, reason, fields, parts or {}, self.line)

    def branch_off(
        self, kind: str, version: int, reason: str, fields: Mapping[str, Any], parts: Mapping[str, pa.Table],
        line: str | None = None, alone: bool = False,
    ) -> Snapshot:
        """Commit a version made from `version`, on a new branch `line@N` (default: a line named for the kind), which stands on it,
        or `alone` on nothing but itself. Raises StateDamaged when there is no such version."""
        with self._lock:
            number = self.history.next_version()
            branch = f"{line or kind}@{number}"
            path = (*(() if alone else self.history.path_of(version)), (branch, None))
            attempt = Attempt(new_commit_id(self.epoch), number, branch, version)
            return self.commit(attempt, parts, {"kind": kind, "reason": reason, "path": path, **fields})

    def commit(
        self, attempt: Attempt, parts: Mapping[str, pa.Table], fields: Mapping[str, Any], beside: Sequence[Beside] = ()
    ) -> Snapshot:
        """Append the parts and then the snapshot row; see the module for what it promises.

        `parts`: rows by table name, without the columns branch, snapshot_version and commit_id; empty ones are left
        out. `fields`: columns of the snapshot row; digest, row_counts, event_clock and published are the parent's where not
        given. `beside`: versions of other lines, which get the numbers after this one.
        """
        with self._lock:
            attempt = self._current(attempt)
            start = time.perf_counter()
            every = [(attempt, parts, fields), *self._beside(attempt, beside)]
            appended = self._append_parts(attempt, [(one, tables) for one, tables, _ in every])
            seconds = {f"append_{name}": one.seconds for name, one in appended.items()}
            seconds["append"] = time.perf_counter() - start
            size = {name: one.bytes for name, one in appended.items()}
            rows = [self._row(attempt, dict(fields), _counts(parts), size, seconds)]
            rows += [self._row(one, dict(more), _counts(tables), {}, {}) for one, tables, more in every[1:]]
            self._uncertain = True
            failpoint("before_snapshot_row", attempt.version)
            table_version = self._append_rows(rows)
            failpoint("after_snapshot_row", attempt.version)
            self._stand_or_fall(rows, table_version)
            self._uncertain = False
            if DECISIONS.name in parts:
                self.decided.update(parts[DECISIONS.name].column("kind").to_pylist())
            return rows[0]

    def _beside(
        self, attempt: Attempt, beside: Sequence[Beside]
    ) -> Iterator[tuple[Attempt, Mapping[str, pa.Table], Mapping[str, Any]]]:
        for number, one in enumerate(beside, attempt.version + 1):
            newest = self.history.newest(one.line)
            assert newest is not None
            yield Attempt(new_commit_id(self.epoch), number, newest.branch, newest.version), one.parts, one.fields

    def _current(self, attempt: Attempt) -> Attempt:
        """The attempt at the number that is free now: a base may have been committed since it began."""
        if epoch_of(attempt.commit_id) != self.epoch or self.history.is_live(attempt.commit_id):
            raise FreshetError("An attempt is committed once, by the writer that began it.", commit_id=attempt.commit_id)
        between = self.history.since(attempt.version)
        if not all(row.kind in _KEEP_STATE and row.branch == attempt.branch for row in between):
            raise FreshetError(
                f"Version {attempt.version} was committed since this attempt began.", remedy="Begin again.",
                version=attempt.version, newest=self.history.next_version() - 1,
            )
        if not between:
            return attempt
        return replace(attempt, version=self.history.next_version(), parent=between[-1].version)

    def _append_parts(
        self, attempt: Attempt, parts: Sequence[tuple[Attempt, Mapping[str, pa.Table]]]
    ) -> dict[str, Appended]:
        """All tables at the same time; when one fails the others are waited for, so that nothing is written after the error."""
        tables: dict[str, list[pa.Table]] = {}
        for one, mine in parts:
            for name, rows in mine.items():
                if rows.num_rows:
                    tables.setdefault(name, []).append(stamped(name, rows, one))
        if not tables:
            return {}
        with self.tables.in_parallel(len(tables)) as pool:
            running = {name: pool.submit(self._append_part, attempt, name, rows) for name, rows in tables.items()}
            wait(running.values())
        return {name: future.result() for name, future in running.items()}

    def _append_part(self, attempt: Attempt, name: str, rows: list[pa.Table]) -> Appended:
        failpoint(f"before_{name}", attempt.version)
        appended = self.tables.append(name, pa.concat_tables(rows), note=attempt.commit_id)
        failpoint(f"after_{name}", attempt.version)
        return appended

    def _row(
        self, attempt: Attempt, fields: dict[str, Any], counts: Mapping[str, int], size: Mapping[str, int],
        seconds: Mapping[str, float],
    ) -> Snapshot:
        parent = None if attempt.parent is None else self.history.get(attempt.parent)
        if parent is not None:
            inherited = {name: getattr(parent, name) for name in ("digest", "row_counts", "event_clock", "path", "published")}
            fields = {**inherited, **fields}
        elif "path" not in fields:
            fields["path"] = ((attempt.branch, None),)
        rows = {**fields.pop("appended_rows", {}), **counts}
        fields["stage_seconds"] = {**fields.get("stage_seconds", {}), **seconds}
        fields.setdefault("settings", self._settings)
        return Snapshot(
            version=attempt.version, commit_id=attempt.commit_id, branch=attempt.branch, parent=attempt.parent,
            epoch=self.epoch, run=fields.pop("run", self.run), code_version=__version__, committed_at=time.time_ns() // 1000,
            appended_rows=rows, appended_bytes=size, **fields,
        )

    def _append_rows(self, rows: Sequence[Snapshot]) -> int:
        """Append what commits; the Delta version it became."""
        table = pa.Table.from_pylist([to_record(row) for row in rows], schema=self.tables.arrow_schema(SNAPSHOTS.name))
        try:
            return self.tables.append(SNAPSHOTS.name, table, note=rows[0].commit_id).version
        except StoreFailed:
            # The answer may have been lost on its way while the row landed: the log knows.
            entry = self.tables.find_commit(SNAPSHOTS.name, rows[0].commit_id)
            if entry is None:
                raise
            return entry.version

    def _stand_or_fall(self, rows: Sequence[Snapshot], table_version: int) -> None:
        """The head may take the changes only if these rows stand; the table is read again unless they came alone."""
        if table_version == self.history.table_version + 1:
            for row in rows:
                self.history.add(row)
            self.history.table_version = table_version
        else:
            self.history.replace(History.load(self.tables))
        row = rows[0]
        stands = self.history.get(row.version)
        if stands is None or stands.commit_id != row.commit_id or self.history.epoch != self.epoch:
            raise _fenced(self, max(self.history.rows, key=lambda one: (one.epoch, one.version)), row.version)


def _fenced(writer: Writer, winner: Snapshot, version: int) -> Fenced:
    return Fenced(
        f"Run {winner.run} has taken this model over with epoch {winner.epoch} (version {winner.version}); this is run "
        f"{writer.run} with epoch {writer.epoch}.",
        remedy="This learner must end. Leave one learner per model; start again when the other has ended.",
        epoch=writer.epoch, winner=winner.run, winner_epoch=winner.epoch, version=version,
    )  # fmt: skip


def _counts(parts: Mapping[str, pa.Table]) -> dict[str, int]:
    return {name: rows.num_rows for name, rows in parts.items() if rows.num_rows}


def stamped(name: str, rows: pa.Table, attempt: Attempt) -> pa.Table:
    """The rows with the columns that say which commit they belong to."""
    values = {"branch": attempt.branch, "snapshot_version": attempt.version, "commit_id": attempt.commit_id}
    for column in TABLES[name].names:
        if column in values:
            rows = rows.append_column(column, pa.repeat(pa.scalar(values[column]), rows.num_rows))
    return rows
