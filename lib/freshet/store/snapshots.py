"""The versions of a model: which snapshot rows count, and what a version stands on.

    void(r)     some row has version <= r's and a higher epoch, or r's version and epoch and a smaller commit_id
    live        not void; live versions are unique
    commits(v)  live rows on v's path: for an entry (branch, upto), rows of that branch up to `upto`; upto = null: up to v
    state at v  the newest row per (block, key) among the rows those commits wrote

Pure Python over records; `History.load` is the one function that reads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import takewhile
from sys import intern
from typing import TYPE_CHECKING, Any

from freshet.errors import StateDamaged
from freshet.schema import MAIN, SNAPSHOTS
from freshet.store.files import all_rows

if TYPE_CHECKING:
    from freshet.store.tables import Tables

START, LEARN, REFUSED, SKIP, ROLLBACK, BASE, MAINTAIN = "start", "learn", "refused", "skip", "rollback", "base", "maintain"
ITEMS, PUBLISH, RELEARN, RETRAIN, REBASE = "items", "publish", "relearn", "retrain", "rebase"
CHALLENGE, PROMOTE = "challenge", "promote"
LEARNING = (LEARN, RELEARN)  # kinds whose events are part of the state
BACKFILL = "backfill "  # what checkpoint ids begin with where no stream made the micro-batch
_TEXTS = ("settings", "metrics", "sources", "movers")  # most of a row's bytes, and needed by nobody who only wants versions
_TIMES = ("event_clock", "committed_at")
_MAPS = ("reasons", "row_counts", "appended_rows", "appended_bytes", "stage_seconds", "impressions", "limited")
_ROWS = 256  # made into Python at a time
# A history keeps every row in memory: texts that are the same in all of them, these and the keys of maps, are kept once.
_ALIKE = ("branch", "kind", "run", "checkpoint_id", "code_version")


@dataclass(frozen=True)
class Snapshot:
    """One row of `snapshots`; see schema.SNAPSHOTS for the columns. Times are microseconds since 1970 UTC.

    `settings`, `metrics`, `sources` and `movers` are None where the row was loaded without them.
    """

    version: int
    commit_id: str
    branch: str = MAIN
    parent: int | None = None
    path: tuple[tuple[str, int | None], ...] = ((MAIN, None),)
    kind: str = LEARN
    epoch: int = 1
    run: str = ""
    checkpoint_id: str | None = None
    batch_id: int | None = None
    fingerprint: str | None = None
    sources: Sequence[str] | None = None
    published: int | None = None
    event_clock: int | None = None
    read_count: int = 0
    accepted_count: int = 0
    quarantined_count: int = 0
    duplicate_count: int = 0
    late_count: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    row_counts: Mapping[str, int] = field(default_factory=dict)
    appended_rows: Mapping[str, int] = field(default_factory=dict)
    appended_bytes: Mapping[str, int] = field(default_factory=dict)
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    metrics: Sequence[Mapping[str, Any]] | None = None
    settings: str | None = None
    code_version: str = ""
    digest: str = "0" * 16
    base_id: str | None = None
    base_version: int | None = None
    reason: str | None = None
    committed_at: int = 0
    corrected_count: int = 0
    impressions: Mapping[str, int] = field(default_factory=dict)
    limited: Mapping[str, int] = field(default_factory=dict)
    movers: Sequence[Mapping[str, Any]] | None = None


FIELDS = tuple(f.name for f in fields(Snapshot))


def line(branch: str) -> str:
    """The line a branch belongs to: `main` for main and for main@151, which a rollback at version 151 opened."""
    return branch.partition("@")[0]


class History:
    """All snapshot rows of a model and what follows from them; grows by `add`.

    `table_version`: a Delta version of the table of snapshots whose rows are all in here; -1 when not known.
    """

    def __init__(self, rows: Iterable[Snapshot], table_version: int = -1) -> None:
        self.table_version = table_version
        self._rows = sorted(rows, key=lambda row: (row.version, -row.epoch, row.commit_id))
        self._index()

    @classmethod
    def load(cls, tables: Tables) -> History:
        """Read `snapshots` without its long texts; an empty history where there is no table."""
        if not tables.exists(SNAPSHOTS.name):
            return cls([])
        if tables.log(SNAPSHOTS.name).is_new():
            return cls([], 0)  # a new model's first line need not wait for a query over nothing
        # The version first: what is committed between the two is then read twice rather than never.
        version = tables.version(SNAPSHOTS.name)
        columns = [name for name in FIELDS if name not in _TEXTS]
        return cls(from_arrow(all_rows(tables, SNAPSHOTS.name, columns)), version)

    @staticmethod
    def settings_of(tables: Tables, version: int) -> str:
        """The settings of the live snapshot of that version, as JSON text. Raises StateDamaged when there is none."""
        return History.settings_by_version(tables, [version])[version]

    @staticmethod
    def settings_by_version(tables: Tables, versions: Sequence[int]) -> dict[int, str]:
        """The same for several versions, in one reading."""
        columns = ("version", "epoch", "commit_id", "settings")
        rows = all_rows(tables, SNAPSHOTS.name, columns, ("version", "in", versions)).to_pylist()
        rows.sort(key=lambda row: (row["epoch"], [-ord(letter) for letter in row["commit_id"]]))
        found = {row["version"]: str(row["settings"]) for row in rows}  # of several rows of a version the last stands
        for version in versions:
            if version not in found:
                raise StateDamaged(f"There is no version {version}.", table=SNAPSHOTS.name, version=version)
        return found

    def _index(self) -> None:
        """Rows are in order of version and, within one, of precedence: so the first that may stand, stands."""
        self._live: list[Snapshot] = []
        self._by_version: dict[int, Snapshot] = {}
        self._by_branch: dict[str, list[int]] = {}
        self._by_batch: dict[tuple[str, int], Snapshot] = {}
        self._ids: set[str] = set()
        highest = -1
        for row in self._rows:
            if row.epoch >= highest and row.version not in self._by_version:
                self._stand(row)
            highest = max(highest, row.epoch)
        self._epoch = highest

    def _stand(self, row: Snapshot) -> None:
        self._live.append(row)
        self._by_version[row.version] = row
        self._ids.add(row.commit_id)
        self._by_branch.setdefault(row.branch, []).append(row.version)
        if row.checkpoint_id is not None and row.batch_id is not None and row.kind != CHALLENGE:
            self._by_batch[row.checkpoint_id, row.batch_id] = row

    def add(self, row: Snapshot) -> None:
        """Take in a row that was committed after the others, without its long texts: a stream runs for months."""
        row = replace(row, settings=None, metrics=None, sources=None, movers=None)
        newest = self._rows[-1].version if self._rows else -1
        if row.version > newest and row.epoch >= self._epoch:
            self._rows.append(row)
            self._stand(row)
            self._epoch = row.epoch
        else:
            insort(self._rows, row, key=lambda one: (one.version, -one.epoch, one.commit_id))
            self._index()

    def replace(self, other: History) -> None:
        """Become what another history is: after a second look at the table."""
        self._rows, self.table_version = other._rows, other.table_version
        self._index()

    @property
    def rows(self) -> list[Snapshot]:
        """Every row, void ones included."""
        return list(self._rows)

    def live(self) -> list[Snapshot]:
        """The rows that are not void, by version."""
        return list(self._live)

    def first(self) -> Snapshot | None:
        """The row that made the model."""
        return self._live[0] if self._live else None

    def since(self, version: int) -> list[Snapshot]:
        """The rows of that version and later ones that are not void; takes time by those alone."""
        return self._live[bisect_left(self._live, version, key=lambda row: row.version) :]

    def is_live(self, commit_id: str) -> bool:
        """Whether that attempt's row stands."""
        return commit_id in self._ids

    @property
    def epoch(self) -> int:
        """The highest epoch of any row, -1 without rows."""
        return self._epoch

    def get(self, version: int) -> Snapshot | None:
        """The live row of a version."""
        return self._by_version.get(version)

    def newest(self, branch: str = MAIN) -> Snapshot | None:
        """The newest live row of a line: of `main` and of every branch a rollback opened in its stead."""
        mine = [versions[-1] for name, versions in self._by_branch.items() if branch in (name, line(name))]
        return self._by_version[max(mine)] if mine else None

    def published(self, branch: str = MAIN) -> Snapshot | None:
        """The row of the version that lists are made from, of a line: as its newest row says, or that row itself."""
        newest = self.newest(branch)
        return newest if newest is None or newest.published is None else self.get(newest.published)

    def published_since(self, branch: str = MAIN) -> int | None:
        """The version of the row that published what is published; None while every version is."""
        newest = self.newest(branch)
        if newest is None or newest.published is None:
            return None
        rows = [row for row in reversed(self._live) if branch in (row.branch, line(row.branch))]
        return [row.version for row in takewhile(lambda row: row.published == newest.published, rows)][-1]

    def next_version(self) -> int:
        """The largest live version + 1; 0 for a new model."""
        return self._live[-1].version + 1 if self._live else 0

    def of_batch(self, checkpoint_id: str | None, batch_id: int) -> Snapshot | None:
        """The newest live row of that micro-batch of that checkpoint."""
        return None if checkpoint_id is None else self._by_batch.get((checkpoint_id, batch_id))

    def last_of_checkpoint(self, checkpoint_id: str) -> Snapshot | None:
        """The newest live row made from that checkpoint."""
        mine = (row for row in reversed(self._live) if row.checkpoint_id == checkpoint_id and row.kind != CHALLENGE)
        return next(mine, None)

    def last_streamed(self, branch: str = MAIN) -> Snapshot | None:
        """The live row of the last micro-batch of the newest checkpoint that a line was learned from.

        Micro-batches learned again after a rollback come later, and may be earlier ones; those of a backfill are no stream's.
        """
        mine = [row for row in self._live if row.checkpoint_id is not None and branch in (row.branch, line(row.branch))]
        mine = [row for row in mine if not str(row.checkpoint_id).startswith(BACKFILL)]
        last = [row for row in mine if row.checkpoint_id == mine[-1].checkpoint_id]
        return max(last, key=lambda row: (row.batch_id or 0, row.version), default=None)

    def path_of(self, version: int) -> tuple[tuple[str, int], ...]:
        """The path of a version, its own branch up to itself. Raises StateDamaged when there is no such version."""
        row = self._by_version.get(version)
        if row is None:
            newest = self._live[-1].version if self._live else None
            raise StateDamaged(
                f"There is no version {version}.", remedy=f"The newest is {newest}.", table=SNAPSHOTS.name, version=version
            )
        return tuple((branch, version if upto is None else upto) for branch, upto in row.path)

    def on_path(self, version: int, other: int) -> bool:
        """Whether the live version `other` is part of what `version` stands on."""
        row = self._by_version.get(other)
        return row is not None and any(row.branch == branch and other <= upto for branch, upto in self.path_of(version))

    def commits(self, version: int, above: int = -1) -> list[Snapshot]:
        """The live rows on the path of a version that are newer than `above`, by version."""
        found: set[int] = set()
        for branch, upto in self.path_of(version):
            versions = self._by_branch.get(branch, [])
            found.update(versions[bisect_left(versions, above + 1) : bisect_right(versions, upto)])
        return [self._by_version[number] for number in sorted(found)]

    def bases(self) -> list[Snapshot]:
        """The live rows that declare a base whole."""
        return [row for row in self._live if row.kind == BASE and row.base_id is not None and row.base_version is not None]

    def newest_base(self, version: int) -> Snapshot | None:
        """The declaring row of the base with the newest state that is part of `version`; None without one.

        What counts is `base_version`, the version whose state the base holds; where the row that declares it stands
        does not matter, so a base outlives a rollback to a version above it.
        """
        usable = [row for row in self.bases() if row.base_version is not None and row.base_version <= version]
        usable = [row for row in usable if self.on_path(version, row.base_version or 0)]
        return max(usable, key=lambda row: (row.base_version, row.version), default=None)


