"""What lists are made from, named by a person: `freshet publish`."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from freshet.errors import AlreadyRunning, CheckFailed, FreshetError
from freshet.failpoint import failpoint
from freshet.pipelines.gating import FORCED, evidence
from freshet.pipelines.opening import open_reading
from freshet.pipelines.requesting import answer, ask
from freshet.pipelines.rivals import is_candidate, publish_candidate
from freshet.pipelines.rolling import as_learned
from freshet.pipelines.starting import as_writer, open_learner
from freshet.policy.gate import PUBLISH, REFUSE, Verdict, weigh
from freshet.program import actor
from freshet.schema import DECISIONS, MAIN
from freshet.settings import Settings
from freshet.store.commit import Writer
from freshet.store.decisions import decision_row
from freshet.store.parameters import check_there
from freshet.store.snapshots import PUBLISH as PUBLISHED
from freshet.store.snapshots import History
from freshet.store.tables import Tables


def publish_version(
    spark: SparkSession, settings: Settings, *, version: int, reason: str | None = None, force: bool = False
) -> dict[str, Any]:
    """`publish`, by the learner where one runs, else by this process; what was done."""
    reading = open_reading(spark, settings)
    candidate = is_candidate(reading.history, version)
    try:
        if candidate:
            if not force:
                raise FreshetError(
                    f"Version {version} is a candidate: a learner lets it catch up and asks the rules by itself.",
                    remedy="To let it take over without asking: --force --reason ...", version=version)
            with open_learner(spark, as_learned(reading, settings), True, lambda _: None, from_here=True) as opened:
                return publish_candidate(opened, version, actor=actor(), reason=reason or "")
        _check(reading.tables, reading.history, settings, version)  # before a start is written
        with as_writer(reading.tables, settings, PUBLISHED) as writer:
            return publish(writer, settings, version=version, actor=actor(), reason=reason, force=force)
    except AlreadyRunning:
        request_id = ask(reading.tables, PUBLISHED, {"version": version, "force": force}, reason)
        return answer(reading.tables, request_id)


def publish(
    writer: Writer, settings: Settings, *, version: int, actor: str, reason: str | None = None, force: bool = False,
    **asked: Any,
) -> dict[str, Any]:
    """Make lists from that version from now on: one commit, nothing is copied.

    The gate's rules must allow it, on what was scored since the published version became it; with `force` they are not asked
    and `reason` says why. `asked` stands in the decision's evidence. Raises FreshetError where the version cannot be
    published, CheckFailed where the rules do not allow it: that is a decision row too.
    """
    history = writer.history
    newest, before = history.newest(writer.line), history.published(writer.line)
    assert newest is not None and before is not None
    _check(writer.tables, history, settings, version, writer.line)
    verdict = Verdict(PUBLISH, FORCED, reason or "", {FORCED: True}) if force else _weighed(writer, settings, version)
    allowed = verdict.kind == PUBLISH
    words = verdict.reason if force else f"{verdict.rule}: {verdict.reason}" + (f" ({reason})" if reason else "")
    decision = decision_row(
        PUBLISH if allowed else REFUSE, version, words, {**verdict.evidence, **asked}, actor, before.version)
    fields = {"kind": PUBLISHED, "reason": words} | ({"published": version} if allowed else {})
    failpoint("before_publish", version)
    writer.commit(writer.begin(), {DECISIONS.name: decision}, fields)
    if not allowed:
        raise CheckFailed(
            f"Version {version} is not published: {words}.", remedy="To publish it all the same: --force --reason ...",
            version=version, rule=verdict.rule,
        )
    return {"published": version, "before": before.version, "rule": verdict.rule, "reason": words}


def _check(tables: Tables, history: History, settings: Settings, version: int, line: str = MAIN) -> None:
    newest = history.newest(line)
    if settings.gate.publish == "head":
        raise FreshetError(
            "gate.publish is head: lists are made from the newest version, whatever it is.",
            remedy="Set gate.publish to manual or judged, for the learner too; `freshet rollback` undoes what was learned.",
        )
    row = history.get(version)
    if row is None or newest is None or not history.on_path(newest.version, version):
        what = "There is no version" if row is None else "What the model stands on does not hold version"
        raise FreshetError(f"{what} {version}.", remedy=f"The newest is {newest.version if newest else None}.", version=version)
    check_there(tables, history, version)


def _weighed(writer: Writer, settings: Settings, version: int) -> Verdict:
    history = writer.history
    before, newest = history.published(writer.line), history.newest(writer.line)
    assert before is not None and newest is not None
    if version < before.version:
        return Verdict(REFUSE, "older", f"version {before.version} is published, and newer")
    seen = evidence(writer.tables, history, writer.line, upto=version)
    learned = sum(row.accepted_count for row in history.commits(before.version))
    return weigh(seen, learned, 1.0, settings.gate)

