"""Going on "from here": what the source holds now is passed by unread, and that this was begun is a row before it is done.

    kind `maintain`, reason BEGUN     with the decision of whoever asked for it
    kind `skip`                       one for each micro-batch that was passed by
    kind `maintain`, reason DONE

Between the first and the last a plain start is refused: Spark may have planned everything there is as one micro-batch,
which nobody means to learn.
"""

from __future__ import annotations

from freshet.errors import CheckpointRefused
from freshet.schema import DECISIONS
from freshet.store.commit import Writer
from freshet.store.decisions import decision_row
from freshet.store.snapshots import MAINTAIN, History

BEGUN, DONE = "from here: begun", "from here: done"


def begin(writer: Writer, reason: str, path: str) -> None:
    """Record who wants it and why, with the checkpoint it is for."""
    decision = decision_row("skip", None, reason, {"from_here": True, "checkpoint": path})
    writer.commit(writer.begin(), {DECISIONS.name: decision}, {"kind": MAINTAIN, "reason": BEGUN})


def end(writer: Writer) -> None:
    """Record that all of it was passed by."""
    writer.commit(writer.begin(), {}, {"kind": MAINTAIN, "reason": DONE})


def check_ended(history: History, path: str) -> None:
    """Refuse a plain start where passing by was begun and did not end."""
    told = (row for row in reversed(history.live()) if row.kind == MAINTAIN and row.reason in (BEGUN, DONE))
    last = next(told, None)
    if last is not None and last.reason == BEGUN:
        raise CheckpointRefused(
            f"Passing by what the source holds was begun at version {last.version} and did not end.",
            remedy="Start again with --from-here --reason ...", reason="from here", path=path, version=last.version,
        )
