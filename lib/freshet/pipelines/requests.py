"""What other processes ask of a running learner: rows in `requests`, carried out between two micro-batches, answered by a
decision that names the request. Nothing else writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from freshet.errors import CheckFailed, FreshetError
from freshet.pipelines.candidates import commit_waiting
from freshet.pipelines.maintain import carry_out
from freshet.pipelines.promoting import promote
from freshet.pipelines.publishing import publish
from freshet.pipelines.rivals import is_candidate, publish_candidate
from freshet.pipelines.rolling import roll_back
from freshet.pipelines.starting import Opened
from freshet.schema import DECISIONS, REQUESTS
from freshet.store.decisions import CANNOT, REQUEST_ID, decision_row, open_requests
from freshet.store.heap import give_back
from freshet.store.snapshots import MAINTAIN, PROMOTE, PUBLISH, RETRAIN, ROLLBACK


class Requests:
    """The open requests of an opened model, looked at now and then between micro-batches.

    `moved` is called when the head is another one than before.
    """

    def __init__(self, opened: Opened, every: float, moved: Callable[[], None], say: Callable[[str], None]) -> None:
        self._opened, self._every, self._moved, self._say = opened, every, moved, say
        self._looked_at = time.monotonic() - every  # at once: somebody may have asked while no learner ran
        self._version = -1
        self._kinds: dict[str, Callable[..., Any]] = {
            MAINTAIN: self._maintain, PUBLISH: self._publish, ROLLBACK: self._roll_back, RETRAIN: self._retrain,
            PROMOTE: self._promote,
        }

    def serve(self) -> int:
        """Carry out open requests, if it is time to look and the table has moved; how many."""
        if time.monotonic() - self._looked_at < self._every:
            return 0
        self._looked_at = time.monotonic()
        tables = self._opened.tables
        version = tables.version(REQUESTS.name)
        if version == self._version:
            return 0
        self._version = version
        waiting = open_requests(tables, self._opened.history)
        for one in waiting:
            self._carry_out(one)
        return len(waiting)

    def _carry_out(self, one: Mapping[str, Any]) -> None:
        kind, asked = one["kind"], {REQUEST_ID: one[REQUEST_ID], "actor": one["actor"]}
        if kind not in self._kinds:
            self._refuse(one, f"this version of the learner cannot {kind}")
            return
        self._say(f"{one['actor']} asks: {kind}")
        before = self._opened.history.next_version()
        try:
            self._kinds[kind](json.loads(one["arguments"] or "{}"), one["reason"], asked)
        except CheckFailed as refusal:
            self._say(str(refusal))  # the decision stands
        except OSError as error:
            raise FreshetError(
                f"What {one['actor']} asks for ({kind}) cannot be carried out: {error}.",
                remedy="Mend the cause and start again: it is tried at every start.", request=one[REQUEST_ID],
            ) from error
        except (FreshetError, KeyError, TypeError, ValueError) as refusal:
            if self._opened.history.next_version() != before:
                raise  # half of it is done: the next start goes on with it
            self._refuse(one, f"its arguments lack {refusal}" if isinstance(refusal, KeyError) else str(refusal))

    def _refuse(self, one: Mapping[str, Any], why: str) -> None:
        self._decide("refuse", why, {REQUEST_ID: one[REQUEST_ID], CANNOT: True}, one["actor"])
        self._say(why)

    def _decide(self, kind: str, reason: str, evidence: Mapping[str, Any], actor: str) -> None:
        writer = self._opened.writer
        newest = writer.history.newest(writer.line)
        row = decision_row(kind, newest.version if newest else None, reason, evidence, actor)
        writer.commit(writer.begin(), {DECISIONS.name: row}, {"kind": MAINTAIN, "reason": reason})

    def _maintain(self, arguments: Mapping[str, bool], reason: str | None, asked: Mapping[str, Any]) -> None:
        done = carry_out(self._opened.writer, self._opened.settings, arguments)
        give_back()  # it has looked at more than a micro-batch ever does
        self._decide(MAINTAIN, reason or "asked for", {REQUEST_ID: asked[REQUEST_ID], **done}, asked["actor"])

    def _retrain(self, arguments: Mapping[str, str], reason: str | None, asked: Mapping[str, Any]) -> None:
        """The passes are over: only the candidate is left to be committed."""
        commit_waiting(self._opened.writer, self._opened.settings.store.root, arguments["candidate"], asked[REQUEST_ID])
        self._moved()

    def _publish(self, arguments: Mapping[str, Any], reason: str | None, asked: Mapping[str, Any]) -> None:
        if is_candidate(self._opened.history, arguments["version"]):
            publish_candidate(self._opened, arguments["version"], reason=reason or "asked for", **asked)
        else:
            publish(self._opened.writer, self._opened.settings, reason=reason, **arguments, **asked)
        self._moved()

    def _promote(self, arguments: Mapping[str, Any], reason: str | None, asked: Mapping[str, Any]) -> None:
        promote(self._opened, arguments["name"], reason=reason, force=arguments["force"], **asked)
        self._moved()

    def _roll_back(self, arguments: Mapping[str, Any], reason: str | None, asked: Mapping[str, Any]) -> None:
        roll_back(self._opened, reason=reason or "asked for", say=self._say, **arguments, **asked)
        self._moved()
