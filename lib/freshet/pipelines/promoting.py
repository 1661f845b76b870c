"""Putting a challenger in the place of the model: one commit that holds its whole state, on the model's own branch.

    main@..    kind `promote`, parent: the model's newest version; rows: all of the challenger, and a deletion of each that only
               the model had. Events, ids and what was refused stand where they stood.

Learning goes on with the challenger's settings. Settings files are nobody's to write but their owner's: they are told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyspark.sql import SparkSession

from freshet.errors import AlreadyRunning, CheckFailed, FreshetError
from freshet.failpoint import failpoint
from freshet.pipelines.candidates import rows_of
from freshet.pipelines.challengers import Challenger, in_step, weighed
from freshet.pipelines.opening import open_reading
from freshet.pipelines.requesting import answer, ask
from freshet.pipelines.rolling import as_learned
from freshet.pipelines.starting import Opened, new_run, open_learner, turn
from freshet.policy.gate import PUBLISH, REFUSE, Verdict
from freshet.program import actor
from freshet.schema import DECISIONS, PARAMETERS
from freshet.settings import Settings
from freshet.store.decisions import decision_row
from freshet.store.snapshots import MAINTAIN, PROMOTE


def promote_challenger(
    spark: SparkSession, settings: Settings, *, name: str, reason: str | None = None, force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """`promote`, by the learner where one runs, else by this process with the settings the model was learned with; what was
    done."""
    reading = open_reading(spark, settings)
    learned = as_learned(reading, settings)
    _check_known(learned, name)  # before a learner's start is written
    try:
        with open_learner(spark, learned, True, say, from_here=True) as opened:
            return promote(opened, name, actor=actor(), reason=reason, force=force)
    except AlreadyRunning:
        return answer(reading.tables, ask(reading.tables, PROMOTE, {"name": name, "force": force}, reason))


def promote(
    opened: Opened, name: str, *, actor: str, reason: str | None = None, force: bool = False, **asked: Any
) -> dict[str, Any]:
    """Put a challenger in the place of the model; its head is the head then.

    The gate's rules must allow it, on what both have scored; with `force` they are not asked. `asked` stands in the decision's
    evidence. Raises FreshetError where there is no such challenger or it is not in step, CheckFailed where the rules do not
    allow it: that is a decision row too.
    """
    one, before = _found(opened, name), opened.history.newest(opened.writer.line)
    assert before is not None
    verdict = Verdict(PUBLISH, "forced", reason or "") if force else weighed(opened, one)
    words = verdict.reason if force else f"{verdict.rule}: {verdict.reason}" + (f" ({reason})" if reason else "")
    texts = opened.given.challengers.learners[name]
    evidence = {**verdict.evidence, **asked, "challenger": name, "settings": list(texts)}
    if verdict.kind != PUBLISH:
        decision = decision_row(REFUSE, before.version, f"challenger {name}: {words}", evidence, actor, before.version)
        opened.writer.commit(opened.writer.begin(), {DECISIONS.name: decision}, {"kind": MAINTAIN, "reason": words})
        raise CheckFailed(
            f"Challenger {name} is not promoted: {words}.", remedy="To promote it all the same: --force --reason ...",
            rule=verdict.rule)
    version = _take_over(opened, one, words, evidence, actor)
    return {
        "promoted": version, "challenger": name, "before": before.version, "rule": verdict.rule, "settings": list(texts),
        "next": "give these settings from the next start on",
    }


def _check_known(settings: Settings, name: str) -> None:
    known = settings.challengers.learners
    if name not in known:
        what = f"known are {', '.join(sorted(known))}" if known else "the model has none: set challengers.learners"
        raise FreshetError(f"There is no challenger {name}; {what}.", remedy="See `freshet challengers`.")


def _found(opened: Opened, name: str) -> Challenger:
    _check_known(opened.given, name)
    one = in_step(opened, name)
    if one is None:
        raise FreshetError(
            f"Challenger {name} has not learned what the model has.", remedy="Let `freshet train` learn with it first.",
            challenger=name)
    return one


def _take_over(opened: Opened, one: Challenger, words: str, evidence: dict[str, Any], actor: str) -> int:
    mine, newest = one.opened, opened.history.newest(opened.writer.line)
    assert newest is not None
    others = {name: texts for name, texts in opened.given.challengers.learners.items() if name != one.name}
    settings = mine.settings.model_copy(update={"challengers": opened.given.challengers.model_copy(update={"learners": others})})
    rows = rows_of(mine.head, opened.head)
    number, run = opened.history.next_version(), new_run()
    fields = {
        "kind": PROMOTE, "reason": f"challenger {one.name}: {', '.join(evidence['settings'])}", "digest": mine.head.hex_digest,
        "row_counts": mine.head.row_counts, "published": None if newest.published is None else number,
        "settings": settings.to_json(), "run": run,
    }
    decision = decision_row(PROMOTE, number, f"challenger {one.name}: {words}", evidence, actor, newest.version)
    parts = {PARAMETERS.name: rows, DECISIONS.name: decision}
    failpoint("before_promote", number)
    row = opened.writer.commit(opened.writer.begin(), parts, fields)
    failpoint("promoted", row.version)
    opened.given = settings
    turn(opened, settings, run)
    mine.head.waiting = opened.head.waiting
    opened.head = mine.head  # ids and the dedup window are the model's already
    mine.place.close()
    return row.version
