"""What maintenance may drop: pure functions of the history.

    needed(v)   commits(v) above the newest base that is part of v
    droppable   the commits that changed rows and that no kept version needs
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from freshet.schema import PARAMETERS
from freshet.store.commit import epoch_of
from freshet.store.snapshots import History, Snapshot, line


@dataclass(frozen=True)
class Span:
    """Versions `first` to `last` of one branch, all of whose rows in the log may go."""

    branch: str
    first: int
    last: int


def kept_versions(history: History, named: Iterable[int], since: int) -> set[int]:
    """Versions that must stay readable: named ones (published, decided about), those committed from `since` on
    (microseconds), and the newest of every line."""
    kept = {version for version in named if history.get(version) is not None}
    kept |= {row.version for row in history.live() if row.committed_at >= since}
    for name in {line(row.branch) for row in history.live()}:
        newest = history.newest(name)
        if newest is not None:
            kept.add(newest.version)
    return kept


def needed_versions(history: History, kept: Iterable[int]) -> set[int]:
    """The versions whose log rows some kept version is made of."""
    reached: dict[tuple[str, int], int] = {}  # (branch, its base) -> the newest kept version: it needs what others do
    for version in kept:
        row, base = history.get(version), history.newest_base(version)
        if row is not None:
            key = (row.branch, -1 if base is None or base.base_version is None else base.base_version)
            reached[key] = max(reached.get(key, -1), version)
    return {commit.version for (_, base), version in reached.items() for commit in history.commits(version, base)}


def droppable(history: History, kept: Iterable[int]) -> list[Snapshot]:
    """The live commits with rows in the log of `parameters` that no kept version needs."""
    needed = needed_versions(history, kept)
    return [row for row in history.live() if row.appended_rows.get(PARAMETERS.name) and row.version not in needed]


def spans(history: History, commits: Iterable[Snapshot]) -> list[Span]:
    """The commits as spans of versions of a branch: few numbers for many commits.

    Between two commits of a span lies no other live commit of the branch with rows in the log; rows of dead attempts
    may, and may go too: their versions are committed.
    """
    wanted = {commit.version for commit in commits}
    found: list[Span] = []
    open_spans: dict[str, Span] = {}
    for row in history.live():
        if not row.appended_rows.get(PARAMETERS.name):
            continue
        before = open_spans.pop(row.branch, None)
        if row.version in wanted:
            first = row.version if before is None else before.first
            open_spans[row.branch] = Span(row.branch, first, row.version)
        elif before is not None:
            found.append(before)
    return sorted([*found, *open_spans.values()], key=lambda span: (span.branch, span.first))


def unused_bases(history: History, kept: Iterable[int]) -> list[Snapshot]:
    """The declared bases no kept version starts from."""
    used = {None if base is None else base.base_id for base in map(history.newest_base, kept)}
    return [base for base in history.bases() if base.base_id not in used]


def closed(history: History, commit_id: str, version: int) -> bool:
    """Whether an attempt that is not live can never become so: its version is committed by another, or its epoch is
    over. An attempt in flight is at the next version and in the highest epoch."""
    if history.is_live(commit_id):
        return False
    try:
        over = epoch_of(commit_id) < history.epoch
    except ValueError:
        over = False
    return over or version < history.next_version()
