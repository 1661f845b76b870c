"""What became of all events."""

from __future__ import annotations

from collections.abc import Sequence

from freshet.intake import CAPS
from freshet.labels import EXPIRED, IMPRESSIONS, MATURED, PENDING
from freshet.store.snapshots import CHALLENGE, LEARNING, Snapshot


def totals(commits: Sequence[Snapshot]) -> dict[str, int]:
    """Events by outcome over all versions, and how many of the accepted corrected others; a batch that was refused first and
    learned later counts once."""
    kept: dict[object, Snapshot] = {}
    for snapshot in commits:
        if snapshot.batch_id is not None and snapshot.kind != CHALLENGE:
            kept[(snapshot.checkpoint_id, snapshot.batch_id)] = snapshot
    names = ("read", "accepted", "quarantined", "duplicate", "late", "corrected")
    return {name: sum(getattr(snapshot, f"{name}_count") for snapshot in kept.values()) for name in names}


def limited(commits: Sequence[Snapshot]) -> dict[str, int]:
    """Limit -> what it touched on a path: events that were refused by a cap, and what the others counted."""
    found: dict[str, int] = {}
    for snapshot in commits:
        if snapshot.kind in LEARNING:
            for name, count in limits_of(snapshot).items():
                found[name] = found.get(name, 0) + count
    return found


def limits_of(snapshot: Snapshot) -> dict[str, int]:
    """The same of one version."""
    return {reason: snapshot.reasons[reason] for reason in CAPS if reason in snapshot.reasons} | dict(snapshot.limited)


def impressions(commits: Sequence[Snapshot]) -> dict[str, int] | None:
    """Impressions on a path and what became of them: matured, pending and expired add up to them. None where none ever waited."""
    told = [snapshot.impressions for snapshot in commits if snapshot.kind in LEARNING and snapshot.impressions]
    if not told:
        return None
    sums = {name: sum(one[name] for one in told) for name in (IMPRESSIONS, MATURED, EXPIRED)}
    return {**sums, PENDING: told[-1][PENDING]}