def from_arrow(table: Any) -> list[Snapshot]:
    """Snapshot rows of an Arrow table with any of their columns."""
    import pyarrow as pa

    for name in _TIMES:
        if name in table.column_names:
            at = table.column_names.index(name)
            table = table.set_column(at, name, table.column(name).cast(pa.int64()))
    # Part by part: as Python's lists and tuples the maps of a row take several times what is kept of them.
    return [Snapshot(**_python(record)) for batch in table.to_batches(_ROWS) for record in batch.to_pylist()]


def _python(record: dict[str, Any]) -> dict[str, Any]:
    record["path"] = tuple((entry["branch"], entry["upto"]) for entry in record["path"])
    if "corrected_count" in record:
        record["corrected_count"] = record["corrected_count"] or 0
    for name in _MAPS:
        if name in record:
            record[name] = {intern(key): value for key, value in record[name] or ()}
    for name in _ALIKE:
        if record.get(name) is not None:
            record[name] = intern(record[name])
    return record


def to_record(row: Snapshot) -> dict[str, Any]:
    """The row as one record for Arrow, in the order of schema.SNAPSHOTS."""
    record = {name: getattr(row, name) for name in SNAPSHOTS.names}
    record["path"] = [{"branch": branch, "upto": upto} for branch, upto in row.path]
    for name in _MAPS:
        record[name] = list(dict(record[name]).items())
    return record
